"""The models that the paper compares: those of Tables 2 and 3, Figure 2 and the attributes, which share trainings.

A cell is one model on one data set from one seed.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mvae.config.folder import load, read_spec
from mvae.config.recipes import resolve
from mvae.config.specs import RunSpec
from mvae.data.dataset import Dataset
from mvae.data.sources import load_dataset
from mvae.models import MultimodalVAE
from mvae.training.prepare import prepare
from mvae.training.run import Run
from paper.runner import CATALOG, Cell, Report, Setup, places, titles
from paper.trained import refuse_other, train_once

COMPARED = CATALOG["table2"]["choices"]["model"]
DATASETS, MODELS = titles("table2", "dataset"), titles("table2", "model")


def cells_of(datasets: Sequence[str], models: Iterable[str], num_seeds: int) -> list[Cell]:
    """All cells that there are, data set by data set, seed by seed."""
    return [
        {"dataset": dataset, "model": model, "seed": seed}
        for dataset in datasets
        for seed in range(num_seeds)
        for model in models
        if dataset in COMPARED[model].get("only", DATASETS)
    ]


def folder_of(cell: Cell, setup: Setup) -> Path:
    """Where the run of a cell is kept."""
    return setup.runs / setup.preset / cell["dataset"] / cell["model"] / f"seed-{cell['seed']}"


def source_of(cell: Cell) -> str:
    """The source that a cell is trained on, which has the recipe's name too."""
    return COMPARED[cell["model"]].get("source", cell["dataset"])


def spec_of(cell: Cell, setup: Setup) -> RunSpec:
    """The recipe of the source with what a cell and the preset change of it."""
    return resolve(source_of(cell), None, _options(cell, setup))


def _options(cell: Cell, setup: Setup) -> dict[tuple[str, ...], Any]:
    spent, dataset = setup.spent, cell["dataset"]
    options = {"training.seed": cell["seed"], "training.precision": spent["precision_of"].get(dataset)}
    options |= {} if spent["epochs"] is None else {"training.epochs": spent["epochs"][dataset]}
    return places(COMPARED[cell["model"]]["options"] | options)


def check(setup: Setup, cells: Sequence[Cell]) -> None:
    """Say what would go wrong before anything starts: data that are missing, runs with other settings."""
    for cell in cells:
        refuse_other(folder_of(cell, setup), spec_of(cell, setup))
    for source in {source_of(cell) for cell in cells}:
        load_dataset(source, data_dir=setup.data_dir)


def train_model(cell: Cell, setup: Setup, report: Report) -> dict[str, Any]:
    """Train the model of a cell unless it is trained already; what made it."""
    folder, rows = folder_of(cell, setup), setup.spent["train_rows"]

    def begin(resume: bool) -> Run:
        options = _options(cell, setup)
        run = prepare(source_of(cell), options=options, out=folder, data_dir=setup.data_dir, resume=resume)
        return run if rows is None else replace(run, dataset=replace(run.dataset, train=run.dataset.train[:rows]))

    return train_once(folder, spec_of(cell, setup), begin, report)


def trained_model(cell: Cell, setup: Setup) -> tuple[MultimodalVAE, Dataset]:
    """The trained model of a cell, and its data set, with the test rows that it can be scored on."""
    folder = folder_of(cell, setup)
    spec, model = read_spec(folder), load(folder)
    dataset = load_dataset(**spec.data.named, data_dir=setup.data_dir, seed=spec.training.seed)
    return model, replace(dataset, test=dataset.test.only(model.names))
