"""Building a model from its spec."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from inspect import signature
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from mvae import likelihoods
from mvae.config.modality_spec import (
    DECODERS,
    ENCODERS,
    CategoricalSpec,
    LocationScaleSpec,
    ModalitySpec,
    PixelsSpec,
    RecordSpec,
    StringSpec,
)
from mvae.config.specs import ModelSpec, SpecError
from mvae.files import shortened
from mvae.modality import Condition, Decoder, Modality
from mvae.models import METHODS, MultimodalVAE
from mvae.models.base import module_name
from mvae.networks.conv import conv_features, feature_shapes
from mvae.networks.joint import JointEncoder
from mvae.networks.mlp import FeaturesEncoder, Flat, dense_layers
from mvae.records import Element, Records
from mvae.strings import SequenceDecoder
from mvae.vocabularies import Alphabet, Vocabulary

__all__ = ["build_model", "outline"]


def build_model(spec: ModelSpec) -> MultimodalVAE:
    """The model that a spec describes, with fresh parameters from torch's global generator.

    A `SpecError` names the place where the parts do not fit.
    """
    with _named("model"):
        return METHODS[spec.method].build(_Parts(spec), **spec.options)


def outline(spec: ModelSpec, tensors: Collection[str]) -> MultimodalVAE:
    """What the parameters of a spec's model are called, and their shapes: they are on `meta`, without memory.

    Args:
        spec: the model's.
        tensors: the names of those that a file has for it. A `SpecError` names a modality that has none of them, before
            more modalities are built than the file has.
    """
    with _named("model"), _Outline():
        parts = _Parts(spec, {name.split(".")[1] for name in tensors if "." in name})
        return METHODS[spec.method].build(parts, **spec.options)


class _Outline(TorchFunctionMode):
    """Parameters, which layers make by `torch.empty`, are on `meta`, and are not initialised.

    `torch.device("meta")` would import torch's compiler as soon as something is computed there.
    """

    INITIALISERS = ("constant_", "fill_", "kaiming_uniform_", "normal_", "ones_", "uniform_", "xavier_uniform_")

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if function is torch.empty:
            kwargs["device"] = kwargs.get("device") or "meta"
        if getattr(function, "__name__", "") in (*self.INITIALISERS, "zero_", "zeros_"):
            tensor = args[0] if args else kwargs["tensor"]
            if tensor.is_meta:
                return tensor
        if function is torch.stack and args[0][0].is_meta:
            return torch.empty(len(args[0]), *args[0][0].shape, dtype=args[0][0].dtype, device="meta")
        return function(*args, **kwargs)


@contextmanager
def _named(place: str) -> Iterator[None]:
    try:
        yield
    except SpecError:
        raise
    except (ValueError, RuntimeError, IndexError) as error:
        raise SpecError(f"{place}: {error}") from error


class _Parts:
    """The parts of a spec, as `mvae.models.parts.Parts`; only modalities whose modules are among `known`."""

    def __init__(self, spec: ModelSpec, known: Collection[str] | None = None) -> None:
        self.latent_dim, self.names = spec.latent_dim, tuple(spec.modalities)
        self._specs, self._known = spec.modalities, known

    def modality(self, name: str, condition_width: int = 0) -> Modality:
        spec, latent_dim = self._specs[name], self.latent_dim
        with _named(f"model.modalities.{shortened(name, 60)}"):
            if self._known is not None and module_name(name) not in self._known:
                raise ValueError("the run's weights have no tensor of it; take config and weights from one run")
            kind = spec.encoder.kind
            if condition_width and kind not in ("mlp", "conv"):
                raise ValueError(f"an encoder of kind '{kind}' takes no conditions; choose another target")
            if kind == "embedding" and _num_classes(spec) and spec.shape:
                raise ValueError(f"an embedding encoder reads one category, shape (); a string {spec.shape} takes gru")
            of_encoder = {"latent_dim": latent_dim, "condition_width": condition_width}
            encoder = (
                FeaturesEncoder(*_build_features(spec), latent_dim)
                if kind in ("gru", "lstm", "transformer")
                else _network(ENCODERS[kind], spec, spec.encoder, **of_encoder)
            )
            decoder = _build_decoder(spec, latent_dim + condition_width)
            modality = Modality(encoder, decoder, latent_dim, spec.weight, condition_width)
        modality.elements = tuple(spec.elements or ())
        return modality

    def condition(self, name: str) -> Condition:
        spec = self._specs[name]
        with _named(f"model.modalities.{name}"):
            condition = Condition(_build_likelihood(spec))
        condition.elements = tuple(spec.elements or ())
        if isinstance(spec.likelihood, StringSpec):
            condition.alphabet = _alphabet(spec.likelihood)
        return condition

    def joint_encoder(self) -> JointEncoder:
        parts = [_build_features(spec) for spec in self._specs.values()]
        hidden = max(_last_width(spec.encoder) for spec in self._specs.values())
        return JointEncoder([part for part, _ in parts], [width for _, width in parts], self.latent_dim, hidden)


def _network(network: type[nn.Module], spec: ModalitySpec, options: Any, **given: Any) -> nn.Module:
    """A network with its options, and what else it takes by what its arguments are called."""
    given |= {"shape": spec.shape, "end": getattr(spec.likelihood, "end", None)}
    given |= options.model_dump() | {"cell": options.kind}
    if given.get("padding"):
        given["end"] = None
    facts = {"num_symbols": _num_classes, "num_classes": _num_classes, "length": _length, "elements": _elements}
    wanted = signature(network).parameters
    return network(**{name: facts[name](spec) if name in facts else given[name] for name in wanted})


def _build_features(spec: ModalitySpec) -> tuple[nn.Module, int]:
    """The features of a modality for a joint encoder, and their width: its encoder without the last dense hidden layer.

    A convolutional encoder keeps its only layer. No dense layer has batch normalisation (Table 1, JMVAE on CelebA).
    """
    options = spec.encoder
    match options.kind:
        case "mlp":
            widths = [math.prod(spec.shape), *options.hidden[:-1]]
            return nn.Sequential(Flat(), *dense_layers(widths[0], widths[1:], dropout=options.dropout)), widths[-1]
        case "conv":
            flat = math.prod(feature_shapes(spec.shape, options.layers)[-1])
            convolutions = conv_features(spec.shape, options.layers, options.batch_norm)
            dense = dense_layers(flat, [options.hidden], dropout=options.dropout)
            return nn.Sequential(convolutions, *dense), options.hidden
        case "embedding":
            widths = options.hidden[:-1] or options.hidden
            table = nn.Embedding(_num_classes(spec), widths[0])
            return nn.Sequential(table, nn.SiLU(), *dense_layers(widths[0], widths[1:])), widths[-1]
        case "record":
            raise SpecError("model.method: its joint encoder reads no records; choose another, e.g. 'mvae'")
    return _network(ENCODERS[options.kind], spec, options), _last_width(options)


def _last_width(options: Any) -> int:
    hidden = options.width if options.kind == "transformer" else options.hidden
    return hidden if isinstance(hidden, int) else hidden[-1]


def _build_decoder(spec: ModalitySpec, inputs: int) -> nn.Module:
    options, string = spec.decoder, spec.likelihood
    if isinstance(string, StringSpec) != (options.kind in ("gru", "lstm", "transformer")):
        raise ValueError(
            "a likelihood of kind 'string' and a decoder of kind 'gru', 'lstm' or 'transformer' go together"
        )
    network = DECODERS[options.kind]
    if isinstance(string, StringSpec):
        symbols = _network(network, spec, options, latent_dim=inputs)
        bag = nn.Linear(inputs, string.num_symbols) if options.bag_of_words else None
        more = options.word_dropout, _alphabet(string), bag, options.bag_of_words
        return SequenceDecoder(symbols, _length(spec), string.num_symbols, string.end, *more)
    head = _build_likelihood(spec)
    if options.kind == "conv" and math.prod(spec.shape) != head.num_parameters:
        raise ValueError("a convolutional decoder gives one number a pixel; expected an image's likelihood")
    return Decoder(_network(network, spec, options, latent_dim=inputs, num_parameters=head.num_parameters), head)


def _build_likelihood(spec: ModalitySpec) -> nn.Module:
    match spec.likelihood:
        case CategoricalSpec() | StringSpec():  # a string as a condition
            return likelihoods.Categorical(_num_classes(spec), spec.shape)
        case RecordSpec():
            return Records(_elements(spec))
        case LocationScaleSpec(kind=kind, scale=scale):
            return (likelihoods.Normal if kind == "normal" else likelihoods.Laplace)(spec.shape, scale)
        case PixelsSpec(kind=kind):
            return (likelihoods.Bernoulli if kind == "bernoulli" else likelihoods.PixelCrossEntropy)(spec.shape)


def _elements(spec: ModalitySpec) -> list[Element]:
    if not isinstance(spec.likelihood, RecordSpec):
        raise ValueError("an encoder of kind 'record' reads records; expected a likelihood of kind 'record'")
    if spec.shape != [len(spec.likelihood.elements)]:
        raise ValueError(f"a record of {len(spec.likelihood.elements)} elements has that shape, got {spec.shape}")
    return [Element(**element.model_dump()) for element in spec.likelihood.elements]


def _num_classes(spec: ModalitySpec) -> int:
    if isinstance(spec.likelihood, StringSpec):
        return spec.likelihood.num_symbols
    if isinstance(spec.likelihood, CategoricalSpec):
        return spec.likelihood.num_classes
    raise ValueError(f"an encoder of kind '{spec.encoder.kind}' reads categories; expected a categorical likelihood")


def _alphabet(string: StringSpec) -> Alphabet | Vocabulary | None:
    if string.words is not None:
        return Vocabulary(tuple(string.words), string.pieces)
    return None if string.characters is None else Alphabet(string.characters, string.end)


def _length(spec: ModalitySpec) -> int:
    """T of a string."""
    if len(spec.shape) != 1:
        raise ValueError(f"a string has the shape [longest length], got {spec.shape}")
    return spec.shape[0]
