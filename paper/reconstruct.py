"""`reconstruct`: what each ELBO term reconstructs, compared on validation rows."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import torch

from mvae.batch import Batch
from mvae.evaluation.classification import classify
from mvae.evaluation.likelihood import log_likelihood
from mvae.training.epochs import ELBO
from mvae.training.prepare import prepare
from paper.baselines.logistic import PairedLogisticRegression
from paper.runner import Cell, Report, Setup, places

CHOICES: dict[str, Any] = {"given": "given", "present": "present", "label": ["label"]}


def name(setup: Setup) -> str:
    """What the results and their page are called."""
    return f"reconstruct-{setup.options.get('dataset')}"


def settings(setup: Setup) -> dict[str, Any]:
    """The data set, and for how many epochs each choice is trained."""
    return {"source": setup.options["dataset"], "epochs": setup.options["epochs"]}


def cells(_: Setup) -> list[Cell]:
    """Each choice."""
    return [{"reconstruct": name} for name in CHOICES]


def measure(cell: Cell, setup: Setup, report: Report) -> dict[str, Any]:
    """Train with all pairs kept, and score on validation rows."""
    spent, reconstruct = setup.spent, CHOICES[cell["reconstruct"]]
    options = places({"model.reconstruct": reconstruct, "training.epochs": setup.options["epochs"]})
    judge = _judge(setup.options["dataset"], setup.options["data_dir"])
    run = prepare(setup.options["dataset"], options=options, data_dir=setup.options["data_dir"])
    outcome = run.train_to_the_end()
    model, rows = run.model, run.dataset.validation[: spent["rows"]]
    guesses = classify(model, rows, "label", estimator="decoder").argmax(1)
    found = {
        "elbo": outcome.kept[ELBO],
        "image": log_likelihood(model, rows, ["image"], num_samples=spent["samples"], prior_share=0).mean(),
        "joint": log_likelihood(model, rows, ["image", "label"], num_samples=spent["samples"], prior_share=0).mean(),
        "accuracy": (guesses == rows.values["label"]).double().mean().item(),
    }
    torch.manual_seed(0)
    labels = torch.arange(int(model.modalities["label"].num_classes or 0))
    images = model.generate(Batch({"label": labels}), ["image"], spent["drawn"], mean=True)["image"].flatten(0, 1)
    right = torch.from_numpy(judge.predict(Batch({"image": images}))) == labels.repeat(spent["drawn"])
    return {**cell, **found, "coherence": right.double().mean().item()}


@lru_cache(maxsize=1)
def _judge(dataset: str, data_dir: str | None) -> PairedLogisticRegression:
    """What says which label an image shows, trained on real ones."""
    return PairedLogisticRegression().fit(prepare(dataset, options={}, data_dir=data_dir).dataset.train[:10_000])


def view(_: str, content: Mapping[str, Any]) -> dict[str, Any]:
    """The page's content: the cells."""
    return {"cells": content["cells"]}
