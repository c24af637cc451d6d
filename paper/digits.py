"""`digits`: labels predicted from few pairs, beside logistic regression on the same pairs."""

from collections.abc import Mapping
from typing import Any

import pandas as pd
import torch
from sklearn.neighbors import KNeighborsClassifier

from mvae.batch import Batch
from mvae.evaluation.classification import classify
from mvae.evaluation.likelihood import log_likelihood
from mvae.training.prepare import prepare
from paper.baselines.logistic import PairedLogisticRegression
from paper.pages import mean, table
from paper.runner import CATALOG, Cell, Report, Setup

METHODS = CATALOG["digits"]["methods"]


def name(setup: Setup) -> str:
    """What the results and their page are called: whether the MVAE sets rows aside, whose pairs the others get too."""
    return "digits-validated" if setup.options.get("validation_rows") else "digits"


def settings(setup: Setup) -> dict[str, Any]:
    """The recipe, which keeps the last weights and needs no rows set aside."""
    return {"recipe": prepare("digits", options=_aside(setup)).spec.model_dump(mode="json")}


def cells(setup: Setup) -> list[Cell]:
    """Each share of pairs, from seed to seed other pairs."""
    seeds = range(setup.options["seeds"])
    return [{"fraction": fraction, "seed": seed} for fraction in setup.spent["fractions"] for seed in seeds]


def measure(cell: Cell, setup: Setup, report: Report) -> dict[str, Any]:
    """Train by the recipe; accuracy of each method on test rows."""
    options = {("data", "paired_fraction"): cell["fraction"], ("training", "seed"): cell["seed"]}
    run = prepare("digits", options=_aside(setup) | options)
    outcome = run.train_to_the_end(progress=False)
    model, dataset, samples = run.model, run.dataset, setup.spent["samples"]
    parts = [rows[rows.presence(["image", "label"]).all(1)] for rows in (dataset.train, dataset.validation)]
    pairs = Batch({name: torch.cat([part.values[name] for part in parts]) for name in ("image", "label")})
    test, label = dataset.test, dataset.test.values["label"]
    nearest = KNeighborsClassifier(1).fit(pairs.values["image"].flatten(1), pairs.values["label"])
    predictions = {
        "decoder": classify(model, test, "label", estimator="decoder", num_samples=samples).argmax(1),
        "importance": classify(model, test, "label", estimator="importance", num_samples=samples).argmax(1),
        "logistic": torch.from_numpy(PairedLogisticRegression().fit(pairs).predict(test)),
        "nearest": torch.from_numpy(nearest.predict(test.values["image"].flatten(1))),
    }
    return {
        **cell,
        "epoch": outcome.kept["epoch"],
        "pairs": len(pairs),
        **{name: (predicted == label).double().mean().item() for name, predicted in predictions.items()},
        "joint": log_likelihood(model, test, ["image", "label"], num_samples=samples, prior_share=0).mean(),
    }


def _aside(setup: Setup) -> dict[tuple[str, ...], Any]:
    return {("data", "validation_rows"): setup.options.get("validation_rows", 0)}


def view(_: str, content: Mapping[str, Any]) -> dict[str, Any]:
    """The page's content: a column for each share of pairs."""
    frame, fractions = pd.DataFrame(content["cells"]), content["settings"]["fractions"]
    frame[[*METHODS]] *= 100
    groups = [frame[frame["fraction"] == fraction] for fraction in fractions]
    rows = [["pairs", *(str(group["pairs"].iloc[0]) for group in groups)]]
    rows += [[title, *map(mean(), (group[method].tolist() for group in groups))] for method, title in METHODS.items()]
    for method in ("logistic", "nearest"):
        gains = [group["importance"] - group[method] for group in groups]
        shown = [f"{gain.mean():.1f} ± {gain.sem():.1f}" for gain in gains]
        rows.append([f"importance-weighted minus {METHODS[method]}", *shown])
    rows.append(["log p(image, label), nats", *(mean()(group["joint"].tolist()) for group in groups)])
    return {
        "table": table(["", *(f"{100 * fraction:g} % paired" for fraction in fractions)], rows),
        "rows": {row[0]: row[1:] for row in rows},
        "methods": METHODS,
        "seeds": frame["seed"].nunique(),
        "count": content["settings"]["recipe"]["data"]["validation_rows"],
    }
