"""Read tables from files and from Python into one frame of columns, whose cells are unchanged."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import numpy as np
import pandas as pd

from mvae.files import DataError
from mvae.tables.cells import Cells, as_text

if TYPE_CHECKING:
    from collections.abc import Hashable

__all__ = ["SUFFIXES", "Table", "is_table", "read_table"]

SNIFFED, SNIFFED_LINES = 2**16, 20
LONGEST = 2**26
"""Characters that a cell or a line may have."""
SUFFIXES = (".csv", ".tsv", ".parquet", ".feather", ".arrow", ".jsonl", ".ndjson")


@dataclass(frozen=True)
class Table:
    """Rows and columns, unchanged. Files of text keep every cell's text, so that it can be written back.

    Args:
        frame: the columns, which have distinct texts as names.
        name: its name in messages.
        tables: columns by the table that they came from, where several were joined; else all under one name.
        folders: where relative file names in a column start, by column; the working directory by default.
    """

    frame: pd.DataFrame
    name: str
    tables: Mapping[str, tuple[str, ...]]
    folders: Mapping[str, Path] = field(default_factory=dict)
    _cells: dict[str, Cells] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.frame)

    @property
    def names(self) -> list[str]:
        """The names of its columns."""
        return list(self.frame.columns)

    @property
    def fingerprint(self) -> str:
        """Its size, and a checksum of names and cells."""
        texts = {name: self.frame[name].map(str) for name in self.names if self.frame[name].dtype == object}
        cells = pd.util.hash_pandas_object(self.frame.assign(**texts), index=False, categorize=False)
        checksum = hashlib.sha256("\0".join(self.names).encode() + cells.to_numpy().tobytes()).hexdigest()[:16]
        return f"{len(self):,} rows of {len(self.names)} columns, checksum {checksum}"

    def cells(self, name: str) -> Cells:
        """One of its columns, each time the same object, which remembers what was parsed of it."""
        if name not in self._cells:
            self._cells[name] = Cells(name, self.frame[name], self._place, self.folders.get(name, Path()))
        return self._cells[name]

    def __iter__(self) -> Iterator[Cells]:
        return (self.cells(name) for name in self.names)

    def _place(self, row: int) -> str:
        index = self.frame.index
        return f"{self.name}, row {row + 1}" + ("" if isinstance(index, pd.RangeIndex) else f" ({index[row]})")


def is_table(source: object) -> bool:
    """Whether a source is a table: a path with one of `SUFFIXES`, a folder with one such text, or columns in Python."""
    if isinstance(source, str | Path):
        path = Path(source)
        return _table_in(path) is not None if path.is_dir() else path.suffix.lower() in SUFFIXES
    return isinstance(source, pd.DataFrame | Mapping) or _is_annotated(source) or hasattr(source, "to_pandas")


def read_table(source: Any, join: Sequence[str | Path] = (), on: str | None = None) -> Table:
    """Read a table, or several joined by a column: rows found in only one of them are kept.

    Args:
        source: a path that ends in one of `SUFFIXES`, or a folder with one such text file in it; or a
            `pandas.DataFrame`, a mapping of columns, a Hugging Face `datasets.Dataset`, an `AnnData` or a `MuData`.
        join: paths of more tables.
        on: the column that all of them have, whose values are unique.

    Raises:
        DataError: if a file is missing or cannot be read, two columns have one name, a table has no rows or no columns,
            or the column to join by does not exist, has a missing cell, or the same value twice.
    """
    first = _read(source)
    if not join:
        if on is not None:
            raise DataError(f"on: '{on}' joins tables, and there is one; name more (join)")
        return first
    if on is None:
        raise DataError(f"{first.name}: name the column to join tables by (on)")
    tables = [first, *map(_read, join)]
    keyed, keys = [_keyed(table, on) for table in tables], dict[str, Any]()
    for table, part in zip(tables, keyed, strict=True):
        if table is not first and not keys.keys() & set(part.index):
            raise DataError(f"column '{on}': no value of {table.name} is in the tables before it")
        keys |= {key: value for key, value in zip(part.index, table.frame[on], strict=True) if key not in keys}
    owner: dict[str, str] = {}
    for table in tables:
        for name in table.names:
            if name != on and name in owner:
                raise DataError(f"column '{name}' is in {owner[name]} and in {table.name}; rename one of them")
            owner[name] = table.name
    names = [Path(table.name).stem for table in tables]
    if len(set(names)) < len(names):
        raise DataError(f"join: two tables have the name '{max(names, key=names.count)}'; rename a file")
    frame = pd.concat(keyed, axis=1, join="outer", sort=False)
    frame.insert(0, on, [keys[key] for key in frame.index])
    frame = frame.reset_index(drop=True).astype({on: first.frame[on].dtype}, errors="ignore")
    parts = {n: tuple(c for c in t.names if c != on) for n, t in zip(names, tables, strict=True)}
    folders = {name: folder for table in tables for name, folder in table.folders.items()}
    return Table(frame, " + ".join(table.name for table in tables), parts, folders)


def _keyed(table: Table, on: str) -> pd.DataFrame:
    if on not in table.names:
        raise DataError(f"{table.name}: no column '{on}' to join by; there are {', '.join(table.names)}")
    cells = table.cells(on)
    missing = cells.missing()
    if missing.any():
        raise cells.fault(int(missing.argmax()), "missing, in the column to join by")
    keys = pd.Index([as_text(value).strip() for value in table.frame[on].tolist()])
    repeated = keys.duplicated()
    if repeated.any():
        row = int(repeated.argmax())
        raise cells.fault(row, f"'{table.frame[on].iloc[row]}' is in an earlier row too; expected it once")
    frame = table.frame.drop(columns=on)
    plain = {
        name: _NULLABLE[dtype.kind] for name, dtype in frame.dtypes.items() if getattr(dtype, "kind", "O") in "biu"
    }
    return frame.astype(plain).set_axis(keys, axis=0)


_NULLABLE = {"b": "boolean", "i": "Int64", "u": "UInt64"}
"""Types that may have missing cells, where numpy's would become floats or objects."""


