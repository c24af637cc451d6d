"""The models that the paper compares, trained and scored: the cells of Tables 2 and 3, and the models of Figure 2.

A cell is one model on one data set from one seed. Its run is kept in a folder, its scores beside it, so that the tables
share trainings, and an interruption costs no more than the epoch, or the scoring, in work.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch.distributions import Normal

from mvae.batch import Batch
from mvae.config.folder import CONFIG, WEIGHTS, load, read_spec
from mvae.config.recipes import resolve
from mvae.config.specs import DataSpec, RunSpec
from mvae.data.dataset import Dataset
from mvae.data.sources import load_dataset
from mvae.evaluation.likelihood import (
    LogLikelihood,
    LogMoments,
    conditional,
    importance_draws,
    marginal_likelihoods,
)
from mvae.files import RunError, read_json, write_json
from mvae.models import MultimodalVAE
from mvae.training.prepare import prepare
from mvae.training.run import Run
from paper.results import provenance
from paper.setup import Setup
from paper.side_by_side import Report

__all__ = [
    "DATASETS",
    "MODELS",
    "PRESETS",
    "Cell",
    "Preset",
    "cells_of",
    "check",
    "method",
    "placed",
    "scores",
    "train_and_score",
    "train_model",
    "train_on_rows",
    "train_once",
    "trained_model",
]

DATASETS = {
    "binary-mnist": "BinaryMNIST",
    "mnist": "MNIST",
    "fashion-mnist": "FashionMNIST",
    "multimnist": "MultiMNIST",
    "celeba": "CelebA",
}
TRAINED, SCORES = "trained.json", "scores.json"
IMAGE = ("image",)


@dataclass(frozen=True)
class Compared:
    """A row of the tables."""

    title: str
    options: Mapping[tuple[str, ...], Any]
    sources: Mapping[str, str] = field(default_factory=lambda: dict(zip(DATASETS, DATASETS, strict=True)))
    """The data sets that it is trained on, each with the source, and recipe, of that name."""


def method(name: str, **options: Any) -> dict[tuple[str, ...], Any]:
    """A method and its own options, by their places in a `RunSpec`."""
    return {("model", key): value for key, value in {"method": name, **options}.items()}


MODELS = {
    "vae": Compared("VAE", method("vae")),
    "cvae": Compared("CVAE", method("cvae"), {name: name for name in DATASETS if name != "multimnist"}),
    "bivcca": Compared("BiVCCA", method("bivcca")),
    "jmvae": Compared("JMVAE", method("jmvae")),
    "mvae-q": Compared("MVAE-Q", method("mvae-q", reconstruct="given")),
    "mvae": Compared("MVAE", method("mvae", reconstruct="given")),
    "mvae-label": Compared("MVAE, label in every term", method("mvae")),
    "mvae19": Compared("MVAE19", method("mvae", reconstruct="given"), {"celeba": "celeba19"}),
}
"""The paper's models as it writes them, and the MVAE as our recipes have it. The label stands for what an image comes
with: of MultiMNIST the text, of CelebA the attributes, all in one or, for MVAE19, each a modality."""


@dataclass(frozen=True)
class Preset:
    """How much is spent on a cell: the same for all models."""

    epochs: Mapping[str, int] | None
    """By data set; the recipe's, which are the paper's, where None."""
    rows: Mapping[str, int] | None
    """How many of the test rows are scored, from the first; all where None."""
    samples: int
    """Importance samples a row."""
    prior_samples: int
    """Draws from the prior for the paper's second term of the conditional."""
    samples_of: Mapping[str, int]
    """Importance samples where a data set has another number."""
    prior_samples_of: Mapping[str, int]
    """Draws from the prior where a data set has another number."""
    train_rows: int | None = None
    """How many of the training rows are used; all where None."""
    precision_of: Mapping[str, str] = field(default_factory=dict)
    """The precision of training where that is not the recipe's."""


PRESETS = {
    "smoke": Preset(dict.fromkeys(DATASETS, 1), dict.fromkeys(DATASETS, 20), 20, 50, {}, {}, train_rows=500),
    "cpu": Preset(
        {"binary-mnist": 15, "mnist": 15, "fashion-mnist": 4, "multimnist": 4, "celeba": 20},
        {"binary-mnist": 400, "mnist": 400, "fashion-mnist": 100, "multimnist": 100, "celeba": 100},
        1000,
        5000,
        {"celeba": 100},
        {"celeba": 1000},
        precision_of={"multimnist": "auto", "celeba": "auto"},
    ),
    "paper": Preset(None, None, 1000, 5000, {"celeba": 100}, {"celeba": 1000}),
}


