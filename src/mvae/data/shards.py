"""Data larger than memory: a folder of Arrow or Parquet files, read by memory map."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from mvae.batch import Batch, Part
from mvae.data.arrow import (
    SUFFIXES,
    FaultError,
    Shard,
    column_fault,
    first_shape,
    holds_floats,
    pyarrow,
    read_shard,
    tensors,
)
from mvae.data.dataset import SPLITS, Dataset
from mvae.data.sharded_order import BLOCK, WINDOW
from mvae.files import DataError

if TYPE_CHECKING:
    from mvae.modality import Variable

__all__ = ["Shards", "open_shards"]

OPEN_SHARDS = 2 * WINDOW
"""How many files are mapped at a time: as many as a window can touch."""
FEWEST_HELD_BLOCKS = 16
SPLIT_SEED = 0  # the validation rows are the same whatever seed a run has


def open_shards(folder: str | Path) -> Dataset[Shards]:
    """Open a folder of Arrow or Parquet files as a data set that stays on disk.

    Training rows lie in `train/` or in the folder itself; `validation/` and `test/` may stand beside. Each holds
    `.arrow` or `.parquet` files, or what `datasets.Dataset.save_to_disk` writes. A column is a modality: numbers,
    booleans, or lists of numbers, nested or flat. What is null, or all NaN, is absent.

    Arrow files are mapped as they lie. Parquet is converted once, into the user's cache.

    Args:
        folder: where the files are.

    Returns:
        A data set whose parts are `Shards`; a part without files has no rows.

    Raises:
        DataError: if there is nothing to read, a file is damaged, files disagree on a column's type, or the package
            `pyarrow` is missing.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder")
    places = {name: folder / name for name in SPLITS}
    lying = _files(folder)
    if places["train"].is_dir():
        if lying:
            raise DataError(f"{folder}: holds {lying[0].name} beside train/; expected training rows in one of the two")
        lying = _files(places["train"])
    if not lying:
        raise DataError(
            f"{folder}: expected files ending in {' or '.join(SUFFIXES)}, here or in train/; there are none"
        )
    train = Shards([read_shard(path) for path in lying])
    if not len(train):
        raise DataError(f"{lying[0].parent}: its {len(lying)} files have no rows")
    validation, test = (
        Shards([read_shard(path) for path in _files(place)] if place.is_dir() else [])
        for place in (places["validation"], places["test"])
    )
    words = f"{len(lying):,} file{'s' if len(lying) > 1 else ''} of rows, read from disk as they are needed"
    return Dataset(str(folder.resolve()), train, validation, test, words)


def _files(folder: Path) -> list[Path]:
    """The files of rows in a folder, in order."""
    saved = folder / "state.json"
    if saved.is_file():  # written by `datasets`, which may keep caches of its own beside the rows
        try:
            listed = [folder / entry["filename"] for entry in json.loads(saved.read_bytes())["_data_files"]]
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"{saved}: expected the list of files that datasets' save_to_disk writes") from error
        for path in listed:
            if not path.is_file():
                raise DataError(f"{path}: not there, but {saved} lists it")
        return listed
    found = sorted(path for path in folder.iterdir() if path.suffix in SUFFIXES and not path.name.startswith("."))
    kinds = {path.suffix for path in found}
    if len(kinds) > 1:
        raise DataError(f"{folder}: holds {' and '.join(sorted(kinds))} files; expected one kind")
    return found


