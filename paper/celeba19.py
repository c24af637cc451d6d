"""`mvae reproduce k-effect` and `dropping`: the MVAE19 by its number of random terms, and by what rows lack.

The paper's last question of section 5, and the claim of its supplement: more random terms a step change the
log-likelihood little and lower the variance of the importance weights; the model bears modalities that are dropped at
random in training.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from mvae.data.dataset import drop
from mvae.data.sources import load_dataset
from mvae.export import markdown_table
from paper.comparison import placed, scores
from paper.figure3 import by_recipe
from paper.results import made_by, provenance
from paper.setup import Setup
from paper.side_by_side import Report
from paper.tables import main_entries

__all__ = ["EXPERIMENTS", "PRESETS", "Task", "page", "reproduce", "work"]

SOURCE = "celeba19"
EXPERIMENTS = {"k-effect": "random terms k", "dropping": "dropped"}
"""The experiments and what each varies."""
KEPT = ("quantity", "proposal", "second", "samples", "nats", "error", "variance", "variance_error")


@dataclass(frozen=True)
class Preset:
    """How much is spent."""

    values: dict[str, list[float]]
    """By experiment: numbers of random terms; probabilities of a value's being dropped."""
    epochs: int | None
    """The recipe's, which are the paper's, where None."""
    rows: int | None
    """How many of the test rows are scored, from the first; all where None."""
    samples: int
    prior_samples: int
    train_rows: int | None = None
    precision: str | None = None
    """Of training; the recipe's where None."""


PRESETS = {
    "smoke": Preset({"k-effect": [0, 3], "dropping": [0.0, 0.5]}, 1, 10, 10, 20, 200),
    "cpu": Preset(
        {"k-effect": [0, 1, 10, 50], "dropping": [0.0, 0.25, 0.5, 0.75]}, 6, 100, 100, 1000, precision="auto"
    ),
    "paper": Preset(
        {"k-effect": [0, 1, 2, 5, 10, 20, 50], "dropping": [0.0, 0.1, 0.25, 0.5, 0.75, 0.9]}, None, None, 100, 1000
    ),
}


@dataclass(frozen=True)
class Task:
    """One training."""

    experiment: str
    value: float

    def __str__(self) -> str:
        return f"{EXPERIMENTS[self.experiment]} {self.value:g}"


def reproduce(experiment: str, setup: Setup) -> Iterator[str]:
    """Train and score for each value, keep each cell when it is done.

    Args:
        experiment: a name in `EXPERIMENTS`.
        setup: its preset is a name in `PRESETS`.

    Yields:
        A line for each finished cell.
    """
    settings = PRESETS[setup.preset]
    values = settings.values[experiment]
    results = setup.results(experiment, {**asdict(settings), "values": values})
    tasks = results.missing(Task(experiment, value) for value in values)
    load_dataset(SOURCE, data_dir=setup.data_dir)  # says what is missing before anything starts
    for task, record in setup.finish(work, tasks, results):
        yield f"{task}: " + ", ".join(
            f"{entry['quantity']} {entry['nats']:.1f}, variance {entry['variance']:.1f}"
            for entry in main_entries(record["estimates"])
        )


def work(task: Task, setup: Setup, report: Report) -> dict[str, Any]:
    """One task's record."""
    settings = PRESETS[setup.preset]
    whole = load_dataset(SOURCE, data_dir=setup.data_dir)
    rows, held = whole.train[: settings.train_rows], whole.validation
    options: dict[tuple[str, ...], Any] = {
        ("training", "epochs"): settings.epochs,
        ("training", "precision"): settings.precision,
    }
    if task.experiment == "k-effect":
        options["model", "subsets"] = int(task.value)
    else:
        rows, held = drop(rows, task.value, seed=0), drop(held, task.value, seed=1)
    run = by_recipe(SOURCE, replace(whole, train=rows, validation=held), options)
    started = time.perf_counter()
    run.train_to_the_end(lambda done, total: report("training", done, total))
    trained = time.perf_counter() - started
    report("scoring", 0, 1)
    found = scores(placed(run.model), whole.test[: settings.rows], settings.samples, settings.prior_samples)
    return {
        **asdict(task),
        "epochs": run.spec.training.epochs,
        "precision": run.spec.training.precision_here,
        "train_rows": len(rows),
        "rows": len(whole.test[: settings.rows]),
        "data": whole.description,
        "estimates": [{key: entry[key] for key in KEPT} for entry in found],
        "training_seconds": trained,
        "made": provenance(),
    }


