"""Show the inferred kind of each column before anything runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from mvae.tables.kinds import kind_of
from mvae.tables.learn import described
from mvae.tables.read import read_table

__all__ = ["inspect"]

WIDE = 1000


def inspect(
    source: Any, *, join: Sequence[str | Path] = (), on: str | None = None, known: Mapping[str, Any] | None = None
) -> str:
    """Show the kinds of a table's columns as a config (YAML) for `mvae.fit`, each with examples of its cells.

    Args:
        source: a path, a data frame, or anything else that `mvae.fit` takes as a table.
        join: paths of more tables.
        on: the column to join by.
        known: kinds that are known already, as under `data.table` in a config.

    Raises:
        DataError: as `read_table`; `SpecError` if `known` does not fit.
    """
    table = read_table(source, join, on)
    more = {"join": [str(path) for path in join], "on": on} if join else {}
    spec = described(table, {**(known or {}), **more})
    lines = [f"# {table.name}: {len(table):,} rows. Change what is wrong, and give it to mvae fit with --config."]
    lines += ["data:", "  table:", *(f"    {_flow({key: value})}" for key, value in more.items()), "    columns:"]
    for name, column in spec.columns.items():
        content = {"kind": column.kind, **column.model_dump(mode="json", exclude_defaults=True)}
        lines.append(f"      {_flow({name: content})}  # {kind_of(column).in_words(table.cells(name))}")
    lines += ["    groups:  # columns that are one modality; a column in none is a modality of its own"]
    lines += [f"      {_flow({name: members})}" for name, members in spec.groups.items()] or ["      {}"]
    return "\n".join(lines) + "\n"


def _flow(content: Mapping[str, Any]) -> str:
    """A mapping with one key, its value on the same line."""
    ((key, value),) = content.items()
    shown = yaml.safe_dump(value, default_flow_style=True, width=WIDE, sort_keys=False, allow_unicode=True)
    named = yaml.safe_dump(key, width=WIDE, allow_unicode=True).removesuffix("...\n").strip()
    return f"{named}: {shown.removesuffix('...' + chr(10)).strip()}"