@dataclass(frozen=True)
class Cell:
    """One model on one data set from one seed."""

    dataset: str
    model: str
    seed: int

    def __str__(self) -> str:
        return f"{self.dataset}, {self.model}, seed {self.seed}"

    @property
    def source(self) -> str:
        """What it is trained on."""
        return MODELS[self.model].sources[self.dataset]

    def folder(self, runs: Path, preset: str) -> Path:
        """Where its run is kept."""
        return runs / preset / self.dataset / self.model / f"seed-{self.seed}"

    def options(self, preset: Preset) -> dict[tuple[str, ...], Any]:
        """What differs from the recipe of the source."""
        options: dict[tuple[str, ...], Any] = {**MODELS[self.model].options, ("training", "seed"): self.seed}
        options["training", "precision"] = preset.precision_of.get(self.dataset)
        return options | ({} if preset.epochs is None else {("training", "epochs"): preset.epochs[self.dataset]})


def cells_of(datasets: Sequence[str], models: Sequence[str], num_seeds: int) -> list[Cell]:
    """All cells that there are, data set by data set, seed by seed."""
    seeds = range(num_seeds)
    return [Cell(d, m, seed) for d in datasets for seed in seeds for m in models if d in MODELS[m].sources]


def check(cells: Sequence[Cell], setup: Setup) -> None:
    """Say what would go wrong before anything starts: data that are missing, runs with other settings.

    Raises:
        ValueError: naming the file or the folder.
    """
    for cell in cells:
        refuse_other(cell.folder(setup.runs, setup.preset), _expected(cell, setup.preset))
    for source in {cell.source for cell in cells}:
        load_dataset(source, data_dir=setup.data_dir)


def train_and_score(cell: Cell, setup: Setup, report: Report) -> dict[str, Any]:
    """One cell: train its model or take the one that is there, score it or take the scores that are there.

    Returns:
        The record that its `scores.json` holds.
    """
    trained = train_model(cell, setup, report)
    folder, settings = cell.folder(setup.runs, setup.preset), PRESETS[setup.preset]
    if (folder / SCORES).exists():
        return read_json(folder / SCORES)
    report("scoring", 0, 1)
    model, dataset = trained_model(cell, setup)
    rows = dataset.test if settings.rows is None else dataset.test[: settings.rows[cell.dataset]]
    started = time.perf_counter()
    samples = settings.samples_of.get(cell.dataset, settings.samples)
    estimates = scores(
        placed(model), rows, samples, settings.prior_samples_of.get(cell.dataset, settings.prior_samples)
    )
    record = {
        **asdict(cell),
        "epochs": read_spec(folder).training.epochs,
        "precision": trained.get("precision", read_spec(folder).training.precision_here),
        "rows": len(rows),
        "data": dataset.description,
        "trained": trained,
        "scored": provenance() | {"seconds": time.perf_counter() - started},
        "estimates": estimates,
    }
    write_json(folder / SCORES, record)
    return record


def train_model(cell: Cell, setup: Setup, report: Report) -> dict[str, Any]:
    """Train the model of a cell, from its last whole epoch if it was begun, unless it is trained already.

    Returns:
        What made it, the seconds it took and the epoch kept.
    """
    folder, settings = cell.folder(setup.runs, setup.preset), PRESETS[setup.preset]

    def begin(resume: bool) -> Run:
        run = prepare(cell.source, options=cell.options(settings), out=folder, data_dir=setup.data_dir, resume=resume)
        if settings.train_rows is None:
            return run
        return replace(run, dataset=replace(run.dataset, train=run.dataset.train[: settings.train_rows]))

    return train_once(folder, _expected(cell, setup.preset), begin, report)


def train_on_rows(
    folder: Path, spec: RunSpec, dataset: Dataset, report: Report
) -> tuple[MultimodalVAE, dict[str, Any]]:
    """A model trained on rows that are given, into a folder unless it is there, and what made it.

    Args:
        folder: of the run.
        spec: of the model and its training.
        dataset: the rows.
        report: of the task.

    Raises:
        RunError: if the folder holds a run with other settings, or on other rows.
    """
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

    Args:
        folder: of the run.
        spec: what its config holds.
        begin: from whether the folder holds what can be resumed to the run.
        report: of the task.

    Returns:
        What made it, on which rows, in which precision, the seconds it took (of its last part if it was resumed) and
        the epoch kept.

    Raises:
        RunError: if the folder holds a run with other settings.
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


