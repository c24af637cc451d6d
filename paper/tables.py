"""`mvae reproduce table2` and `table3`: log-likelihoods, and variances of the log importance weights."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from mvae.files import read_json
from paper.comparison import PRESETS, SCORES, Cell, cells_of, check, train_and_score
from paper.setup import Setup

__all__ = ["FIGURES", "main_entries", "paper_values", "reproduce"]

FIGURES = {
    "table2": ("nats", "error", "monte_carlo_error", "effective_sample_size"),
    "table3": ("variance", "variance_error"),
}
"""What each table keeps of an estimate: first what it prints, then its standard error over rows."""


def reproduce(
    table: str, setup: Setup, datasets: Sequence[str], models: Sequence[str], num_seeds: int
) -> Iterator[str]:
    """Train and score what is not there yet, keep each cell when it is done.

    Args:
        table: `"table2"` or `"table3"`.
        setup: its preset is a name in `PRESETS`; a cell that is trained, or scored, in `runs` is used.
        datasets: names in `DATASETS`.
        models: names in `MODELS`.
        num_seeds: seeds 0 to `num_seeds` - 1.

    Yields:
        A line for each finished cell.
    """
    results = setup.results(table, asdict(PRESETS[setup.preset]))
    cells = results.missing(cells_of(datasets, models, num_seeds))
    check(cells, setup)
    for cell, record in setup.side_by_side(train_and_score, cells):
        results.add(_kept(record, FIGURES[table]))
        seconds = record["trained"]["seconds"], record["scored"]["seconds"]
        yield f"{cell}: trained in {seconds[0]:.0f} s, scored in {seconds[1]:.0f} s; " + ", ".join(
            f"{entry['quantity']} {entry[FIGURES[table][0]]:.2f}" for entry in main_entries(record["estimates"])
        )
    if table == "table2":
        old = results.content.get("differences", [])
        results.content["differences"] = []
        for dataset in dict.fromkeys(found["dataset"] for found in results.cells):
            scored = [found for found in results.cells if found["dataset"] == dataset]
            there = all((_cell(found).folder(setup.runs, setup.preset) / SCORES).exists() for found in scored)
            kept = [entry for entry in old if entry["dataset"] == dataset]  # as they were, where the runs are gone
            results.content["differences"] += _differences(scored, setup.runs, setup.preset) if there else kept
        results.save()


def paper_values(table: str) -> dict[str, Any]:
    """What the paper prints in a table."""
    text = (resources.files(__package__) / "paper.yaml").read_text(encoding="utf-8")
    return yaml.safe_load(text)[table]


def main_entries(estimates: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The estimates that stand beside the paper's: by q(z | image), the conditional's second term from the prior."""
    chosen = {}
    for entry in estimates:
        own = entry["quantity"] == "conditional" and entry["second"] is None  # the CVAE's
        if own or (entry["proposal"] == ["image"] and entry["second"] in (None, "prior")):
            chosen[entry["quantity"]] = entry
    return list(chosen.values())


def _kept(record: dict[str, Any], figures: tuple[str, ...]) -> dict[str, Any]:
    keys = ("quantity", "proposal", "second", "samples", *figures)
    estimates = [{key: entry[key] for key in keys} for entry in record["estimates"]]
    return {key: record[key] for key in record if key != "estimates"} | {"estimates": estimates}


def _differences(cells: Sequence[dict[str, Any]], runs: Path, preset: str, base: str = "mvae") -> list[dict[str, Any]]:
    """Each model minus the MVAE on the same rows, seed by seed: the mean, and its standard error over rows."""
    values: dict[tuple[str, str, str], list[list[float]]] = {}
    for found in cells:
        cell = _cell(found)
        for entry in main_entries(read_json(cell.folder(runs, preset) / SCORES)["estimates"]):
            values.setdefault((cell.dataset, entry["quantity"], cell.model), []).append(entry["values"])
    differences = []
    for (dataset, quantity, model), seeds in values.items():
        others = values.get((dataset, quantity, base), [])
        if model == base or len(others) != len(seeds):
            continue
        rows = [statistics.mean(pair) for pair in zip(*map(_minus, seeds, others), strict=True)]
        error = statistics.stdev(rows) / math.sqrt(len(rows))
        differences.append(
            {"dataset": dataset, "quantity": quantity, "model": model, "minus": base, "nats": statistics.mean(rows)}
            | {"error": error}
        )
    return differences


def _cell(found: dict[str, Any]) -> Cell:
    return Cell(found["dataset"], found["model"], found["seed"])


def _minus(left: list[float], right: list[float]) -> list[float]:
    return [a - b for a, b in zip(left, right, strict=True)]
