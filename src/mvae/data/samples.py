"""Rows of a torch `Dataset` or `DataLoader` of mappings, read as they are needed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from mvae.batch import Batch, Part
from mvae.seeds import seeded

__all__ = ["LoadedBatches", "Samples", "batch_of"]


def batch_of(item: Any) -> Batch:
    """A `Batch` of a loader's item: a batch, a mapping of modalities to B values, or such a mapping and its masks.

    A `ValueError` if it is something else, or as `Batch.of`.
    """
    if isinstance(item, Batch):
        return item
    values, present = item if isinstance(item, tuple | list) and len(item) == 2 else (item, None)
    if not isinstance(values, Mapping):
        raise ValueError(
            "data: expected batches that are mappings of modalities to values, or pairs of such a mapping and one of"
            f" masks, got {type(values).__name__}"
        )
    return Batch.of(values, present)


class Samples:
    """Rows of a torch `Dataset`. Indexing them with row numbers reads those into a `Batch`, as indexing a `Batch` does.

    Args:
        dataset: of known length. An item is one row: a mapping of modalities to values, where a modality that is left
            out, None or all NaN is missing; or a pair of such a mapping and one of masks, name to a boolean.
        checked: is applied to each batch, such as `MultimodalVAE.checked`.
    """

    def __init__(self, dataset: Dataset[Any], checked: Callable[[Batch], Batch]) -> None:
        self.dataset, self.checked = dataset, checked

    def __len__(self) -> int:
        return len(self.dataset)  # type: ignore[arg-type]

    def __getitem__(self, rows: Part | Tensor | slice | Sequence[int]) -> Batch:
        part = rows if isinstance(rows, Part) else None
        numbers = range(len(self))[rows] if isinstance(rows, slice) else part.rows if part else rows
        items = [self.dataset[int(number)] for number in numbers]  # type: ignore[union-attr]
        each = [item if isinstance(item, tuple) else (item, {}) for item in items]
        columns = {
            name: [values.get(name) if present.get(name, True) else None for values, present in each]
            for name in dict.fromkeys(name for values, _ in each for name in values)
        }
        some = {name: column for name, column in columns.items() if any(value is not None for value in column)}
        read = self.checked(Batch.of(some))
        return Batch(read.values, read.present, part)


class LoadedBatches:
    """Batches of a `DataLoader`, in an order that seed and epoch alone decide where it shuffles by itself.

    Args:
        loader: of known length; `batch_of` reads what it gives.
        checked: as in `Samples`.
    """

    def __init__(self, loader: DataLoader[Any], checked: Callable[[Batch], Batch]) -> None:
        self.loader, self.checked = loader, checked

    def __len__(self) -> int:
        return len(self.loader)

    def epoch(self, seed: int) -> Iterator[Batch]:
        """The batches of an epoch, whose shuffling starts from a seed."""
        with seeded(seed):  # a loader draws its order when it is asked for the first batch
            batches = iter(self.loader)
            first = next(batches, None)
        for item in () if first is None else chain([first], batches):
            yield self.checked(batch_of(item))
