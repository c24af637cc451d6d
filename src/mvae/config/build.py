"""Building a model from its spec."""

from __future__ import annotations

import math
from typing import Any

from torch import nn

from mvae import likelihoods
from mvae.config.specs import (
    BernoulliSpec,
    CategoricalSpec,
    ConvEncoderSpec,
    EmbeddingEncoderSpec,
    LocationScaleSpec,
    MLPDecoderSpec,
    MLPEncoderSpec,
    ModalitySpec,
    ModelSpec,
    PixelCrossEntropySpec,
    RecordEncoderSpec,
    RecordSpec,
    RecurrentDecoderSpec,
    RecurrentEncoderSpec,
    SpecError,
    StringSpec,
    TransformerDecoderSpec,
    TransformerEncoderSpec,
)
from mvae.modality import Condition, Decoder, Modality
from mvae.models import METHODS, MultimodalVAE
from mvae.networks.conv import ConvDecoder, ConvEncoder, conv_features, feature_shapes
from mvae.networks.joint import JointEncoder
from mvae.networks.mlp import EmbeddingEncoder, FeaturesEncoder, Flat, MLPDecoder, MLPEncoder, dense_layers
from mvae.networks.record import RecordEncoder
from mvae.networks.recurrent import RecurrentDecoder, RecurrentFeatures
from mvae.networks.transformer import TransformerDecoder, TransformerFeatures
from mvae.records import Element, Records
from mvae.strings import SequenceDecoder
from mvae.vocabularies import Alphabet, Vocabulary

__all__ = ["build_model"]


def build_model(spec: ModelSpec) -> MultimodalVAE:
    """The model that a spec describes, with fresh parameters from torch's global generator.

    Raises:
        SpecError: where the parts do not fit, naming the place.
    """
    try:
        return METHODS[spec.method].build(_Parts(spec), **spec.options)
    except SpecError:
        raise
    except ValueError as error:
        raise SpecError(f"model: {error}") from error


class _Parts:
    """The parts of a spec, as `mvae.models.parts.Parts`."""

    def __init__(self, spec: ModelSpec) -> None:
        self.latent_dim, self.names = spec.latent_dim, tuple(spec.modalities)
        self._specs = spec.modalities

    def modality(self, name: str, condition_width: int = 0) -> Modality:
        spec = self._specs[name]
        try:
            encoder = _build_encoder(spec, self.latent_dim, condition_width)
            decoder = _build_decoder(spec, self.latent_dim + condition_width)
            modality = Modality(encoder, decoder, self.latent_dim, spec.weight, condition_width)
        except (ValueError, RuntimeError, IndexError) as error:
            raise SpecError(f"model.modalities.{name}: {error}") from error
        modality.elements = tuple(spec.elements or ())
        return modality

    def condition(self, name: str) -> Condition:
        spec = self._specs[name]
        try:
            condition = Condition(_build_likelihood(spec))
        except (ValueError, RuntimeError) as error:
            raise SpecError(f"model.modalities.{name}: {error}") from error
        condition.elements = tuple(spec.elements or ())
        if isinstance(spec.likelihood, StringSpec):
            condition.alphabet = _alphabet(spec.likelihood)
        return condition

    def joint_encoder(self) -> JointEncoder:
        parts = [_build_features(spec) for spec in self._specs.values()]
        hidden = max(_last_width(spec) for spec in self._specs.values())
        return JointEncoder([part for part, _ in parts], [width for _, width in parts], self.latent_dim, hidden)


def _build_likelihood(spec: ModalitySpec) -> Any:
    match spec.likelihood:
        case BernoulliSpec():
            return likelihoods.Bernoulli(spec.shape)
        case PixelCrossEntropySpec():
            return likelihoods.PixelCrossEntropy(spec.shape)
        case CategoricalSpec(num_classes=num_classes) | StringSpec(num_symbols=num_classes):  # as a condition
            return likelihoods.Categorical(num_classes, spec.shape)
        case RecordSpec():
            return Records(_elements(spec))
        case LocationScaleSpec(kind="normal", scale=scale):
            return likelihoods.Normal(spec.shape, scale)
        case LocationScaleSpec(scale=scale):
            return likelihoods.Laplace(spec.shape, scale)


def _build_encoder(spec: ModalitySpec, latent_dim: int, condition_width: int) -> nn.Module:
    options = spec.encoder.model_dump(exclude={"kind"})
    match spec.encoder:
        case MLPEncoderSpec():
            return MLPEncoder(spec.shape, latent_dim, **options, condition_width=condition_width)
        case ConvEncoderSpec():
            return ConvEncoder(spec.shape, latent_dim, **options, condition_width=condition_width)
    if condition_width:
        raise ValueError(f"an encoder of kind '{spec.encoder.kind}' takes no conditions; choose another target")
    if isinstance(spec.encoder, RecordEncoderSpec):
        return RecordEncoder(_elements(spec), latent_dim, **options)
    if isinstance(spec.encoder, RecurrentEncoderSpec | TransformerEncoderSpec):
        return FeaturesEncoder(*_build_features(spec), latent_dim)
    num_classes = _num_classes(spec)
    if spec.shape:
        raise ValueError(f"an embedding encoder reads one category, shape (); a string, {tuple(spec.shape)}, takes gru")
    return EmbeddingEncoder(num_classes, latent_dim, **options)


