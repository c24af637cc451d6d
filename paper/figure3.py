"""`mvae reproduce figure3`: label or text predicted from an image, by how many pairs were seen (paper, section 5.1)."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import torch

from mvae.batch import Batch
from mvae.config.recipes import resolve
from mvae.data.dataset import Dataset, pairing_order, unpair
from mvae.data.loading import COMPLETE
from mvae.data.multimnist import FILL
from mvae.data.sources import load_dataset
from mvae.evaluation.classification import alike, guess
from mvae.evaluation.translation import posterior_means
from mvae.models import MultimodalVAE
from mvae.strings import ended
from mvae.training.epochs import ACCURACY
from mvae.training.prepare import prepare
from mvae.training.run import Run
from paper.baselines.latents import BoltzmannLatents, NetworkLatents
from paper.baselines.logistic import PairedLogisticRegression, pixels
from paper.baselines.networks import Deterministic
from paper.comparison import method, placed
from paper.results import Results, provenance
from paper.setup import Setup
from paper.side_by_side import Report

__all__ = [
    "DATASETS",
    "MODELS",
    "PRESETS",
    "Choice",
    "Task",
    "by_recipe",
    "chosen_pairs",
    "reproduce",
    "work",
]

DATASETS = {"binary-mnist": "BinaryMNIST", "fashion-mnist": "FashionMNIST", "multimnist": "MultiMNIST"}
IMAGE, LABEL = "image", "label"
TARGETS = {"multimnist": "text"}
"""What is predicted from the image where it is no label; a text is right if all of it is."""
ALL = 0
"""Stands for all pairs, in presets and results."""
PAIRED_SHARE = 0.1
"""Of each batch that has unpaired rows too; on validation rows 0.3 and 0.6 were no better."""
HELD, MOST_HELD = 5, 5000
"""Of n pairs, n / 5 are set aside to choose the epoch by, but no more than 5,000."""


@dataclass(frozen=True)
class Compared:
    """A curve of the figure."""

    title: str
    kind: str
    """What it learns from and how: "joint", "pairs" or "supervised" networks, "logistic" regression on pixels, or the
    "latents" of something that saw all images."""
    options: Mapping[tuple[str, ...], Any]
    longer: int = 1
    """How many times the epochs of the others."""
    aside: bool = False
    """Whether it is no curve, but only looked at where `ASIDE` says."""


def _weighted(weight: float) -> dict[tuple[str, ...], Any]:
    return {**method("mvae", reconstruct="given"), ("model", "modalities", LABEL, "weight"): weight}


MODELS = {
    "mvae": Compared("MVAE, Eq. 2 as written", "joint", method("mvae", reconstruct="given")),
    "mvae-weight-1": Compared("MVAE, Eq. 2, weight of the label 1", "joint", _weighted(1.0)),
    "mvae-label": Compared("MVAE, label in every term", "joint", method("mvae", reconstruct=[LABEL])),
    "mvae-q": Compared("MVAE-Q, Eq. 2 as written", "joint", method("mvae-q", reconstruct="given")),
    "mvae-q-label": Compared("MVAE-Q, label in every term", "joint", method("mvae-q", reconstruct=[LABEL])),
    "jmvae": Compared("JMVAE on pairs", "pairs", method("jmvae", alpha=0.01)),
    "supervised": Compared("supervised network", "supervised", {}),
    "logistic": Compared("logistic regression on pixels", "logistic", {}),
    "autoencoder": Compared("autoencoder + logistic regression", "latents", {}),
    "vae": Compared("VAE + logistic regression", "latents", method("vae", target=IMAGE)),
    "rbm": Compared("RBM + logistic regression", "latents", {}),
    "mvae-weight-10": Compared("MVAE, Eq. 2, weight of the label 10", "joint", _weighted(10.0), aside=True),
    "mvae-longer": Compared(
        "MVAE, Eq. 2, five times the epochs", "joint", method("mvae", reconstruct="given"), longer=5, aside=True
    ),
}
"""The paper's models; the MVAEs as it writes them and with the label reconstructed by every term. The last two ask
what the paper's curve can come from."""
ASIDE = {"binary-mnist": (1000, ALL)}


