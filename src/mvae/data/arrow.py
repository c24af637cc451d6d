"""One file of rows, memory-mapped through Arrow, and its columns as tensors."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mvae.files import DataError

__all__ = ["FaultError", "Shard", "column_fault", "first_shape", "holds_floats", "pyarrow", "read_shard", "tensors"]

SUFFIXES = (".arrow", ".parquet")
PIECE = 2**24
"""Bytes, about, of a Parquet file that are in memory at a time while it is converted."""
END = b"\xff\xff\xff\xff\0\0\0\0"
"""What an Arrow stream ends with."""


class FaultError(ValueError):
    """A value that cannot be read; says what was expected.

    Args:
        position: of its row, among the rows that were asked for.
        words: what is wrong with it.
    """

    def __init__(self, position: int, words: str) -> None:
        super().__init__(words)
        self.position = position


@dataclass(frozen=True)
class Shard:
    """One file of rows. It is mapped when it is opened and holds nothing before."""

    path: Path
    mapped: Path
    """The Arrow file that holds its rows: itself, or what it was converted to."""
    num_rows: int
    types: Mapping[str, Any]
    """Column to its Arrow type."""
    nulls: Mapping[str, int]
    """Column to how many of its rows are null."""

    def __len__(self) -> int:
        return self.num_rows

    def open(self) -> list[Any]:
        """Its rows, as Arrow record batches that lie in the file until they are read."""
        return _batches(self.mapped)[1]


def read_shard(path: Path) -> Shard:
    """Look at a file of rows: how many, of which columns. Values are not read.

    Args:
        path: a `.arrow` file (a stream or a file, not compressed), or a `.parquet` file, which is converted once into
            the user's cache.

    Raises:
        DataError: if the file is damaged, cut short or compressed, or a package is missing.
    """
    mapped = _converted(path) if path.suffix == ".parquet" else path
    schema, batches = _batches(mapped)
    types = {field.name: _storage(field.type) for field in schema}
    return Shard(
        path,
        mapped,
        sum(batch.num_rows for batch in batches),
        types,
        {name: sum(batch.column(number).null_count for batch in batches) for number, name in enumerate(types)},
    )


def pyarrow() -> Any:
    """The package, which is optional.

    Raises:
        DataError: if it is not there, saying how to install it.
    """
    try:
        import pyarrow
        import pyarrow.compute
        import pyarrow.parquet
    except ImportError:
        raise DataError(_MISSING) from None
    return pyarrow


_MISSING = "a folder of shards is read with the package `pyarrow`, which is not there: pip install 'mvae[shards]'"


def _batches(path: Path) -> tuple[Any, list[Any]]:
    """The schema and the record batches of an Arrow file, none of them in memory."""
    pa = pyarrow()
    try:
        with path.open("rb") as file:
            is_file = file.read(6) == b"ARROW1"
        source = pa.memory_map(str(path))
        reader = pa.ipc.open_file(source) if is_file else pa.ipc.open_stream(source)
        numbered = (reader.get_batch(i) for i in range(reader.num_record_batches)) if is_file else reader
        allocated, batches = pa.total_allocated_bytes(), []
        for batch in numbered:
            batches.append(batch)
            if pa.total_allocated_bytes() - allocated > max(batch.nbytes // 2, 2**16):
                raise DataError(
                    f"{path}: compressed, so that it cannot be mapped; expected uncompressed Arrow, or Parquet"
                )
        if not is_file and _last_bytes(path, len(END)) != END:
            raise DataError(f"{path}: cut short after row {sum(batch.num_rows for batch in batches):,}")
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path}: damaged or cut short, not readable as Arrow: {_line(error)}") from error
    return reader.schema, batches


def _last_bytes(path: Path, count: int) -> bytes:
    with path.open("rb") as file:
        file.seek(-count, 2)
        return file.read()


def _converted(path: Path) -> Path:
    """The Arrow file in the user's cache that holds the rows of a Parquet file; made where there is none.

    Not with `datasets.Dataset.from_parquet`: it holds row groups in memory (results/benchmarks/shards.json), and a
    row group is whatever the writer chose, perhaps the whole file.
    """
    import hashlib

    import pooch

    pa = pyarrow()
    try:
        file = pa.parquet.ParquetFile(path, buffer_size=PIECE // 16, pre_buffer=False)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path}: damaged or cut short, not readable as Parquet: {_line(error)}") from error
    here, state = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:16], path.stat()
    folder = Path(pooch.os_cache("mvae")) / "shards"
    converted = folder / f"{here}-{state.st_size}-{state.st_mtime_ns}.arrow"
    if converted.is_file():
        return converted
    folder.mkdir(parents=True, exist_ok=True)
    before = list(folder.glob(f"{here}-*.arrow"))
    try:
        _convert(file, converted, path.name)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path}: could not be converted to {converted}: {_line(error)}") from error
    for old in before:  # of what the file was before
        old.unlink(missing_ok=True)
    return converted


def _convert(file: Any, target: Path, name: str) -> None:
    """Write the rows of an open Parquet file as an Arrow stream, whole or not at all, a few at a time in memory."""
    from tqdm import tqdm

    from mvae.files import atomic

    pa, about = pyarrow(), file.metadata
    size = sum(about.row_group(number).total_byte_size for number in range(about.num_row_groups))
    rows = max(1, min(1000, PIECE * about.num_rows // max(1, size)))
    with (
        atomic(target) as temporary,
        pa.OSFile(str(temporary), "wb") as sink,
        pa.ipc.new_stream(sink, file.schema_arrow) as writer,
        tqdm(total=about.num_rows, desc=f"{name} to Arrow", unit="row", unit_scale=True, disable=None) as bar,
    ):
        for batch in file.iter_batches(rows):
            writer.write_batch(batch)
            bar.update(batch.num_rows)


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())


# Types


def _storage(kind: Any) -> Any:
    """The type that values are stored in, where `datasets` has put a name of its own on it (e.g. `Array2D`)."""
    return getattr(kind, "storage_type", kind)


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
    """What is wrong with a column of this type, in words; None where it can be read.

    Args:
        kind: an Arrow type.
        shape: of one observation; anything where None.
    """
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
    if depth == len(wide):
        return wide
    return None


def _expected(shape: Sequence[int]) -> str:
    return f"{math.prod(shape):,} numbers ({'x'.join(map(str, shape))})" if shape else "one value"


def first_shape(batches: Sequence[Any], column: int) -> tuple[int, ...] | None:
    """The shape of a column's first row that is not null; None where all are."""
    compute = pyarrow().compute
    for batch in batches:
        array = _stored(batch.column(column))
        if array.null_count < len(array):
            first = compute.index(array.is_valid(), True).as_py()
            row = array[first : first + 1]
            shape = []
            for _ in range(_nesting(array.type)[0]):
                length = compute.list_value_length(row)[0].as_py() or 0
                shape.append(length)
                row = row.flatten()
            return tuple(shape)
    return None


