"""A batch: the values of each modality, and which modalities each row has."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from typing import Any, Protocol

import torch
from torch import Tensor

__all__ = ["Batch", "Part", "Rows", "per_row"]


@dataclass(frozen=True)
class Part:
    """The rows of a step's batch that one of several processes takes: from `start` on, of `total`."""

    rows: Tensor
    """Row numbers `[B]`, at least one."""
    start: int
    """Place of the first of them in the batch of all processes."""
    total: int
    """Rows of that batch."""
    counts: bool = True
    """False for a process that has no row, with fewer rows than processes: it takes another's, since all take part."""

    @classmethod
    def of(cls, rows: Tensor, rank: int = 0, world: int = 1) -> Part:
        """The part of the process `rank` of `world`: consecutive row numbers, shared as evenly as possible.

        Example:
            >>> [Part.of(torch.arange(5), rank, 2).rows.tolist() for rank in (0, 1)]
            [[0, 1], [2, 3, 4]]
        """
        start, end = len(rows) * rank // world, len(rows) * (rank + 1) // world
        return cls(rows[start : max(end, start + 1)], start, len(rows), start < end)

    @property
    def share(self) -> float:
        """The share of these rows in the batch of all processes; 0 where they do not count."""
        return len(self.rows) / self.total if self.counts else 0.0


def per_row(numbers: Tensor, values: Tensor) -> Tensor:
    """Numbers `[*rows]` in as many dimensions as `values` `[*rows, ...]`, so that each is one for its row."""
    return numbers.reshape(*numbers.shape, *(1,) * (values.dim() - numbers.dim()))


class Rows(Protocol):
    """Rows in memory or on disk: a `Batch`, or anything that returns one for row numbers."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Part | Tensor | slice | Sequence[int], /) -> Batch: ...


class Batch:
    """Rows of several modalities, any of which a row may lack.

    A data set in memory is a `Batch` too: indexing with row numbers gives a smaller one.

    Args:
        values: name to tensor `[B, ...]`. Numbers in place of missing values are never read.
        present: name to boolean tensor `[B]`; a name left out is observed in every row.
        part: the part of a step's batch that these rows are, where several processes share it.

    Raises:
        ValueError: if there is no modality, lengths disagree or `present` names what `values` does not hold.

    Example:
        >>> batch = Batch({"label": torch.tensor([7, 0])}, {"label": torch.tensor([True, False])})
        >>> len(batch), batch.complete
        (2, False)
    """

    def __init__(
        self,
        values: Mapping[str, Tensor],
        present: Mapping[str, Tensor] | Tensor | None = None,
        part: Part | None = None,
    ) -> None:
        if not values:
            raise ValueError("a batch needs at least one modality")
        for name, value in values.items():
            _check_rows(name, value)
        self.values: Mapping[str, Tensor] = dict(values)
        self.part = part
        self._table = present if isinstance(present, Tensor) else _table(values, present or {})
        self._rows: dict[str, Tensor | None] = {}

    @classmethod
    def of(cls, values: Mapping[str, Any], present: Mapping[str, Any] | None = None) -> Batch:
        """A batch of arrays, lists or tensors with missing values.

        A value is missing where it is None, where all its numbers are NaN, or where the mask `present` is false.

        Args:
            values: name to tensor, array or sequence of B rows; in a sequence a row may be None.
            present: optional masks, name to B booleans.

        Raises:
            ValueError: if an observed row holds a NaN among numbers (naming modality, row and element), if rows have
                different shapes, or as `Batch` itself does.

        Example:
            >>> Batch.of({"age": [31.0, float("nan")], "label": [None, 4]}).present["label"]
            tensor([False,  True])
        """
        tensors, presence = {}, {}
        for name, rows in values.items():
            mask = None if present is None or name not in present else torch.as_tensor(present[name], dtype=torch.bool)
            tensors[name], presence[name] = _with_presence(name, rows, mask)
        _check_names(present or {}, values)
        return cls(tensors, presence)

    def __len__(self) -> int:
        return len(self._table)

    def __getitem__(self, rows: Part | Tensor | slice | Sequence[int]) -> Batch:
        part, index = (rows, rows.rows) if isinstance(rows, Part) else (None, rows)
        return Batch({name: value[index] for name, value in self.values.items()}, self._table[index], part)

    def __repr__(self) -> str:
        parts = (f"{n}: {tuple(v.shape[1:])}, {int(self.present[n].sum())} present" for n, v in self.values.items())
        return f"Batch({len(self)} rows; {'; '.join(parts)})"

    @cached_property
    def present(self) -> Mapping[str, Tensor]:
        """Which rows have each modality: name to boolean `[B]`."""
        return dict(zip(self.values, self._table.unbind(1), strict=True))

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Batch:
        """The same batch on another device."""
        values = {name: value.to(device, non_blocking=non_blocking) for name, value in self.values.items()}
        return Batch(values, self._table.to(device, non_blocking=non_blocking), self.part)

    def holding(self, values: Mapping[str, Tensor], present: Mapping[str, Tensor] | None = None) -> Batch:
        """The same rows with other values, and with other presence unless None."""
        if present is None:
            present = {name: self.present[name] for name in values if name in self.present}
        return Batch(values, present, self.part)

    def drawn(self, draw: Callable[[Tensor], Tensor], like: Tensor, dim: int = 0) -> Tensor:
        """Random numbers for each row, the same in one process as in several.

        A process with a part draws for all rows and keeps its own, so that the generators of all stay in one state.

        Args:
            draw: from a tensor to random numbers of its shape, such as `torch.randn_like`.
            like: a tensor of the shape of the numbers.
            dim: the dimension of `like` that runs over this batch's rows.
        """
        shape = list(like.shape)
        start, shape[dim] = (0, len(self)) if self.part is None else (self.part.start, self.part.total)
        # Numbers are drawn in the order of memory: of a new tensor, whose order is that of its dimensions.
        return draw(like.new_empty(shape)).narrow(dim, start, len(self))

    def only(self, names: Iterable[str]) -> Batch:
        """The same rows with only these modalities; a ValueError on an unknown name, or none."""
        names = list(names)
        for name in names:
            if name not in self.values:
                raise ValueError(f"unknown modality '{name}'; this batch has {', '.join(self.values)}")
        return self.holding({name: self.values[name] for name in names})

    def filled(self, name: str) -> Tensor:
        """The values of a modality, with 0 where it is missing."""
        return torch.where(per_row(self.present[name], self.values[name]), self.values[name], 0)

    def rows(self, name: str) -> Tensor | None:
        """The numbers `[R]` of the rows that have a modality; None where all have it."""
        if name not in self.values:
            return torch.zeros(0, dtype=torch.long, device=self.device)
        if name not in self._rows:
            present = self.present[name]
            self._rows[name] = None if bool(present.all()) else present.nonzero().flatten()
        return self._rows[name]

    @property
    def device(self) -> torch.device:
        """Where the values are."""
        return self.values[next(iter(self.values))].device

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of one observation of each modality, by name."""
        return {name: tuple(value.shape[1:]) for name, value in self.values.items()}

    @property
    def complete(self) -> bool:
        """Whether every row has every modality."""
        return bool(self._table.all())

    def has_all(self, names: Sequence[str]) -> bool:
        """Whether every row has all of these modalities."""
        return bool(self.presence(names).all())

    def presence(self, names: Sequence[str]) -> Tensor:
        """Presence as one table `[B, N]` in the order of `names`; false for a name that the batch does not have."""
        if list(names) == list(self.values):
            return self._table
        missing = torch.zeros(len(self), dtype=torch.bool, device=self.device)
        return torch.stack([self.present.get(name, missing) for name in names], 1)


