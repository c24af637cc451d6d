"""`few-pairs`: what helps, beyond the paper, to predict a label from few pairs."""

import statistics
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
from paper.pages import mean, percent, pivot
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
    spent = setup.spent
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
    levels = {pairs: f"{pairs:,}" for pairs in sorted(frame["pairs"].unique())}
    rows: dict[str, dict[Any, str]] = {
        "variant": titles("few-pairs", "variant"),
        "epochs": {count: str(count) for count in set(frame["epochs"])},
    }
    columns: dict[str, dict[Any, str]] = {
        "pairs": {pairs: f"{text} pairs" for pairs, text in levels.items()},
        "": {f"validation {estimator}": estimator for estimator in ESTIMATORS},
    }
    tested = []
    for (dataset, pairs, variant), one in frame[frame["variant"].isin(TESTED)].groupby(["dataset", "pairs", "variant"]):
        decoder, count = one["test decoder"].tolist(), int(one["test_rows"].iloc[0])
        low, high = proportion_interval(round(statistics.mean(decoder) * count), count)
        scores = {"decoder": percent(decoder), "95 % interval": f"{100 * low:.1f} to {100 * high:.1f}"}
        scores |= {"choices": str(len(one)), "importance": percent(one["test importance"].tolist())}
        share = statistics.mean(decoder)
        tested.append({"dataset": dataset, "pairs": pairs, "variant": variant, "share": share, **scores})
    means = pd.DataFrame(tested, columns=["dataset", "pairs", "variant", "share"]).pivot_table(
        "share", ["dataset", "pairs"], "variant"
    )
    heads = {name: name for name in ("choices", "decoder", "95 % interval", "importance")}
    where = {"dataset": DATASETS, "pairs": levels, "variant": rows["variant"]}
    return {
        "validated": {
            title: pivot(part, rows, columns, percent, head=["", "epochs"])
            for dataset, title in DATASETS.items()
            if len(part := frame[frame["dataset"] == dataset])
        },
        "gains": means.reindex(columns=["plain", "chosen"]).dropna().reset_index().to_dict("records"),
        "titles": DATASETS,
        "variants": titles("few-pairs", "variant"),
        "tested": pivot(pd.DataFrame(tested), where, {"": heads}, mean(), head=["", "pairs", "variant"]),
    }
