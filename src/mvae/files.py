"""Files: JSON and text written completely or not at all, what is read of them bounded, and their errors."""

from __future__ import annotations

import json
import os
import stat
import tempfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

__all__ = [
    "LARGEST",
    "ZIP_FAULTS",
    "DataError",
    "RunError",
    "atomic",
    "opened",
    "read_bytes",
    "read_json",
    "refuse_existing",
    "shortened",
    "write_json",
    "write_text",
]

LARGEST = 2**26
"""Bytes of the largest file that is read where nothing else says how large it is."""
ZIP_FAULTS = (zipfile.BadZipFile, zlib.error, RuntimeError, EOFError)
"""What `zipfile` raises where a zip, or a member of it, is damaged, encrypted or compressed in another way."""


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
        zipped = isinstance(path, zipfile.Path)
        with path.open("rb") if isinstance(path, zipfile.Path) else open(path, "rb", opener=_at_once) as file:
            if not zipped and not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
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


def refuse_existing(paths: Iterable[Path]) -> None:
    """Refuse to write over files: a ValueError naming the first that exists."""
    for path in paths:
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
def atomic(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, renamed to it after the block, or removed if the block fails."""
    if not path.parent.is_dir():
        raise RunError(f"{path}: there is no folder {path.parent}")
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o644)
        _to_disk(temporary)
        temporary.replace(path)
        _to_disk(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _to_disk(path: Path) -> None:
    """Wait until a file, or a folder's list, is on the disk."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
