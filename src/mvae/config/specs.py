"""Specs: the data that says how to build and train a model, validated (`mvae.config.build` builds it).

A `RunSpec` is what a recipe, a `--config` file and a run's `config.json` hold. Nothing in it is code.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import cache, partial
from typing import Annotated, Any, Literal, TypeVar

import torch
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    create_model,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from mvae.config.modality_spec import ModalitySpec, Size, Spec
from mvae.config.table_spec import TableSpec
from mvae.files import shortened
from mvae.models import METHODS
from mvae.option import Option

__all__ = [
    "FORMAT",
    "DataSpec",
    "ModelSpec",
    "OwnModelSpec",
    "OwnRunSpec",
    "OwnVariableSpec",
    "RunSpec",
    "SpecError",
    "TrainingSpec",
    "computes_in_bfloat16",
    "parse",
    "renamed",
    "validated",
]

FORMAT = 1
"""Version of what `config.json` holds; a run of another version is refused."""

Share = Annotated[float, Field(ge=0, le=1)]
AnySpec = TypeVar("AnySpec", bound=BaseModel)
MOST_FAULTS = 3
"""How many faults of a spec its message names."""


class SpecError(ValueError):
    """A spec is wrong; the message names the place in it and what was expected."""


def option(default: Any, help: str, **more: Any) -> Any:  # noqa: A002
    """A field of a spec that is an `Option`, with its default; ... where it has none."""
    return Field(default, json_schema_extra={"option": Option(help, **more)})  # type: ignore[dict-item]


_few = partial(option, group="few labels")


class ModelSpec(Spec):
    """The model: its method, latent space, modalities, and the options that its method declares, beside these."""

    model_config = ConfigDict(extra="allow")

    method: str = option("mvae", f"the model: {', '.join(METHODS)}", said="{}")
    latent_dim: Size = option(..., "D, the dimension of z", metavar="D", said="{} latent dimensions")
    modalities: Annotated[dict[str, ModalitySpec], Field(min_length=1)]

    @property
    def options(self) -> dict[str, Any]:
        """The options of the method that are given, by name; the others have the method's defaults."""
        return dict(self.__pydantic_extra__ or {})

    @model_validator(mode="after")
    def _are_of_the_method(self) -> ModelSpec:
        given = {name: value for name, value in self.options.items() if value is not None}
        if self.method not in METHODS:
            raise _fault("method", f"expected one of {', '.join(METHODS)}, got '{shortened(self.method, 40)}'")
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
    """The spec that checks the values of a method's own options."""
    fields: dict[str, Any] = {
        name: (Annotated[option.type, Field(ge=option.least, le=option.most)] | None, None)
        for name, option in METHODS[method].options.items()
    }
    return create_model("Options", __base__=Spec, **fields)


def _fault(key: str, said: str) -> ValidationError:
    """A fault at a key of a part of a spec, in these words."""
    fault = InitErrorDetails(type=PydanticCustomError("words", "{said}", {"said": said}), loc=(key,), input=None)
    return ValidationError.from_exception_data("spec", [fault])


class DataSpec(Spec):
    """The rows: their source and how it is split. `source` is null where they came from Python."""

    source: str | None = None
    validation_rows: NonNegativeInt = option(
        0,
        "validation rows, taken from the training rows; the best epoch on them is kept (tables with fewer than 10,000"
        " rows are used whole for training; celeba and vision have their own)",
    )
    paired_fraction: Share = option(
        1.0, "share of rows that stay complete; the others keep one modality (paper, section 5.1)"
    )
    balance: str | None = option(None, "keep as many complete rows of each value of this category, e.g. label")
    binarisation: Literal["dynamic", "fixed"] = option(
        "dynamic", "binary-mnist: new pixels at each use (dynamic), or once (fixed)"
    )
    options: dict[str, bool | int] = option(
        {},
        "choices of a data set: multimnist anywhere=true repeats=false fewest=1 most=2; celeba skip_damaged=true",
        metavar="NAME=VALUE",
        name="data_options",
    )
    table: TableSpec | None = None
    """The columns, where the source is a table."""
    fingerprint: str | None = None
    """Size and checksum of the rows, where they are a table or shards: a run is not resumed on others."""

    @property
    def named(self) -> dict[str, Any]:
        """The arguments of `load_dataset`, where the source is one of `SOURCES`."""
        return self.model_dump(exclude={"table", "fingerprint"})


