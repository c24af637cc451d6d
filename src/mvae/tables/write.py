"""Write tables to files."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mvae.files import DataError, reserved, together

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["reserved_tables", "write_tables"]

ENDINGS = (".csv", ".tsv", ".parquet", ".feather", ".jsonl")


def _plain(value: Any) -> Any:
    """A value that JSON does not have: numpy's numbers as Python's, dates as texts."""
    if isinstance(value, np.generic):
        return value.item()
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


@contextmanager
def reserved_tables(*paths: Path) -> Iterator[None]:
    """Hold names of new tables that are one answer, while they are made and written.

    A `DataError` if an ending is unknown or a folder does not exist, a `ValueError` if a file exists or is in use.
    """
    for path in paths:
        if path.suffix.lower() not in ENDINGS:
            raise DataError(f"{path}: expected a name that ends in {', '.join(ENDINGS)}")
        if not path.parent.is_dir():
            raise DataError(f"{path}: no folder {path.parent}")
    with reserved(*paths):
        yield


def write_tables(frames: Mapping[Path, pd.DataFrame]) -> None:
    """Write tables, all of them or none, each in the format of its ending."""
    with together(*frames) as temporaries:
        for frame, path in zip(frames.values(), temporaries, strict=True):
            _write(frame, path)


def _write(frame: pd.DataFrame, path: Path) -> None:
    match path.suffix.lower():
        case ".csv" | ".tsv":
            frame.to_csv(path, index=False, sep="\t" if path.suffix.lower() == ".tsv" else ",")
        case ".jsonl":
            rows = frame.astype(object).where(frame.notna(), None).to_dict("records")
            lines = (json.dumps(row, ensure_ascii=False, default=_plain) + "\n" for row in rows)
            path.write_text("".join(lines), encoding="utf-8")
        case ".parquet":
            frame.to_parquet(path)
        case ".feather":
            frame.reset_index(drop=True).to_feather(path)
