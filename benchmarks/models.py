"""The models and rows that are measured: networks of the paper (section 5) on made-up rows of the right shapes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from mvae.batch import Batch
from mvae.config.build import build_model
from mvae.config.recipes import resolve
from mvae.config.specs import ModelSpec, parse
from mvae.models import MVAE, base
from mvae.networks.bank import Bank

__all__ = ["celeba19", "faces", "half_absent", "mnist", "mnist_config", "numbers", "pictures", "tables", "unstacked"]


def mnist_config() -> dict[str, Any]:
    """The recipe for MNIST with Eq. 2 as the paper writes it and weights of 1: what the peer minimises too."""
    model = resolve("mnist", None, {("model", "reconstruct"): "given"}).model_dump(mode="json")["model"]
    model["modalities"]["label"]["weight"] = 1.0
    return model


def _built(model: dict[str, Any]) -> MVAE:
    built = build_model(_spec(model))
    assert isinstance(built, MVAE)
    return built


def _spec(model: dict[str, Any]) -> ModelSpec:
    return parse({"model": model, "training": {"epochs": 1}}, "benchmark").model


def mnist() -> MVAE:
    """The paper's networks of an image of 28 x 28 grey pixels and a label of 10."""
    return _built(mnist_config())


def pictures(count: int) -> Batch:
    """Rows of MNIST's shapes."""
    return Batch({"image": torch.rand(count, 1, 28, 28), "label": torch.randint(10, (count,))})


def celeba19(batch_norm: bool = True) -> MVAE:
    """The paper's networks of CelebA19: a picture of 3 x 64 x 64 and 18 attributes, each a modality; k = 1."""
    layers = [[32, 4, 2, 1], [64, 4, 2, 1], [128, 4, 2, 1], [256, 4, 1, 0]]
    image = {
        "shape": [3, 64, 64],
        "likelihood": {"kind": "pixel-cross-entropy"},
        "encoder": {"kind": "conv", "layers": layers, "hidden": 512, "batch_norm": batch_norm, "dropout": 0.1},
        "decoder": {"kind": "conv", "layers": layers, "hidden": 0, "batch_norm": batch_norm},
    }
    attribute = {
        "shape": [],
        "likelihood": {"kind": "categorical", "num_classes": 2},
        "encoder": {"kind": "embedding", "hidden": [512, 512]},
        "decoder": {"kind": "mlp", "hidden": [512, 512, 512]},
    }
    modalities = {"image": image} | {f"attribute {number}": attribute for number in range(1, 19)}
    return _built({"latent_dim": 100, "random_subsets": 1, "reconstruct": "given", "modalities": modalities})


def faces(count: int) -> Batch:
    """Rows of CelebA19's shapes."""
    attributes = {f"attribute {number}": torch.randint(2, (count,)) for number in range(1, 19)}
    return Batch({"image": torch.rand(count, 3, 64, 64), **attributes})


def tables(columns: int) -> MVAE:
    """One number a modality, small networks of one architecture, k = 4."""
    part = {"shape": [], "likelihood": {"kind": "normal"}, "encoder": {"kind": "mlp", "hidden": [16]}}
    part |= {"decoder": {"kind": "mlp", "hidden": [16]}}
    modalities = {f"x{number}": part for number in range(columns)}
    return _built({"latent_dim": 16, "random_subsets": 4, "reconstruct": "given", "modalities": modalities})


def numbers(columns: int, count: int) -> Batch:
    """Rows of a table of numbers."""
    return Batch({f"x{number}": torch.randn(count) for number in range(columns)})


def half_absent(rows: Batch) -> Batch:
    """The same rows, each value absent with probability 1/2."""
    return Batch(rows.values, {name: torch.rand(len(rows)) < 0.5 for name in rows.values})


@contextmanager
def unstacked() -> Iterator[None]:
    """Models built within keep each network's parameters for themselves, as a plain loop over modalities has them.

    A stacked model gives its optimiser the stacked parameters, which get no gradient where a network is called alone.
    """
    banks_of = base.banks_of
    base.banks_of = lambda modules: [Bank({name: module}) for name, module in modules.items()]
    try:
        yield
    finally:
        base.banks_of = banks_of
