"""Train, validation and test rows, and the paper's weak supervision (section 5.1)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic

import torch
from torch import Tensor
from typing_extensions import TypeVar

from mvae.data.batch import Batch

if TYPE_CHECKING:
    from mvae.data.shards import Shards

__all__ = ["Dataset", "hold_out", "unpair"]


Rows = TypeVar("Rows", "Batch", "Shards", default="Batch")


@dataclass(frozen=True)
class Dataset(Generic[Rows]):
    """A data set, split: a `Batch` each where it is in memory, `Shards` where it stays on disk.

    The test rows are never used to choose anything; validation rows come out of the training rows.
    """

    name: str
    train: Rows
    validation: Rows
    test: Rows
    description: str = ""
    """What was done to the data, in a sentence that is printed and stored."""
    transform: Callable[[Batch], Batch] | None = None
    """Applied to each training batch anew, e.g. dynamic binarisation; draws from torch's global generator, with
    `Batch.drawn` where several processes shall draw what one would."""

    def split(self, name: str) -> Rows:
        """The rows called `"train"`, `"validation"` or `"test"`.

        Raises:
            ValueError: on another name.
        """
        if name not in ("train", "validation", "test"):
            raise ValueError(f"split: expected train, validation or test, got '{name}'")
        return getattr(self, name)


def hold_out(num_rows: int, num_held: int, seed: int) -> tuple[Tensor, Tensor]:
    """Split row numbers at random into those kept and those held out, each ascending.

    Raises:
        ValueError: unless `0 <= num_held < num_rows`.

    Example:
        >>> kept, held = hold_out(10, 3, seed=0)
        >>> len(kept), sorted((kept.tolist() + held.tolist())) == list(range(10))
        (7, True)
    """
    if not 0 <= num_held < num_rows:
        raise ValueError(f"cannot hold out {num_held} of {num_rows} rows")
    order = torch.randperm(num_rows, generator=torch.Generator().manual_seed(seed))
    return order[num_held:].sort().values, order[:num_held].sort().values


def unpair(batch: Batch, fraction: float, seed: int) -> Batch:
    """Keep a random fraction of the rows paired; leave each of the others one modality, the groups as even as can be.

    This is the paper's weak supervision (section 5.1). Each row keeps its place, the number of rows stays the same and
    no two rows come from the same example, so nothing of the lost pairing remains. Lost values are erased (NaN, or -1
    for integers), so that nothing downstream can read them.

    Args:
        batch: complete rows.
        fraction: share of the rows that stay paired, in [0, 1].
        seed: chooses the rows.

    Raises:
        ValueError: if the fraction is outside [0, 1] or a row lacks something already.
    """
    if not 0 <= fraction <= 1:
        raise ValueError(f"paired fraction: expected a number from 0 to 1, got {fraction}")
    if not batch.complete:
        raise ValueError("only complete rows can be unpaired; this batch has absent values already")
    order = torch.randperm(len(batch), generator=torch.Generator().manual_seed(seed))
    unpaired = order[round(fraction * len(batch)) :]
    values, present = {}, {}
    for index, (name, value) in enumerate(batch.values.items()):
        kept = torch.ones(len(batch), dtype=torch.bool)
        kept[unpaired] = False
        kept[unpaired[index :: len(batch.values)]] = True
        values[name], present[name] = value.clone(), kept
        values[name][~kept] = float("nan") if value.is_floating_point() else -1
    return Batch(values, present)
