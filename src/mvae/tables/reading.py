"""Tables from files and from Python: one frame of columns, whose cells are as they were found."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from mvae.data.files import DataError

if TYPE_CHECKING:
    from collections.abc import Hashable

__all__ = ["SUFFIXES", "Cells", "Table", "is_table", "read_table"]

SUFFIXES = (".csv", ".tsv", ".parquet", ".feather", ".arrow", ".jsonl", ".ndjson")
SNIFFED = 2**16


@dataclass(frozen=True)
class Cells:
    """A column: its name, its cells, and how a message calls each."""

    name: str
    values: pd.Series[Any]
    place: Callable[[int], str]
    folder: Path = Path()
    """Where names of files in it start from."""

    def absent(self, words: Sequence[str] = ()) -> np.ndarray:
        """Which cells hold nothing: the one place where a table's holes are found.

        Nothing is None, NaN, NaT, null, and a text that is empty, blank, or one of `words`.

        Args:
            words: other texts that stand for nothing.

        Returns:
            Boolean `[R]`.
        """
        absent = pd.isna(self.values).to_numpy().copy()
        if self.values.dtype == object or isinstance(self.values.dtype, pd.StringDtype | pd.CategoricalDtype):
            nothing = {"", *words}
            absent |= np.array([isinstance(v, str) and v.strip() in nothing for v in self.values.tolist()], dtype=bool)
        return absent

    def fault(self, row: int, words: str) -> DataError:
        """What to raise about a cell."""
        return DataError(f"{self.place(row)}, column '{self.name}': {words}")


@dataclass(frozen=True)
class Table:
    """Rows and columns as they were found. Files of text keep every cell's text, so that it can be written back.

    Args:
        frame: the columns, which have distinct texts as names.
        name: what messages call it.
        tables: columns by the table that they came from, where several were joined; else all under one name.
        folder: where names of files in it start from.
    """

    frame: pd.DataFrame
    name: str
    tables: Mapping[str, tuple[str, ...]]
    folder: Path = Path()

    def __len__(self) -> int:
        return len(self.frame)

    @property
    def names(self) -> list[str]:
        """Of its columns."""
        return list(self.frame.columns)

    def place(self, row: int) -> str:
        """How a message calls a row."""
        index = self.frame.index[row]
        plain = isinstance(self.frame.index, pd.RangeIndex)
        return f"{self.name}, row {row + 1}" if plain else f"{self.name}, row {row + 1} ({index})"

    def cells(self, name: str, rows: np.ndarray | None = None) -> Cells:
        """One of its columns, in all or in some of its rows."""
        if rows is None:
            return Cells(name, self.frame[name], self.place, self.folder)
        return Cells(name, self.frame[name].iloc[rows], lambda number: self.place(int(rows[number])), self.folder)

    def __iter__(self) -> Iterator[Cells]:
        return (self.cells(name) for name in self.names)


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
        on: the column that all of them have, of which each row has a value of its own.

    Raises:
        DataError: if a file is missing or cannot be read, two columns have one name, a table has no rows or no columns,
            or the column to join by is missing, empty in some row, or the same in two.
    """
    first = _read(source)
    if not join:
        if on is not None:
            raise DataError(f"on: '{on}' joins tables, and there is one; name more to join")
        return first
    if on is None:
        raise DataError(f"{first.name}: to join tables, say by which column (on)")
    tables = [first, *map(_read, join)]
    keyed = [_keyed(table, on) for table in tables]
    owner: dict[str, str] = {}
    for table in tables:
        for name in table.names:
            if name != on and name in owner:
                raise DataError(f"column '{name}' is in {owner[name]} and in {table.name}; rename one of them")
            owner[name] = table.name
    names = [_stem(table) for table in tables]
    if len(set(names)) < len(names):
        raise DataError(f"join: two tables are called '{max(names, key=names.count)}'; rename a file")
    together = pd.concat(keyed, axis=1, join="outer", sort=False)
    frame = together.reset_index(names=on)
    parts = {n: tuple(c for c in t.names if c != on) for n, t in zip(names, tables, strict=True)}
    return Table(frame, " + ".join(table.name for table in tables), parts, first.folder)


