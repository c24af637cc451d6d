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
    """Row numbers of each batch of an epoch.

    The order is a function of the seed and the epoch alone, so that a resumed run sees the batches it would have seen.

    Args:
        complete: boolean `[num_rows]`, which rows have every modality.
        batch_size: rows a batch.
        seed: of the run.
        epoch: the first to come; a resumed run starts at another than 0.
        paired_share: None visits every row once an epoch, in batches that are full but for the last. A share fills
            that part of each batch with complete rows, all of them in turn, again and again; an epoch then visits
            every other row once. Where there are no complete rows, or no others, it changes nothing.
    """

    def __init__(
        self, complete: Tensor, batch_size: int, seed: int, epoch: int = 0, paired_share: float | None = None
    ) -> None:
        self.seed, self.epoch = seed, epoch
        self.complete, self.others = complete.nonzero().flatten(), (~complete).nonzero().flatten()
        mixed = paired_share is not None and len(self.complete) > 0 and len(self.others) > 0
        self.paired = min(round((paired_share or 0.0) * batch_size), batch_size - 1) if mixed else 0
        if not self.paired:
            self.others = torch.arange(len(complete))
        self.size = batch_size - self.paired

    def set_epoch(self, epoch: int) -> None:
        """Called by the Trainer at the start of each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return math.ceil(len(self.others) / self.size)

    def __iter__(self) -> Iterator[Tensor]:
        generator = torch.Generator().manual_seed(seed_of(self.seed, self.epoch))
        others = _shuffled(self.others, generator).split(self.size)
        if not self.paired:
            return iter(others)
        rounds = math.ceil(len(self) * self.paired / len(self.complete))
        complete = torch.cat([_shuffled(self.complete, generator) for _ in range(rounds)])
        return (torch.cat(pair) for pair in zip(others, complete.split(self.paired), strict=False))


def _shuffled(rows: Tensor, generator: torch.Generator) -> Tensor:
    return rows[torch.randperm(len(rows), generator=generator)]


def seed_of(*numbers: int) -> int:
    """One seed from several numbers (a run's seed, an epoch, a row), with no visible relation between neighbours."""
    state = 0x9E3779B97F4A7C15
    for number in numbers:  # the mixing steps of splitmix64
        state = (state + number * 0xBF58476D1CE4E5B9 + 0x94D049BB133111EB) % 2**64
        state = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        state = (state ^ (state >> 27)) * 0x94D049BB133111EB % 2**64
        state ^= state >> 31
    return state >> 1


def training_loader(order: ShuffledBatches, rows: Batch) -> DataLoader[Batch]:
    """Batches of the rows in that order."""
    return DataLoader(rows, batch_size=None, sampler=order)  # type: ignore[arg-type]


def whole_loader(rows: Batch, batch_size: int) -> DataLoader[Batch]:
    """Batches in the order of the rows."""
    slices = [slice(start, start + batch_size) for start in range(0, len(rows), batch_size)]
    return DataLoader(rows, batch_size=None, sampler=slices)  # type: ignore[arg-type]
