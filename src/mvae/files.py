"""Files: JSON and text written completely or not at all, and their errors."""

from __future__ import annotations

import json
import os
import tempfile
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__all__ = ["DataError", "RunError", "atomic", "read_json", "refuse_existing", "write_json", "write_text"]


class RunError(ValueError):
    """A run's folder cannot be used; the message names it and why."""


class DataError(ValueError):
    """A file of a data set is missing, damaged or not what its name says; the message names it and the fault."""


def read_json(path: Path | zipfile.Path) -> Any:
    """The contents of a JSON file; a `RunError` if it is missing or not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RunError(f"{path.parent} is not a run: it has no {path.name}") from None
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise RunError(f"{path}: not readable as JSON: {error}") from error


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
