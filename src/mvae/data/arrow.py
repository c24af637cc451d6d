"""One file of rows, memory-mapped through Arrow, and its columns as tensors."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from mvae.data.download import cache_folder
from mvae.files import DataError, atomic, held

__all__ = ["FaultError", "Shard", "column_fault", "first_shape", "holds_floats", "pyarrow", "read_shard", "tensors"]

SUFFIXES = (".arrow", ".parquet")
PIECE = 2**24
"""Bytes, about, of a Parquet file that are in memory at a time while it is converted."""
END = b"\xff\xff\xff\xff\0\0\0\0"
"""The last bytes of an Arrow stream."""


class FaultError(ValueError):
    """A value that cannot be read, at a position among the rows asked for; the message says what was expected."""

    def __init__(self, position: int, message: str) -> None:
        super().__init__(message)
        self.position = position


@dataclass(frozen=True)
class Shard:
    """One file of rows, mapped only while it is open."""

    path: Path
    mapped: Path
    """The Arrow file with its rows: itself, or the converted one."""
    num_rows: int
    size: int
    """Bytes of that file."""
    types: Mapping[str, Any]
    """Column to its Arrow type."""
    nulls: Mapping[str, int]
    """Column to how many of its rows are null."""

    def __len__(self) -> int:
        return self.num_rows

    def open(self) -> list[Any]:
        """Its rows, as Arrow record batches that lie in the file until they are read: call `check` before."""
        return _batches(self.mapped)[1]

    def check(self) -> None:
        """Refuse a file that is another size now: to read a mapped page that is gone would kill the process."""
        size = self.mapped.stat().st_size if self.mapped.is_file() else self.size  # one deleted stays mapped
        if size != self.size:
            raise DataError(f"{self.path}: changed while it is read: {self.size:,} bytes, now {size:,}")


def read_shard(path: Path) -> Shard:
    """Read the size and the columns of an uncompressed `.arrow` file (stream or file) or of a `.parquet` file.

    Parquet is converted once, into the user's cache.

    Raises:
        DataError: if the file is damaged, cut short or compressed, or `pyarrow` is missing.
    """
    mapped = _converted(path) if path.suffix == ".parquet" else path
    schema, batches = _batches(mapped)
    # `datasets` stores some columns under types of its own, such as `Array2D`
    types = {field.name: getattr(field.type, "storage_type", field.type) for field in schema}
    nulls = {name: sum(batch.column(number).null_count for batch in batches) for number, name in enumerate(types)}
    return Shard(path, mapped, sum(batch.num_rows for batch in batches), mapped.stat().st_size, types, nulls)


def pyarrow() -> Any:
    """The optional package; a `DataError` says how to install it."""
    try:
        import pyarrow
        import pyarrow.compute
        import pyarrow.parquet
    except ImportError:
        raise DataError("a folder of shards needs the package pyarrow: pip install 'mvae[shards]'") from None
    return pyarrow


def _batches(path: Path) -> tuple[Any, list[Any]]:
    """The schema and the record batches of an Arrow file, none of them in memory."""
    pa = pyarrow()
    try:
        source = pa.memory_map(str(path))
        is_file = source.read_at(6, 0) == b"ARROW1"
        reader = pa.ipc.open_file(source) if is_file else pa.ipc.open_stream(source)
        numbered = (reader.get_batch(i) for i in range(reader.num_record_batches)) if is_file else reader
        allocated, batches = pa.total_allocated_bytes(), []
        for batch in numbered:
            batches.append(batch)
            if pa.total_allocated_bytes() - allocated > max(batch.nbytes // 2, 2**16):
                raise DataError(
                    f"{path}: compressed, so that it cannot be mapped; expected uncompressed Arrow, or Parquet"
                )
        if not is_file and source.read_at(len(END), source.size() - len(END)) != END:
            raise DataError(f"{path}: cut short after row {sum(batch.num_rows for batch in batches):,}")
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path}: damaged or cut short, not readable as Arrow: {_line(error)}") from error
    return reader.schema, batches


def _converted(path: Path) -> Path:
    """The Arrow file in the user's cache that holds the rows of a Parquet file; made if it is missing.

    Not with `datasets.Dataset.from_parquet`: it holds row groups in memory (results/benchmarks/shards.json), and a
    row group is whatever the writer chose, perhaps all of the file.
    """
    pa = pyarrow()
    try:
        file = pa.parquet.ParquetFile(path, buffer_size=PIECE // 16, pre_buffer=False)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path}: damaged or cut short, not readable as Parquet: {_line(error)}") from error
    here, state = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:16], path.stat()
    folder = cache_folder() / "shards"
    converted = folder / f"{here}-{state.st_size}-{state.st_mtime_ns}.arrow"
    if converted.is_file():
        return converted
    folder.mkdir(parents=True, exist_ok=True)
    with held(converted, wait=True):
        if not converted.is_file():  # no other process has made it meanwhile
            _convert(file, path, converted)
    for old in folder.glob(f"{here}-*.arrow"):
        if old != converted:
            old.unlink(missing_ok=True)
    return converted


def _convert(file: Any, path: Path, converted: Path) -> None:
    pa, about = pyarrow(), file.metadata
    size = sum(about.row_group(number).total_byte_size for number in range(about.num_row_groups))
    rows = max(1, min(1000, PIECE * about.num_rows // max(1, size)))  # in memory at a time
    try:
        with (
            atomic(converted) as temporary,
            pa.OSFile(str(temporary), "wb") as sink,
            pa.ipc.new_stream(sink, file.schema_arrow) as writer,
            tqdm(total=about.num_rows, desc=f"{path.name} to Arrow", unit="row", unit_scale=True, disable=None) as bar,
        ):
            for batch in file.iter_batches(rows):
                writer.write_batch(batch)
                bar.update(batch.num_rows)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path}: could not be converted to {converted}: {_line(error)}") from error


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())


def _nesting(kind: Any) -> tuple[int, Any]:
    """How deep lists are nested in a type, and the type of what they hold."""
    types = pyarrow().types
    depth = 0
    while types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        kind, depth = kind.value_type, depth + 1
    return depth, kind


def holds_floats(kind: Any) -> bool:
    """Whether values of an Arrow type are floating point numbers, or lists of them."""
    return pyarrow().types.is_floating(_nesting(kind)[1])


def column_fault(kind: Any, shape: Sequence[int] | None = None) -> str | None:
    """The reason that a column of this Arrow type cannot be read as observations of a shape; None if it can."""
    types = pyarrow().types
    depth, leaf = _nesting(kind)
    if types.is_null(kind):
        return None
    if not (types.is_floating(leaf) or types.is_integer(leaf) or types.is_boolean(leaf)):
        return f"holds {kind}; expected numbers, booleans or lists of them"
    if shape is not None and _dimensions(depth, shape) is None:
        return f"holds {kind}; expected {_expected(shape)} a row"
    return None


def _dimensions(depth: int, shape: Sequence[int]) -> list[int] | None:
    """The lengths of lists nested so deep that hold an observation of this shape; None where they cannot.

    Lists may be flat, nested as the shape is, or leave out dimensions of 1.
    """
    wide = [size for size in shape if size != 1]
    if depth == len(shape):
        return list(shape)
    if depth == 1:
        return [math.prod(shape)]
    return wide if depth == len(wide) else None


def _expected(shape: Sequence[int]) -> str:
    return f"{math.prod(shape):,} numbers ({'x'.join(map(str, shape))})" if shape else "one value"


def first_shape(batches: Sequence[Any], column: int) -> tuple[int, ...] | None:
    """The shape of a column's first row that is not null; None where all are."""
    for batch in batches:
        array = batch.column(column)
        array = getattr(array, "storage", array)
        if array.null_count < len(array):
            value, shape = array[int(np.asarray(array.is_valid()).argmax())].as_py(), []
            for _ in range(_nesting(array.type)[0]):
                shape.append(len(value or ()))
                value = value[0] if value else None
            return tuple(shape)
    return None


