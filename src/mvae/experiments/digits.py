"""`mvae reproduce digits`: labels predicted from few pairs, beside logistic regression on the same pairs."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from mvae.baselines.logistic import PixelLogisticRegression
from mvae.data.batch import Batch
from mvae.data.splits import Dataset
from mvae.evaluation.classification import classify
from mvae.evaluation.likelihood import log_likelihood
from mvae.experiments.results import Results
from mvae.models import MultimodalVAE
from mvae.runs import prepare

__all__ = ["FRACTIONS", "page", "reproduce"]

FRACTIONS = [0.05, 0.1, 1.0]
SAMPLES = 500
METHODS = {
    "decoder": "MVAE, decoder on posterior draws",
    "importance": "MVAE, importance-weighted",
    "logistic": "logistic regression on pixels",
}


def reproduce(folder: Path, num_seeds: int = 10, resume: bool = False) -> Iterator[str]:
    """Train with the recipe at each share of pairs and seed, score on the test rows, keep each cell when it is done.

    Logistic regression gets every pair there is, those the MVAE keeps for validation too.

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
            options: dict[tuple[str, ...], Any] = {("data", "paired_fraction"): fraction, ("training", "seed"): seed}
            run = prepare("digits", options=options)
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
    cells, made = content["cells"], content["provenance"]
    fractions = content["settings"]["fractions"]
    lines = [
        "| | " + " | ".join(f"{100 * f:g} % paired" for f in fractions) + " |",
        "|---" * (len(fractions) + 1) + "|",
    ]
    rows = {"pairs": "pairs (training + validation)", **METHODS}
    for key, title in rows.items():
        values = [[cell[key] for cell in cells if cell["fraction"] == f] for f in fractions]
        shown = [f"{v[0]}" if key == "pairs" else _spread([100 * x for x in v]) for v in values]
        lines.append(f"| {title} | " + " | ".join(shown) + " |")
    for key, title in {
        "difference": "importance-weighted minus logistic",
        "joint": "log p(image, label), nats",
    }.items():
        values = [
            [
                100 * (c["importance"] - c["logistic"]) if key == "difference" else c[key]
                for c in cells
                if c["fraction"] == f
            ]
            for f in fractions
        ]
        lines.append(f"| {title} | " + " | ".join(_spread(v, key == "difference") for v in values) + " |")
    seeds = len({cell["seed"] for cell in cells})
    return PAGE.format(
        table="\n".join(lines),
        seeds=seeds,
        samples=content["settings"]["samples"],
        command=made["command"],
        commit=made["commit"],
        machine=made["machine"],
    )


PAGE = """# Digits: labels from few pairs

1,797 real 8x8 digits. A share of the rows keeps image and label; of the others half keep the image and half the label.
The MVAE is trained on all rows with the recipe of `mvae fit digits`; logistic regression on pixels is trained on the
paired rows, those that the MVAE sets aside for validation included, its regularisation chosen by cross-validation on
them. Accuracy of the label given the image on the 450 test rows, in percent: mean over {seeds} seeds, each another
choice of pairs, ± the standard deviation over seeds (differences: ± the standard error of the mean).

{table}

Both predictions of the MVAE use {samples} posterior draws;
[what they are](../guide/evaluate.md#which-classifier-is-meant). `mvae evaluate` uses importance weights. The
log-likelihood is of complete test rows, with proposal q(z | image, label); its image part is the
[pixel cross-entropy](../method.md#grey-pixels).

Made by `{command}` at commit {commit} on {machine}; every cell is in `results/digits.json`.
"""


def _score(model: MultimodalVAE, dataset: Dataset) -> dict[str, Any]:
    pairs = [rows[rows.presence(["image", "label"]).all(1)] for rows in (dataset.train, dataset.validation)]
    everything = Batch({name: torch.cat([part.values[name] for part in pairs]) for name in ("image", "label")})
    test, label = dataset.test, dataset.test.values["label"]
    accuracies = {
        estimator: (classify(model, test, "label", estimator=estimator, num_samples=SAMPLES).argmax(1) == label)
        .double()
        .mean()
        .item()
        for estimator in ("decoder", "importance")
    }
    predicted = PixelLogisticRegression().fit(everything).predict(test)
    return {
        "pairs": len(everything),
        **accuracies,
        "logistic": float((predicted == label.numpy()).mean()),
        "joint": log_likelihood(model, test, ["image", "label"], num_samples=SAMPLES).mean(),
    }


def _recipe() -> dict[str, Any]:
    return prepare("digits", options={}).spec.model_dump(mode="json")


def _spread(values: list[float], of_mean: bool = False) -> str:
    spread = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.mean(values):.1f} ± {spread / len(values) ** 0.5 if of_mean else spread:.1f}"
