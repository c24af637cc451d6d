"""Data larger than memory: a folder of Arrow or Parquet files, read by memory map."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from mvae.batch import Batch, Part
from mvae.data import arrow
from mvae.data.arrow import SUFFIXES, FaultError, Shard, pyarrow, read_shard
from mvae.data.dataset import SPLIT_SEED, Dataset
from mvae.data.loading import BLOCK, WINDOW
from mvae.files import DataError

if TYPE_CHECKING:
    from mvae.modality import Variable

__all__ = ["Shards", "open_shards"]

OPEN_SHARDS = 2 * WINDOW
"""Files mapped at a time: as many as a window can touch."""
FEWEST_HELD_BLOCKS = 16


def open_shards(folder: str | Path) -> Dataset[Shards]:
    """Open a folder of Arrow or Parquet files as a data set of `Shards`, which stay on disk.

    Training rows lie in `train/` or in the folder itself; `validation/` and `test/` may lie beside them. Each holds
    `.arrow` or `.parquet` files, or the files of `datasets.Dataset.save_to_disk`. A column is a modality: numbers,
    booleans, or lists of numbers, nested or flat; a null or all-NaN row is missing. Arrow files are mapped as they
    are; Parquet is converted once, into the user's cache. A split without files has no rows.

    Raises:
        DataError: if there is nothing to read, a file is damaged, files disagree on a column's type, or the package
            `pyarrow` is missing.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder")
    train, inside = _files(folder), (folder / "train").is_dir()
    if train and inside:
        raise DataError(f"{folder}: holds {train[0].name} beside train/; expected training rows in one of the two")
    train = _files(folder / "train") if inside else train
    if not train:
        expected = f"files ending in {' or '.join(SUFFIXES)}, here or in train/"
        raise DataError(f"{folder}: expected {expected}; there are none")
    held = [_files(place) if place.is_dir() else [] for place in (folder / "validation", folder / "test")]
    rows, validation, test = (Shards([read_shard(path) for path in paths]) for paths in (train, *held))
    if not len(rows):
        raise DataError(f"{train[0].parent}: its {len(train)} files have no rows")
    description = f"{len(train):,} file{'s' if len(train) > 1 else ''} of rows, read from disk as they are needed"
    return Dataset(str(folder.resolve()), rows, validation, test, description)


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
    kinds = sorted({path.suffix for path in found})
    if len(kinds) > 1:
        raise DataError(f"{folder}: holds {' and '.join(kinds)} files; expected one kind")
    return found


