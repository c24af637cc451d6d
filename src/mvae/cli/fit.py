"""`mvae fit`: train a model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonargparse.typing
from jsonargparse import ArgumentParser, Namespace
from jsonargparse.typing import PositiveInt

from mvae.cli.options import INTERRUPTED, Command, fail, fit_flags, of_table, pairs, table_arguments

__all__ = ["FIT"]


def _fit_arguments(parser: ArgumentParser) -> None:
    source = (
        "a data set: digits, mnist, multimnist, celeba, ... ('mvae data list'); a table, also with missing values, in a"
        " .csv, .tsv, .parquet, .feather or .jsonl file; or a folder of Arrow or Parquet files, a column a modality,"
        " which stay on disk (with --config)"
    )
    parser.add_argument("source", help=source)
    groups: dict[str, Any] = {}
    for flag in fit_flags():
        if flag["group"] not in groups:
            groups[flag["group"]] = parser.add_argument_group(flag["group"].capitalize())
        groups[flag["group"]].add_argument(flag["flag"], help=flag["help"], **_reading(flag))
    table_arguments(groups["data"])
    places = "where to look first for data files (then $MVAE_DATA, the cache)"
    groups["data"].add_argument("--data-dir", metavar="DIR", type=str, help=places)
    add = parser.add_argument_group("Running").add_argument
    add("--out", metavar="DIR", type=str, help="folder of the run (default: runs/SOURCE)")
    add("--resume", action="store_true", help="continue the run in --out from its last checkpoint")
    config = "any part of a run's config.json, networks too, or the name of a recipe, or of a variant; flags win"
    add("--config", metavar="FILE.yaml", type=str, help=config)
    add("--devices", metavar="N", type=PositiveInt, default=1, help="GPUs, or CPU processes, on each machine (1)")
    add("--nodes", metavar="M", type=PositiveInt, default=1, help="machines, with torchrun (1)")


def _reading(flag: dict[str, Any]) -> dict[str, Any]:
    """Arguments of `add_argument` for a flag."""
    match flag["type"]:
        case "bool":
            return {"action": "store_true", "default": None}
        case "choice":
            return {"choices": flag["choices"]}
        case "pairs":
            return {"metavar": flag["metavar"], "type": str, "nargs": "+"}
    return {"metavar": flag["metavar"], "type": getattr(jsonargparse.typing, flag["type"], str)}


def _value(flag: dict[str, Any], read: Any) -> Any:
    """The value that `fit` takes, from the one that the parser has read."""
    if read is not None and flag["type"] == "pairs":
        return {name: _number(f"{flag['flag']} {name}", text) for name, text in pairs(flag["flag"], read).items()}
    if read is not None and flag["type"] == "names":
        return read if read in flag["choices"] else read.split(",")
    return read


def _number(what: str, text: str) -> bool | int | float:
    if text in ("true", "false"):
        return text == "true"
    try:
        return int(text) if text.isdecimal() else float(text)
    except ValueError:
        raise ValueError(f"{what}: expected a number, true or false, got '{text}'") from None


def _fit(options: Namespace) -> int:
    """Defaults come from the data set's recipe.

    Example: mvae fit digits --paired-fraction 0.1 --out runs/first
    """
    from mvae.cli.display import print_outcome, print_plan
    from mvae.config.options import placed
    from mvae.training.prepare import prepare
    from mvae.training.spread import LostProcessError, Processes

    source = Path(options.source).resolve()
    run = prepare(
        options.source,
        out=options.out or f"runs/{source.name if source.is_dir() else source.stem}",
        data_dir=options.data_dir,
        config=of_table(options, options.config),
        resume=options.resume,
        options=placed({flag["name"]: _value(flag, options[flag["name"]]) for flag in fit_flags()}),
        processes=Processes(options.devices, options.nodes),
    )
    first = run.processes.first  # which alone prints
    if first:
        print_plan(run)
    try:
        outcome = run.train(progress=first)
    except LostProcessError as error:
        return fail(error, 1)
    except ArithmeticError:
        if first:
            raise
        return 1
    if first:
        print_outcome(run, outcome)
    return INTERRUPTED if outcome.interrupted else 0


FIT = Command(_fit_arguments, _fit)