@dataclass(frozen=True)
class Preset:
    """How much is spent: on every network the same."""

    epochs: Mapping[str, int] | None
    """Passes over the rows by data set; the recipe's, which are the paper's, where None."""
    seeds: Mapping[int, int]
    """Numbers of pairs to how many choices of them."""
    samples: int
    """Posterior draws a prediction."""
    boltzmann_epochs: int
    train_rows: int | None = None
    """How many of the training rows are used; all where None."""
    once: tuple[str, ...] = ()
    """Models that get the first choice of each number of pairs only."""
    seeds_of: Mapping[str, Mapping[int, int]] = field(default_factory=dict)
    """The same as `seeds` where a data set has others."""
    train_rows_of: Mapping[str, int] = field(default_factory=dict)
    """How many of the training rows are used where that is not as said above."""
    precision_of: Mapping[str, str] = field(default_factory=dict)
    """The precision of training where that is not the recipe's."""


PRESETS = {
    "smoke": Preset(dict.fromkeys(DATASETS, 1), {20: 2, ALL: 1}, 5, 1, train_rows=500),
    "cpu": Preset(
        {"binary-mnist": 6, "fashion-mnist": 2, "multimnist": 3},
        {10: 3, 30: 3, 100: 3, 300: 1, 1000: 1, 3000: 1, 10000: 1, ALL: 1},
        20,
        5,
        once=("mvae-q", "mvae-q-label"),
        seeds_of={"multimnist": {100: 1, 1000: 1, 5000: 1, ALL: 1}},
        train_rows_of={"multimnist": 20_000},
        precision_of={"fashion-mnist": "auto", "multimnist": "auto"},
    ),
    "paper": Preset(None, {10: 5, 30: 5, 100: 5, 300: 5, 1000: 3, 3000: 3, 10000: 3, ALL: 3}, 100, 50),
}


@dataclass(frozen=True)
class Choice:
    """Which pairs there are: how many, and which choice of so many."""

    pairs: int
    seed: int


@dataclass(frozen=True)
class Task:
    """One model on one data set, for one choice of pairs, or for several that share what it learned from images."""

    dataset: str
    model: str
    choices: tuple[Choice, ...]

    def __str__(self) -> str:
        first = self.choices[0]
        pairs = f"{first.pairs or 'all'} pairs, seed {first.seed}" if len(self.choices) == 1 else "all levels"
        return f"{self.dataset}, {self.model}, {pairs}"


def reproduce(setup: Setup, datasets: Sequence[str], models: Sequence[str]) -> Iterator[str]:
    """Train each model on each choice of pairs, score it on the whole test set, keep each cell when it is done.

    Args:
        setup: its preset is a name in `PRESETS`; a picture a data set is written beside the JSON.
        datasets: names in `DATASETS`.
        models: names in `MODELS`.

    Yields:
        A line for each finished cell, and for each picture.
    """
    from paper.figure3_page import draw

    preset = PRESETS[setup.preset]
    results = setup.results("figure3", {**_plain(preset), "paired_share": PAIRED_SHARE})
    if not tasks_of(datasets, models, preset):
        raise ValueError(f"nothing to do: {', '.join(models)} are looked at on {', '.join(ASIDE)} only")
    tasks = [_open(task, results) for task in tasks_of(datasets, models, preset)]
    tasks = [task for task in tasks if task.choices]
    for dataset in datasets:
        load_dataset(dataset, data_dir=setup.data_dir)  # says what is missing before anything starts
    for task, records in setup.side_by_side(work, tasks):
        for record in records:
            results.add(record)
        yield f"{task}: " + ", ".join(f"{100 * record['accuracy']:.1f} %" for record in records)
    for dataset in datasets:
        yield f"{dataset}: {draw(results.content, dataset, results.path.parent)}"


