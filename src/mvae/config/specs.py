"""Specs: the data that says how to build and train a model, validated (`mvae.config.build` builds it).

A `RunSpec` is what a recipe, a `--config` file and a run's `config.json` hold. Nothing in it is code.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import cache
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    create_model,
    model_validator,
)
from pydantic import ValidationError as PydanticError
from pydantic_core import InitErrorDetails, PydanticCustomError

from mvae.config.table_spec import TableSpec
from mvae.models import METHODS
from mvae.option import Option

__all__ = [
    "FORMAT",
    "DataSpec",
    "ModalitySpec",
    "ModelSpec",
    "OwnModelSpec",
    "OwnRunSpec",
    "RunSpec",
    "SpecError",
    "TrainingSpec",
    "computes_in_bfloat16",
    "in_words",
    "parse",
    "parse_own",
    "renamed",
]

FORMAT = 1
"""Version of what `config.json` holds; a run of another version is refused."""

Share = Annotated[float, Field(ge=0, le=1)]
Dropout = Annotated[float, Field(ge=0, lt=1)]
Widths = Annotated[list[PositiveInt], Field(min_length=1)]


Spec = TypeVar("Spec", bound=BaseModel)


class SpecError(ValueError):
    """A spec is wrong; the message names the place in it and what was expected."""


class _Spec(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class BernoulliSpec(_Spec):
    kind: Literal["bernoulli"]


class PixelCrossEntropySpec(_Spec):
    kind: Literal["pixel-cross-entropy"]


class CategoricalSpec(_Spec):
    kind: Literal["categorical"]
    num_classes: Annotated[int, Field(ge=2)]


class StringSpec(_Spec):
    kind: Literal["string"]
    num_symbols: Annotated[int, Field(ge=2)]
    end: NonNegativeInt | None = Field(None, description="the symbol that ends a string; null: all have full length")
    characters: str | None = Field(None, description="what the symbols from 0 stand for; null: nothing that is shown")
    words: list[str] | None = Field(
        None, description="in place of characters: words, after which come the unknown word and the end"
    )
    pieces: bool = Field(False, description="words are pieces of words: what begins with U+E000 goes on with one")

    @model_validator(mode="after")
    def _one_alphabet(self) -> StringSpec:
        if self.pieces and self.words is None:
            raise ValueError("pieces: expected words, which are these pieces")
        if self.words is not None and self.characters is not None:
            raise ValueError("words: expected either characters or words")
        return self


class LocationScaleSpec(_Spec):
    kind: Literal["normal", "laplace"]
    scale: PositiveFloat | None = Field(1.0, description="in the data's units; null learns one an element")


class ElementSpec(_Spec):
    """One element of a record."""

    family: Literal["normal", "laplace", "categorical", "poisson", "negative-binomial"] = "normal"
    num_classes: Annotated[int, Field(ge=2)] | None = Field(None, description="of a categorical element")
    centre: float = Field(0.0, description="of a count: the mean of log(1 + x)")
    spread: PositiveFloat = Field(1.0, description="of a count: the standard deviation of log(1 + x)")

    @model_validator(mode="after")
    def _has_classes(self) -> ElementSpec:
        if (self.num_classes is not None) != (self.family == "categorical"):
            raise ValueError("num_classes: expected of a categorical element, and of no other")
        return self


class RecordSpec(_Spec):
    kind: Literal["record"]
    elements: Annotated[list[ElementSpec], Field(min_length=1)]


class RecordEncoderSpec(_Spec):
    kind: Literal["record"]
    hidden: Widths = [128, 128]
    hide: Annotated[float, Field(ge=0, le=0.5)] = Field(
        0.3, description="mean share of the elements hidden from it in training"
    )
    dropout: Dropout = 0.0


class MLPEncoderSpec(_Spec):
    kind: Literal["mlp"]
    hidden: Widths = [512, 512]
    batch_norm: bool = False
    dropout: Dropout = 0.0


class EmbeddingEncoderSpec(_Spec):
    kind: Literal["embedding"]
    hidden: Widths = [512, 512]


class RecurrentEncoderSpec(_Spec):
    kind: Literal["gru", "lstm"]
    embedding: PositiveInt = 200
    hidden: PositiveInt = 200
    padding: bool = Field(False, description="read what stands after the end symbol too")


BAG = Field(0.0, description="weight of a term of training that says the symbols from z alone, in any order")


class _TransformerSpec(_Spec):
    kind: Literal["transformer"]
    width: PositiveInt = 256
    heads: PositiveInt = 4
    layers: PositiveInt = 2
    dropout: Dropout = 0.1


class TransformerEncoderSpec(_TransformerSpec):
    pass


class TransformerDecoderSpec(_TransformerSpec):
    word_dropout: Dropout = 0.0
    bag_of_words: NonNegativeFloat = BAG


ConvLayers = Annotated[
    list[tuple[PositiveInt, PositiveInt, PositiveInt, NonNegativeInt]],
    Field(min_length=1, description="channels, kernel, stride, padding of each"),
]


class ConvEncoderSpec(_Spec):
    kind: Literal["conv"]
    layers: ConvLayers = [(64, 4, 2, 1), (128, 4, 2, 1)]
    hidden: PositiveInt = 512
    batch_norm: bool = False
    dropout: Dropout = 0.0


class MLPDecoderSpec(_Spec):
    kind: Literal["mlp"]
    hidden: Widths = [512, 512, 512]
    dropout: Dropout = 0.0


class RecurrentDecoderSpec(_Spec):
    kind: Literal["gru", "lstm"]
    embedding: PositiveInt = 200
    hidden: PositiveInt = 200
    layers: PositiveInt = 2
    dropout: Dropout = 0.1
    word_dropout: Dropout = 0.0
    bag_of_words: NonNegativeFloat = BAG


class ConvDecoderSpec(_Spec):
    kind: Literal["conv"]
    layers: ConvLayers = [(64, 4, 2, 1), (128, 4, 2, 1)]
    hidden: NonNegativeInt = 512
    batch_norm: bool = False


class ModalitySpec(_Spec):
    """One modality: the shape of an observation, its likelihood, its networks, its weight lambda."""

    shape: list[PositiveInt]
    likelihood: Annotated[
        BernoulliSpec | PixelCrossEntropySpec | CategoricalSpec | StringSpec | LocationScaleSpec | RecordSpec,
        Field(discriminator="kind"),
    ]
    encoder: Annotated[
        MLPEncoderSpec
        | EmbeddingEncoderSpec
        | ConvEncoderSpec
        | RecurrentEncoderSpec
        | TransformerEncoderSpec
        | RecordEncoderSpec,
        Field(discriminator="kind"),
    ]
    decoder: Annotated[
        MLPDecoderSpec | ConvDecoderSpec | RecurrentDecoderSpec | TransformerDecoderSpec, Field(discriminator="kind")
    ]
    weight: NonNegativeFloat = 1.0
    elements: list[str] | None = Field(None, description="what the elements of a vector are called, to people")

    @model_validator(mode="after")
    def _names_fit(self) -> ModalitySpec:
        names = self.elements
        if names is not None and (len(self.shape) != 1 or len(names) != self.shape[0] or len(set(names)) != len(names)):
            raise ValueError(f"elements: expected a name for each of a vector's elements, got {len(names)} names")
        return self


class ModelSpec(_Spec):
    """The model: its method, latent space, modalities, and the options that its method declares, beside these."""

    model_config = ConfigDict(extra="allow")

    method: Annotated[str, Option(f"the model: {', '.join(METHODS)}", said="{}")] = "mvae"
    latent_dim: Annotated[PositiveInt, Option("D, the dimension of z", metavar="D", said="{} latent dimensions")]
    modalities: Annotated[dict[str, ModalitySpec], Field(min_length=1)]

    @property
    def options(self) -> dict[str, Any]:
        """The options of the method that are given, by name; the others have the method's defaults."""
        return dict(self.__pydantic_extra__ or {})

    @model_validator(mode="after")
    def _are_of_the_method(self) -> ModelSpec:
        given = {name: value for name, value in self.options.items() if value is not None}
        if self.method not in METHODS:
            raise _fault("method", f"expected one of {', '.join(METHODS)}, got '{self.method}'")
        own = METHODS[self.method].options
        for name in given:
            if name not in own and any(name in method.options for method in METHODS.values()):
                takes = f"its options: {', '.join(own)}" if own else "it has no options"
                raise _fault(name, f"option '{name}' does not apply to method '{self.method}' ({takes})")
        checked = _options_of(self.method).model_validate(given).model_dump(exclude_none=True)
        for name, value in checked.items():
            if own[name].names_modalities and (isinstance(value, list) or own[name].type is str):
                for modality in [value] if isinstance(value, str) else value:
                    if modality not in self.modalities:
                        raise _fault(name, f"unknown modality '{modality}'; there are {', '.join(self.modalities)}")
        object.__setattr__(self, "__pydantic_extra__", checked)
        return self


