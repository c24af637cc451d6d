"""From a table to a model's rows: what its columns are, what they learn, the modalities they make, the rows to read."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from mvae.batch import Batch
from mvae.config.specs import SpecError
from mvae.config.table_spec import TableSpec
from mvae.data.dataset import Dataset, hold_out
from mvae.files import DataError
from mvae.tables.columns import CategoryColumn, ImageColumn, LeftOutColumn, RecordColumn, TextColumn
from mvae.tables.infer import infer
from mvae.tables.read import Table

__all__ = ["STEPS", "as_rows", "dataset", "described", "held_rows_of", "learn", "plan", "split", "table_recipe"]

HELD_SHARE, MOST_HELD, FEWEST_TO_HOLD = 0.1, 5000, 10_000
"""Of the rows, to validate on; of a table with fewer none, for there each row is worth more in training: measured,
holding out a tenth of 1,797 rows made errors 4 % larger."""
SPLIT_SEED = 0
STEPS, LEAST_EPOCHS, MOST_EPOCHS = 10_000, 10, 40
STEPS_AN_EPOCH = 100
MANY_ROWS = 1000
"""From so many on the networks are larger, and more is hidden from them in training."""
LATENT_SHARE, LEAST_LATENT, MOST_LATENT = 0.5, 4, 32
"""Latent dimensions by what a model reads."""


def described(table: Table, known: Mapping[str, Any] | None = None) -> TableSpec:
    """The columns of a table: as a spec has them, and for those it does not name as they look.

    Args:
        table: the rows that are there.
        known: what a config says under `data.table`.

    Raises:
        SpecError: if it names a column that is not there, or does not fit.
    """
    known = dict(known or {})
    columns = dict(known.pop("columns", {}))
    for name in columns:
        if name not in table.names:
            raise SpecError(
                f"data.table.columns.{name}: no such column in {table.name}, which has {', '.join(table.names)}"
            )
    found = {name: columns.get(name) or infer(table.cells(name)) for name in table.names}
    on = known.get("on")
    if on is not None and on not in columns:
        found[on] = LeftOutColumn(why="the column that tables are joined by")
    try:
        spec = TableSpec(columns=found, **{"groups": {}, **known})
    except ValueError as error:
        raise SpecError(f"data.table: {_in_words(error)}") from None
    return spec if "groups" in known else spec.model_copy(update={"groups": _groups(spec, table)})


def _groups(spec: TableSpec, table: Table) -> dict[str, list[str]]:
    """One for each table that there is: measured, a record of all columns fills holes better than each its own."""
    groups = {}
    for name, columns in table.tables.items():
        members = [column for column in columns if isinstance(spec.columns[column], RecordColumn)]
        if len(members) > 1:
            groups[name if name not in spec.columns else f"{name} (table)"] = members
    return groups


def _in_words(error: ValueError) -> str:
    faults: list[Any] = getattr(error, "errors", list)()
    return "; ".join(f"{'.'.join(map(str, f['loc']))}: {f['msg']}".lstrip(": ") for f in faults) or str(error)


def learn(spec: TableSpec, table: Table, rows: np.ndarray) -> TableSpec:
    """The spec with what a table says of its columns: its rows to train on, and of which categories there are, all.

    Raises:
        DataError: on a cell that is not of its column's kind, or a column there is nothing to learn from.
    """
    columns = dict(spec.columns)
    for name, column in spec.columns.items():
        if isinstance(column, CategoryColumn | TextColumn):
            columns[name] = column.learned(table.cells(name))
        elif isinstance(column, RecordColumn):
            columns[name] = column.learned(table.cells(name, rows))
    left = {name: column.why for name, column in columns.items() if isinstance(column, LeftOutColumn)}
    if len(left) == len(columns):
        why = "; ".join(f"{name}: {reason}" for name, reason in left.items())
        raise DataError(f"{table.name}: no column to learn from: {why}")
    return spec.model_copy(update={"columns": columns})


def as_rows(spec: TableSpec, table: Table) -> Batch:
    """A table as a model reads it: a record is there where any of its columns is.

    Args:
        spec: with what it has learned.
        table: with the columns of the spec; others are not read, those left out may be missing.

    Raises:
        DataError: if a column is missing, or on a cell that is not of its kind.
    """
    missing = [n for n, c in spec.columns.items() if n not in table.names and not isinstance(c, LeftOutColumn)]
    if missing:
        raise DataError(
            f"{table.name}: no column '{missing[0]}', which the model was trained with; there are"
            f" {', '.join(table.names)}"
        )
    values, present = {}, {}
    for name, members in spec.records.items():
        numbers = np.stack([spec.record(member).encoded(table.cells(member)) for member in members], 1)
        values[name] = torch.from_numpy(numbers).float()
        present[name] = ~values[name].isnan().all(1)
    for name, column in spec.others.items():
        found, here = column.encoded(table.cells(name))
        values[name], present[name] = torch.from_numpy(found), torch.from_numpy(here)
    return Batch(values, present)


def split(table: Table, validation_rows: int) -> tuple[np.ndarray, np.ndarray]:
    """The row numbers to train on and to validate on, chosen at random but always alike."""
    kept, held = hold_out(len(table), validation_rows, SPLIT_SEED)
    return kept.numpy(), held.numpy()


def held_rows_of(count: int) -> int:
    """How many rows are held out unless told."""
    return min(MOST_HELD, round(HELD_SHARE * count)) if count >= FEWEST_TO_HOLD else 0


def dataset(spec: TableSpec, table: Table, validation_rows: int) -> Dataset:
    """A table split and read."""
    rows = as_rows(spec, table)
    kept, held = split(table, validation_rows)
    left = [name for name, column in spec.columns.items() if isinstance(column, LeftOutColumn)]
    described = f"{len(table):,} rows of {len(spec.columns)} columns" + (
        f"; left out: {', '.join(left)}" if left else ""
    )
    return Dataset(table.name, rows[torch.from_numpy(kept)], rows[torch.from_numpy(held)], rows[:0], described)


def table_recipe(spec: TableSpec, count: int) -> dict[str, Any]:
    """A `RunSpec`, as plain data, for a table of so many training rows: its modalities, and training to suit.

    Args:
        spec: with what it has learned.
        count: training rows.
    """
    modalities = {name: _record(spec, members, count >= MANY_ROWS) for name, members in spec.records.items()}
    modalities |= {name: _other(column) for name, column in spec.others.items()}
    features = sum(
        column.element.get("num_classes") or 1 for column in spec.columns.values() if isinstance(column, RecordColumn)
    )
    latent_dim = min(MOST_LATENT, max(LEAST_LATENT, math.ceil(LATENT_SHARE * features)))
    return {
        "model": {
            "method": "mvae",
            "latent_dim": latent_dim if not spec.others else max(latent_dim, MOST_LATENT),
            "subsets": 0 if len(modalities) < 3 else 1,
            "reconstruct": "present",
            "modalities": modalities,
        },
        "training": {**plan(count), "learning_rate": 2e-3, "schedule": "cosine"},
    }


def plan(count: int, steps: int = STEPS) -> dict[str, int]:
    """How often to go through so many training rows, and how many at a time, for about so many steps.

    Where rows are few an epoch goes through them several times, so that what is done once an epoch costs little.
    """
    batch = min(256, max(16, 2 ** round(math.log2(max(1, count / 8)))))
    once = math.ceil(count / batch)
    epochs = min(MOST_EPOCHS, max(LEAST_EPOCHS, round(steps / once)), max(1, steps // STEPS_AN_EPOCH))
    passes = max(1, round(steps / (epochs * once)))
    return {"epochs": epochs, "passes": passes, "batch_size": batch, "annealing_epochs": max(1, epochs // 5)}


def _record(spec: TableSpec, members: list[str], many_rows: bool) -> dict[str, Any]:
    """Sizes are what filled hidden cells of scikit-learn's tables best (`python -m paper imputation`)."""
    hidden, hide = ([256, 256], 0.3) if many_rows else ([64], 0.2)
    if len(members) == 1:
        hidden, hide = [32], 0.0
    return {
        "shape": [len(members)],
        "likelihood": {"kind": "record", "elements": [spec.record(name).element for name in members]},
        "encoder": {"kind": "record", "hidden": hidden, "hide": hide},
        "decoder": {"kind": "mlp", "hidden": hidden},
        "elements": members,
    }


def _other(column: ImageColumn | TextColumn) -> dict[str, Any]:
    if isinstance(column, ImageColumn):
        return {
            "shape": [3 if column.colour else 1, *column.size],
            "likelihood": {"kind": "pixel-cross-entropy"},
            "encoder": {"kind": "conv", "layers": [[32, 4, 2, 1], [64, 4, 2, 1]], "hidden": 128},
            "decoder": {"kind": "conv", "layers": [[32, 4, 2, 1], [64, 4, 2, 1]], "hidden": 128},
        }
    characters = column.characters or ""
    string = {"kind": "string", "num_symbols": len(characters) + 1, "end": len(characters), "characters": characters}
    return {
        "shape": [column.length],
        "likelihood": string,
        "encoder": {"kind": "gru", "embedding": 32, "hidden": 64},
        "decoder": {"kind": "gru", "embedding": 32, "hidden": 64, "layers": 1, "word_dropout": 0.1},
    }
