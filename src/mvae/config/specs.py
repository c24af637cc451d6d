"""Specs: the data that says how to build and train a model, validated (`mvae.config.build` builds it).

A `RunSpec` is what a recipe, a `--config` file and a run's `config.json` hold. Nothing in it is code.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)
from pydantic import ValidationError as PydanticError

from mvae.config.table_spec import TableSpec

__all__ = [
    "FORMAT",
    "METHOD_OPTIONS",
    "DataSpec",
    "ModalitySpec",
    "ModelSpec",
    "RunSpec",
    "SpecError",
    "TrainingSpec",
    "computes_in_bfloat16",
    "parse",
]

FORMAT = 1
"""Version of what `config.json` holds; a run of another version is refused."""

Share = Annotated[float, Field(ge=0, le=1)]
Dropout = Annotated[float, Field(ge=0, lt=1)]
Widths = Annotated[list[PositiveInt], Field(min_length=1)]


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
    """The model: its method, latent space, ELBO terms and modalities."""

    method: str = "mvae"
    latent_dim: PositiveInt
    subsets: NonNegativeInt | None = Field(None, description="k of Eq. 5")
    reconstruct: Literal["given", "present"] | list[str] | None = None
    free_nats: NonNegativeFloat | None = Field(
        None, description="mvae, mvae-q: a divergence from the prior up to this costs nothing (free bits)"
    )
    target: str | None = Field(None, description="the modality that a vae or cvae models; null: the first")
    alpha: NonNegativeFloat | None = Field(None, description="jmvae: weight of the divergences between posteriors")
    mu: Share | None = Field(None, description="bivcca: weight of the first modality's bound")
    modalities: Annotated[dict[str, ModalitySpec], Field(min_length=1)]


METHOD_OPTIONS: dict[str, tuple[str, ...]] = {
    "mvae": ("subsets", "reconstruct", "free_nats"),
    "mvae-q": ("subsets", "reconstruct", "free_nats"),
    "vae": ("target",),
    "cvae": ("target",),
    "bivcca": ("mu",),
    "jmvae": ("alpha",),
    "telbo": (),
    "mmvae": (),
}
"""Methods, and which options of a `ModelSpec` go with each; one left at null has the method's default."""


class DataSpec(_Spec):
    """Which rows: the source and how it is split. `source` is null where the rows came from Python."""

    source: str | None = None
    validation_rows: NonNegativeInt = 0
    paired_fraction: Share = 1.0
    balance: str | None = None
    """A category of which each value is paired equally often."""
    binarisation: Literal["dynamic", "fixed"] = "dynamic"
    options: dict[str, bool | int] = {}
    """What else may be chosen of the source, by name."""
    table: TableSpec | None = None
    """What its columns are, where the source is a table."""

    @property
    def named(self) -> dict[str, Any]:
        """What `load_dataset` is asked for, where the source is one of `SOURCES`."""
        return self.model_dump(exclude={"table"})


class TrainingSpec(_Spec):
    """How the model is trained."""

    epochs: PositiveInt
    passes: PositiveInt = Field(1, description="over the rows in an epoch, more than one where rows are few")
    batch_size: PositiveInt = 100
    learning_rate: PositiveFloat = 1e-3
    schedule: Literal["constant", "cosine"] = Field(
        "constant", description="cosine: constant for half of the steps, then down to 1 % along half a cosine"
    )
    annealing_epochs: NonNegativeInt = Field(0, description="epochs over which beta rises from 0 to 1, step by step")
    annealing_cycles: PositiveInt = Field(
        1, description="how often it does so in these epochs, then from 0 in each half"
    )
    shares: dict[str, Share] | None = Field(
        None, description="share of each batch by what rows have: complete, or names joined by +; null: as they come"
    )
    completion: NonNegativeFloat = Field(0.0, description="weight of rows completed with the model's own guess")
    sharpness: PositiveFloat = Field(2.0, description="of that guess: 1 draws from p(y | x)")
    propagation: NonNegativeFloat = Field(0.0, description="weight of classes that spread in z ")
    neighbours: PositiveInt = Field(20, description="of each row, over which they spread")
    surest: Share = Field(0.8, description="how many of the rows that lack a class are trained on with what they get")
    smoothness: NonNegativeFloat = Field(0.0, description="weight of virtual adversarial training ")
    radius: PositiveFloat = Field(2.0, description="of the changes it looks at: Euclidean length, in the data's units")
    patience: PositiveInt | None = Field(None, description="stop after this many epochs without a better validation")
    precision: Literal["float32", "bfloat16", "auto"] = Field(
        "float32",
        description="of the networks' matrix products; bfloat16 is faster where the processor computes in it, and far"
        " slower where not; auto: bfloat16 there, float32 elsewhere",
    )
    compile: bool = Field(False, description="networks by torch.compile, which needs a C++ compiler")
    keep: Literal["best", "last"] = Field(
        "best", description="the weights of the epoch with the best validation, or of the last epoch"
    )
    best_by: str | None = Field(
        None, description="what makes a validation best: accuracy of this category or string given the rest; null: ELBO"
    )
    seed: NonNegativeInt = 0

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


def parse(content: Mapping[str, Any], where: str) -> RunSpec:
    """Validate what a file holds.

    Args:
        content: the file's contents.
        where: the file's name, for the message.

    Raises:
        SpecError: on unknown keys, values out of range, impossible shapes or another format version, in one line that
            names the place and what was expected.
    """
    version = content.get("format", FORMAT)
    if version != FORMAT:
        raise SpecError(f"{where}: format {version} is not known to this version of mvae, which reads format {FORMAT}")
    try:
        return RunSpec.model_validate(content)
    except PydanticError as error:
        raise SpecError(f"{where}: " + "; ".join(_in_words(fault) for fault in error.errors())) from None


def _in_words(fault: Any) -> str:
    loc = fault["loc"]
    # A union puts its tag into the path (modalities.NAME.encoder.TAG.KEY); a reader of the file knows no such key.
    if loc[:2] == ("model", "modalities") and loc[3:4] in (("likelihood",), ("encoder",), ("decoder",)):
        loc = loc[:4] + loc[5:]
    elif loc[:2] == ("model", "reconstruct"):
        loc = loc[:2]
    place = ".".join(map(str, loc))
    if fault["type"] == "extra_forbidden":
        return f"{place}: unknown key"
    if fault["type"] == "missing":
        return f"{place}: missing"
    return f"{place}: {fault['msg'][0].lower()}{fault['msg'][1:]}, got {fault['input']!r}"
