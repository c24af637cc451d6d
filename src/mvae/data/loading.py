"""Batches of a data set in memory: one indexing operation each, in an order that epoch and seed alone decide."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate

import torch
from torch import Tensor
from torch.utils.data import Sampler

from mvae.batch import Batch, Part
from mvae.seeds import seed_of

__all__ = ["COMPLETE", "ShuffledBatches", "grouped"]


COMPLETE = "complete"
"""The kind, in shares, of the rows that have every modality."""
STRETCH = 50
"""Batches among which rows of about the same length are put together."""


class ShuffledBatches(Sampler[Part]):
    """Row numbers of each batch of an epoch, or of the part of each that one of several processes takes.

    The order is a function of the seed and the epoch alone, so that a resumed run sees the batches it would have seen.
    Without shares every row comes once in each pass. With shares each kind of row fills its part of every batch, in its
    own shuffled order, again from its start when it is through; an epoch has as many batches as without.

    Args:
        groups: row numbers and share of each batch, kind by kind; the shares sum to 1.
        batch_size: rows a batch.
        seed: of the run.
        epoch: the first one; above 0 in a resumed run.
        rank: number of this process, from 0.
        world: how many processes share each batch.
        passes: how often an epoch goes through all rows.
        lengths: of all rows, `[R]`, so that rows of about the same length share a batch; None if they need not.
    """

    def __init__(
        self,
        groups: Sequence[tuple[Tensor, float]],
        batch_size: int,
        seed: int,
        epoch: int = 0,
        rank: int = 0,
        world: int = 1,
        passes: int = 1,
        lengths: Tensor | None = None,
    ) -> None:
        self.groups, self.batch_size, self.seed, self.epoch = groups, batch_size, seed, epoch
        self.passes, self.rank, self.world, self.lengths = passes, rank, world, lengths

    def set_epoch(self, epoch: int) -> None:
        """Called at the start of each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return math.ceil(self.passes * sum(len(rows) for rows, _ in self.groups) / self.batch_size)

    def __iter__(self) -> Iterator[Part]:
        return (Part.of(rows, self.rank, self.world) for rows in self._batches())

    def _batches(self) -> Sequence[Tensor] | Tensor:
        """The row numbers of each batch, over all processes."""
        generator = torch.Generator().manual_seed(seed_of(self.seed, self.epoch))
        if len(self.groups) == 1:
            rows = torch.cat([_shuffled(self.groups[0][0], generator) for _ in range(self.passes)])
            return self._mixed(self._alike(rows, self.batch_size).split(self.batch_size), generator)
        ends = [round(self.batch_size * share) for share in accumulate(share for _, share in self.groups)]
        parts = []
        for (rows, _), start, end in zip(self.groups, [0, *ends], ends, strict=False):
            rounds = math.ceil(len(self) * (end - start) / len(rows))
            order = torch.cat([_shuffled(rows, generator) for _ in range(rounds)]) if rounds else rows[:0]
            order = self._alike(order[: len(self) * (end - start)], end - start)
            parts.append(order.reshape(len(self), end - start))
        return self._mixed(torch.cat(parts, 1), generator)

    def _alike(self, rows: Tensor, size: int) -> Tensor:
        """The rows sorted by length within each stretch of some batches of `size` rows."""
        if self.lengths is None or not size:
            return rows
        stretches = rows.split(STRETCH * size)
        return torch.cat([stretch[self.lengths[stretch].argsort(stable=True)] for stretch in stretches])

    def _mixed(self, batches: Sequence[Tensor] | Tensor, generator: torch.Generator) -> Sequence[Tensor] | Tensor:
        """The batches, shuffled again where they were sorted by length."""
        if self.lengths is None:
            return batches
        return [batches[number] for number in torch.randperm(len(batches), generator=generator)]


def grouped(rows: Batch, names: Sequence[str], shares: Mapping[str, float] | None) -> list[tuple[Tensor, float]]:
    """Rows by kind, with the share that each kind has of a batch.

    Args:
        rows: B rows.
        names: the model's modalities.
        shares: kind to share; a kind is `"complete"` or the modalities a row has, joined by `+`. Kinds that are not
            named fill what is left as they come. A kind without rows leaves its share to the others.

    Returns:
        Row numbers and share of each kind that has rows; the shares sum to 1.

    Raises:
        ValueError: if a kind is unknown, or rows are left without a share.
    """
    table, left = rows.presence(names), torch.ones(len(rows), dtype=torch.bool)
    groups = []
    for kind, share in (shares or {}).items():
        members = list(names) if kind == COMPLETE else kind.split("+")
        unknown = [name for name in members if name not in names]
        if unknown:
            raise ValueError(f"shares: unknown modality '{unknown[0]}'; there are {', '.join(names)}, and {COMPLETE}")
        here = (table == torch.tensor([name in members for name in names])).all(1)
        groups.append((here.nonzero().flatten(), share))
        left &= ~here
    rest = 1 - sum(share for _, share in groups)
    if rest < -1e-9 or (left.any() and rest < 1e-9):
        raise ValueError(f"shares: expected a sum below 1, which leaves some for other rows, got {1 - rest:g}")
    groups = [(here, share) for here, share in [*groups, (left.nonzero().flatten(), rest)] if len(here) and share > 0]
    total = sum(share for _, share in groups)
    if not groups:
        raise ValueError("shares: they leave no rows to train on")
    return [(here, share / total) for here, share in groups]


def _shuffled(rows: Tensor, generator: torch.Generator) -> Tensor:
    return rows[torch.randperm(len(rows), generator=generator)]