class TrainingSpec(Spec):
    """The training. A field made by `option` is an option of `fit`, and needs no other mention."""

    epochs: PositiveInt = option(
        ..., "epochs of training; annealing keeps its share of them unless it is given too", said="{} epochs"
    )
    passes: PositiveInt = option(1, "passes over the training rows in an epoch, more than one where rows are few")
    batch_size: PositiveInt = option(100, "rows a step, of all processes together", said="batches of {}")
    learning_rate: PositiveFloat = option(1e-3, "learning rate of Adam", said="Adam at {}")
    schedule: Literal["constant", "cosine"] = option(
        "constant",
        "learning rate: constant, or constant for half of the steps, then down to 1 % along half a cosine",
        said="learning rate down a {} in the second half",
        unsaid="constant",
    )
    annealing_epochs: NonNegativeInt = option(
        0, "epochs over which beta, the weight of the KL terms, rises from 0 to 1", said="KL annealed over {} epochs"
    )
    annealing_cycles: PositiveInt = option(
        1,
        "how often beta rises in these epochs; in each of several cycles it stays at 1 for the second half",
        said="{} annealing cycles",
        unsaid=1,
    )
    keep: Literal["best", "last"] = option(
        "best", "keep the weights of the epoch with the best validation, or of the last epoch"
    )
    best_by: str | None = option(
        None, "keep the epoch that predicts this category or string best from the rest, in place of the best ELBO"
    )
    patience: PositiveInt | None = option(None, "stop after this many epochs without a better validation")
    precision: Literal["float32", "bfloat16", "auto"] = option(
        "float32",
        "precision of the networks' matrix products; auto: bfloat16 where the processor computes in it, which is then"
        " faster (and else far slower), float32 elsewhere",
    )
    compile: bool = option(False, "compile the networks with torch.compile first, which needs a C++ compiler")
    seed: NonNegativeInt = option(
        0, "seed of initialisation, order, draws and the choice of complete rows", said="seed {}"
    )

    shares: dict[str, Share] | None = _few(
        None,
        "share of each batch by what rows have, complete or names joined by +, e.g. complete=0.25 image=0.5 (default:"
        " as they come)",
        metavar="WHAT=F",
        said="batches with {} rows",
    )
    completion: NonNegativeFloat = _few(
        0.0,
        "weight of rows with a missing category, completed with the model's own guess; 0 is the paper's method",
        said="missing categories completed with weight {}",
        unsaid=0,
    )
    sharpness: PositiveFloat = _few(
        2.0, "sharpness of the guess of completion: 1 draws from p(y | x), more makes it surer"
    )
    propagation: NonNegativeFloat = _few(
        0.0,
        "weight of rows with a missing category, given the class of rows near them in z; 0 is the paper's method",
        said="classes spread to rows near in z, with weight {}",
        unsaid=0,
    )
    neighbours: PositiveInt = _few(20, "neighbours of each row in z over which propagation spreads classes")
    surest: Share = _few(0.8, "share of the rows with a missing class that propagation trains on, the surest first")
    smoothness: NonNegativeFloat = _few(
        0.0,
        "weight of virtual adversarial training, by which a category's guess changes little where what it is guessed"
        " from does; 0 is the paper's method",
        said="virtual adversarial training with weight {}",
        unsaid=0,
    )
    radius: PositiveFloat = _few(2.0, "Euclidean length of the changes that smoothness looks at, in the data's units")

    @property
    def precision_here(self) -> Literal["float32", "bfloat16"]:
        """The precision on this machine."""
        if self.precision == "auto":
            return "bfloat16" if computes_in_bfloat16() else "float32"
        return self.precision