def _table_in(folder: Path) -> Path | None:
    """The only text table in a folder; Arrow and Parquet files in one are rows that stay on disk."""
    found = [path for path in folder.iterdir() if path.suffix.lower() in (".csv", ".tsv", ".jsonl", ".ndjson")]
    return found[0] if len(found) == 1 and not (folder / "train").is_dir() else None


def _read(source: Any) -> Table:
    if isinstance(source, str | Path):
        path = Path(source)
        path = (_table_in(path) or path) if path.is_dir() else path
        frame, name, stem, folder = _read_file(path), path.name, path.stem, path.parent
    else:
        frame, name, stem, folder = _frame_of(source), "the table", "table", Path()
    names = [str(column) for column in frame.columns]
    doubled = [column for column in names if names.count(column) > 1]
    if doubled:
        raise DataError(f"{name}: {names.count(doubled[0])} columns have the name '{doubled[0]}'")
    if not names or not len(frame):
        raise DataError(f"{name}: expected rows and columns, got {len(frame)} rows of {len(names)} columns")
    return Table(frame.set_axis(names, axis=1), name, {stem: tuple(names)}, dict.fromkeys(names, folder))


def _read_file(path: Path) -> pd.DataFrame:
    if path.suffix.lower() not in SUFFIXES:
        raise DataError(f"{path}: expected a table that ends in {', '.join(SUFFIXES)}")
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    try:
        match path.suffix.lower():
            case ".csv" | ".tsv" as suffix:
                return _read_text(path, "\t" if suffix == ".tsv" else None)
            case ".jsonl" | ".ndjson":
                return _read_lines(path)
            case ".parquet":  # numpy's integers with missing cells were floats
                return pd.read_parquet(path, dtype_backend="numpy_nullable")
            case _:
                return pd.read_feather(path, dtype_backend="numpy_nullable")
    except ImportError as error:
        raise DataError(f"{path}: {error}; pip install 'mvae[shards]'") from error
    except Exception as error:  # each format's library has errors of its own
        raise DataError(f"{path}: not readable as {path.suffix[1:]}: {' '.join(str(error).split())}") from error


def _read_lines(path: Path) -> pd.DataFrame:
    """Rows as they are written: nothing that looks like a date becomes one, as it would with pandas."""
    rows = []
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, 1):
            try:
                row = json.loads(line) if line.strip() else {}
            except ValueError as error:
                raise DataError(f"line {number}: {error}") from None
            if not isinstance(row, dict):
                raise DataError(f"line {number}: expected an object, got {type(row).__name__}")
            rows += [row] if line.strip() else []
    names = dict.fromkeys(name for row in rows for name in row)
    return pd.DataFrame({name: pd.Series([row.get(name) for row in rows], dtype=object) for name in names})


