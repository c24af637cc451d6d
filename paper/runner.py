"""Runs an experiment: its cells one by one or side by side, each kept as soon as it is measured."""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from importlib import import_module, resources
from itertools import product
from pathlib import Path
from types import ModuleType
from typing import Any

import yaml

from mvae.data.sources import load_dataset
from paper.pages import fill, render
from paper.results import Results, provenance
from paper.side_by_side import Report, default_jobs, run_side_by_side

__all__ = ["CATALOG", "Cell", "Report", "Setup", "page", "places", "read", "run", "titles"]

Cell = dict[str, Any]
"""The fields that tell a cell from the others of its experiment."""


@cache
def read(name: str) -> dict[str, Any]:
    """A YAML file of this folder."""
    return yaml.safe_load((resources.files(__package__) / name).read_text(encoding="utf-8"))


CATALOG = read("catalog.yaml")


def titles(experiment: str, choice: str) -> dict[Any, str]:
    """The names among which an experiment may choose, with their titles; names without one are their own."""
    found = CATALOG[experiment]["choices"][choice]
    if isinstance(found, list):
        return {name: str(name) for name in found}
    return {name: one["title"] if isinstance(one, dict) else one for name, one in found.items()}


def places(options: Mapping[str, Any] | None, *each: str) -> dict[tuple[str, ...], Any]:
    """Options written `part.name` by their places in a `RunSpec`; `*` is replaced by each of the names."""
    found: dict[tuple[str, ...], Any] = {}
    for text, value in (options or {}).items():
        for name in each if "*" in text else [""]:
            found[tuple(text.replace("*", name).split("."))] = value
    return found


@dataclass(frozen=True)
class Setup:
    """An experiment, how much it spends, where it reads and writes, and how many cells it measures at a time.

    Results are in `folder`, trained models, which experiments share, in `runs`; `data_dir` is where to look first for
    data files. `chosen` has names by choice, all there are where none are given; `options` what else it takes.
    """

    experiment: str
    preset: str = "cpu"
    folder: Path = Path("paper/results")
    runs: Path = Path("runs/reproduce")
    data_dir: str | None = None
    jobs: int | None = None
    resume: bool = False
    chosen: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def entry(self) -> dict[str, Any]:
        """What the catalog says of the experiment."""
        return CATALOG[self.experiment]

    @property
    def module(self) -> ModuleType:
        """The experiment's file. `measure(cell, setup, report)` gives the record of a cell. It may have `cells`,
        `settings`, `check`, `name` and `finish` too.
        """
        return import_module(f"paper.{self.entry.get('module', self.experiment)}")

    @property
    def spent(self) -> dict[str, Any]:
        """What the preset says."""
        return self.entry["presets"][self.preset] if "presets" in self.entry else self.entry["settings"]

    @property
    def name(self) -> str:
        """Of the results and their page."""
        return getattr(self.module, "name", lambda _: self.experiment)(self)

    @property
    def path(self) -> Path:
        """The JSON file of the results."""
        return self.folder / (f"{self.name}/{self.preset}.json" if "presets" in self.entry else f"{self.name}.json")

    def among(self, choice: str) -> list[Any]:
        """The names that are chosen."""
        return list(self.chosen.get(choice) or titles(self.experiment, choice))

    @property
    def cells(self) -> list[Any]:
        """All cells, some in a list to be measured together: those of the module, else all combinations of choices."""
        choices = list(self.entry.get("choices", {}))
        combined = [dict(zip(choices, names, strict=True)) for names in product(*map(self.among, choices))]
        return getattr(self.module, "cells", lambda _: combined)(self)

    def label(self, cell: Cell | list[Cell]) -> str:
        """What a cell, or several that are measured together, is called."""
        cells = cell if isinstance(cell, list) else [cell]
        return render(self.entry["cell"], {**cells[0], "count": len(cells), "entry": self.entry})


def run(setup: Setup) -> Iterator[str]:
    """Measure what is not measured yet, keep each cell when it is done; a line for each.

    Raises:
        RunError: if the file of the results is there and not to be resumed, or was made with other settings.
        ValueError: if there is nothing to do, or data are missing.
        RuntimeError: after the last cell, if some failed.
    """
    module = setup.module
    settings = {"preset": setup.preset, **setup.spent} if "presets" in setup.entry else setup.spent
    settings = json.loads(json.dumps(settings | getattr(module, "settings", lambda _: {})(setup)))
    results = Results(setup.path, settings, setup.resume)
    if not setup.cells:
        chosen = "; ".join(f"{choice} {', '.join(map(str, names))}" for choice, names in setup.chosen.items())
        raise ValueError(f"nothing to do: there is no cell of {chosen}")
    cells = [left for cell in setup.cells if (left := _missing(cell, results))]
    getattr(module, "check", _check)(setup, cells)
    last = [cell for cell in cells if "last" in setup.entry and setup.entry["last"] in cell.values()]
    for part in ([cell for cell in cells if cell not in last], last):
        for cell, records in _measured(setup, part):
            for record in records:
                results.add(record)
            said = records[0] | {"records": records, "module": module}
            yield f"{setup.label(cell)}: {render(setup.entry['line'], said)}"
    yield from getattr(module, "finish", lambda *_: ())(results, setup)


def page(experiment: str, content: Mapping[str, Any]) -> str:
    """The docs page of an experiment's results, in Markdown: its template, filled by the `view` of its file."""
    return fill(experiment, content, Setup(experiment).module.view(experiment, content))


def _missing(cell: Any, results: Results) -> Any:
    """A cell that is not finished, or those of several that are not."""
    if isinstance(cell, list):
        return [one for one in cell if not results.has(**one)]
    return None if results.has(**cell) else cell


def _check(setup: Setup, _: Sequence[Any]) -> None:
    """Say what is missing of the data before anything starts."""
    chosen = setup.among("dataset") if "dataset" in setup.entry.get("choices", {}) else ()
    for dataset in setup.entry.get("sources", chosen):
        load_dataset(dataset, data_dir=setup.data_dir)


def _measured(setup: Setup, cells: Sequence[Any]) -> Iterator[tuple[Any, Any]]:
    tasks = {setup.label(cell): cell for cell in cells}
    work = partial(_measure, setup, tasks)
    if setup.entry.get("in_turn"):
        return ((cell, work(label, lambda *_: None)) for label, cell in tasks.items())
    found = run_side_by_side(work, list(tasks), setup.jobs or default_jobs())
    return ((tasks[label], records) for label, records in found)


def _measure(setup: Setup, tasks: Mapping[str, Any], label: str, report: Any) -> list[dict[str, Any]]:
    """The records of a cell or of several, each with what made it and its part of the seconds."""
    started = time.perf_counter()
    found = setup.module.measure(tasks[label], setup, report)
    records = found if isinstance(found, list) else [found]
    made = {"seconds": (time.perf_counter() - started) / len(records), "made": provenance()}
    return [made | record for record in records]