@cache
def _options_of(method: str) -> type[BaseModel]:
    """What the values of a method's own options are checked by."""
    fields: dict[str, Any] = {
        name: (Annotated[option.type, Field(ge=option.least, le=option.most)] | None, None)
        for name, option in METHODS[method].options.items()
    }
    return create_model("Options", __base__=_Spec, **fields)


def _fault(key: str, said: str) -> PydanticError:
    """A fault at a key of a part of a spec, in these words."""
    fault = InitErrorDetails(type=PydanticCustomError("words", "{said}", {"said": said}), loc=(key,), input=None)
    return PydanticError.from_exception_data("spec", [fault])


class DataSpec(_Spec):
    """Which rows: the source and how it is split. `source` is null where the rows came from Python."""

    source: str | None = None
    validation_rows: Annotated[
        NonNegativeInt,
        Option(
            "validation rows, taken from the training rows; the best epoch on them is kept (a table with fewer than"
            " 10,000 rows is used whole for training; celeba and vision have their own)",
            group="data",
        ),
    ] = 0
    paired_fraction: Annotated[
        Share,
        Option("share of rows that stay complete; the others keep one modality (paper, section 5.1)", group="data"),
    ] = 1.0
    balance: Annotated[
        str | None, Option("keep as many complete rows of each value of this category, e.g. label", group="data")
    ] = None
    binarisation: Annotated[
        Literal["dynamic", "fixed"],
        Option("of binary-mnist: new pixels at each use (dynamic), or once (fixed)", group="data"),
    ] = "dynamic"
    options: Annotated[
        dict[str, bool | int],
        Option(
            "choices that a data set has: multimnist anywhere=true repeats=false fewest=1 most=2; celeba"
            " skip_damaged=true",
            group="data",
            metavar="NAME=VALUE",
            name="data_options",
        ),
    ] = {}
    table: TableSpec | None = None
    """What its columns are, where the source is a table."""

    @property
    def named(self) -> dict[str, Any]:
        """What `load_dataset` is asked for, where the source is one of `SOURCES`."""
        return self.model_dump(exclude={"table"})


