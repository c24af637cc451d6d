"""`mvae reproduce attributes`: 18 attributes of a face predicted from its image, beside simpler ways."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from sklearn.metrics import accuracy_score, balanced_accuracy_score, roc_auc_score

from mvae.batch import Batch
from mvae.config.folder import read_spec
from mvae.data.celeba import ATTRIBUTES
from mvae.data.sources import load_dataset
from mvae.export import markdown_table
from mvae.models import MultimodalVAE
from paper.baselines.logistic import PairedLogisticRegression, thumbnails
from paper.comparison import MODELS, PRESETS, Cell, check, placed, train_model, trained_model
from paper.results import made_by, provenance
from paper.setup import Setup
from paper.side_by_side import Report

__all__ = ["PREDICTORS", "attribute_probabilities", "page", "reproduce", "work"]

PREDICTORS = {
    "majority": "always the majority",
    "logistic": "logistic regression on 16 x 16 pixels",
    "mvae-label": "MVAE, attributes in one modality and in every term",
    "mvae19": "MVAE19, Eq. 2 as written",
}
SAMPLES = 20
MEASURES = ("accuracy", "balanced", "auc")


def reproduce(setup: Setup, predictors: Sequence[str]) -> Iterator[str]:
    """Predict the attributes of all test images in each way, training the models that are not trained yet.

    Args:
        setup: its preset is a name in `comparison.PRESETS`.
        predictors: names in `PREDICTORS`.

    Yields:
        A line for each predictor.
    """
    results = setup.results("attributes", {**asdict(PRESETS[setup.preset]), "draws": SAMPLES})
    tasks = [name for name in predictors if not results.has(predictor=name)]
    check([Cell("celeba", name, 0) for name in tasks if name in MODELS], setup)
    load_dataset("celeba19", data_dir=setup.data_dir)  # says what is missing before anything starts
    for name, record in setup.finish(work, tasks, results):
        means = {measure: _mean(record, measure) for measure in MEASURES}
        yield f"{name}: " + ", ".join(f"{measure} {100 * mean:.1f} %" for measure, mean in means.items())


def work(name: str, setup: Setup, report: Report) -> dict[str, Any]:
    """One predictor's record."""
    whole, started = load_dataset("celeba19", data_dir=setup.data_dir), time.perf_counter()
    train, test = whole.train[: PRESETS[setup.preset].train_rows], whole.test
    epochs = None
    if name in MODELS:
        cell = Cell("celeba", name, 0)
        train_model(cell, setup, report)
        model, _ = trained_model(cell, setup)
        epochs = read_spec(cell.folder(setup.runs, setup.preset)).training.epochs
        found = attribute_probabilities(placed(model), test.only(["image"]), SAMPLES)
    else:
        found, seen = {}, [Batch({"numbers": torch.from_numpy(thumbnails(rows))}) for rows in (train, test)]
        for number, attribute in enumerate(ATTRIBUTES):
            report("fitting", number, len(ATTRIBUTES))
            frequency = train.values[attribute].double().mean().item()
            found[attribute] = np.full(len(test), frequency)
            if name == "logistic" and 0 < frequency < 1:
                regression = PairedLogisticRegression(features="numbers", numbers=_numbers, target=attribute)
                regression.fit(Batch({**seen[0].values, attribute: train.values[attribute]}))
                found[attribute] = regression.probabilities(seen[1])[:, 1]
    scores = {attribute: _scores(test.values[attribute].numpy(), found[attribute]) for attribute in ATTRIBUTES}
    return {
        "predictor": name,
        "epochs": epochs,
        "train_rows": len(train),
        "rows": len(test),
        "data": whole.description,
        "attributes": scores,
        "seconds": time.perf_counter() - started,
        "made": provenance(),
    }


def _numbers(rows: Batch) -> np.ndarray:
    return rows.values["numbers"].numpy()