def _table(values: Mapping[str, Tensor], present: Mapping[str, Tensor]) -> Tensor:
    """Presence as a table `[B, N]`, from checked masks."""
    _check_names(present, values)
    length, columns = len(next(iter(values.values()))), []
    for name, value in values.items():
        mask = present[name] if name in present else torch.ones(length, dtype=torch.bool, device=value.device)
        if mask.dtype != torch.bool:
            raise ValueError(f"modality '{name}': expected presence of dtype torch.bool, got {mask.dtype}")
        if len(value) != length or mask.shape != (length,):
            raise ValueError(
                f"modality '{name}': expected {length} rows of values and presence as in the first modality, got"
                f" {len(value)} rows and presence of shape {tuple(mask.shape)}"
            )
        columns.append(mask)
    return torch.stack(columns, 1)


def _check_names(present: Mapping[str, Any], values: Mapping[str, Any]) -> None:
    for name in present:
        if name not in values:
            raise ValueError(f"present: unknown modality '{name}'; values has {', '.join(values)}")


def _check_rows(name: str, value: Tensor) -> None:
    if not value.dim():
        raise ValueError(f"modality '{name}': expected a value a row, got one value; put it into a list")


def _with_presence(name: str, rows: Any, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    tensor, given = _stacked(name, rows)
    if mask is not None:
        if mask.shape != given.shape:
            raise ValueError(f"present['{name}']: expected {len(given)} booleans, got shape {tuple(mask.shape)}")
        given = given & mask.to(given.device)
    if not tensor.is_floating_point():
        return tensor, given
    nan = tensor.isnan().reshape(len(tensor), -1)
    given = given & ~(nan.all(1) & nan.any(1))
    partly = nan.any(1) & given
    if partly.any():
        row = int(partly.nonzero()[0])
        raise ValueError(
            f"modality '{name}', row {row}, element {int(nan[row].nonzero()[0])}: NaN among other values;"
            " expected a row without NaN, or a missing one (all NaN, None, or masked by `present`)"
        )
    return tensor.float() if tensor.dtype == torch.float64 else tensor, given


def _stacked(name: str, rows: Any) -> tuple[Tensor, Tensor]:
    """All rows in one tensor, and a mask of those that are not None."""
    if hasattr(rows, "to_numpy"):  # a pandas or Arrow column
        rows = rows.to_numpy()
    if getattr(rows, "dtype", None) == "object":
        rows = rows.tolist()
    if not isinstance(rows, list | tuple):
        tensor = torch.as_tensor(rows)
        _check_rows(name, tensor)
        return tensor, torch.ones(len(tensor), dtype=torch.bool, device=tensor.device)
    some = next((row for row in rows if row is not None), None)
    if some is None:
        raise ValueError(f"modality '{name}': no row has a value; leave the modality out instead")
    filled = [torch.as_tensor(some if row is None else row) for row in rows]
    for index, value in enumerate(filled):
        if value.shape != filled[0].shape:
            raise ValueError(
                f"modality '{name}', row {index}: expected shape {tuple(filled[0].shape)} as in the first row,"
                f" got {tuple(value.shape)}"
            )
    dtype = reduce(torch.promote_types, (value.dtype for value in filled))
    return torch.stack([value.to(dtype) for value in filled]), torch.tensor([row is not None for row in rows])
