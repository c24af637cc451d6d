"""Parts that several commands share."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from jsonargparse import ArgumentParser, DefaultHelpFormatter, Namespace

__all__ = ["INTERRUPTED", "Command", "Help", "answered", "fail", "fit_flags", "of_table", "pairs", "table_arguments"]

INTERRUPTED = 130


class Command(NamedTuple):
    """A command."""

    add_arguments: Callable[[ArgumentParser], None]
    run: Callable[[Namespace], int]
    """From its options to the exit status; `--help` shows its docstring after the summary, with an example."""


class Help(DefaultHelpFormatter):
    """Help without the types and defaults that the library adds: most defaults are the recipe's."""

    def _get_help_string(self, action: Any) -> str:
        return action.help or ""


def fail(error: Exception, status: int) -> int:
    """Print an error in a line, or raise it where MVAE_DEBUG is set; the exit status."""
    if os.environ.get("MVAE_DEBUG"):
        raise error
    print(f"mvae: {_with_flags(str(error))}", file=sys.stderr)
    return status


@cache
def fit_flags() -> list[dict[str, Any]]:
    """The flags of `mvae fit` that are options, as `scripts/write_options.py` writes them."""
    found: list[dict[str, Any]] = json.loads(Path(__file__).with_name("fit_flags.json").read_text(encoding="utf-8"))
    return found


def _with_flags(message: str) -> str:
    """A message about options with their flags in place of their places in a config; one about a file as it is."""
    flags = {flag["place"]: flag["flag"] for flag in fit_flags()}
    if not re.match(r"the options: |(data|model|training)\.\w+[^ ]*: ", message):
        return message
    parts = []
    for part in message.removeprefix("the options: ").split("; "):
        place, colon, words = part.partition(": ")
        top, tail = ".".join(place.split(".")[:2]), place.split(".")[2:]
        if top == "model.modalities":
            top, tail = (top, tail[:1]) if tail[1:] == ["weight"] else ("", tail)
        parts.append(" ".join([flags[top], *tail]) + colon + words if top in flags else part)
    names = {flag["name"]: flag["flag"] for flag in fit_flags() if "_" in flag["name"]}
    return re.sub(r"(?<![\w.-])[a-z]+_[a-z_]+\b", lambda name: names.get(name[0], name[0]), "; ".join(parts))


def table_arguments(parser: ArgumentParser) -> None:
    """Add the options of a table."""
    kinds = (
        "table: number, positive, count, date, yes-no, category, text, image or left-out, where the inferred kind"
        " ('mvae inspect') is wrong"
    )
    groups = "table: columns that are one modality; those in no group are one each (default: all are one)"
    add = parser.add_argument
    add("--join", metavar="FILE", type=str, nargs="+", help="table: more tables; rows in only one are kept")
    add("--on", metavar="COLUMN", type=str, help="table: the column that tables are joined by")
    add("--kind", metavar="COLUMN=KIND", type=str, nargs="+", help=kinds)
    add("--group", metavar="NAME=COLUMN,COLUMN,...", type=str, nargs="+", help=groups)


def of_table(options: Namespace, config: str | None) -> Any:
    """A config with the options of a table."""
    from mvae.training.prepare import with_table

    kinds = pairs("--kind", options.kind) or None
    groups = {name: text.split(",") for name, text in pairs("--group", options.group).items()} or None
    return with_table(config, kinds, groups, options.join or (), options.on)


def answered(options: Namespace, answer: Callable[[], Any]) -> int:
    """Write a frame with an answer for each row."""
    from mvae.tables.write import reserved_tables, write_tables

    if not options.out:
        raise ValueError("--out: name the file to write, e.g. --out new.csv")
    with reserved_tables(Path(options.out)):
        frame = answer()
        write_tables({Path(options.out): frame})
    print(frame.head(5).to_string(index=False))
    print(f"{len(frame):,} rows written to {options.out}")
    return 0


def pairs(option: str, texts: Sequence[str] | None) -> dict[str, str]:
    """Texts NAME=VALUE as names and values."""
    found: dict[str, str] = {}
    for text in texts or ():
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise ValueError(f"{option}: expected NAME=VALUE, got '{text}'")
        if name in found:
            raise ValueError(f"{option}: '{name}' is given twice")
        found[name] = value
    return found
