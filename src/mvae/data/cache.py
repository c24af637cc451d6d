"""Rows that take long to make, made once: arrays on disk, mapped into memory, never read at once."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from joblib import Parallel, delayed
from tqdm import tqdm

from mvae.files import DataError, held, read_json, write_json

__all__ = ["cached"]

DONE = "done.json"
CHUNK = 500
"""Rows that are made at a time, and lost if that is cut short."""

Make = Callable[[range], Mapping[str, np.ndarray]]
"""From row numbers to their values, `[rows, *shape]` each; it is called in other processes, so it must be picklable."""


def cached(
    folder: Path, name: str, settings: Mapping[str, Any], columns: Mapping[str, tuple[int, ...]], count: int, make: Make
) -> dict[str, np.ndarray]:
    """The rows of a cache, made once, on all cores and with a progress bar.

    Finished rows are kept if the process is killed or `make` raises, and the next one continues.

    Args:
        folder: where caches are; each name and settings have a folder of their own.
        name: name of the data set.
        settings: all that the rows depend on, as JSON.
        columns: name of each array and the shape of one row of it; all are of unsigned bytes.
        count: number of rows.
        make: makes rows.

    Returns:
        Name to uint8 array `[count, *shape]`, mapped from its file; writing to it changes no file.

    Raises:
        DataError: naming the file, if it is not what was written.
    """
    settings = json.loads(json.dumps({**settings, "columns": {n: list(shape) for n, shape in columns.items()}}))
    key = hashlib.sha256(json.dumps([settings, count], sort_keys=True).encode()).hexdigest()[:12]
    place = folder / f"{name}-{key}"
    chunks = [range(start, min(start + CHUNK, count)) for start in range(0, count, CHUNK)]
    place.mkdir(parents=True, exist_ok=True)
    with held(place, wait=True):  # of several processes one makes the rows, and the others wait
        done = set(read_json(place / DONE)["chunks"]) if (place / DONE).exists() else set()
        if not done:
            for n, shape in columns.items():
                (place / f"{n}.npy").unlink(missing_ok=True)
                np.lib.format.open_memmap(place / f"{n}.npy", mode="w+", dtype=np.uint8, shape=(count, *shape))
        arrays = {n: _checked(place / f"{n}.npy", (count, *shape), "r+") for n, shape in columns.items()}
        for number, made in _made(name, chunks, done, make) if len(done) < len(chunks) else ():
            for column, values in made.items():
                arrays[column][chunks[number].start : chunks[number].stop] = values
                arrays[column].flush()
            done.add(number)
            write_json(place / DONE, {"settings": settings, "count": count, "chunks": sorted(done)})
    return {n: _checked(place / f"{n}.npy", (count, *shape), "c") for n, shape in columns.items()}


def _made(name: str, chunks: list[range], done: set[int], make: Make) -> Iterator[tuple[int, Mapping[str, np.ndarray]]]:
    """The chunks that are not done, as they are finished, on all cores."""
    todo = [number for number in range(len(chunks)) if number not in done]
    if len(todo) == 1:  # processes take seconds to start
        yield todo[0], make(chunks[todo[0]])
        return
    total, there = sum(map(len, chunks)), sum(len(chunks[number]) for number in done)
    pool = Parallel(min(os.cpu_count() or 1, len(todo)), return_as="generator_unordered", pre_dispatch="2*n_jobs")
    faults: list[Exception] = []
    tasks = (delayed(_tried)(make, number, chunks[number]) for number in todo if not faults)
    with tqdm(total=total, initial=there, unit=" rows", desc=f"preparing {name}", dynamic_ncols=True) as bar:
        for number, made in pool(tasks):  # after a fault, what has been begun
            if isinstance(made, Exception):
                faults.append(made)
                continue
            yield number, made
            bar.update(len(chunks[number]))
    if faults:
        raise faults[0]


def _tried(make: Make, number: int, rows: range) -> tuple[int, Mapping[str, np.ndarray] | Exception]:
    try:
        return number, make(rows)
    except Exception as fault:
        return number, fault


def _checked(path: Path, shape: tuple[int, ...], mode: Literal["r+", "c"]) -> np.memmap:
    try:
        found: np.memmap = np.load(path, mmap_mode=mode)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: damaged ({error}); delete {path.parent}, and it is made anew") from error
    if found.shape != shape or found.dtype != np.uint8:
        raise DataError(f"{path}: holds {found.dtype} {found.shape}, expected uint8 {shape}; delete {path.parent}")
    return found