def _read_text(path: Path, separator: str | None = None) -> pd.DataFrame:
    """Every cell as it is written: what is a number is settled once, by its column's kind, and not file by file."""
    csv.field_size_limit(max(LONGEST, csv.field_size_limit()))  # the process's; 131,072 at first
    with path.open(encoding="utf-8-sig", newline="") as file:
        start: list[str] = []
        for line in islice(_lines(file), SNIFFED_LINES):
            start.append(line)
            if sum(map(len, start)) > SNIFFED:
                break
        separator = separator or max(",;\t|", key=lambda mark: _parts(mark, start))
        file.seek(0)
        rows = csv.reader(_lines(file), delimiter=separator)
        head = next(rows, [])
        if not head:
            raise DataError("expected a heading with the columns' names in the first line")
        found = []
        for row in rows:
            cells = row if row or len(head) > 1 else [""]  # an empty line of a single column is an empty cell
            if len(cells) > len(head) and not any(cells[len(head) :]):
                del cells[len(head) :]  # a separator at the end of a line
            if cells and len(cells) != len(head):
                expected = f"expected {len(head)} cells, as in the heading, got {len(cells)}"
                raise DataError(f"line {rows.line_num}: {expected}")
            found += [cells] if cells else []
    if len(head) > 1 and not head[-1] and not any(cells[-1] for cells in found):
        head, found = head[:-1], [cells[:-1] for cells in found]
    return pd.DataFrame(found, columns=head, dtype=object)


def _lines(file: TextIO) -> Iterator[str]:
    """The lines of a file; a `DataError` on one that does not end."""
    for number in count(1):
        line = file.readline(LONGEST + 1)
        if len(line) > LONGEST:
            raise DataError(f"line {number}: expected at most {LONGEST:,} characters")
        if not line:
            return
        yield line


def _parts(mark: str, lines: Sequence[str]) -> tuple[bool, int]:
    """How well a character parts lines: whether into equally many cells each, and how many."""
    counts = {len(row) for row in csv.reader(lines, delimiter=mark) if row}
    return len(counts) == 1 and counts != {1}, max(counts, default=0)


def _is_annotated(source: object) -> bool:
    """Whether it is an AnnData or a MuData, of packages that may not be installed."""
    return hasattr(source, "obs_names") and (hasattr(source, "X") or hasattr(source, "mod"))


def _frame_of(source: Any) -> pd.DataFrame:
    if isinstance(source, pd.DataFrame):
        return source
    if hasattr(source, "mod") and _is_annotated(source):
        parts = [_frame_of(part).add_prefix(f"{name}:") for name, part in source.mod.items()]
        return pd.concat(parts, axis=1, join="outer")
    if _is_annotated(source):
        matrix = source.X.toarray() if hasattr(source.X, "toarray") else np.asarray(source.X)
        return pd.concat([pd.DataFrame(matrix, index=source.obs_names, columns=source.var_names), source.obs], axis=1)
    if isinstance(source, Mapping):
        return _frame_of_mapping(source)
    if hasattr(source, "to_pandas"):
        return source.to_pandas()
    raise DataError(f"expected a table: a path, a data frame or a mapping of columns, got {type(source).__name__}")


def _frame_of_mapping(columns: Mapping[Hashable, Any]) -> pd.DataFrame:
    """Columns from lists and arrays. Of an array `[R, n]` each column is one; of one with pictures each cell is one."""
    found: dict[str, Any] = {}
    for name, values in columns.items():
        first = next(iter(columns))
        if len(values) != len(columns[first]):
            raise DataError(f"column '{name}' has {len(values)} rows, '{first}' has {len(columns[first])}")
        array = np.asarray(values) if hasattr(values, "ndim") else None
        if array is None or array.ndim == 1:
            found[str(name)] = values if array is None else array
        elif array.ndim == 2:
            found |= {f"{name}[{number}]": array[:, number] for number in range(array.shape[1])}
        else:
            found[str(name)] = list(array)
    index = next((values.index for values in columns.values() if isinstance(values, pd.Series)), None)
    frame = pd.DataFrame({name: pd.Series(values) for name, values in found.items()})
    return frame if index is None else frame.set_axis(index, axis=0)