def _keyed(table: Table, on: str) -> pd.DataFrame:
    if on not in table.names:
        raise DataError(f"{table.name}: no column '{on}' to join by; there are {', '.join(table.names)}")
    cells = table.cells(on)
    absent, repeated = cells.absent(), table.frame[on].duplicated().to_numpy()
    if absent.any():
        raise cells.fault(int(absent.argmax()), "empty, in the column to join by")
    if repeated.any():
        row = int(repeated.argmax())
        raise cells.fault(row, f"'{table.frame[on].iloc[row]}' stands in an earlier row too; expected each once")
    keys = table.frame[on].astype(str)
    return table.frame.drop(columns=on).set_axis(pd.Index(keys), axis=0)


def _table_in(folder: Path) -> Path | None:
    """The only table in a folder, of text; Arrow and Parquet files in one are rows that stay on disk."""
    found = [path for path in folder.iterdir() if path.suffix.lower() in (".csv", ".tsv", ".jsonl", ".ndjson")]
    return found[0] if len(found) == 1 else None


def _stem(table: Table) -> str:
    return Path(table.name).stem


def _read(source: Any) -> Table:
    if isinstance(source, str | Path):
        path = Path(source)
        path = (_table_in(path) or path) if path.is_dir() else path
        frame, name, folder = _read_file(path), path.name, path.parent
    else:
        frame, name, folder = _frame_of(source), "the table", Path()
    names = [str(column) for column in frame.columns]
    doubled = [column for column in names if names.count(column) > 1]
    if doubled:
        raise DataError(f"{name}: {names.count(doubled[0])} columns are called '{doubled[0]}'")
    if not names or not len(frame):
        raise DataError(f"{name}: expected rows and columns, got {len(frame)} rows of {len(names)} columns")
    frame = frame.set_axis(names, axis=1)
    return Table(frame, name, {Path(name).stem if folder != Path() or "." in name else "table": tuple(names)}, folder)


def _read_file(path: Path) -> pd.DataFrame:
    readers: dict[str, Callable[[Path], pd.DataFrame]] = {
        ".csv": _read_text,
        ".tsv": partial(_read_text, separator="\t"),
        ".parquet": pd.read_parquet,
        ".feather": pd.read_feather,
        ".arrow": pd.read_feather,
        ".jsonl": _read_lines,
        ".ndjson": _read_lines,
    }
    if path.suffix.lower() not in readers:
        raise DataError(f"{path}: expected a table that ends in {', '.join(SUFFIXES)}")
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    try:
        return readers[path.suffix.lower()](path)
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
    return pd.DataFrame(rows)


def _read_text(path: Path, separator: str | None = None) -> pd.DataFrame:
    """Every cell as it is written: what is a number is settled once, by its column's kind, and not file by file."""
    if separator is None:
        with path.open(encoding="utf-8-sig", newline="") as file:
            first = file.read(SNIFFED).partition("\n")[0]
        try:
            separator = csv.Sniffer().sniff(first, ",;\t|").delimiter
        except csv.Error:  # a single column
            separator = ","
    frame = pd.read_csv(path, sep=separator, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    with path.open(encoding="utf-8-sig", newline="") as file:
        head = next(csv.reader(file, delimiter=separator), [])
    # pandas calls columns without a name, or with one that is there already, by names of its own
    return frame.set_axis(head, axis=1) if len(head) == frame.shape[1] else frame


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
    lengths = {name: len(values) for name, values in columns.items()}
    for name, values in columns.items():
        if lengths[name] != next(iter(lengths.values())):
            first = next(iter(lengths))
            raise DataError(f"column '{name}' has {lengths[name]} rows, '{first}' has {lengths[first]}")
        array = np.asarray(values) if hasattr(values, "ndim") else None
        if array is None or array.ndim == 1:
            found[str(name)] = values if array is None else array
        elif array.ndim == 2:
            found |= {f"{name}[{number}]": array[:, number] for number in range(array.shape[1])}
        else:
            found[str(name)] = list(array)
    index = next((values.index for values in columns.values() if isinstance(values, pd.Series)), None)
    frame = pd.DataFrame({name: pd.Series(list(v) if isinstance(v, list) else v) for name, v in found.items()})
    return frame if index is None else frame.set_axis(index, axis=0)