def _stored(array: Any) -> Any:
    return array.storage if hasattr(array, "storage") else array


# Values


def tensors(parts: Sequence[Any], kind: Any, shape: tuple[int, ...], places: np.ndarray) -> tuple[Tensor, Tensor]:
    """Values and presence of B rows of one column.

    The rule of what is absent is that of `Batch.of`: null, or all NaN.

    Args:
        parts: Arrow arrays, with B rows in all.
        kind: their type; a part of nothing but nulls may have none, and so may the column.
        shape: of one observation.
        places: `[B]`, where in the result each row goes.

    Returns:
        Values `[B, *shape]` and presence `[B]`.

    Raises:
        FaultError: on lists of other lengths, or a row with holes that is not absent.
    """
    pa = pyarrow()
    if pa.types.is_null(kind):
        return torch.zeros(len(places), *shape), torch.zeros(len(places), dtype=torch.bool)
    stored = [pa.nulls(len(part), kind) if pa.types.is_null(part.type) else _stored(part) for part in parts]
    array = stored[0] if len(stored) == 1 else pa.concat_arrays(stored or [pa.array([], kind)])
    rows = np.flatnonzero(array.is_valid()) if array.null_count else np.arange(len(array))
    leaves = array.drop_null() if array.null_count else array
    depth, leaf = _nesting(kind)
    width = 1
    for size in _dimensions(depth, shape) or ():
        leaves, width = _unnested(leaves, size, rows, width, shape), width * size
    values = _numbers(leaves, leaf).reshape(len(rows), width)
    holes = np.isnan(values)
    if leaves.null_count:
        holes |= np.asarray(leaves.is_null()).reshape(len(rows), width)
    present = np.zeros(len(array), dtype=bool)
    present[places[rows]] = ~_absent(holes, rows)
    result = np.zeros((len(array), width), dtype=values.dtype)
    result[places[rows]] = values
    return torch.from_numpy(result).reshape(len(array), *shape), torch.from_numpy(present)


def _unnested(array: Any, size: int, rows: np.ndarray, width: int, shape: Sequence[int]) -> Any:
    """What is in lists that must all be of one length; each row has `width` of them."""
    lengths = pyarrow().compute.list_value_length(array)
    found = np.asarray(lengths.fill_null(-1))
    if (found == size).all():
        return array.flatten()
    wrong = int(np.flatnonzero(found != size)[0])
    what = "null" if found[wrong] < 0 else f"{found[wrong]}"
    where = f" in list {wrong % width}" if width > 1 else ""
    raise FaultError(int(rows[wrong // width]), f"expected {_expected(shape)}, lists of {size}; got {what}{where}")


def _numbers(leaves: Any, kind: Any) -> np.ndarray:
    """Numbers in a type that torch computes with, 0 for nulls."""
    types = pyarrow().types
    filled = leaves.fill_null(False if types.is_boolean(kind) else 0) if leaves.null_count else leaves
    numbers = filled.to_numpy(zero_copy_only=False)
    if types.is_floating(kind):
        return numbers.astype(np.float32, copy=False)
    unsigned = numbers.dtype.kind == "u" and numbers.dtype.itemsize > 1  # torch has few operations on these
    return numbers.astype(np.int64) if unsigned else numbers


def _absent(holes: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Which rows are nothing but holes; those with some are refused."""
    if not holes.any():
        return np.zeros(len(holes), dtype=bool)
    absent: np.ndarray = np.all(holes, axis=1)
    partly = np.flatnonzero(holes.any(1) & ~absent)
    if len(partly):
        element = int(np.flatnonzero(holes[partly[0]])[0])
        raise FaultError(
            int(rows[partly[0]]),
            f"element {element} is null or NaN among other values; a row is either all there or absent (null, or all"
            " NaN)",
        )
    return absent
