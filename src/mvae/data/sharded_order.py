"""The order in which rows that stay on disk are read in training."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Sampler

from mvae.batch import Part
from mvae.seeds import seed_of

__all__ = ["BLOCK", "WINDOW", "ShardedBatches"]

BLOCK = 1024
"""Rows that lie together and are read by one process."""
WINDOW = 16
"""Blocks among which rows are shuffled."""


class ShardedBatches(Sampler[Part]):
    """Row numbers of each batch of an epoch, so that reading goes through the files almost in order.

    Rows that lie together make a block. Blocks come in shuffled order, rows are shuffled among a window of blocks.
    With several processes (ranks) every batch is divided among them as evenly as can be; each goes through blocks of
    its own. Every row comes once an epoch, over all ranks. The order is a function of seed, epoch, rank and number of
    ranks alone, and the memory it takes does not grow with the rows (but for 8 bytes a block).

    Args:
        num_rows: N.
        batch_size: rows a batch, over all ranks.
        seed: of the run.
        epoch: the first one; above 0 in a resumed run.
        rank: number of this process, from 0.
        world: how many processes share each batch.
        block: rows of a block.
        window: blocks among which rows are shuffled.
    """

    def __init__(
        self,
        num_rows: int,
        batch_size: int,
        seed: int,
        epoch: int = 0,
        rank: int = 0,
        world: int = 1,
        block: int = BLOCK,
        window: int = WINDOW,
    ) -> None:
        self.num_rows, self.batch_size, self.seed, self.epoch = num_rows, batch_size, seed, epoch
        self.rank, self.world, self.block, self.window = rank, world, block, window

    def set_epoch(self, epoch: int) -> None:
        """Called at the start of each epoch."""
        self.epoch = epoch

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
