"""The peer: `multivae` 1.0.3 with our networks, on the same rows, minimising the same terms.

It is called as its documentation says. What is ours: the networks (copies, with the same weights) in the classes it
wants, and the likelihood of grey pixels, which its own Bernoulli refuses: the same cross-entropy without its check.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import sys
import types
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, one_hot

from mvae.models import MVAE

__all__ = ["available", "import_peer", "peer_model", "peer_rows"]


def available() -> bool:
    """Whether `multivae` is installed."""
    return importlib.util.find_spec("multivae") is not None


class _StandIn(types.ModuleType):
    """A module whose every name is an empty class."""

    __path__: list[str] = []  # noqa: RUF012

    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name: str, path: object, target: object = None) -> importlib.machinery.ModuleSpec | None:
        if name.partition(".")[0] != "torchvision":
            return None
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        return _StandIn(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        pass


@contextmanager
def _torchvision() -> Iterator[None]:
    """Let `multivae` be imported where torchvision cannot be; what stands in is gone afterwards.

    It imports torchvision for its data sets and for pictures during training. Nothing that is measured here calls it.
    """
    finder = _Finder()
    try:
        importlib.import_module("torchvision")
        usable = True
    except (ImportError, RuntimeError):  # a build for another torch raises RuntimeError
        usable = False
        _forget()
        sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        if not usable:
            sys.meta_path.remove(finder)
            _forget()


def _forget() -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        del sys.modules[name]


def import_peer() -> Any:
    """The module `multivae`, with its models, data sets and trainers imported."""
    with _torchvision():
        for part in ("models", "data.datasets", "trainers"):
            importlib.import_module(f"multivae.{part}")
    return sys.modules["multivae"]


def grey_cross_entropy(logits: Tensor, pixels: Tensor) -> Tensor:
    """What `torch.distributions.Bernoulli.log_prob`, which the peer calls, computes after its check of the pixels."""
    return -binary_cross_entropy_with_logits(logits, pixels, reduction="none")


def peer_model(ours: MVAE) -> Any:
    """`multivae.models.MVAE` with copies of our networks, and as many random subsets a step."""
    peer = import_peer().models
    encoder, decoder = _wrappers()
    modalities = ours.modalities
    weights = {modality.weight for modality in modalities.values()}
    if weights != {1.0} or ours.reconstruct != "given":
        raise ValueError("the peer minimises Eq. 2 with weights of 1")
    kinds = {name: _kind(modality) for name, modality in modalities.items()}
    config = peer.MVAEConfig(
        n_modalities=len(modalities),
        latent_dim=ours.latent_dim,
        decoders_dist={name: "bernoulli" if kind == "grey" else kind for name, kind in kinds.items()},
        decoder_dist_params={},
        k=ours.random_subsets,
        warmup=0,
    )
    encoders, decoders = {}, {}
    for name, modality in modalities.items():
        encoders[name] = encoder(modality.encoder, ours.latent_dim, kinds[name] == "categorical")
        decoders[name] = decoder(modality.decoder.network, ours.latent_dim, _shape(modality))
    model = peer.MVAE(config, encoders, decoders)
    for name, kind in kinds.items():
        if kind == "grey":
            model.recon_log_probs[name] = grey_cross_entropy
    return model.train()


def peer_rows(ours: MVAE, values: Mapping[str, Tensor], present: Mapping[str, Tensor] | None = None) -> Any:
    """The rows as the peer takes them: categories one-hot, absent values 0 behind a mask."""
    datasets = import_peer().data.datasets
    data = {}
    for name, value in values.items():
        classes = ours.modalities[name].num_classes
        number = one_hot(value, classes).float() if classes else value
        data[name] = number.unsqueeze(-1) if number.dim() == 1 else number
    if present is None:
        return datasets.MultimodalBaseDataset(data)
    return datasets.IncompleteDataset(data, {name: present[name] for name in data})


def _kind(modality: Any) -> str:
    head = type(modality.decoder.likelihood).__name__
    return {"PixelCrossEntropy": "grey", "Categorical": "categorical", "Normal": "normal"}[head]


def _shape(modality: Any) -> tuple[int, ...]:
    return (modality.num_classes,) if modality.num_classes else modality.shape or (1,)


def _wrappers() -> tuple[type[nn.Module], type[nn.Module]]:
    """Our networks in the classes that the peer asks for."""
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn.base_architectures import BaseDecoder, BaseEncoder

    class Encoder(BaseEncoder):
        def __init__(self, network: nn.Module, latent_dim: int, categories: bool) -> None:
            super().__init__()
            self.network, self.latent_dim, self.categories = deepcopy(network), latent_dim, categories

        def forward(self, x: Tensor) -> Any:
            mean, log_variance = self.network(x.argmax(-1) if self.categories else x)
            # cloned since the peer writes into it, and torch allows that in no part of a split tensor
            return ModelOutput(embedding=mean, log_covariance=log_variance.clone())

    class Decoder(BaseDecoder):
        def __init__(self, network: nn.Module, latent_dim: int, shape: tuple[int, ...]) -> None:
            super().__init__()
            self.network, self.latent_dim, self.shape = deepcopy(network), latent_dim, shape

        def forward(self, z: Tensor) -> Any:
            parameters = self.network(z)
            return ModelOutput(reconstruction=parameters.reshape(*z.shape[:-1], *self.shape))

    return Encoder, Decoder
