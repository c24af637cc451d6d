"""`mvae reproduce few-pairs`: what helps, beyond the paper, to predict a label from few pairs."""

from __future__ import annotations

import statistics
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from mvae.batch import Batch
from mvae.config.recipes import resolve
from mvae.data.dataset import unpair
from mvae.data.loading import COMPLETE
from mvae.data.sources import load_dataset
from mvae.evaluation.classification import classify, proportion_interval
from mvae.export import markdown_table
from mvae.models import MultimodalVAE
from paper.comparison import train_on_rows
from paper.figure3 import IMAGE, LABEL, PAIRED_SHARE
from paper.results import made_by, percent, provenance
from paper.setup import Setup
from paper.side_by_side import Report

__all__ = ["DATASETS", "PRESETS", "VARIANTS", "Task", "page", "reproduce", "work"]

DATASETS = {"binary-mnist": "BinaryMNIST", "fashion-mnist": "FashionMNIST"}
VALIDATION_ROWS = 5000
ESTIMATORS: tuple[Literal["decoder", "importance"], ...] = ("decoder", "importance")


@dataclass(frozen=True)
class Variant:
    """One way to train."""

    title: str
    options: Mapping[tuple[str, ...], Any]
    longer: int = 1
    """How many times the epochs of the others."""
    datasets: Collection[str] = tuple(DATASETS)
    """Those that it is tried on."""


def _training(**options: Any) -> dict[tuple[str, ...], Any]:
    return {("training", key): value for key, value in options.items()}


SMOOTHED = _training(smoothness=30.0)
PROPAGATED = _training(propagation=1.0)
COSINE = _training(schedule="cosine")
BALANCED: dict[tuple[str, ...], Any] = {("data", "balance"): LABEL}
MORE_IMAGES = _training(shares={COMPLETE: PAIRED_SHARE, IMAGE: 0.6})
CHOSEN = SMOOTHED | PROPAGATED | BALANCED | MORE_IMAGES | COSINE
CONVOLUTIONAL: dict[tuple[str, ...], Any] = {
    ("model", "modalities", IMAGE, "encoder"): {
        "kind": "conv",
        "layers": [[16, 4, 2, 1], [32, 4, 2, 1], [64, 3, 2, 1]],
        "hidden": 256,
    }
}
VARIANTS = {
    "plain": Variant("label in every term, 10 % pairs", {}),
    "as-they-come": Variant("rows drawn as they come", _training(shares=None)),
    "half-pairs": Variant("50 % pairs", _training(shares={COMPLETE: 0.5})),
    "present": Variant("everything in every term", {("model", "reconstruct"): "present"}),
    "weight-10": Variant("weight of the label 10", {("model", "modalities", LABEL, "weight"): 10.0}),
    "weight-200": Variant("weight of the label 200", {("model", "modalities", LABEL, "weight"): 200.0}),
    "balanced": Variant("pairs balanced", BALANCED),
    "images": Variant("60 % images alone", MORE_IMAGES),
    "cosine": Variant("learning rate down a cosine", COSINE),
    "completion": Variant("completion", _training(completion=1.0)),
    "smoothness": Variant("smoothness", SMOOTHED),
    "propagation": Variant("propagation", PROPAGATED),
    "both": Variant("smoothness and propagation", SMOOTHED | PROPAGATED),
    "longer": Variant("three times the epochs", {}, longer=3),
    "chosen": Variant("smoothness, propagation, balanced, images, cosine; longer", CHOSEN, longer=3),
    "chosen-longer": Variant("the same, five times the epochs", CHOSEN, longer=5),
    "convolutional": Variant(
        "the same, three times, convolutional encoder", CHOSEN | CONVOLUTIONAL, longer=3, datasets=("binary-mnist",)
    ),
}
"""Each is the plain one with something changed."""
TESTED = ("plain", "longer", "chosen", "chosen-longer", "convolutional")
"""What is scored on test rows too, at several seeds."""


@dataclass(frozen=True)
class Preset:
    """How much is spent."""

    epochs: Mapping[str, int]
    levels: Mapping[str, tuple[int, ...]]
    """Numbers of pairs by data set."""
    seeds: int
    """Of what is tested; the others have one."""
    samples: Mapping[str, int]
    """Posterior draws a prediction, by estimator."""
    train_rows: int | None = None
    precision_of: Mapping[str, str] = field(default_factory=dict)
    """The precision of training where that is not the recipe's."""