def trained_model(cell: Cell, setup: Setup) -> tuple[MultimodalVAE, Dataset]:
    """The trained model of a cell, and its data set, with the test rows that it can be scored on."""
    folder = cell.folder(setup.runs, setup.preset)
    spec, model = read_spec(folder), load(folder)
    dataset = load_dataset(**spec.data.named, data_dir=setup.data_dir, seed=spec.training.seed)
    return model, replace(dataset, test=dataset.test.only(model.names))


def placed(model: MultimodalVAE) -> MultimodalVAE:
    """The model on the GPU, if there is one."""
    return model.to("cuda" if torch.cuda.is_available() else "cpu")


def _expected(cell: Cell, preset: str) -> RunSpec:
    return resolve(cell.source, None, cell.options(PRESETS[preset]))


def refuse_other(folder: Path, spec: RunSpec) -> None:
    """Refuse a folder that holds a run with other settings.

    Raises:
        RunError: naming it.
    """
    if (folder / CONFIG).exists() and read_spec(folder) != spec:
        raise RunError(f"{folder} holds a run with other settings; move it away, or choose another folder with --runs")


@torch.inference_mode()
def scores(model: MultimodalVAE, rows: Batch, count: int, prior_count: int) -> list[dict[str, Any]]:
    """All that Tables 2 and 3 ask of a model, from so many samples a row."""
    if model.conditions:
        (own,) = marginal_likelihoods(model, rows, [IMAGE], model.names, count)
        return [_entry("conditional", own)]
    label = tuple(name for name in model.names if name not in IMAGE)
    if not label:
        (own,) = marginal_likelihoods(model, rows, [IMAGE], IMAGE, count)
        return [_entry("marginal", own)]
    entries, joints = [], []
    for proposal in (IMAGE, IMAGE + label, label):
        image, joint, variance = _under(model, rows, label, proposal, count)
        entries += [] if proposal == label else [_entry("marginal", image), _entry("joint", joint)]
        entries += [_entry("conditional", variance, second="q(z | label)")] if proposal == IMAGE else []
        joints.append(joint)
    (from_prior,) = marginal_likelihoods(model, rows, [label], (), prior_count, seed=1)
    (from_label,) = marginal_likelihoods(model, rows, [label], label, count, seed=1)
    for joint in joints:
        entries.append(_entry("conditional", conditional(joint, from_prior), second="prior"))
        entries.append(_entry("conditional", conditional(joint, from_label), second="importance"))
    return entries


def _under(
    model: MultimodalVAE, rows: Batch, label: tuple[str, ...], proposal: tuple[str, ...], count: int
) -> tuple[LogLikelihood, LogLikelihood, LogLikelihood]:
    """log p(image), log p(image, label), and the weights p(image | z) q(z | label) / q(z | proposal), by one proposal.

    The last is a reading of Table 3's conditional weight p(x1, z | x2) / q(z | x1) in which the model's own q(z | x2)
    stands for p(z | x2). With the true p(z | x2) that weight is the joint's over the constant p(x2).
    """
    moments = [LogMoments(len(rows)) for _ in range(3)]
    checked = model.checked(rows)
    for draws in importance_draws(model, rows, IMAGE + label, proposal, count):
        posterior = model.posterior(checked[draws.rows], label)
        prior = Normal(torch.zeros_like(posterior.mean), torch.ones_like(posterior.mean))
        towards_label = (posterior.log_prob(draws.z) - prior.log_prob(draws.z)).double().sum(-1)
        alone = draws.log_weights(IMAGE)
        weights = alone, draws.log_weights(IMAGE + label), alone + towards_label
        for moment, weight in zip(moments, weights, strict=True):
            moment.add(draws.rows, weight)
    absent = torch.zeros(len(rows), dtype=torch.bool)
    image, joint, reading = (moment.estimate(proposal, count, absent) for moment in moments)
    return image, joint, reading


def _entry(quantity: str, estimate: LogLikelihood, second: str | None = None) -> dict[str, Any]:
    """An estimate as a JSON-ready record; `second` is how log p(label) of the conditional was found.

    The proposal is told by image and label, whatever the label is made of.
    """

    def error(values: torch.Tensor) -> float:
        return (values.std() / math.sqrt(len(values))).item()

    return {
        "quantity": quantity,
        "proposal": list(dict.fromkeys("image" if name in IMAGE else "label" for name in estimate.proposal)),
        "second": second,
        "samples": estimate.num_samples,
        "nats": estimate.mean(),
        "error": error(estimate.value),
        "monte_carlo_error": estimate.standard_error.square().sum().sqrt().item() / len(estimate.value),
        "variance": estimate.log_weight_variance.mean().item(),
        "variance_error": error(estimate.log_weight_variance),
        "effective_sample_size": estimate.effective_sample_size.mean().item(),
        "values": [round(value, 3) for value in estimate.value.tolist()],
    }
