"""`mvae reproduce digits`: labels predicted from few pairs, beside logistic regression on the same pairs."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from sklearn.neighbors import KNeighborsClassifier

from mvae.baselines.logistic import PixelLogisticRegression
from mvae.data.splits import Dataset
from mvae.evaluation.classification import classify
from mvae.evaluation.likelihood import log_likelihood
from mvae.experiments.results import Results
from mvae.models import MultimodalVAE
from mvae.runs import prepare

__all__ = ["FRACTIONS", "page", "reproduce"]

FRACTIONS = [0.05, 0.1, 1.0]
SAMPLES = 500
NO_VALIDATION: dict[tuple[str, ...], Any] = {("data", "validation_rows"): 0}
"""The recipe keeps the last weights and so needs no validation rows: all methods get all pairs."""
METHODS = {
    "decoder": "MVAE, decoder on posterior draws",
    "importance": "MVAE, importance-weighted",
    "logistic": "logistic regression on pixels",
    "nearest": "nearest neighbour on pixels",
}


def reproduce(folder: Path, num_seeds: int = 10, resume: bool = False) -> Iterator[str]:
    """Train with the recipe at each share of pairs and seed, score on the test rows, keep each cell when it is done.

    All methods get the same pairs.

    Args:
        folder: gets `digits.json`.
        num_seeds: seeds 0 to `num_seeds` - 1, each another choice of pairs.
        resume: keep finished cells.

    Yields:
        A line for each finished cell.
    """
    settings = {"source": "digits", "fractions": FRACTIONS, "samples": SAMPLES, "rows": "test", "recipe": _recipe()}
    results = Results(folder / "digits.json", settings, resume)
    for fraction in FRACTIONS:
        for seed in range(num_seeds):
            if results.has(fraction=fraction, seed=seed):
                continue
            options = {("data", "paired_fraction"): fraction, ("training", "seed"): seed}
            run = prepare("digits", options=NO_VALIDATION | options)
            outcome = run.train(progress=False)
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
    lines = [head, ["---"] * len(head), *([title, *values] for title, values in rows.items())]
    table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    seeds = len({cell["seed"] for cell in cells})
    return PAGE.format(
        table=table,
        seeds=seeds,
        samples=content["settings"]["samples"],
        command=made["command"],
        commit=made["commit"],
        machine=made["machine"],
    )


PAGE = """# Digits: labels from few pairs

1,797 real 8x8 digits, 1,347 to train on. A share of these keeps image and label; of the others half keep the image and
half the label. The MVAE is trained on all rows with the recipe of `mvae fit digits`, no rows set aside for validation;
logistic regression (its regularisation chosen by cross-validation) and the nearest neighbour, both on pixels, on the
paired rows. Accuracy of the label given the image on the 450 test rows, in percent: mean over {seeds} seeds, each
another choice of pairs, the same for all methods, ± the standard deviation over seeds (differences: ± the standard
error of the mean difference).

{table}

Both predictions of the MVAE use {samples} posterior draws;
[what they are](../guide/evaluate.md#which-classifier-is-meant). `mvae evaluate` uses importance weights. The
log-likelihood is of complete test rows, with proposal q(z | image, label); its image part is the
[pixel cross-entropy](../method.md#grey-pixels).

Made by `{command}` at commit {commit} on {machine}; every cell is in `results/digits.json`.
"""


def _score(model: MultimodalVAE, dataset: Dataset) -> dict[str, Any]:
    pairs = dataset.train[dataset.train.presence(["image", "label"]).all(1)]
    test, label = dataset.test, dataset.test.values["label"]
    nearest = KNeighborsClassifier(1).fit(pairs.values["image"].flatten(1), pairs.values["label"])
    predictions = {
        "decoder": classify(model, test, "label", estimator="decoder", num_samples=SAMPLES).argmax(1),
        "importance": classify(model, test, "label", estimator="importance", num_samples=SAMPLES).argmax(1),
        "logistic": torch.from_numpy(PixelLogisticRegression().fit(pairs).predict(test)),
        "nearest": torch.from_numpy(nearest.predict(test.values["image"].flatten(1))),
    }
    return {
        "pairs": len(pairs),
        **{name: (predicted == label).double().mean().item() for name, predicted in predictions.items()},
        "joint": log_likelihood(model, test, ["image", "label"], num_samples=SAMPLES).mean(),
    }


def _recipe() -> dict[str, Any]:
    return prepare("digits", options=NO_VALIDATION).spec.model_dump(mode="json")


def _spread(values: list[float], of_mean: bool = False) -> str:
    spread = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.mean(values):.1f} ± {spread / len(values) ** 0.5 if of_mean else spread:.1f}"
