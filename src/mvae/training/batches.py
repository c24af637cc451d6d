"""Which rows each step of a training and of a validation reads."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mvae.batch import Batch
from mvae.config.specs import TrainingSpec
from mvae.data.dataset import Dataset
from mvae.data.loading import ShuffledBatches, grouped
from mvae.data.sharded_order import ShardedBatches
from mvae.data.shards import Shards
from mvae.models import MultimodalVAE

__all__ = ["training_order"]

LONG = 16
"""From so many symbols on batches are made of strings of about the same length."""


def training_order(
    model: MultimodalVAE, dataset: Dataset[Any], spec: TrainingSpec, rank: int, world: int
) -> ShuffledBatches | ShardedBatches:
    """The row numbers of each batch of an epoch, or of the part of each that one of several processes takes."""
    if isinstance(dataset.train, Shards):
        return ShardedBatches(len(dataset.train), spec.batch_size, spec.seed, rank=rank, world=world)
    groups = grouped(dataset.train, model.names, spec.shares)
    lengths = _lengths(model, dataset.train)
    return ShuffledBatches(
        groups, spec.batch_size, spec.seed, rank=rank, world=world, passes=spec.passes, lengths=lengths
    )


def _lengths(model: MultimodalVAE, rows: Batch) -> Tensor | None:
    """Of each row the longest of its long strings, so that those of a batch may be about as long; None without such."""
    found = None
    for name, variable in model.variables.items():
        if variable.is_string and variable.shape[0] >= LONG and name in rows.values:
            own = variable.lengths(rows.values[name])
            if own is not None:
                own = torch.where(rows.present[name], own, 0)
                found = own if found is None else found.maximum(own)
    return found