def page(experiment: str, content: dict[str, Any]) -> str:
    """The docs page of these results, in Markdown."""
    cells = sorted(content["cells"], key=lambda cell: cell["value"])
    return PAGES[experiment].format(
        likelihoods=_table(experiment, cells, "nats", "error"),
        variances=_table(experiment, cells, "variance", "variance_error", ("marginal", "joint")),
        data=cells[0]["data"],
        train_rows=f"{cells[0]['train_rows']:,}",
        epochs=cells[0]["epochs"],
        precision=cells[0].get("precision", "float32"),
        change=_change(experiment, cells),
        rows=f"{cells[0]['rows']:,}",
        samples=content["settings"]["samples"],
        prior=f"{content['settings']['prior_samples']:,}",
        preset=content["settings"]["preset"],
        **made_by(content),
    )


def _table(experiment: str, cells: Sequence[dict[str, Any]], value: str, error: str, only: Sequence[str] = ()) -> str:
    titles = {"marginal": "image", "joint": "image and attributes", "conditional": "image given attributes"}
    quantities = {name: title for name, title in titles.items() if not only or name in only}
    rows = []
    for cell in cells:
        found = {entry["quantity"]: entry for entry in main_entries(cell["estimates"])}
        shown = [f"{found[name][value]:.1f} ± {found[name][error]:.1f}" for name in quantities]
        head = f"{cell['value']:g}" if experiment == "k-effect" else f"{100 * cell['value']:g} %"
        rows.append([head, *shown])
    return markdown_table([EXPERIMENTS[experiment], *quantities.values()], rows)


def _change(experiment: str, cells: Sequence[dict[str, Any]]) -> str:
    """What lies between the first row and the last, in a sentence."""
    first, last = (
        {entry["quantity"]: entry for entry in main_entries(cell["estimates"])} for cell in (cells[0], cells[-1])
    )
    nats, variance = (last["marginal"][name] - first["marginal"][name] for name in ("nats", "variance"))
    ends = [
        f"{cell['value']:g}" if experiment == "k-effect" else f"{100 * cell['value']:g} %"
        for cell in (cells[0], cells[-1])
    ]
    return (
        f"From {ends[0]} to {ends[1]}, log p(image) changes by {nats:+.1f} nats, and the variance of the log weights of"
        f" the image by {variance:+.1f}."
    )


MEASURED = """{change}

Data: {data}; {train_rows} rows to train, {epochs} epochs in {precision}.
The first {rows} test rows are scored with {samples} draws from q(z | image), log p(attributes) with {prior} from the
prior. The model is that of the recipe
`celeba19`: an image and 18 attributes, each term reconstructing what it is given (Eq. 2). One training each: how much
another seed would differ is not in the ±, which is the standard error over test rows.

## Log-likelihood in nats

{likelihoods}

A conditional is the joint less log p(attributes): where the latter, of 18 attributes from draws of the prior, comes out
too low, it is too high.

## Variance of the log importance weights

{variances}

Made by `{command}` at commit {commits} on {machine}; the numbers are in """

PAGES = {
    "k-effect": """# The effect of k: how many random terms a step has

A step of the MVAE with 19 modalities trains the joint term, the 19 single ones and k random others (Eq. 5). The paper
says that more of them change the log-likelihood little and lower the variance of the importance weights, and takes
k = 1.

"""
    + MEASURED
    + "`results/k-effect/{preset}.json`.\n",
    "dropping": """# Modalities dropped at random in training

Each row, of training and validation, loses each of its 19 modalities with the probability in the first column, for
good, but keeps one. Test rows are whole. The paper's supplement says that the MVAE19 bears it.

"""
    + MEASURED
    + "`results/dropping/{preset}.json`.\n",
}