@torch.inference_mode()
def attribute_probabilities(model: MultimodalVAE, images: Batch, samples: int) -> dict[str, np.ndarray]:
    """p(attribute | image) by the decoder, averaged over draws from q(z | image): `[B]` for each of `ATTRIBUTES`.

    Args:
        model: of `celeba`, all attributes in one modality, or of `celeba19`.
        images: B rows with `image` alone.
        samples: draws a row; they come from torch's generator seeded with 0.
    """
    torch.manual_seed(0)
    names = [name for name in model.modalities if name != "image"]
    parts = []
    for start in range(0, len(images), 100):
        drawn = model.decode(model.draw_latent(images[start : start + 100], samples), names)
        if names == ["attributes"]:
            parts.append(drawn["attributes"].mean.mean(0))
        else:
            parts.append(torch.stack([drawn[name].probs[..., 1].mean(0) for name in ATTRIBUTES], 1))  # type: ignore[attr-defined]
    return dict(zip(ATTRIBUTES, torch.cat(parts).cpu().numpy().T, strict=True))


def _scores(truth: np.ndarray, probabilities: np.ndarray) -> dict[str, float | None]:
    guesses = probabilities > 0.5
    both = len(np.unique(truth)) == 2  # else a balance of two classes says nothing
    return {
        "frequency": float(truth.mean()),
        "accuracy": float(accuracy_score(truth, guesses)),
        "balanced": float(balanced_accuracy_score(truth, guesses)) if both else None,
        "auc": float(roc_auc_score(truth, probabilities)) if both else None,
    }


def _mean(record: dict[str, Any], measure: str) -> float:
    found = [scores[measure] for scores in record["attributes"].values() if scores[measure] is not None]
    return statistics.mean(found) if found else float("nan")


def page(content: dict[str, Any]) -> str:
    """The docs page of these results, in Markdown."""
    cells = {cell["predictor"]: cell for cell in content["cells"]}
    cells = {name: cells[name] for name in PREDICTORS if name in cells}
    some = next(iter(cells.values()))
    means = [
        [PREDICTORS[name], *(f"{100 * _mean(cell, measure):.1f}" for measure in MEASURES)]
        for name, cell in cells.items()
    ]
    titles = [PREDICTORS[name] for name in cells]
    tables = {
        measure: markdown_table(
            ["", "has it, %", *titles],
            [
                [name, f"{100 * some['attributes'][name]['frequency']:.1f}", *_row(cells, name, measure)]
                for name in ATTRIBUTES
            ],
        )
        for measure in MEASURES
    }
    return PAGE.format(
        means=markdown_table(["mean over 18 attributes, %", "accuracy", "balanced accuracy", "AUC"], means),
        data=some["data"],
        train_rows=f"{some['train_rows']:,}",
        rows=f"{some['rows']:,}",
        samples=content["settings"]["draws"],
        epochs=" or ".join(sorted({str(cell["epochs"]) for cell in cells.values() if cell["epochs"]})) or "no",
        preset=content["settings"]["preset"],
        **tables,
        **made_by(content),
    )


def _row(cells: dict[str, dict[str, Any]], attribute: str, measure: str) -> list[str]:
    values = [cell["attributes"][attribute][measure] for cell in cells.values()]
    return ["" if value is None else f"{100 * value:.1f}" for value in values]


PAGE = """# Attributes of a face, predicted from its image

p(attribute | image) on all {rows} test rows ({data}; {train_rows} rows to train, {epochs} epochs). The models' is the
decoder's probability, averaged over {samples} draws from q(z | image); an attribute is predicted where it is above a
half. Balanced accuracy is the mean of the accuracies among those that have an attribute and those that have not; the
AUC asks whether who has it gets a higher probability than who has not, wherever the threshold.

{means}

## AUC in percent

{auc}

## Balanced accuracy in percent

{balanced}

## Accuracy in percent

{accuracy}

Made by `{command}` at commit {commits} on {machine}; the numbers are in `results/attributes/{preset}.json`.
"""
