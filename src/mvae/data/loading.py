"""Batches of a data set in memory: one indexing operation each, in an order that epoch and seed alone decide."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Sampler

from mvae.data.batch import Batch

__all__ = ["ShuffledBatches", "seed_of", "training_loader", "whole_loader"]


class ShuffledBatches(Sampler[Tensor]):
    """Row numbers of each batch of an epoch, every row once; the last batch may be smaller.

    The order is a function of the seed and the epoch alone, so that a resumed run sees the batches it would have seen.

    Args:
        num_rows: length of the data set.
        batch_size: rows a batch.
        seed: of the run.
        epoch: the first to come; a resumed run starts at another than 0.
    """

    def __init__(self, num_rows: int, batch_size: int, seed: int, epoch: int = 0) -> None:
        self.num_rows, self.batch_size, self.seed, self.epoch = num_rows, batch_size, seed, epoch

    def set_epoch(self, epoch: int) -> None:
        """Called by the Trainer at the start of each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return math.ceil(self.num_rows / self.batch_size)

    def __iter__(self) -> Iterator[Tensor]:
        generator = torch.Generator().manual_seed(seed_of(self.seed, self.epoch))
        return iter(torch.randperm(self.num_rows, generator=generator).split(self.batch_size))


def seed_of(*numbers: int) -> int:
    """One seed from several numbers (a run's seed, an epoch, a row), with no visible relation between neighbours."""
    state = 0x9E3779B97F4A7C15
    for number in numbers:  # the mixing steps of splitmix64
        state = (state + number * 0xBF58476D1CE4E5B9 + 0x94D049BB133111EB) % 2**64
        state = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        state = (state ^ (state >> 27)) * 0x94D049BB133111EB % 2**64
        state ^= state >> 31
    return state >> 1


def training_loader(rows: Batch, batch_size: int, seed: int, epoch: int = 0) -> DataLoader[Batch]:
    """Shuffled batches, a new order each epoch, from the given epoch on."""
    order = ShuffledBatches(len(rows), batch_size, seed, epoch)
    return DataLoader(rows, batch_size=None, sampler=order)  # type: ignore[arg-type]


def whole_loader(rows: Batch, batch_size: int) -> DataLoader[Batch]:
    """Batches in the order of the rows."""
    slices = [slice(start, start + batch_size) for start in range(0, len(rows), batch_size)]
    return DataLoader(rows, batch_size=None, sampler=slices)  # type: ignore[arg-type]
