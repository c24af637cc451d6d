"""The rows that each step of a training, and of a validation, reads."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from mvae.batch import Batch
from mvae.config.specs import TrainingSpec
from mvae.data.dataset import Dataset
from mvae.data.loading import ShardedBatches, ShuffledBatches, grouped
from mvae.data.samples import LoadedBatches
from mvae.data.shards import Shards
from mvae.models import MultimodalVAE
from mvae.seeds import seed_of

__all__ = ["Batches", "training_batches", "validation_batches"]

LONG = 16
"""Strings of at least so many symbols are put into batches by their length."""
VALIDATION_BATCH = 1000


class Batches:
    """The batches of an epoch, in an order that seed and epoch alone decide: rows by their order, or loaded ones."""

    def __init__(self, rows: Any, order: ShuffledBatches | ShardedBatches | LoadedBatches, seed: int = 0) -> None:
        self.rows, self.order, self.seed = rows, order, seed

    def __len__(self) -> int:
        return len(self.order)

    def epoch(self, number: int) -> Iterator[Batch]:
        """The batches of an epoch, counted from 0; this process's part of each where there are several."""
        if isinstance(self.order, LoadedBatches):
            return self.order.epoch(seed_of(self.seed, number))
        self.order.epoch = number
        return (self.rows[part] for part in self.order)


def training_batches(
    model: MultimodalVAE, dataset: Dataset[Any], spec: TrainingSpec, rank: int = 0, world: int = 1
) -> Batches:
    """The batches of a data set's training rows."""
    rows = dataset.train
    if isinstance(rows, LoadedBatches):
        return Batches(None, rows, spec.seed)
    if isinstance(rows, Shards):
        return Batches(rows, ShardedBatches(len(rows), spec.batch_size, spec.seed, rank=rank, world=world))
    in_memory = isinstance(rows, Batch)
    groups = grouped(rows, model.names, spec.shares) if in_memory else [(torch.arange(len(rows)), 1.0)]
    lengths = _lengths(model, rows) if in_memory else None
    place: dict[str, Any] = {"rank": rank, "world": world, "passes": spec.passes, "lengths": lengths}
    return Batches(rows, ShuffledBatches(groups, spec.batch_size, spec.seed, **place))


def validation_batches(rows: Any, rank: int = 0, world: int = 1) -> Iterator[tuple[int, Batch]]:
    """The batches of validation rows, in order, each with its number; each of several processes has its own."""
    if isinstance(rows, LoadedBatches):
        yield from enumerate(rows.epoch(0))
        return
    for number in range(rank, -(-len(rows) // VALIDATION_BATCH), world):
        yield number, rows[number * VALIDATION_BATCH : (number + 1) * VALIDATION_BATCH]


def _lengths(model: MultimodalVAE, rows: Batch) -> Tensor | None:
    """The longest of the long strings of each row, so that those of a batch may be about as long; None without such."""
    found = None
    for name, variable in model.variables.items():
        if variable.is_string and variable.shape[0] >= LONG and name in rows.values:
            own = variable.lengths(rows.values[name])
            if own is not None:
                own = torch.where(rows.present[name], own, 0)
                found = own if found is None else found.maximum(own)
    return found
