"""Files: JSON and text written completely or not at all, what is read of them bounded, and their errors."""

from __future__ import annotations

import json
import os
import shutil
import stat
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime
from pathlib import Path
from socket import gethostname
from typing import IO, Any

from filelock import FileLock, Timeout

__all__ = [
    "LARGEST",
    "ZIP_FAULTS",
    "DataError",
    "RunError",
    "atomic",
    "held",
    "named",
    "opened",
    "read_bytes",
    "read_json",
    "refuse_existing",
    "refuse_held",
    "reserved",
    "scratch",
    "shortened",
    "to_disk",
    "together",
    "write_json",
    "write_text",
]

LARGEST = 2**26
"""Bytes of the largest file that is read where nothing else says how large it is."""
ZIP_FAULTS = (zipfile.BadZipFile, zlib.error, RuntimeError, EOFError)
"""What `zipfile` raises where a zip, or a member of it, is damaged, encrypted or compressed in another way."""
UNWRITTEN = "could not be written"


class RunError(ValueError):
    """A run's folder cannot be used; the message names it and why."""


class DataError(ValueError):
    """A file of a data set is missing, damaged or not what its name says; the message names it and the fault."""


def shortened(text: object, most: int = 200) -> str:
    """A text in one line of at most so many characters, for a message that repeats what a file holds."""
    line = " ".join(str(text)[: 4 * most].split())
    return line if len(line) <= most else f"{line[: most - 3]}..."


@contextmanager
def opened(path: Path | zipfile.Path) -> Iterator[IO[bytes]]:
    """A regular file, or one in a zip, open for reading; else a FileNotFoundError, or a `RunError` that says why."""
    try:
        with path.open("rb") if isinstance(path, zipfile.Path) else open(path, "rb", opener=_at_once) as file:
            if isinstance(path, Path) and not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise OSError("it is no regular file")
            yield file
    except FileNotFoundError:
        raise
    except (OSError, *ZIP_FAULTS) as error:
        raise RunError(f"{path}: cannot be read ({shortened(getattr(error, 'strerror', None) or error)})") from error


def _at_once(path: str, flags: int) -> int:
    """Open a file, also a pipe that nobody writes to, which would else be waited for."""
    return os.open(path, flags | os.O_NONBLOCK)


def read_bytes(path: Path | zipfile.Path, most: int = LARGEST) -> bytes:
    """The content of a file of at most so many bytes; errors are those of `opened`, and a `RunError` if it has more."""
    with opened(path) as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise RunError(f"{path}: expected a file of at most {most:,} bytes")
    return content


def read_json(path: Path | zipfile.Path) -> Any:
    """The content of a JSON file; a `RunError` if it is missing, too large or not JSON."""
    try:
        return json.loads(read_bytes(path).decode("utf-8"))
    except FileNotFoundError:
        raise RunError(f"{path.parent} is not a run: it has no {path.name}") from None
    except RunError:
        raise
    except (ValueError, RecursionError) as error:
        raise RunError(f"{path}: not readable as JSON: {shortened(error)}") from error


def refuse_existing(paths: Sequence[Path]) -> None:
    """Refuse to write over the files of one answer: a ValueError naming the first that exists.

    Those of an answer that was cut short, whose first file is still a temporary one, are no answer yet.
    """
    unfinished = not paths[0].exists() and _temporary(paths[0]).exists()
    for path in () if unfinished else paths:
        if path.exists():
            raise ValueError(f"{path} exists; choose another name or delete it")


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file, completely or not at all."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a text file, completely or not at all."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


@contextmanager
def held(*paths: Path, wait: bool = False) -> Iterator[None]:
    """Keep other processes and threads from writing files, or into folders, until the block ends.

    A `RunError` names the process that does it already, unless `wait`.
    """
    with ExitStack() as stack:
        for path in sorted(paths):  # in one order, so that no two wait for each other
            stack.enter_context(_held(path, wait))
        yield


@contextmanager
def _held(path: Path, wait: bool) -> Iterator[None]:
    if not path.parent.is_dir():
        raise RunError(f"{path}: there is no folder {path.parent}")
    place = lock_of(path)
    lock = FileLock(place, is_singleton=True)
    outer = not lock.is_locked
    with named(path):
        try:
            lock.acquire(timeout=-1 if wait else 0)
        except Timeout:
            holder = ""
            with suppress(OSError, ValueError):
                holder = place.read_text(encoding="utf-8")[:200]
            raise RunError(f"{path} is in use by {holder or 'another process'}; wait for its end, or stop it") from None
    try:
        if outer:
            with named(path):
                place.write_text(f"process {os.getpid()} on {gethostname()} since {datetime.now():%Y-%m-%d %H:%M:%S}")
        yield
    finally:
        if outer:
            with suppress(OSError):
                place.unlink()
        lock.release()


def refuse_held(path: Path | None) -> None:
    """Refuse a folder in which another process trains now: a `RunError` names it."""
    if path is not None and lock_of(path).exists():
        with held(path):
            pass


@contextmanager
def reserved(*paths: Path) -> Iterator[None]:
    """Hold names of new files that are one answer; errors are those of `held` and `refuse_existing`."""
    with held(*paths):
        refuse_existing(paths)
        yield


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """As `together`, for one file."""
    with together(path) as (temporary,):
        yield temporary


@contextmanager
def together(*paths: Path) -> Iterator[list[Path]]:
    """Temporary paths beside `paths`, renamed to them after the block, the first one last; removed if the block fails.

    Their names are fixed, so that the next writer replaces what a killed one has left. An OSError names the first path.
    """
    pairs, renamed = [(_temporary(path), path) for path in paths], False
    with held(*paths, wait=True), named(paths[0]):
        try:
            for temporary, _ in pairs:
                temporary.unlink(missing_ok=True)
                temporary.touch()
            yield [temporary for temporary, _ in pairs]
            for temporary, _ in pairs:
                to_disk(temporary)
            for temporary, path in reversed(pairs):
                temporary.replace(path)
                renamed = True
            for folder in {path.parent for path in paths}:
                to_disk(folder)
        finally:
            for temporary, _ in () if renamed else pairs:  # else they say that the answer is unfinished
                temporary.unlink(missing_ok=True)


@contextmanager
def scratch(path: Path) -> Iterator[Path]:
    """An empty folder beside `path`, which the caller holds; removed after the block, or by the next writer."""
    folder = path.with_name(f".{path.name}.part")
    with named(path):
        try:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def to_disk(path: Path) -> None:
    """Wait until a file, or the list of a folder, is on the disk."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


@contextmanager
def named(path: Path) -> Iterator[None]:
    """Name the file in errors of writing it."""
    try:
        yield
    except OSError as error:
        if UNWRITTEN in str(error):
            raise
        raise OSError(f"{path}: {UNWRITTEN}: {error.strerror or error}") from error


def lock_of(path: Path) -> Path:
    """The file that says who holds a file or a folder."""
    return path / ".lock" if path.is_dir() else path.with_name(f".{path.name}.lock")


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.stem}.part{path.suffix}")
