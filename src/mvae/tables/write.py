"""Write tables to files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mvae.files import DataError, atomic, refuse_existing

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["check_out", "write_table"]

ENDINGS = (".csv", ".tsv", ".parquet", ".feather", ".jsonl")


def _plain(value: Any) -> Any:
    """A value that JSON does not have: numpy's numbers as Python's, dates as texts."""
    if isinstance(value, np.generic):
        return value.item()
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def check_out(*paths: Path) -> None:
    """Refuse names that tables cannot be written to, before the tables are made.

    A `DataError` if an ending is unknown or a folder does not exist, a `ValueError` if a file exists.
    """
    for path in paths:
        if path.suffix.lower() not in ENDINGS:
            raise DataError(f"{path}: expected a name that ends in {', '.join(ENDINGS)}")
        if not path.parent.is_dir():
            raise DataError(f"{path}: no folder {path.parent}")
    refuse_existing(paths)


def write_table(frame: pd.DataFrame, path: Path, index: bool = False) -> None:
    """Write a table, completely or not at all, in the format of its ending."""
    with atomic(path) as temporary:
        match path.suffix.lower():
            case ".csv" | ".tsv":
                frame.to_csv(temporary, index=index, sep="\t" if path.suffix.lower() == ".tsv" else ",")
            case ".jsonl":
                rows = frame.astype(object).where(frame.notna(), None).to_dict("records")
                lines = (json.dumps(row, ensure_ascii=False, default=_plain) + "\n" for row in rows)
                temporary.write_text("".join(lines), encoding="utf-8")
            case ".parquet":
                frame.to_parquet(temporary)
            case ".feather":
                frame.reset_index(drop=True).to_feather(temporary)