def tasks_of(datasets: Sequence[str], models: Sequence[str], preset: Preset) -> list[Task]:
    """All there is to do: data set by data set, the first choice of all pairs first."""
    shared = [name for name in models if MODELS[name].kind in ("latents", "logistic")]
    tasks = []
    for dataset in datasets:
        seeds = preset.seeds_of.get(dataset, preset.seeds)
        choices = [Choice(pairs, seed) for pairs, count in seeds.items() for seed in range(count)]
        choices.sort(key=lambda choice: choice.seed)
        tasks += [Task(dataset, name, tuple(choices)) for name in shared]
        tasks += [
            Task(dataset, name, (choice,))
            for choice in choices
            for name in models
            if name not in shared and not (choice.seed and (name in preset.once or MODELS[name].aside))
            if not MODELS[name].aside or choice.pairs in ASIDE.get(dataset, ())
        ]
    return tasks


def _open(task: Task, results: Results) -> Task:
    """What of a task is not done yet."""
    key = {"dataset": task.dataset, "model": task.model}
    return replace(task, choices=tuple(choice for choice in task.choices if not results.has(**key, **asdict(choice))))


def _plain(preset: Preset) -> dict[str, Any]:
    """A preset as JSON gives it back."""
    return json.loads(json.dumps(asdict(preset)))


def work(task: Task, setup: Setup, report: Report) -> list[dict[str, Any]]:
    """One task: a record for each of its choices."""
    settings, compared = PRESETS[setup.preset], MODELS[task.model]
    whole = load_dataset(task.dataset, data_dir=setup.data_dir)
    whole = replace(whole, train=whole.train[: settings.train_rows_of.get(task.dataset, settings.train_rows)])
    target = TARGETS.get(task.dataset, LABEL)
    truth, records = whole.test.values[target], []
    started = time.perf_counter()
    # Pixels and the RBM are read grey, the mean of what the networks see: measured the better of the two.
    numbers: Callable[[Batch], np.ndarray] = pixels
    seen = whole.train
    if task.model == "rbm":
        report("training", 0, 1)
        numbers = BoltzmannLatents(epochs=settings.boltzmann_epochs).fit(seen)
    elif compared.kind == "latents":
        seen = _as_seen(whole, whole.train)
        numbers = _latents(task, settings, whole, seen, report)
    for number, choice in enumerate(task.choices):
        report("training", number, len(task.choices))
        pairs = chosen_pairs(whole.train, choice)
        if compared.kind in ("logistic", "latents"):
            fitted = PairedLogisticRegression(numbers, target=target).fit(seen[pairs])
            guesses = torch.from_numpy(fitted.predict(whole.test))
            guesses = ended(guesses, FILL) if target == "text" else guesses  # read up to the first fill, as all texts
            found: dict[str, Any] = {"predictions": {"logistic": guesses}}
        else:
            found = _networks(task, choice, settings, whole, pairs, report)
        right = {name: int(alike(guesses, truth).sum()) for name, guesses in found.pop("predictions").items()}
        records.append(
            {"dataset": task.dataset, "model": task.model, **asdict(choice), **found, "rows": len(truth)}
            | {"total": len(whole.train)}
            | {"right": right, "accuracy": next(iter(right.values())) / len(truth), "made": provenance()}
            | {"seconds": time.perf_counter() - started}
        )
        started = time.perf_counter()
    return records


def chosen_pairs(rows: Batch, choice: Choice) -> torch.Tensor:
    """The row numbers of a choice of pairs; those of a smaller choice of the same seed are the first of them."""
    order = pairing_order(rows, choice.seed)
    return order[: choice.pairs] if choice.pairs != ALL else order