class Shards:
    """Rows on disk. Indexing them with row numbers reads those into a `Batch`, as indexing a `Batch` does.

    A few files are mapped at a time and nothing is kept of what was read, so that memory does not grow with the rows.

    Args:
        files: in order.
        variables: what the rows are read as, by column, as `read_as` says; all columns as they are where None.
        pieces: `[P, 3]`, file number, first row and number of rows of each run of rows; all where None.

    Raises:
        DataError: if a column is missing in a file, has another type there, or holds what cannot be read.
    """

    def __init__(
        self,
        files: Sequence[Shard],
        variables: Mapping[str, Variable] | None = None,
        pieces: np.ndarray | None = None,
    ) -> None:
        self.files, self._variables = list(files), variables
        whole = [(number, 0, len(file)) for number, file in enumerate(self.files) if len(file)]
        self._pieces = np.array(whole, dtype=np.int64).reshape(-1, 3) if pieces is None else pieces
        self._ends = self._pieces[:, 2].cumsum()
        self.names: tuple[str, ...] = tuple(variables or (self.files[0].types if self.files else ()))
        self._types: dict[str, Any] = {}
        for name in variables or ():
            self._type(name)  # refuses what does not fit
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._opened: OrderedDict[int, tuple[list[Any], np.ndarray]] = OrderedDict()

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def __repr__(self) -> str:
        return f"Shards({len(self):,} rows in {len(self.files):,} files; {', '.join(self.names)})"

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_opened": OrderedDict()}  # another process maps the files anew

    def __getitem__(self, rows: Part | Tensor | slice | Sequence[int]) -> Batch:
        """Read rows.

        Args:
            rows: row numbers `[B]`, in any order, or a slice.

        Raises:
            DataError: on a value that cannot be read, naming file, row (within the file) and column.
            ValueError: on a value outside its likelihood's support, likewise.
            IndexError: on a row number that there is not.
        """
        if not self.names:
            raise IndexError("there are no rows here to read")
        part, index = (rows, rows.rows) if isinstance(rows, Part) else (None, rows)
        numbers = self._numbers(index)
        order = numbers.argsort(kind="stable")
        parts = list(self._taken(numbers[order]))
        values, present = {}, {}
        for column, name in enumerate(self.names):
            arrays = [part.column(column) for part in parts]
            try:
                values[name], present[name] = tensors(arrays, self._type(name), self._shape(name), order)
            except FaultError as fault:
                place = self.place(int(numbers[order[fault.position]]))
                raise DataError(f"{place}, column '{name}': {fault}") from None
        return self._as_read(Batch(values, present, part), numbers)

    def place(self, row: int) -> str:
        """Where a row lies, in words: file, and row within it, counted from 0."""
        piece = int(self._ends.searchsorted(row, side="right"))
        file, start, count = (int(number) for number in self._pieces[piece])
        return f"{self.files[file].path}, row {start + row - (int(self._ends[piece]) - count)}"

    def nulls(self, name: str) -> int:
        """In how many rows of the files a column is null. Rows of NaN, which are absent too, are not counted."""
        return sum(file.nulls.get(name, 0) for file in self.files)

    def may_be_nan(self, name: str) -> bool:
        """Whether a column holds floating point numbers, so that NaN may stand for what is absent."""
        return holds_floats(self._type(name))

    def read_as(self, variables: Mapping[str, Variable]) -> Shards:
        """The same rows with only these columns, in the shapes and types that a model reads, each value checked.

        Args:
            variables: column to what it is, as `model.variables`.

        Raises:
            DataError: if a column is missing or cannot hold such values, naming file and column.
        """
        return Shards(self.files, variables, self._pieces)

    def hold_out(self, count: int) -> tuple[Shards, Shards]:
        """Split into rows kept and `count` rows held out, both in order; whole blocks are held out, chosen at random.

        Raises:
            ValueError: unless `0 <= count < len(self)`.
        """
        if not 0 <= count < len(self):
            raise ValueError(f"cannot hold out {count} of {len(self)} rows")
        size = min(BLOCK, max(1, count // FEWEST_HELD_BLOCKS))
        starts = np.arange(0, len(self), size)
        order = torch.randperm(len(starts), generator=torch.Generator().manual_seed(SPLIT_SEED)).numpy()
        lengths = np.minimum(size, len(self) - starts)[order]
        held = np.minimum(lengths, np.maximum(0, count - (lengths.cumsum() - lengths)))  # of each block, the first
        begin, end = starts[order][held > 0], (starts[order] + held)[held > 0]
        place = begin.argsort()
        begin, end = begin[place], end[place]
        kept = self._between(np.append(0, end), np.append(begin, len(self)))
        return kept, self._between(begin, end)

    def _between(self, begin: np.ndarray, end: np.ndarray) -> Shards:
        """The rows of some ascending ranges."""
        pieces = []
        firsts = self._ends - self._pieces[:, 2]
        for start, stop in zip(begin.tolist(), end.tolist(), strict=True):
            while start < stop:
                piece = int(self._ends.searchsorted(start, side="right"))
                file, first, _ = self._pieces[piece].tolist()
                count = min(stop, int(self._ends[piece])) - start
                pieces.append((file, first + start - int(firsts[piece]), count))
                start += count  # noqa: PLW2901
        return Shards(self.files, self._variables, np.array(pieces, dtype=np.int64).reshape(-1, 3))

    def _type(self, name: str) -> Any:
        """The Arrow type of a column: of the first file that has values in it, and of all others."""
        if name in self._types:
            return self._types[name]
        types, kind, first = pyarrow().types, None, self.files[0]
        for file in self.files:
            if name not in file.types:
                raise DataError(f"{file.path}: no column '{name}'; it has {', '.join(file.types)}")
            here = file.types[name]
            if types.is_null(here):
                continue
            shape = None if self._variables is None else self._variables[name].shape
            fault = column_fault(here, shape)
            if fault is not None and self._variables is not None:
                raise DataError(f"{file.path}: column '{name}' {fault}")
            if kind is None:
                kind, first = here, file
            elif here != kind:
                raise DataError(f"{file.path}: column '{name}' holds {here}; expected {kind} as in {first.path}")
        self._types[name] = pyarrow().null() if kind is None else kind
        return self._types[name]

    def _shape(self, name: str) -> tuple[int, ...]:
        if self._variables is not None:
            return self._variables[name].shape
        if name not in self._shapes:
            fault = column_fault(self._type(name))
            if fault is not None:
                raise DataError(f"{self.files[0].path}: column '{name}' {fault}")
            shapes = (first_shape(file.open(), list(file.types).index(name)) for file in self.files)
            self._shapes[name] = next((shape for shape in shapes if shape is not None), ())
        return self._shapes[name]

    def _numbers(self, rows: Tensor | slice | Sequence[int]) -> np.ndarray:
        if isinstance(rows, slice):
            return np.arange(*rows.indices(len(self)))
        numbers = torch.as_tensor(rows, dtype=torch.long).cpu().numpy()
        wrong = (numbers < 0) | (numbers >= len(self))
        if wrong.any():
            raise IndexError(f"row {numbers[wrong][0]}: expected 0 to {len(self) - 1}")
        return numbers

    def _taken(self, numbers: np.ndarray) -> Iterator[Any]:
        """Copies of rows, given in ascending order, a record batch for each that they lie in."""
        pa = pyarrow()
        for piece, inside in _among(numbers, self._ends):
            file, start, _ = self._pieces[piece].tolist()
            batches, ends = self._batches(file)
            for number, here in _among(inside + start, ends):
                yield batches[number].take(pa.array(here))

    def _batches(self, file: int) -> tuple[list[Any], np.ndarray]:
        """The record batches of a file, only the columns to read, and where each ends."""
        if file in self._opened:
            self._opened.move_to_end(file)
            return self._opened[file]
        while len(self._opened) >= OPEN_SHARDS:
            self._opened.popitem(last=False)
        batches = [batch.select(list(self.names)) for batch in self.files[file].open() if batch.num_rows]
        self._opened[file] = batches, np.array([batch.num_rows for batch in batches], dtype=np.int64).cumsum()
        return self._opened[file]

    def _as_read(self, batch: Batch, numbers: np.ndarray) -> Batch:
        """The batch in the types that a model reads, after a look at every value."""
        if self._variables is None:
            return batch
        values = {}
        for name, variable in self._variables.items():
            value, rows = batch.values[name], batch.rows(name)
            shown = value if rows is None else value[rows]
            variable.check(name, shown, rows, lambda row: self.place(int(numbers[row])))
            values[name] = variable.as_read(value)
        return batch.holding(values)


def _among(numbers: np.ndarray, ends: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Ascending numbers by the part they lie in: its number, and theirs counted from its start."""
    if not len(numbers):
        return
    parts = ends.searchsorted(numbers, side="right")
    cuts = [0, *(np.flatnonzero(parts[1:] != parts[:-1]) + 1).tolist(), len(numbers)]
    for start, stop in pairwise(cuts):
        part = int(parts[start])
        yield part, numbers[start:stop] - (int(ends[part - 1]) if part else 0)