PRESETS = {
    "smoke": Preset(
        dict.fromkeys(DATASETS, 1), dict.fromkeys(DATASETS, (50,)), 1, {"decoder": 5, "importance": 5}, 500
    ),
    "cpu": Preset(
        {"binary-mnist": 6, "fashion-mnist": 3},
        {"binary-mnist": (100, 1000), "fashion-mnist": (1000,)},
        3,
        {"decoder": 50, "importance": 10},
        precision_of={"fashion-mnist": "auto"},
    ),
    "paper": Preset(
        {"binary-mnist": 100, "fashion-mnist": 100},
        dict.fromkeys(DATASETS, (100, 1000)),
        5,
        {"decoder": 200, "importance": 100},
    ),
}


@dataclass(frozen=True)
class Task:
    """One training."""

    dataset: str
    variant: str
    pairs: int
    seed: int

    def __str__(self) -> str:
        return f"{self.dataset}, {self.variant}, {self.pairs} pairs, seed {self.seed}"


def reproduce(
    setup: Setup, datasets: Sequence[str], variants: Sequence[str], pairs: Sequence[int] = ()
) -> Iterator[str]:
    """Train each variant, score it on validation rows and what was chosen on test rows; keep each cell when done.

    Args:
        setup: its preset is a name in `PRESETS`.
        datasets: names in `DATASETS`.
        variants: names in `VARIANTS`.
        pairs: which levels of the preset, all where empty.

    Yields:
        A line for each finished cell.
    """
    chosen = PRESETS[setup.preset]
    levels = {name: list(numbers) for name, numbers in chosen.levels.items()}
    results = setup.results("few-pairs", {**asdict(chosen), "validation_rows": VALIDATION_ROWS, "levels": levels})
    tasks = [task for task in tasks_of(datasets, variants, chosen) if not pairs or task.pairs in pairs]
    if not tasks:
        raise ValueError(
            f"nothing to do: none of {', '.join(variants)} is tried on {', '.join(datasets)} at these levels"
        )
    tasks = results.missing(tasks)
    for dataset in datasets:
        load_dataset(dataset, data_dir=setup.data_dir)  # says what is missing before anything starts
    for task, record in setup.finish(work, tasks, results):
        yield f"{task}: validation " + ", ".join(f"{n} {100 * v:.1f} %" for n, v in record["validation"].items())


def tasks_of(datasets: Sequence[str], variants: Sequence[str], preset: Preset) -> list[Task]:
    """All there is to do, the first seeds first."""
    return [
        Task(dataset, variant, pairs, seed)
        for dataset in datasets
        for seed in range(preset.seeds)
        for pairs in preset.levels[dataset]
        for variant in variants
        if (variant in TESTED or seed == 0) and dataset in VARIANTS[variant].datasets
    ]


