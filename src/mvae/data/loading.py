"""The order in which training reads rows: a function of seed and epoch alone, so that a resumed run sees the same."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
import torch
from torch import Tensor

from mvae.batch import Batch, Part
from mvae.seeds import seed_of

__all__ = ["BLOCK", "COMPLETE", "WINDOW", "ShardedBatches", "ShuffledBatches", "grouped"]

COMPLETE = "complete"
"""The kind, in shares, of the rows that have every modality."""
STRETCH = 50
"""Batches among which rows of about the same length are put together."""
BLOCK = 1024
"""Rows on disk that lie together and are read by one process."""
WINDOW = 16
"""Blocks among which rows on disk are shuffled."""


@dataclass
class ShuffledBatches:
    """Row numbers of each batch of an epoch, or of the part of each that one of several processes takes.

    Without shares every row comes once in each pass. With shares each kind of row fills its part of every batch, in its
    own shuffled order, again from its start when it is through; an epoch has as many batches as without.
    """

    groups: Sequence[tuple[Tensor, float]]
    """Row numbers and share of each batch, kind by kind; the shares sum to 1."""
    batch_size: int
    """Rows a batch, over all processes."""
    seed: int
    epoch: int = 0
    rank: int = 0
    """Number of this process, from 0."""
    world: int = 1
    """Number of processes that share each batch."""
    passes: int = 1
    """Times that an epoch goes through all rows."""
    lengths: Tensor | None = None
    """Of all rows, `[R]`, so that rows of about the same length share a batch; None if they need not."""

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


@dataclass
class ShardedBatches:
    """Row numbers of each batch of an epoch, so that reading goes through files on disk almost in order.

    Rows that lie together make a block. Blocks come in shuffled order, rows are shuffled among a window of blocks.
    With several processes (ranks) every batch is divided among them as evenly as can be; each goes through blocks of
    its own. Every row comes once an epoch, over all ranks. The memory that the order takes does not grow with the rows
    (but for 8 bytes a block).
    """

    num_rows: int
    batch_size: int
    """Rows a batch, over all ranks."""
    seed: int
    epoch: int = 0
    rank: int = 0
    world: int = 1
    block: int = BLOCK
    window: int = WINDOW

    def __len__(self) -> int:
        return math.ceil(self.num_rows / self.batch_size)

    def __iter__(self) -> Iterator[Part]:
        waiting, windows = torch.zeros(0, dtype=torch.long), self._windows()
        for step in range(len(self)):
            total = min(self.batch_size, self.num_rows - step * self.batch_size)
            start, stop = (total * rank // self.world for rank in (self.rank, self.rank + 1))
            while len(waiting) < stop - start:
                waiting = torch.cat([waiting, next(windows)])
            if start == stop:  # a last batch of fewer rows than processes
                yield Part(torch.zeros(1, dtype=torch.long), start, total, counts=False)
            else:
                yield Part(waiting[: stop - start], start, total)
            waiting = waiting[stop - start :]

    def _windows(self) -> Iterator[Tensor]:
        """This rank's rows, shuffled window by window."""
        starts, counts = self._blocks()
        for number, first in enumerate(range(0, len(starts), self.window)):
            places = zip(starts[first : first + self.window], counts[first : first + self.window], strict=True)
            rows = torch.cat([torch.arange(start, start + count) for start, count in places])
            generator = torch.Generator().manual_seed(seed_of(self.seed, self.epoch, self.rank, number))
            yield rows[torch.randperm(len(rows), generator=generator)]

    def _blocks(self) -> tuple[np.ndarray, np.ndarray]:
        """First row and length of this rank's blocks: a stretch of all blocks in their order, cut to the row."""
        generator = torch.Generator().manual_seed(seed_of(self.seed, self.epoch))
        order = torch.randperm(math.ceil(self.num_rows / self.block), generator=generator).numpy()
        starts = order * self.block
        ends = np.minimum(self.block, self.num_rows - starts).cumsum()
        before = np.append(0, ends[:-1])
        low, high = np.maximum(before, self._before(self.rank)), np.minimum(ends, self._before(self.rank + 1))
        some = high > low
        return (starts + low - before)[some], (high - low)[some]

    def _before(self, rank: int) -> int:
        """How many rows an epoch has for all ranks before this one."""
        complete, rest = divmod(self.num_rows, self.batch_size)
        return complete * (self.batch_size * rank // self.world) + rest * rank // self.world


def grouped(rows: Batch, names: Sequence[str], shares: Mapping[str, float] | None) -> list[tuple[Tensor, float]]:
    """Row numbers of each kind of rows, with the share that the kind has of a batch; the shares sum to 1.

    Args:
        rows: B rows.
        names: the model's modalities.
        shares: kind to share; a kind is `"complete"` or the modalities a row has, joined by `+`. Kinds that are not
            named fill the rest as they come. A kind without rows leaves its share to the others.

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
