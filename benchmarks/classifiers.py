"""`python -m benchmarks.classifiers`: which estimator of `mvae.classify` is right more often where labels are few.

Five settings, several choices of labelled rows each. Scored on rows that no model was trained on, taken out of the
training rows: a default is chosen by them, so that test rows play no part.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import torch

import mvae
from mvae.batch import Batch
from mvae.config.recipes import resolve
from mvae.data.dataset import Dataset, unpair
from mvae.data.sources import load_dataset
from mvae.evaluation.classification import classify
from mvae.export import markdown_table
from mvae.files import write_json
from mvae.models import MultimodalVAE
from paper.results import provenance

ESTIMATORS: tuple[Literal["decoder", "importance"], ...] = ("decoder", "importance")
SAMPLES = 100
HELD_OUT = 400
"""Rows that are scored."""
Trained = tuple[MultimodalVAE, Batch, str]
"""A model, the rows to score, and the modality to predict."""


def pictures(source: str, pairs: int, rows: int | None = None, **training: Any) -> Callable[[int], Trained]:
    """The recipe's model on so many training rows, of which so many have both image and label."""

    def train(seed: int) -> Trained:
        whole = load_dataset(source, validation_rows=HELD_OUT)
        train = unpair(whole.train[:rows], pairs / len(whole.train[:rows]), seed)
        recipe = resolve(source, None, {}).model_dump(mode="json")
        config = {"model": recipe["model"], "training": recipe["training"] | training | {"seed": seed}}
        dataset = replace(whole, train=train, validation=train[:0], test=train[:0])
        return mvae.fit(dataset, config=config, progress=False), whole.validation, "label"

    return train


def table(labelled: int, epochs: int = 100) -> Callable[[int], Trained]:
    """scikit-learn's table of 569 tumours: 30 measurements, and a class that so many training rows have."""

    def train(seed: int) -> Trained:
        from sklearn.datasets import load_breast_cancer

        measured, classes = (torch.from_numpy(part) for part in load_breast_cancer(return_X_y=True))
        order = torch.randperm(len(classes), generator=torch.Generator().manual_seed(seed))
        measured, classes = measured[order].float(), classes[order]
        learned = measured[HELD_OUT // 2 :]
        rows = Batch({"measurements": (measured - learned.mean(0)) / learned.std(0), "diagnosis": classes})
        held, known = rows[: HELD_OUT // 2], rows[HELD_OUT // 2 :]
        train = Batch(known.values, {"diagnosis": torch.arange(len(known)) < labelled})
        dataset = Dataset("tumours", train, train[:0], train[:0])
        return (
            mvae.fit(
                dataset, config=TUMOURS, epochs=epochs, annealing_epochs=(epochs + 2) // 3, seed=seed, progress=False
            ),
            held,
            "diagnosis",
        )

    return train


PART = {"encoder": {"kind": "mlp", "hidden": [64]}, "decoder": {"kind": "mlp", "hidden": [64]}}
TUMOURS = {
    "model": {
        "latent_dim": 8,
        "reconstruct": ["diagnosis"],
        "modalities": {
            "measurements": {"shape": [30], "likelihood": {"kind": "normal"}, **PART},
            "diagnosis": {
                "shape": [],
                "likelihood": {"kind": "categorical", "num_classes": 2},
                "weight": 10,
                "encoder": {"kind": "embedding", "hidden": [64]},
                "decoder": {"kind": "mlp", "hidden": [64]},
            },
        },
    },
    "training": {"batch_size": 50, "learning_rate": 0.003, "keep": "last"},
}
SHORT = {"annealing_epochs": 2, "shares": {"complete": 0.1}}
SETTINGS: dict[str, Callable[[int], Trained]] = {
    "digits, 67 pairs": pictures("digits", 67),
    "digits, 135 pairs": pictures("digits", 135),
    "BinaryMNIST, 100 pairs, short": pictures("binary-mnist", 100, 5000, epochs=5, **SHORT),
    "FashionMNIST, 100 pairs, short": pictures("fashion-mnist", 100, 2000, epochs=5, **SHORT),
    "breast cancer table, 20 labels": table(20),
}


def scores(model: MultimodalVAE, rows: Batch, target: str) -> dict[str, dict[str, float]]:
    """Share predicted right, and the mean log-probability of the truth in nats, by each estimator."""
    truth, found = rows.values[target].cpu(), {}
    for estimator in ESTIMATORS:
        probabilities = classify(model, rows, target, estimator=estimator, num_samples=SAMPLES)
        told = probabilities.gather(1, truth[:, None]).log()
        right = (probabilities.argmax(1) == truth).double()
        found[estimator] = {"accuracy": right.mean().item(), "nats": told.mean().item()}
    return found


def summary(cells: list[dict[str, Any]]) -> str:
    """Means over the choices of labelled rows, and how often the decoder was ahead, as a table in Markdown."""
    frame = pd.json_normalize(cells)
    rows = []
    for setting, part in frame.groupby("setting", sort=False):
        row = [str(setting), str(len(part))]
        for score, scale, digits in (("accuracy", 100, 1), ("nats", 1, 3)):
            decoder, importance = (part[f"{estimator}.{score}"] for estimator in ESTIMATORS)
            row += [f"{scale * one.mean():.{digits}f}" for one in (decoder, importance)]
            row.append(f"{int((decoder > importance).sum())} / {int((decoder < importance).sum())}")
        rows.append(row)
    heads = ["", "choices", "decoder, %", "importance, %", "ahead / behind"]
    return markdown_table([*heads, "decoder, nats", "importance, nats", "ahead / behind"], rows)


def begun(parser: argparse.ArgumentParser) -> tuple[argparse.Namespace, dict[str, Any]]:
    """The options of a benchmark, with the folder of its results, and the origin of what it measures on one thread."""
    parser.add_argument("--out", type=Path, default=Path("results/benchmarks"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    return options, provenance() | {"command": " ".join([parser.prog, *sys.argv[1:]])}


def main() -> None:
    """Train each setting at each seed, score both estimators, and write what was found."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.classifiers", description=__doc__)
    parser.add_argument("--seeds", type=int, default=3, help="choices of labelled rows (default: %(default)s)")
    options, made_by = begun(parser)
    cells: list[dict[str, Any]] = []
    for seed in range(options.seeds):
        for setting, train in SETTINGS.items():
            started = time.process_time()
            model, rows, target = train(seed)
            found = scores(model, rows, target)
            spent = round(time.process_time() - started, 1)
            cells.append({"setting": setting, "seed": seed, "rows": len(rows), **found, "processor_seconds": spent})
            print(cells[-1], flush=True)
            content = {"provenance": made_by, "samples": SAMPLES, "cells": cells}
            write_json(options.out / "classifiers.json", content)
    print(summary(cells))


if __name__ == "__main__":
    main()