def _training(help: str, **more: Any) -> Option:  # noqa: A002
    return Option(help, group="training", **more)


def _few(help: str, **more: Any) -> Option:  # noqa: A002
    return Option(help, group="few labels", **more)


class TrainingSpec(_Spec):
    """How the model is trained. A field with an `Option` is an option of `fit`, and needs no other mention."""

    epochs: Annotated[
        PositiveInt,
        _training("epochs of training; annealing keeps its share of them unless it is given too", said="{} epochs"),
    ]
    passes: Annotated[
        PositiveInt, _training("passes over the training rows in an epoch, more than one where rows are few")
    ] = 1
    batch_size: Annotated[PositiveInt, _training("rows a step, of all processes together", said="batches of {}")] = 100
    learning_rate: Annotated[PositiveFloat, _training("learning rate of Adam", said="Adam at {}")] = 1e-3
    schedule: Annotated[
        Literal["constant", "cosine"],
        _training(
            "learning rate: constant, or constant for half of the steps, then down to 1 % along half a cosine",
            said="learning rate down a {} in the second half",
            unsaid="constant",
        ),
    ] = "constant"
    annealing_epochs: Annotated[
        NonNegativeInt,
        _training(
            "epochs over which beta, the weight of the KL terms, rises from 0 to 1", said="KL annealed over {} epochs"
        ),
    ] = 0
    annealing_cycles: Annotated[
        PositiveInt,
        _training(
            "how often beta rises in these epochs; in each of several cycles it stays at 1 for the second half",
            said="{} annealing cycles",
            unsaid=1,
        ),
    ] = 1
    keep: Annotated[
        Literal["best", "last"],
        _training("keep the weights of the epoch with the best validation, or of the last epoch"),
    ] = "best"
    best_by: Annotated[
        str | None,
        _training("keep the epoch that predicts this category or string best from the rest, in place of the best ELBO"),
    ] = None
    patience: Annotated[PositiveInt | None, _training("stop after this many epochs without a better validation")] = None
    precision: Annotated[
        Literal["float32", "bfloat16", "auto"],
        _training(
            "precision of the networks' matrix products; bfloat16 is faster where the processor computes in it, and far"
            " slower where not; auto: bfloat16 there, float32 elsewhere"
        ),
    ] = "float32"
    compile: Annotated[bool, _training("compile the networks with torch.compile first, which needs a C++ compiler")] = (
        False
    )
    seed: Annotated[
        NonNegativeInt,
        _training("seed of initialisation, order, draws and the choice of complete rows", said="seed {}"),
    ] = 0

    shares: Annotated[
        dict[str, Share] | None,
        _few(
            "share of each batch by what rows have, complete or names joined by +, e.g. complete=0.25 image=0.5"
            " (default: as they come)",
            metavar="WHAT=F",
            said="batches with {} rows",
        ),
    ] = None
    completion: Annotated[
        NonNegativeFloat,
        _few(
            "weight of rows with a missing category, completed with the model's own guess; 0 is the paper's method",
            said="missing categories completed with weight {}",
            unsaid=0,
        ),
    ] = 0.0
    sharpness: Annotated[
        PositiveFloat, _few("sharpness of the guess of completion: 1 draws from p(y | x), more makes it surer")
    ] = 2.0
    propagation: Annotated[
        NonNegativeFloat,
        _few(
            "weight of rows with a missing category, given the class of rows near them in z; 0 is the paper's method",
            said="classes spread to rows near in z, with weight {}",
            unsaid=0,
        ),
    ] = 0.0
    neighbours: Annotated[PositiveInt, _few("neighbours of each row in z over which propagation spreads classes")] = 20
    surest: Annotated[
        Share, _few("share of the rows with a missing class that propagation trains on, the surest first")
    ] = 0.8
    smoothness: Annotated[
        NonNegativeFloat,
        _few(
            "weight of virtual adversarial training, by which the guess of a category changes little where what it is"
            " guessed from does; 0 is the paper's method",
            said="virtual adversarial training with weight {}",
            unsaid=0,
        ),
    ] = 0.0
    radius: Annotated[
        PositiveFloat, _few("Euclidean length of the changes that smoothness looks at, in the data's units")
    ] = 2.0

    @property
    def precision_here(self) -> Literal["float32", "bfloat16"]:
        """What a training on this machine computes in."""
        if self.precision == "auto":
            return "bfloat16" if computes_in_bfloat16() else "float32"
        return self.precision