def work(task: Task, setup: Setup, report: Report) -> dict[str, Any]:
    """One task's record."""
    settings, variant, started = PRESETS[setup.preset], VARIANTS[task.variant], time.perf_counter()
    whole = load_dataset(task.dataset, data_dir=setup.data_dir, validation_rows=VALIDATION_ROWS)
    rows = whole.train[: settings.train_rows]
    options = dict(variant.options)
    train = unpair(rows, task.pairs / len(rows), task.seed, options.pop(("data", "balance"), None))
    defaults = _training(
        epochs=settings.epochs[task.dataset] * variant.longer,
        annealing_epochs=max(1, settings.epochs[task.dataset] // 3),
        seed=task.seed,
        precision=settings.precision_of.get(task.dataset),
        shares={COMPLETE: PAIRED_SHARE},
    )
    spec = resolve(task.dataset, None, defaults | options)
    folder = setup.runs / setup.preset / "few-pairs" / f"{task.dataset}-{task.variant}-{task.pairs}-{task.seed}"
    model, trained = train_on_rows(folder, spec, replace(whole, train=train, validation=train[:0]), report)
    report("predicting", 0, 1)
    parts = {"validation": whole.validation, **({"test": whole.test} if task.variant in TESTED else {})}
    scores = {name: _accuracies(model, rows, settings.samples) for name, rows in parts.items()}
    made = {"made": provenance(), "seconds": time.perf_counter() - started}
    return {
        **asdict(task),
        "epochs": spec.training.epochs,
        "precision": trained["precision"],
        **scores,
        "test_rows": len(whole.test),
        **made,
    }


def _accuracies(model: MultimodalVAE, rows: Batch, samples: Mapping[str, int]) -> dict[str, float]:
    """How often the label is guessed right from the image, by each estimator."""
    images, found = rows.only([IMAGE]), dict[str, float]()
    for estimator in ESTIMATORS:
        guesses = classify(model, images, LABEL, estimator=estimator, num_samples=samples[estimator]).argmax(1)
        found[estimator] = (guesses == rows.values[LABEL]).double().mean().item()
    return found


def page(content: dict[str, Any]) -> str:
    """The docs page of these results, in Markdown."""
    settings = content["settings"]
    datasets = [name for name in DATASETS if any(cell["dataset"] == name for cell in content["cells"])]
    return PAGE.format(
        validated="\n\n".join(_validated(content, dataset) for dataset in datasets),
        tested=_tested(content, datasets),
        held=f"{settings['validation_rows']:,}",
        decoder=settings["samples"]["decoder"],
        importance=settings["samples"]["importance"],
        preset=settings["preset"],
        **made_by(content),
    )


def _validated(content: dict[str, Any], dataset: str) -> str:
    levels = sorted({cell["pairs"] for cell in content["cells"] if cell["dataset"] == dataset})
    head, rows = ["", "epochs"], []
    for pairs in levels:
        head += [f"{pairs:,} pairs, {estimator}" for estimator in ESTIMATORS]
    for name, variant in VARIANTS.items():
        cells = [_cells(content, dataset, name, pairs) for pairs in levels]
        if any(cells):
            epochs = str(next(cell["epochs"] for some in cells for cell in some))
            scores = [percent([c["validation"][e] for c in some]) for some in cells for e in ESTIMATORS]
            rows.append([variant.title, epochs, *scores])
    return f"## {DATASETS[dataset]}, validation rows\n\n{markdown_table(head, rows)}"


def _tested(content: dict[str, Any], datasets: Sequence[str]) -> str:
    head, rows = ["", "pairs", "variant", "choices", "decoder", "95 % interval", "importance"], []
    for dataset in datasets:
        for pairs in sorted({cell["pairs"] for cell in content["cells"] if cell["dataset"] == dataset}):
            for name in TESTED:
                cells = _cells(content, dataset, name, pairs)
                if not cells:
                    continue
                found = {e: [cell["test"][e] for cell in cells] for e in ESTIMATORS}
                mean, count = statistics.mean(found["decoder"]), cells[0]["test_rows"]
                low, high = proportion_interval(round(mean * count), count)
                interval = f"{100 * low:.1f} to {100 * high:.1f}"
                row = [DATASETS[dataset], f"{pairs:,}", VARIANTS[name].title, str(len(cells))]
                rows.append([*row, percent(found["decoder"]), interval, percent(found["importance"])])
    return markdown_table(head, rows)


def _cells(content: dict[str, Any], dataset: str, variant: str, pairs: int) -> list[dict[str, Any]]:
    key = (dataset, variant, pairs)
    return [cell for cell in content["cells"] if (cell["dataset"], cell["variant"], cell["pairs"]) == key]


PAGE = """# What helps with few pairs, beyond the paper

The setting is that of [Figure 3](figure3.md), n pairs among 55,000 rows of which the others have the image or the label
alone, and the MVAE with the label in every term. Each variant changes one thing of the first, or what its name says.
All are options of `mvae fit`, or of its `--config` (the learning rate's schedule, the share of images alone), and off
in the reproduction: [what they are](../guide/train.md#few-complete-rows).

Which of them help was seen on {held} rows taken out of the training rows, images and labels, which no model was trained
on. These are more labels than a user with few pairs has: they were used to choose an option for all, not an epoch of a
run, which here is always the last. The chosen variant was settled on earlier runs that were scored on these rows alone;
it, the first one, and the first one trained as long as the chosen one are then scored on the 10,000 test rows. So are
two that were thought of when the chosen one's scores were known, each run once as it stands: the same trained longer,
and, on BinaryMNIST, the same with a convolutional encoder of the image in place of the paper's.

Accuracy of the label given the image in percent; *decoder* is the label's decoder averaged over {decoder} draws from
q(z given image), *importance* the same with {importance} importance-weighted draws
([which classifier is meant](../guide/evaluate.md#which-classifier-is-meant)).

## On test rows

Mean over so many choices of pairs, ± their standard deviation; the interval is that of the mean accuracy over test
rows.

{tested}

{validated}

Made by `{command}` (preset `{preset}`) at commit {commits} on {machine}; the numbers are in
`results/few-pairs/{preset}.json`.
"""
