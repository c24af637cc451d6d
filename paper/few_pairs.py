"""`few-pairs`: what helps, beyond the paper, to predict a label from few pairs."""

import statistics
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

import pandas as pd

from mvae.batch import Batch
from mvae.config.recipes import resolve
from mvae.data.dataset import unpair
from mvae.data.loading import COMPLETE
from mvae.data.sources import load_dataset
from mvae.evaluation.classification import classify, proportion_interval
from mvae.models import MultimodalVAE
from paper.pages import percent, table
from paper.results import provenance
from paper.runner import CATALOG, Cell, Report, Setup, places, titles
from paper.trained import train_on_rows

VARIANTS = CATALOG["few-pairs"]["choices"]["variant"]
TESTED = [name for name, variant in VARIANTS.items() if variant.get("tested")]
"""What is scored on test rows too, at several seeds."""
DATASETS = titles("few-pairs", "dataset")
IMAGE, LABEL = "image", "label"
PAIRED_SHARE = CATALOG["figure3"]["presets"]["cpu"]["paired_share"]
ESTIMATORS: tuple[Literal["decoder", "importance"], ...] = ("decoder", "importance")


def cells(setup: Setup) -> list[Cell]:
    """Each variant at each number of pairs, the first seeds first."""
    return [
        {"dataset": dataset, "variant": variant, "pairs": pairs, "seed": seed}
        for dataset in setup.among("dataset")
        for seed in range(setup.spent["seeds"])
        for pairs in setup.spent["levels"][dataset]
        for variant in setup.among("variant")
        if pairs in (setup.chosen.get("pairs") or [pairs])
        if (variant in TESTED or seed == 0) and dataset in VARIANTS[variant].get("only", DATASETS)
    ]


def measure(cell: Cell, setup: Setup, report: Report) -> dict[str, Any]:
    """Train a variant, score it on validation rows, and what was chosen on test rows."""
    spent, started = setup.spent, time.perf_counter()
    dataset, variant, pairs, seed = (cell[key] for key in ("dataset", "variant", "pairs", "seed"))
    whole = load_dataset(dataset, data_dir=setup.data_dir, validation_rows=spent["validation_rows"])
    rows, epochs = whole.train[: spent["train_rows"]], spent["epochs"][dataset]
    options = {
        "training.epochs": epochs * VARIANTS[variant].get("longer", 1),
        "training.annealing_epochs": max(1, epochs // 3),
        "training.seed": seed,
        "training.precision": spent["precision_of"].get(dataset),
        "training.shares": {COMPLETE: PAIRED_SHARE},
    }
    options |= VARIANTS[variant].get("options", {})
    train = unpair(rows, pairs / len(rows), seed, options.pop("data.balance", None))
    spec = resolve(dataset, None, places(options))
    folder = setup.runs / setup.preset / "few-pairs" / f"{dataset}-{variant}-{pairs}-{seed}"
    model, trained = train_on_rows(folder, spec, replace(whole, train=train, validation=train[:0]), report)
    report("predicting", 0, 1)
    parts = {"validation": whole.validation, **({"test": whole.test} if variant in TESTED else {})}
    return {
        **cell,
        "epochs": spec.training.epochs,
        "precision": trained["precision"],
        **{name: _accuracies(model, part, spent["samples"]) for name, part in parts.items()},
        "test_rows": len(whole.test),
        "made": provenance(),
        "seconds": time.perf_counter() - started,
    }


def _accuracies(model: MultimodalVAE, rows: Batch, samples: Mapping[str, int]) -> dict[str, float]:
    """How often the label is guessed right from the image, by each estimator."""
    images, found = rows.only([IMAGE]), dict[str, float]()
    for estimator in ESTIMATORS:
        guesses = classify(model, images, LABEL, estimator=estimator, num_samples=samples[estimator]).argmax(1)
        found[estimator] = (guesses == rows.values[LABEL]).double().mean().item()
    return found


def view(_: str, content: Mapping[str, Any]) -> dict[str, Any]:
    """The page's content: variants on validation rows, by data set, and what was chosen on test rows."""
    frame = pd.json_normalize(content["cells"], sep=" ")
    validated, tested = dict[str, str](), list[list[str]]()
    for dataset, title in DATASETS.items():
        part = frame[frame["dataset"] == dataset]
        levels = sorted(part["pairs"].unique())
        some = {(name, pairs): one for (name, pairs), one in part.groupby(["variant", "pairs"])}
        rows = []
        for name, variant in VARIANTS.items():
            epochs = part.loc[part["variant"] == name, "epochs"].astype(str).tolist()[:1]
            scores = [
                percent(some[name, pairs][f"validation {estimator}"].tolist()) if (name, pairs) in some else ""
                for pairs in levels
                for estimator in ESTIMATORS
            ]
            rows.append([variant["title"], *(epochs or [""]), *scores])
        heads = [f"{pairs:,} pairs, {estimator}" for pairs in levels for estimator in ESTIMATORS]
        validated |= {title: table(["", "epochs", *heads], rows)} if len(part) else {}
        for pairs in levels:
            for name in TESTED:
                if (name, pairs) in some:
                    one = some[name, pairs]
                    decoder, count = one["test decoder"].tolist(), int(one["test_rows"].iloc[0])
                    low, high = proportion_interval(round(statistics.mean(decoder) * count), count)
                    row = [title, f"{pairs:,}", VARIANTS[name]["title"], str(len(one)), percent(decoder)]
                    interval = f"{100 * low:.1f} to {100 * high:.1f}"
                    tested.append([*row, interval, percent(one["test importance"].tolist())])
    head = ["", "pairs", "variant", "choices", "decoder", "95 % interval", "importance"]
    return {"validated": validated, "tested": table(head, tested)}
