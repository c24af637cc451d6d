"""Models that are trained once: each run is kept in a folder, from where experiments and commands after it take it."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from mvae.config.folder import CONFIG, WEIGHTS, load, read_spec
from mvae.config.recipes import resolve
from mvae.config.specs import DataSpec, RunSpec
from mvae.data.dataset import Dataset
from mvae.files import RunError, read_json, write_json
from mvae.models import MultimodalVAE
from mvae.training.prepare import prepare
from mvae.training.run import Run
from paper.results import provenance
from paper.runner import Report

TRAINED = "trained.json"


def by_recipe(name: str, dataset: Dataset, options: Mapping[tuple[str, ...], Any]) -> Run:
    """A training by the recipe of a data set on rows of it, ready to begin."""
    spec = resolve(name, None, options)
    return prepare(dataset, config=spec.model_dump(mode="json") | {"data": {}}, options={})


def placed(model: MultimodalVAE) -> MultimodalVAE:
    """The model on the GPU, if there is one."""
    return model.to("cuda" if torch.cuda.is_available() else "cpu")


def train_on_rows(
    folder: Path, spec: RunSpec, dataset: Dataset, report: Report
) -> tuple[MultimodalVAE, dict[str, Any]]:
    """A model trained on rows that are given, into a folder unless it is there, and what made it."""
    spec = spec.model_copy(update={"data": DataSpec()})

    def begin(resume: bool) -> Run:
        config = None if resume else spec.model_dump(mode="json")
        return prepare(dataset, config=config, options={}, out=folder, resume=resume)

    trained = train_once(folder, spec, begin, report)
    there, given = (trained["data"], trained["train_rows"]), (dataset.description, len(dataset.train))
    if there != given:
        raise RunError(
            f"{folder} holds a model of {there[1]:,} rows ({there[0]}), not of the {given[1]:,} ({given[0]}); move it"
            " away, or choose another folder with --runs"
        )
    return placed(load(folder)).eval(), trained


def train_once(folder: Path, spec: RunSpec, begin: Callable[[bool], Run], report: Report) -> dict[str, Any]:
    """Train a model into a folder, from its last whole epoch if it was begun, unless it is trained already.

    `begin` gives the run, from whether the folder holds what can be resumed. Returns what made it, on which rows, in
    which precision, the seconds it took (of its last part if it was resumed) and the epoch kept.
    """
    refuse_other(folder, spec)
    if not ((folder / TRAINED).exists() and (folder / WEIGHTS).exists()):
        resume = (folder / CONFIG).exists()
        run, started, worked = begin(resume), time.perf_counter(), time.process_time()
        outcome = run.train_to_the_end(lambda done, total: report("training", done, total))
        made = provenance() | {"seconds": time.perf_counter() - started, "resumed": resume}
        made |= {"processor_seconds": time.process_time() - worked}
        made |= {"epoch": outcome.kept["epoch"], "precision": run.spec.training.precision_here}
        made |= {"data": run.dataset.description, "train_rows": len(run.dataset.train)}
        write_json(folder / TRAINED, made)
    return read_json(folder / TRAINED)


def refuse_other(folder: Path, spec: RunSpec) -> None:
    """Refuse a folder that holds a run with other settings."""
    if (folder / CONFIG).exists() and read_spec(folder) != spec:
        raise RunError(f"{folder} holds a run with other settings; move it away, or choose another folder with --runs")
