"""Tables into files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mvae.data.files import DataError
from mvae.storage import atomic

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["check_out", "write_table"]

ENDINGS = (".csv", ".tsv", ".parquet", ".feather", ".jsonl")


def check_out(*paths: Path) -> None:
    """Say what would keep tables from being written, before they are made.

    Raises:
        DataError: if an ending is unknown, a folder is not there, or a file is there already.
    """
    for path in paths:
        if path.suffix.lower() not in ENDINGS:
            raise DataError(f"{path}: expected a name that ends in {', '.join(ENDINGS)}")
        if not path.parent.is_dir():
            raise DataError(f"{path}: there is no folder {path.parent}")
        if path.exists():
            raise DataError(f"{path} is already there; choose another name")


def write_table(frame: pd.DataFrame, path: Path, index: bool = False) -> None:
    """Write a table, whole or not at all, in the format of its ending."""
    with atomic(path) as temporary:
        match path.suffix.lower():
            case ".csv" | ".tsv":
                frame.to_csv(temporary, index=index, sep="\t" if path.suffix.lower() == ".tsv" else ",")
            case ".jsonl":
                frame.to_json(temporary, orient="records", lines=True, date_format="iso", force_ascii=False)
            case ".parquet":
                frame.to_parquet(temporary)
            case ".feather":
                frame.reset_index(drop=True).to_feather(temporary)