def computes_in_bfloat16() -> bool:
    """True where the GPU, or the x86 processor if there is none, multiplies matrices of bfloat16 by itself."""
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    has = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    return any(getattr(torch.cpu, one, bool)() for one in has)


class RunSpec(Spec):
    """Everything that rebuilds a run."""

    format: Literal[1] = 1
    data: DataSpec = DataSpec()
    model: ModelSpec
    training: TrainingSpec


class OwnVariableSpec(Spec):
    """A modality of a model that no spec describes."""

    shape: list[int]
    weight: float | None = Field(description="null for a condition")


class OwnModelSpec(Spec):
    """A model that no spec describes: all but its code."""

    own: str = Field(description="the name of its class")
    latent_dim: Size
    modalities: dict[str, OwnVariableSpec]


class OwnRunSpec(RunSpec):
    """A run of `mvae.train`, which does not hold its model's code."""

    model: OwnModelSpec  # type: ignore[assignment]


def renamed(content: Mapping[str, Any]) -> dict[str, Any]:
    """The content of a file, with today's names for those of earlier files."""
    model = content.get("model")
    if not isinstance(model, Mapping) or "subsets" not in model:
        return dict(content)
    return {**content, "model": {"random_subsets" if key == "subsets" else key: model[key] for key in model}}


def parse(content: Mapping[str, Any], where: str, options: Collection[tuple[str, ...]] = ()) -> RunSpec:
    """Validate the content of a file; `where` is its name, for the message.

    A `SpecError` on unknown keys, values out of range, impossible shapes or another format version names in one line
    the place and what was expected. Faults at the places that `options` have set are blamed on the options.
    """
    version, model = content.get("format", FORMAT), content.get("model")
    if version != FORMAT:
        said = f"format {shortened(version, 40)} is not known to this version of mvae, which reads format {FORMAT}"
        raise SpecError(f"{where}: {said}")
    if isinstance(model, Mapping) and "own" in model:
        more = "build it and load it from Python: mvae.load(run, model=...)"
        raise SpecError(f"{where}: a run of a model of your own, {shortened(model['own'], 80)}; {more}")
    return validated(RunSpec, renamed(content), where, options)


def validated(
    kind: type[AnySpec], content: Mapping[str, Any], where: str, options: Collection[tuple[str, ...]] = ()
) -> AnySpec:
    """Validate content as `parse` does, for a spec of any kind and of this version."""
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        faults = error.errors()
        of_options = [fault for fault in faults if any(fault["loc"][: len(place)] == place for place in options)]
        where = f"{'the options' if of_options else where}: " if where else ""
        faults = of_options or faults
        more = [f"and {len(faults) - MOST_FAULTS} more"] if len(faults) > MOST_FAULTS else []
        raise SpecError(where + "; ".join([*map(_in_words, faults[:MOST_FAULTS]), *more])) from None


def _in_words(fault: Any) -> str:
    """A fault that pydantic found, in a line: where, and what was expected."""
    loc, said = fault["loc"], shortened(fault["msg"], 400)
    if fault["type"] == "model_type":
        said = f"expected an object, got {type(fault['input']).__name__}"
        return ": ".join([".".join(shortened(key, 40) for key in loc), said]) if loc else said
    if not loc:  # of the parts together
        return said.removeprefix("Value error, ")
    # A union puts its tag into the path (modalities.NAME.encoder.TAG.KEY); a reader of the file knows no such key.
    if loc[:2] == ("model", "modalities") and loc[3:4] in (("likelihood",), ("encoder",), ("decoder",)):
        loc = loc[:4] + loc[5:]
    elif loc[0] == "model" and loc[1:2] != ("modalities",):
        loc = loc[:2]
    known = {"extra_forbidden": "unknown key", "missing": "missing", "words": said}
    said = known.get(fault["type"], f"{said[0].lower()}{said[1:]}, got {shortened(repr(fault['input']), 80)}")
    return f"{'.'.join(shortened(key, 40) for key in loc)}: {said}"
