"""`mvae reproduce digits`: labels predicted from few pairs, beside logistic regression on the same pairs."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from sklearn.neighbors import KNeighborsClassifier

from mvae.batch import Batch
from mvae.data.dataset import Dataset
from mvae.evaluation.classification import classify
from mvae.evaluation.likelihood import log_likelihood
from mvae.export import markdown_table
from mvae.models import MultimodalVAE
from mvae.training.prepare import prepare
from paper.baselines.logistic import PairedLogisticRegression
from paper.results import Results

__all__ = ["FRACTIONS", "page", "reproduce"]

FRACTIONS = [0.05, 0.1, 1.0]
SAMPLES = 500
METHODS = {
    "decoder": "MVAE, decoder on posterior draws",
    "importance": "MVAE, importance-weighted",
    "logistic": "logistic regression on pixels",
    "nearest": "nearest neighbour on pixels",
}


def reproduce(folder: Path, num_seeds: int = 10, validation_rows: int = 0, resume: bool = False) -> Iterator[str]:
    """Train with the recipe at each share of pairs and seed, score on the test rows, keep each cell when it is done.

    Args:
        folder: gets `digits.json`, or `digits-validated.json` where rows are set aside.
        num_seeds: seeds 0 to `num_seeds` - 1, each another choice of pairs.
        validation_rows: how many rows the MVAE sets aside. The recipe keeps the last weights and needs none; with
            none, all methods get the same pairs, else the other methods get the pairs set aside too.
        resume: keep finished cells.

    Yields:
        A line for each finished cell.
    """
    settings: dict[str, Any] = {"source": "digits", "fractions": FRACTIONS, "samples": SAMPLES, "rows": "test"}
    aside: dict[tuple[str, ...], Any] = {("data", "validation_rows"): validation_rows}
    settings["recipe"] = prepare("digits", options=aside).spec.model_dump(mode="json")
    results = Results(folder / f"{file_name(validation_rows)}.json", settings, resume)
    for fraction in FRACTIONS:
        for seed in range(num_seeds):
            if results.has(fraction=fraction, seed=seed):
                continue
            options = {("data", "paired_fraction"): fraction, ("training", "seed"): seed}
            run = prepare("digits", options=aside | options)
            outcome = run.train_to_the_end(progress=False)
            cell = {
                "fraction": fraction,
                "seed": seed,
                "epoch": outcome.kept["epoch"],
                **_score(run.model, run.dataset),
            }
            results.add(cell)
            yield f"{100 * fraction:g} % paired, seed {seed}: " + ", ".join(
                f"{name} {100 * cell[name]:.1f} %" for name in METHODS
            )


def file_name(validation_rows: int) -> str:
    """What the results and their page are called."""
    return "digits-validated" if validation_rows else "digits"


def page(content: dict[str, Any]) -> str:
    """The docs page of these results, in Markdown."""
    cells, made, fractions = content["cells"], content["provenance"], content["settings"]["fractions"]
    groups = [[cell for cell in cells if cell["fraction"] == fraction] for fraction in fractions]
    rows = {"pairs": [str(group[0]["pairs"]) for group in groups]}
    for name, title in METHODS.items():
        rows[title] = [_spread([100 * cell[name] for cell in group]) for group in groups]
    for name in ("logistic", "nearest"):
        differences = [[100 * (cell["importance"] - cell[name]) for cell in group] for group in groups]
        rows[f"importance-weighted minus {METHODS[name]}"] = [_spread(d, of_mean=True) for d in differences]
    rows["log p(image, label), nats"] = [_spread([cell["joint"] for cell in group]) for group in groups]
    head = ["", *(f"{100 * fraction:g} % paired" for fraction in fractions)]
    table = markdown_table(head, [[title, *values] for title, values in rows.items()])
    seeds = len({cell["seed"] for cell in cells})
    count = content["settings"]["recipe"]["data"]["validation_rows"]
    return PAGE.format(
        table=table,
        seeds=seeds,
        samples=content["settings"]["samples"],
        aside=ASIDE.format(count=count) if count else NOT_ASIDE,
        name=file_name(count),
        heading=", some rows set aside" if count else "",
        command=made["command"],
        commit=made["commit"],
        machine=made["machine"],
    )


NOT_ASIDE = """which keeps the last weights, on all rows, none set aside for
validation ([with some set aside](digits-validated.md) the comparison comes out less well for it)"""
ASIDE = """with {count} rows set aside for validation, whose pairs only the
other methods get ([with none set aside](digits.md))"""

PAGE = """# Digits: labels from few pairs{heading}

1,797 real 8x8 digits, 1,347 to train on. A share of these keeps image and label; of the others half keep the image and
half the label. The MVAE is trained with the recipe of `mvae fit digits`, {aside}. Logistic
regression (its regularisation chosen by cross-validation) and the nearest neighbour, both on pixels, are trained on all
paired rows. Accuracy of the label given the image on the 450 test rows, in percent: mean over {seeds} seeds, each
another choice of pairs, ± the standard deviation over seeds (differences: ± the standard
error of the mean difference).

{table}

Both predictions of the MVAE use {samples} posterior draws;
[what they are](../guide/evaluate.md#which-classifier-is-meant). `mvae evaluate` uses importance weights. The
log-likelihood is of complete test rows, with proposal q(z | image, label); its image part is the
[pixel cross-entropy](../method.md#grey-pixels).

Made by `{command}` at commit {commit} on {machine}; every cell is in `results/{name}.json`.
"""


def _score(model: MultimodalVAE, dataset: Dataset) -> dict[str, Any]:
    parts = [rows[rows.presence(["image", "label"]).all(1)] for rows in (dataset.train, dataset.validation)]
    pairs = Batch({name: torch.cat([part.values[name] for part in parts]) for name in ("image", "label")})
    test, label = dataset.test, dataset.test.values["label"]
    nearest = KNeighborsClassifier(1).fit(pairs.values["image"].flatten(1), pairs.values["label"])
    predictions = {
        "decoder": classify(model, test, "label", estimator="decoder", num_samples=SAMPLES).argmax(1),
        "importance": classify(model, test, "label", estimator="importance", num_samples=SAMPLES).argmax(1),
        "logistic": torch.from_numpy(PairedLogisticRegression().fit(pairs).predict(test)),
        "nearest": torch.from_numpy(nearest.predict(test.values["image"].flatten(1))),
    }
    return {
        "pairs": len(pairs),
        **{name: (predicted == label).double().mean().item() for name, predicted in predictions.items()},
        "joint": log_likelihood(model, test, ["image", "label"], num_samples=SAMPLES).mean(),
    }


def _spread(values: list[float], of_mean: bool = False) -> str:
    spread = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.mean(values):.1f} ± {spread / len(values) ** 0.5 if of_mean else spread:.1f}"