def computes_in_bfloat16() -> bool:
    """Whether the GPU, or the (x86) processor where there is none, multiplies matrices of bfloat16 by itself."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    has = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    return any(getattr(torch.cpu, one, bool)() for one in has)


class RunSpec(_Spec):
    """Everything that rebuilds a run."""

    format: Literal[1] = 1
    data: DataSpec = DataSpec()
    model: ModelSpec
    training: TrainingSpec


class OwnVariableSpec(_Spec):
    """A modality of a model whose networks are somebody's own."""

    shape: list[int]
    weight: float | None = Field(description="null for what the model is given")


class OwnModelSpec(_Spec):
    """A model that no spec describes: what it is, but for its code."""

    own: str = Field(description="the name of its class")
    latent_dim: PositiveInt
    modalities: dict[str, OwnVariableSpec]


class OwnRunSpec(_Spec):
    """What `mvae.train` knows of a run."""

    format: Literal[1] = 1
    data: DataSpec = DataSpec()
    model: OwnModelSpec
    training: TrainingSpec


def renamed(content: Mapping[str, Any]) -> dict[str, Any]:
    """What a file holds, with the names of today for those of earlier files."""
    model = content.get("model")
    if not isinstance(model, Mapping) or "subsets" not in model:
        return dict(content)
    return {**content, "model": {"random_subsets" if key == "subsets" else key: model[key] for key in model}}


