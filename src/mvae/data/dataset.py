"""Train, validation and test rows, and the paper's weak supervision (section 5.1)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic

import torch
from torch import Tensor
from typing_extensions import TypeVar

from mvae.batch import Batch, Rows

__all__ = ["SPLITS", "SPLIT_SEED", "Dataset", "drop", "hold_out", "pairing_order", "unpair"]


SPLITS = ("train", "validation", "test")
SPLIT_SEED = 0  # the validation rows are the same whatever seed a run has
RowsT = TypeVar("RowsT", bound=Rows, default=Batch)


@dataclass(frozen=True)
class Dataset(Generic[RowsT]):
    """A data set, split: a `Batch` each where it is in memory, `Shards` where it stays on disk.

    The test rows are never used to choose anything; validation rows come out of the training rows.
    """

    name: str
    train: RowsT
    validation: RowsT
    test: RowsT
    description: str = ""
    """The data and the changes made to it, in a sentence that is printed and stored."""
    transform: Callable[[Batch], Batch] | None = None
    """Applied to each training batch anew, e.g. dynamic binarisation; draws from torch's global generator, with
    `Batch.drawn` so that several processes draw what one would."""

    def split(self, name: str) -> RowsT:
        """The rows called `"train"`, `"validation"` or `"test"`; `ValueError` on another name."""
        if name not in SPLITS:
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


def unpair(batch: Batch, fraction: float, seed: int, balance: str | None = None) -> Batch:
    """Keep a random fraction of the rows paired; leave each of the others one modality, the groups as even as can be.

    This is the paper's weak supervision (section 5.1). Each row keeps its place, the number of rows stays the same and
    no two rows come from the same example, so nothing of the lost pairing remains. Lost values are erased (NaN, -1 for
    integers, 0 for bytes). With one seed, the pairs of a smaller fraction are among those of a larger one.

    Args:
        batch: rows; incomplete ones are unchanged.
        fraction: share of the complete rows that stay paired, in [0, 1].
        seed: chooses the rows.
        balance: a modality of whole numbers whose values are paired equally often, as far as their rows go.

    Raises:
        ValueError: if the fraction is outside [0, 1], or there is nothing to balance.
    """
    if not 0 <= fraction <= 1:
        raise ValueError(f"paired fraction: expected a number from 0 to 1, got {fraction}")
    complete = batch.presence(list(batch.values)).all(1)
    order = pairing_order(batch, seed, balance)
    paired = torch.zeros_like(complete)
    paired[order[complete[order]][: round(fraction * int(complete.sum()))]] = True
    shuffled = pairing_order(batch, seed)  # an order that is balanced would give each modality other classes
    unpaired = shuffled[(complete & ~paired)[shuffled]]
    present = {}
    for index, name in enumerate(batch.values):
        present[name] = batch.present[name].clone()
        present[name][unpaired] = False
        present[name][unpaired[index :: len(batch.values)]] = True
    return _erased(batch, present)


def drop(batch: Batch, probability: float, seed: int) -> Batch:
    """Let each complete row lose each modality with a probability, independently, except one where it would lose all.

    Lost values are erased as by `unpair`. With one seed, values lost at a smaller probability are lost at a larger one,
    except those kept where all would be lost.

    Raises:
        ValueError: if the probability is outside [0, 1] or a row is incomplete.
    """
    if not 0 <= probability <= 1:
        raise ValueError(f"probability: expected a number from 0 to 1, got {probability}")
    if not batch.complete:
        raise ValueError("only complete rows can lose modalities; this batch has missing values already")
    luck = torch.rand(len(batch), len(batch.values), generator=torch.Generator().manual_seed(seed))
    kept = (luck >= probability) | (luck == luck.amax(1, keepdim=True))
    return _erased(batch, dict(zip(batch.values, kept.unbind(1), strict=True)))


def _erased(batch: Batch, present: dict[str, Tensor]) -> Batch:
    """The batch without what is not present, so that nothing downstream can read it."""
    values = {name: value.clone() for name, value in batch.values.items()}
    for name, value in values.items():
        value[~present[name]] = math.nan if value.is_floating_point() else 0 if value.dtype == torch.uint8 else -1
    return Batch(values, present)


def pairing_order(batch: Batch, seed: int, balance: str | None = None) -> Tensor:
    """Row numbers `[B]` in the order in which `unpair` pairs them; a `ValueError` if `balance` is no category."""
    order = torch.randperm(len(batch), generator=torch.Generator().manual_seed(seed))
    if balance is None:
        return order
    classes = batch.values.get(balance)
    if classes is None or classes.is_floating_point() or classes.dim() != 1:
        fit = ", ".join(n for n, v in batch.values.items() if v.dim() == 1 and not v.is_floating_point())
        raise ValueError(f"balance: expected a category ({fit or 'there is none'}), got '{balance}'")
    ordered = classes[order]
    turn = torch.empty_like(order)  # how many rows of its class come before each row
    for value in ordered.unique():
        here = (ordered == value).nonzero().flatten()
        turn[here] = torch.arange(len(here))
    return order[turn.argsort(stable=True)]