class Shards:
    """Rows on disk. Indexing them with row numbers reads those into a `Batch`, as indexing a `Batch` does.

    A few files are mapped at a time and no rows are kept, so that memory does not grow with the rows.

    Args:
        files: in order.
        variables: the columns to read and their shapes and types, as for `read_as`; all columns as they are where None.
        pieces: `[P, 3]`, file number, first row and number of rows of each run of rows; all where None.

    Raises:
        DataError: if a column is missing in a file, has another type there, or cannot be read.
    """

    def __init__(
        self,
        files: Sequence[Shard],
        variables: Mapping[str, Variable] | None = None,
        pieces: np.ndarray | None = None,
    ) -> None:
        self.files, self._variables = list(files), variables
        if pieces is None:
            pieces = np.array([(n, 0, len(file)) for n, file in enumerate(files) if len(file)], int).reshape(-1, 3)
        self._pieces, self._ends = pieces, pieces[:, 2].cumsum()
        self.names: tuple[str, ...] = tuple(variables or (self.files[0].types if self.files else ()))
        self._types: dict[str, Any] = {}
        self._shapes: dict[str, tuple[int, ...]] = {}
        for name, variable in (variables or {}).items():
            self._type(name)  # refuses what does not fit
            self._shapes[name] = variable.shape
        self._opened = lru_cache(OPEN_SHARDS)(self._open)

    def __len__(self) -> int:
        return int(self._pieces[:, 2].sum())

    def __repr__(self) -> str:
        return f"Shards({len(self):,} rows in {len(self.files):,} files; {', '.join(self.names)})"

    def __reduce__(self) -> tuple[Any, ...]:  # another process maps the files anew
        return Shards, (self.files, self._variables, self._pieces)

    def __getitem__(self, rows: Part | Tensor | slice | Sequence[int]) -> Batch:
        """Read rows, by their numbers `[B]` in any order or as a slice.

        Raises:
            DataError: on a value that cannot be read, naming file, row (within the file) and column.
            ValueError: on a value outside its likelihood's support, likewise.
            IndexError: on a row number out of range.
        """
        if not self.names:
            raise IndexError("there are no rows here to read")
        part, index = (rows, rows.rows) if isinstance(rows, Part) else (None, rows)
        numbers = self._numbers(index)
        order = numbers.argsort(kind="stable")
        taken = list(self._taken(numbers[order]))
        values, present = {}, {}
        for column, name in enumerate(self.names):
            arrays = [batch.column(column) for batch in taken]
            try:
                values[name], present[name] = arrow.tensors(arrays, self._type(name), self._shape(name), order)
            except FaultError as fault:
                place = self.place(int(numbers[order[fault.position]]))
                raise DataError(f"{place}, column '{name}': {fault}") from None
        batch = Batch(values, present, part)
        for name, variable in (self._variables or {}).items():
            value, here = values[name], batch.rows(name)
            shown = value if here is None else value[here]
            variable.check(name, shown, here, lambda row: self.place(int(numbers[row])))
            values[name] = variable.as_read(value)
        return batch.holding(values)

    @property
    def fingerprint(self) -> str:
        """The size of its files, and a checksum of their sizes, names and columns; not of the values."""
        each = [(file.path.name, file.path.stat().st_size, len(file), str(file.types)) for file in self.files]
        checksum = hashlib.sha256(repr(each).encode()).hexdigest()[:16]
        return f"{sum(map(len, self.files)):,} rows in {len(each):,} files, checksum {checksum}"

    def place(self, row: int) -> str:
        """The file of a row, and its number there, counted from 0."""
        file, inside = self._located(np.array([row]))
        return f"{self.files[file[0]].path}, row {inside[0]}"

    def nulls(self, name: str) -> int:
        """The number of rows of the files in which a column is null. Rows of NaN, missing too, are not counted."""
        return sum(file.nulls.get(name, 0) for file in self.files)

    def may_be_nan(self, name: str) -> bool:
        """Whether a column holds floating point numbers, so that it may have missing values that are NaN."""
        return arrow.holds_floats(self._type(name))

    def read_as(self, variables: Mapping[str, Variable]) -> Shards:
        """The same rows with only these columns, in the shapes and types of `model.variables`, each value checked.

        Raises:
            DataError: if a column is missing or cannot hold such values, naming file and column.
        """
        return Shards(self.files, variables, self._pieces)

    def hold_out(self, count: int) -> tuple[Shards, Shards]:
        """Split into rows kept and `count` rows held out, both in order: the latter are blocks chosen at random.

        A `ValueError` unless `0 <= count < len(self)`.
        """
        if not 0 <= count < len(self):
            raise ValueError(f"cannot hold out {count} of {len(self)} rows")
        size = min(BLOCK, max(1, count // FEWEST_HELD_BLOCKS))
        starts = np.arange(0, len(self), size)
        order = torch.randperm(len(starts), generator=torch.Generator().manual_seed(SPLIT_SEED)).numpy()
        lengths = np.minimum(size, len(self) - starts)[order]
        held = np.minimum(lengths, np.maximum(0, count - (lengths.cumsum() - lengths)))  # of each block, the first
        begins, ends = np.sort(starts[order][held > 0]), np.sort((starts[order] + held)[held > 0])
        cuts = np.unique(np.concatenate([[0], begins, ends, self._ends]))
        first, length = cuts[:-1], np.diff(cuts)
        is_held = begins.searchsorted(first, side="right") > ends.searchsorted(first, side="right")
        pieces = np.stack([*self._located(first), length], 1)
        kept, taken = (Shards(self.files, self._variables, pieces[mask]) for mask in (~is_held, is_held))
        return kept, taken

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
            fault = None if self._variables is None else arrow.column_fault(here, self._variables[name].shape)
            if fault is not None:
                raise DataError(f"{file.path}: column '{name}' {fault}")
            if kind is None:
                kind, first = here, file
            elif here != kind:
                raise DataError(f"{file.path}: column '{name}' holds {here}; expected {kind} as in {first.path}")
        self._types[name] = pyarrow().null() if kind is None else kind
        return self._types[name]

    def _shape(self, name: str) -> tuple[int, ...]:
        if name not in self._shapes:
            fault = arrow.column_fault(self._type(name))
            if fault is not None:
                raise DataError(f"{self.files[0].path}: column '{name}' {fault}")
            shapes = (arrow.first_shape(file.open(), list(file.types).index(name)) for file in self.files)
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

    def _located(self, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The file number of each row, and its number within that file."""
        piece = self._ends.searchsorted(numbers, side="right")
        file, first, count = self._pieces[piece].T
        return file, numbers - self._ends[piece] + count + first

    def _taken(self, numbers: np.ndarray) -> Iterator[Any]:
        """Copies of rows, given in ascending order, a record batch for each that they lie in."""
        files, inside = self._located(numbers)
        for file, rows in _runs(files, inside):
            batches, ends = self._opened(file)
            self.files[file].check()
            for number, some in _runs(ends.searchsorted(rows, side="right"), rows):
                yield batches[number].take(pyarrow().array(some - (ends[number] - batches[number].num_rows)))

    def _open(self, file: int) -> tuple[list[Any], np.ndarray]:
        """The record batches of a file, only the columns to read, and where each ends."""
        batches = [batch.select(list(self.names)) for batch in self.files[file].open() if batch.num_rows]
        return batches, np.array([batch.num_rows for batch in batches], int).cumsum()


def _runs(keys: np.ndarray, values: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Each run of equal keys, with its values."""
    cuts = [*np.flatnonzero(np.diff(keys, prepend=-1)).tolist(), len(keys)]
    for start, stop in pairwise(cuts):
        yield int(keys[start]), values[start:stop]