def parse(content: Mapping[str, Any], where: str, options: Collection[tuple[str, ...]] = ()) -> RunSpec:
    """Validate what a file holds.

    Args:
        content: the file's contents.
        where: the file's name, for the message.
        options: places in it that options have set; what is wrong there is said to be wrong with the options.

    Raises:
        SpecError: on unknown keys, values out of range, impossible shapes or another format version, in one line that
            names the place and what was expected.
    """
    version = content.get("format", FORMAT)
    if version != FORMAT:
        raise SpecError(f"{where}: format {version} is not known to this version of mvae, which reads format {FORMAT}")
    model = content.get("model")
    if isinstance(model, Mapping) and "own" in model:
        raise SpecError(
            f"{where}: a run of a model of your own, {model['own']}; build it and load it from Python:"
            " mvae.load(run, model=...)"
        )
    return _validated(RunSpec, renamed(content), where, options)


def parse_own(content: Mapping[str, Any], where: str) -> OwnRunSpec:
    """As `parse`, of what `mvae.train` wrote."""
    return _validated(OwnRunSpec, content, where)


def _validated(
    kind: type[Spec], content: Mapping[str, Any], where: str, options: Collection[tuple[str, ...]] = ()
) -> Spec:
    try:
        return kind.model_validate(content)
    except PydanticError as error:
        faults = error.errors()
        of_options = [fault for fault in faults if any(fault["loc"][: len(place)] == place for place in options)]
        if of_options:
            where, faults = "the options", of_options
        raise SpecError(f"{where}: " + "; ".join(in_words(fault) for fault in faults)) from None


def in_words(fault: Any) -> str:
    """A fault that pydantic found, in a line: where, and what was expected."""
    loc = fault["loc"]
    # A union puts its tag into the path (modalities.NAME.encoder.TAG.KEY); a reader of the file knows no such key.
    if loc[:2] == ("model", "modalities") and loc[3:4] in (("likelihood",), ("encoder",), ("decoder",)):
        loc = loc[:4] + loc[5:]
    elif loc[0] == "model" and loc[1:2] != ("modalities",):
        loc = loc[:2]
    place = ".".join(map(str, loc))
    match fault["type"]:
        case "extra_forbidden":
            return f"{place}: unknown key"
        case "missing":
            return f"{place}: missing"
        case "words":
            return f"{place}: {fault['msg']}"
    return f"{place}: {fault['msg'][0].lower()}{fault['msg'][1:]}, got {fault['input']!r}"