def _networks(
    task: Task, choice: Choice, settings: Preset, whole: Dataset, pairs: torch.Tensor, report: Report
) -> dict[str, Any]:
    """Train on the pairs, and on the other rows where the model can, and predict the test rows."""
    compared, target = MODELS[task.model], TARGETS.get(task.dataset, LABEL)
    held = pairs[: min(len(pairs) // HELD, MOST_HELD)]
    if compared.kind == "joint":
        kept = torch.ones(len(whole.train), dtype=torch.bool)
        kept[held] = False
        train = unpair(whole.train, len(pairs) / len(whole.train), choice.seed)[kept.nonzero().flatten()]
    else:
        learned = pairs[len(held) :]
        train = whole.train[learned.repeat(round((len(whole.train) - len(held)) / len(learned)))]  # as many steps
    dataset = replace(whole, train=train, validation=_as_seen(whole, whole.train[held]))
    share = max(PAIRED_SHARE, len(pairs) / len(whole.train))
    options = {
        **_of_target(compared.options, target),
        ("training", "epochs"): settings.epochs and settings.epochs[task.dataset] * compared.longer,
        ("training", "precision"): settings.precision_of.get(task.dataset),
        ("training", "best_by"): target,
        ("training", "seed"): choice.seed,
        ("training", "shares"): {COMPLETE: share} if compared.kind == "joint" and share < 1 else None,
    }
    run = by_recipe(task.dataset, dataset, options)
    if compared.kind == "supervised":
        run = replace(run, model=_deterministic(run, target))
    outcome = run.train_to_the_end(lambda done, total: report("training", done, total))
    report("predicting", 0, 1)
    return {
        "held": len(held),
        "epoch": outcome.kept["epoch"],
        "epochs": len(outcome.history),
        "precision": run.spec.training.precision_here,
        "validation_accuracy": outcome.kept[ACCURACY],
        "predictions": _predictions(placed(run.model), whole.test, target, compared.kind, settings.samples),
    }


def _of_target(options: Mapping[tuple[str, ...], Any], target: str) -> dict[tuple[str, ...], Any]:
    """Options that speak of the label, speaking of what is predicted."""
    return {
        tuple(target if part == LABEL else part for part in place): [target] if value == [LABEL] else value
        for place, value in options.items()
    }


def _as_seen(whole: Dataset, rows: Batch) -> Batch:
    """Training rows as a model sees them, e.g. binarised; drawn once."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return rows if whole.transform is None else whole.transform(rows)


def _latents(task: Task, settings: Preset, whole: Dataset, seen: Batch, report: Report) -> NetworkLatents:
    """Learn from all images; a function from rows to numbers."""
    images = replace(whole, validation=whole.train[:0])
    options = {
        **MODELS[task.model].options,
        ("training", "epochs"): settings.epochs and settings.epochs[task.dataset],
        ("training", "precision"): settings.precision_of.get(task.dataset),
    }
    run = by_recipe(task.dataset, images, options)
    if task.model == "autoencoder":
        run = replace(run, model=_deterministic(run, IMAGE))
    run.train_to_the_end(lambda done, total: report("training", done, total))
    return NetworkLatents(placed(run.model), seen)


def by_recipe(name: str, dataset: Dataset, options: Mapping[tuple[str, ...], Any]) -> Run:
    """A training by the recipe of a data set on rows of it, ready to begin."""
    spec = resolve(name, None, options)
    return prepare(dataset, config=spec.model_dump(mode="json") | {"data": {}}, options={})


def _deterministic(run: Run, target: str) -> Deterministic:
    """The networks of a run without the stochastic layer, with the same initial parameters."""
    return Deterministic(run.model.modalities, run.model.latent_dim, IMAGE, target)


@torch.inference_mode()
def _predictions(model: MultimodalVAE, test: Batch, target: str, kind: str, samples: int) -> dict[str, torch.Tensor]:
    """What is guessed for each test row, first by the estimator that the figure shows."""
    images = test.only([IMAGE])
    guesses = {"decoder": guess(model, images, target, num_samples=samples)}
    if kind != "supervised":
        guesses["mean"] = _at_the_mean(model, images, target)
        guesses["label given too"] = _at_the_mean(model, test, target)
    return guesses


def _at_the_mean(model: MultimodalVAE, rows: Batch, target: str) -> torch.Tensor:
    """What the decoder finds likeliest at the mean of q(z | what the rows have)."""
    parts = posterior_means(model, rows)
    return torch.cat([model.modalities[target].decoder(z).mode.cpu() for z in parts])