def _build_features(spec: ModalitySpec) -> tuple[nn.Module, int]:
    """What a modality gives to a joint encoder, and its width: its own encoder without the last dense hidden layer.

    A convolutional encoder keeps its only one. No dense layer has batch normalisation (Table 1, JMVAE on CelebA).
    """
    match spec.encoder:
        case MLPEncoderSpec(hidden=hidden, dropout=dropout):
            width, *widths = math.prod(spec.shape), *hidden[:-1]
            return nn.Sequential(Flat(), *dense_layers(width, widths, dropout=dropout)), [width, *widths][-1]
        case ConvEncoderSpec(layers=layers, hidden=hidden, batch_norm=batch_norm, dropout=dropout):
            flat = math.prod(feature_shapes(spec.shape, layers)[-1])
            convolutions = conv_features(spec.shape, layers, batch_norm)
            return nn.Sequential(convolutions, *dense_layers(flat, [hidden], dropout=dropout)), hidden
        case RecurrentEncoderSpec(kind=cell, embedding=embedding, hidden=hidden, padding=padding):
            end = None if padding else _end(spec)
            return RecurrentFeatures(_num_classes(spec), embedding, hidden, end, cell), hidden
        case TransformerEncoderSpec(width=width):
            options = spec.encoder.model_dump(exclude={"kind"})
            return TransformerFeatures(_num_classes(spec), _length(spec), **options, end=_end(spec)), width
        case EmbeddingEncoderSpec(hidden=[first, *more]):
            table = nn.Embedding(_num_classes(spec), first)
            return nn.Sequential(table, nn.SiLU(), *dense_layers(first, more[:-1])), [first, *more[:-1]][-1]
        case RecordEncoderSpec():
            raise SpecError("model.method: its joint encoder reads no records; choose another, e.g. 'mvae'")
    raise AssertionError(spec.encoder)


def _last_width(spec: ModalitySpec) -> int:
    hidden = spec.encoder.width if isinstance(spec.encoder, TransformerEncoderSpec) else spec.encoder.hidden
    return hidden if isinstance(hidden, int) else hidden[-1]


def _elements(spec: ModalitySpec) -> list[Element]:
    if not isinstance(spec.likelihood, RecordSpec):
        raise ValueError("an encoder of kind 'record' reads records; expected a likelihood of kind 'record'")
    if spec.shape != [len(spec.likelihood.elements)]:
        raise ValueError(f"a record of {len(spec.likelihood.elements)} elements has that shape, got {spec.shape}")
    return [Element(**element.model_dump()) for element in spec.likelihood.elements]


def _num_classes(spec: ModalitySpec) -> int:
    if isinstance(spec.likelihood, StringSpec):
        return spec.likelihood.num_symbols
    if not isinstance(spec.likelihood, CategoricalSpec):
        raise ValueError(
            f"an encoder of kind '{spec.encoder.kind}' reads categories; expected a categorical likelihood"
        )
    return spec.likelihood.num_classes


def _alphabet(string: StringSpec) -> Alphabet | Vocabulary | None:
    if string.words is not None:
        return Vocabulary(tuple(string.words), string.pieces)
    return None if string.characters is None else Alphabet(string.characters, string.end)


def _end(spec: ModalitySpec) -> int | None:
    return spec.likelihood.end if isinstance(spec.likelihood, StringSpec) else None


def _length(spec: ModalitySpec) -> int:
    """T of a string."""
    if len(spec.shape) != 1:
        raise ValueError(f"a string has the shape [longest length], got {spec.shape}")
    return spec.shape[0]


def _build_decoder(spec: ModalitySpec, inputs: int) -> nn.Module:
    options = spec.decoder.model_dump(exclude={"kind"})
    of_strings = isinstance(spec.decoder, RecurrentDecoderSpec | TransformerDecoderSpec)
    if isinstance(spec.likelihood, StringSpec) != of_strings:
        raise ValueError(
            "a likelihood of kind 'string' and a decoder of kind 'gru', 'lstm' or 'transformer' go together"
        )
    if isinstance(spec.likelihood, StringSpec):
        string, hidden, bag_weight = spec.likelihood, options.pop("word_dropout"), options.pop("bag_of_words")
        if isinstance(spec.decoder, RecurrentDecoderSpec):
            network: nn.Module = RecurrentDecoder(inputs, string.num_symbols, cell=spec.decoder.kind, **options)
        else:
            network = TransformerDecoder(inputs, string.num_symbols, _length(spec), **options)
        bag = nn.Linear(inputs, string.num_symbols) if bag_weight else None
        alphabet = _alphabet(string)
        return SequenceDecoder(
            network, _length(spec), string.num_symbols, string.end, hidden, alphabet, bag, bag_weight
        )
    likelihood = _build_likelihood(spec)
    if isinstance(spec.decoder, MLPDecoderSpec):
        return Decoder(MLPDecoder(inputs, likelihood.num_parameters, **options), likelihood)
    if math.prod(spec.shape) != likelihood.num_parameters:
        raise ValueError("a convolutional decoder gives one number a pixel; expected an image's likelihood")
    return Decoder(ConvDecoder(spec.shape, inputs, **options), likelihood)
