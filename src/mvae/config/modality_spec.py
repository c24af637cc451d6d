"""Specs of a modality, its likelihood and its networks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from inspect import signature
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias, Union, get_type_hints

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
from torch import nn

from mvae.files import shortened
from mvae.networks.conv import ConvDecoder, ConvEncoder, Layer
from mvae.networks.mlp import EmbeddingEncoder, MLPDecoder, MLPEncoder
from mvae.networks.record import RecordEncoder
from mvae.networks.recurrent import RecurrentDecoder, RecurrentFeatures
from mvae.networks.transformer import TransformerDecoder, TransformerFeatures

__all__ = ["DECODERS", "ENCODERS", "CategoricalSpec", "ModalitySpec", "RecordSpec", "Size", "Spec", "StringSpec"]

Size = Annotated[int, Field(gt=0, le=2**16)]
"""The width of a layer, or the dimension of z."""
Classes = Annotated[int, Field(ge=2, le=10**6)]
LARGEST = 10**8
"""Numbers of a modality's observation, for each class where it has any."""
LAYERS = Field(min_length=1, max_length=100)


class Spec(BaseModel):
    """Validated data that does not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class PixelsSpec(Spec):
    """Pixels, binary or grey."""

    kind: Literal["bernoulli", "pixel-cross-entropy"]


class LocationScaleSpec(Spec):
    """Real numbers."""

    kind: Literal["normal", "laplace"]
    scale: PositiveFloat | None = Field(1.0, description="in the data's units; null learns one an element")


class CategoricalSpec(Spec):
    """Categories."""

    kind: Literal["categorical"]
    num_classes: Classes


class StringSpec(Spec):
    """Strings of symbols."""

    kind: Literal["string"]
    num_symbols: Classes
    end: NonNegativeInt | None = Field(None, description="the symbol that ends a string; null: all have full length")
    characters: str | None = Field(None, description="those that the symbols from 0 on encode; null: none is shown")
    words: list[str] | None = Field(None, description="the symbols in place of characters; unknown word and end follow")
    pieces: bool = Field(False, description="words are pieces of words; a piece that begins with U+E000 continues one")

    @model_validator(mode="after")
    def _one_alphabet(self) -> StringSpec:
        if self.pieces and self.words is None:
            raise ValueError("pieces: expected words, which are these pieces")
        if self.words is not None and self.characters is not None:
            raise ValueError("words: expected either characters or words")
        return self


class ElementSpec(Spec):
    """One element of a record."""

    family: Literal["normal", "laplace", "categorical", "poisson", "negative-binomial"] = "normal"
    num_classes: Classes | None = Field(None, description="of a categorical element")
    centre: float = Field(0.0, description="of a count: the mean of log(1 + x)")
    spread: PositiveFloat = Field(1.0, description="of a count: the standard deviation of log(1 + x)")

    @model_validator(mode="after")
    def _has_classes(self) -> ElementSpec:
        if (self.num_classes is not None) != (self.family == "categorical"):
            raise ValueError("num_classes: expected of a categorical element, and of no other")
        return self


class RecordSpec(Spec):
    """Records, any element of which may be missing."""

    kind: Literal["record"]
    elements: Annotated[list[ElementSpec], Field(min_length=1)]


ENCODERS: dict[str, type[nn.Module]] = {
    "mlp": MLPEncoder,
    "embedding": EmbeddingEncoder,
    "conv": ConvEncoder,
    "gru": RecurrentFeatures,
    "lstm": RecurrentFeatures,
    "transformer": TransformerFeatures,
    "record": RecordEncoder,
}
DECODERS: dict[str, type[nn.Module]] = {
    "mlp": MLPDecoder,
    "conv": ConvDecoder,
    "gru": RecurrentDecoder,
    "lstm": RecurrentDecoder,
    "transformer": TransformerDecoder,
}
Dropout = Annotated[float, Field(ge=0, lt=1)]
OPTIONS: dict[Any, Any] = {
    bool: bool,
    int: Size,
    float: Dropout,
    Sequence[int]: Annotated[list[Size], LAYERS],
    Sequence[Layer]: Annotated[list[tuple[Size, Size, Size, NonNegativeInt]], LAYERS],
}
"""The values that options of networks may have, by the type that a constructor gives them."""
OF_THE_MODALITY = ("cell", "condition_width", "end")
"""Arguments with a default that are no options of a network: its modality says them."""
OF_STRINGS: dict[str, Any] = {"word_dropout": (Dropout, 0.0), "bag_of_words": (NonNegativeFloat, 0.0)}
BEYOND: dict[Any, dict[str, Any]] = {
    RecordEncoder: {"hide": (Annotated[float, Field(ge=0, le=0.5)], 0.3)},
    RecurrentFeatures: {"padding": (bool, False)},  # whether what follows the end symbol is read too
    ConvDecoder: {"hidden": (Annotated[int, Field(ge=0, le=2**16)], 512)},
    RecurrentDecoder: OF_STRINGS,
    TransformerDecoder: OF_STRINGS,
}
"""Options that a constructor does not have, or whose limits are their own."""


def _spec_of(networks: Mapping[str, type[nn.Module]]) -> Any:
    """One of the specs of these networks, by its kind. Options and defaults are those of a network's constructor."""
    specs = []
    for kind, network in networks.items():
        fields: dict[str, Any] = {"kind": (Literal[kind], ...)}  # type: ignore[valid-type]
        hints = get_type_hints(network.__init__)
        for name, argument in signature(network).parameters.items():
            if argument.default is not argument.empty and name not in OF_THE_MODALITY:
                default = list(argument.default) if isinstance(argument.default, tuple) else argument.default
                fields[name] = OPTIONS[hints[name]], default
        specs.append(create_model("NetworkSpec", __base__=Spec, **fields | BEYOND.get(network, {})))
    return Annotated[Union[tuple(specs)], Field(discriminator="kind")]  # noqa: UP007


if TYPE_CHECKING:
    EncoderSpec: TypeAlias = Any
    DecoderSpec: TypeAlias = Any
else:
    EncoderSpec, DecoderSpec = _spec_of(ENCODERS), _spec_of(DECODERS)


class ModalitySpec(Spec):
    """One modality: the shape of an observation, its likelihood, its networks, its weight lambda."""

    shape: list[PositiveInt]
    likelihood: PixelsSpec | CategoricalSpec | StringSpec | LocationScaleSpec | RecordSpec = Field(discriminator="kind")
    encoder: EncoderSpec
    decoder: DecoderSpec
    weight: NonNegativeFloat = 1.0
    elements: list[str] | None = Field(None, description="names of the elements of a vector")

    @model_validator(mode="after")
    def _names_fit(self) -> ModalitySpec:
        names = self.elements
        likelihood = self.likelihood
        classes = getattr(likelihood, "num_classes", getattr(likelihood, "num_symbols", 1))
        if math.prod(self.shape) * classes > LARGEST:
            raise ValueError(f"shape: expected at most {LARGEST:,} numbers, of each class, got {shortened(self.shape)}")
        if names is not None and (len(self.shape) != 1 or len(names) != self.shape[0] or len(set(names)) != len(names)):
            raise ValueError(f"elements: expected a name for each of a vector's elements, got {len(names)} names")
        return self