def tensors(parts: Sequence[Any], kind: Any, shape: tuple[int, ...], places: np.ndarray) -> tuple[Tensor, Tensor]:
    """Values `[B, *shape]` and presence `[B]` of one column; null and all-NaN rows are missing, as in `Batch.of`.

    Args:
        parts: Arrow arrays with B rows in all; one of nothing but nulls may have the null type.
        kind: the type of the column.
        shape: of one observation.
        places: `[B]`, where in the result each row goes.

    Raises:
        FaultError: on lists of other lengths, or a row in which some numbers are missing.
    """
    pa = pyarrow()
    if pa.types.is_null(kind):
        return torch.zeros(len(places), *shape), torch.zeros(len(places), dtype=torch.bool)
    stored = [
        pa.nulls(len(part), kind) if pa.types.is_null(part.type) else getattr(part, "storage", part) for part in parts
    ]
    array = pa.chunked_array(stored, kind).combine_chunks()
    rows, leaves = np.flatnonzero(array.is_valid()), array.drop_null()
    depth, leaf = _nesting(kind)
    width = 1
    for size in _dimensions(depth, shape) or ():
        leaves, width = _unnested(leaves, size, rows, width, shape), width * size
    values = _numbers(leaves, leaf).reshape(len(rows), width)
    gaps = np.isnan(values) | np.asarray(leaves.is_null()).reshape(len(rows), width)
    missing = gaps.any(1) & gaps.all(1)
    partly = np.flatnonzero(gaps.any(1) & ~missing)
    if len(partly):
        raise FaultError(
            int(rows[partly[0]]),
            f"element {np.flatnonzero(gaps[partly[0]])[0]} is null or NaN among other values; expected a row to be"
            " complete or missing (null or all NaN)",
        )
    present, result = np.zeros(len(array), dtype=bool), np.zeros((len(array), width), dtype=values.dtype)
    present[places[rows]], result[places[rows]] = ~missing, values
    return torch.from_numpy(result).reshape(len(array), *shape), torch.from_numpy(present)


def _unnested(array: Any, size: int, rows: np.ndarray, width: int, shape: Sequence[int]) -> Any:
    """The contents of lists, `width` of them a row, which must all be of one length."""
    found = np.asarray(pyarrow().compute.list_value_length(array).fill_null(-1))
    if (found == size).all():
        return array.flatten()
    wrong = int(np.flatnonzero(found != size)[0])
    got = "null" if found[wrong] < 0 else f"{found[wrong]}"
    where = f" in list {wrong % width}" if width > 1 else ""
    raise FaultError(int(rows[wrong // width]), f"expected {_expected(shape)}, lists of {size}; got {got}{where}")


def _numbers(leaves: Any, kind: Any) -> np.ndarray:
    """Numbers in a type that torch computes with, 0 for nulls."""
    types = pyarrow().types
    numbers = leaves.fill_null(False if types.is_boolean(kind) else 0).to_numpy(zero_copy_only=False)
    if types.is_floating(kind):
        return numbers.astype(np.float32, copy=False)
    unsigned = numbers.dtype.kind == "u" and numbers.dtype.itemsize > 1  # torch has few operations on these
    return numbers.astype(np.int64) if unsigned else numbers
