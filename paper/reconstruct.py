"""`mvae reproduce reconstruct`: what each ELBO term reconstructs, compared on validation rows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from mvae.batch import Batch
from mvae.evaluation.classification import classify
from mvae.evaluation.likelihood import log_likelihood
from mvae.export import markdown_table
from mvae.models import MultimodalVAE
from mvae.training.epochs import ELBO
from mvae.training.prepare import prepare
from paper.baselines.logistic import PairedLogisticRegression
from paper.results import Results

__all__ = ["page", "reproduce"]

CHOICES: dict[str, Any] = {"given": "given", "present": "present", "label": ["label"]}
SAMPLES = 200
SCORED_ROWS = 1000
DRAWN = 100
"""Images drawn for each label."""


def reproduce(
    folder: Path, dataset: str, epochs: int, data_dir: str | None = None, resume: bool = False
) -> Iterator[str]:
    """Train once with each choice, all pairs kept, and score on validation rows.

    Args:
        folder: gets `reconstruct-DATASET.json`.
        dataset: a source with `image` and `label`.
        epochs: the same for all.
        data_dir: where to look first for data files.
        resume: keep finished cells.

    Yields:
        A line for each finished cell.
    """
    settings = {"source": dataset, "epochs": epochs, "samples": SAMPLES, "rows": SCORED_ROWS, "drawn": DRAWN, "seed": 0}
    results = Results(folder / f"reconstruct-{dataset}.json", settings, resume)
    judge: PairedLogisticRegression | None = None
    for name, reconstruct in CHOICES.items():
        if results.has(reconstruct=name):
            continue
        options: dict[tuple[str, ...], Any] = {("model", "reconstruct"): reconstruct, ("training", "epochs"): epochs}
        run = prepare(dataset, options=options, data_dir=data_dir)
        judge = judge or PairedLogisticRegression().fit(run.dataset.train[:10_000])
        outcome = run.train_to_the_end()
        cell: dict[str, Any] = {
            "reconstruct": name,
            "elbo": outcome.kept[ELBO],
            **_score(run.model, run.dataset.validation),
        }
        cell["coherence"] = _coherence(run.model, judge)
        results.add(cell)
        yield f"{name}: accuracy {100 * cell['accuracy']:.1f} %, coherence {100 * cell['coherence']:.1f} %"


def page(content: dict[str, Any]) -> str:
    """The docs section of these results, in Markdown."""
    settings, made = content["settings"], content["provenance"]
    scores = "validation ELBO", "log p(image)", "log p(image, label)", "label from image", "image from label"
    rows = [
        [f"`{cell['reconstruct']}`", *(f"{cell[name]:.2f}" for name in ("elbo", "image", "joint"))]
        + [f"{100 * cell[name]:.1f} %" for name in ("accuracy", "coherence")]
        for cell in content["cells"]
    ]
    return PAGE.format(
        source=settings["source"],
        table=markdown_table(["each term reconstructs", *scores], rows),
        epochs=settings["epochs"],
        rows=settings["rows"],
        samples=settings["samples"],
        drawn=settings["drawn"],
        command=made["command"],
        commit=made["commit"],
        machine=made["machine"],
    )


PAGE = """# What each term reconstructs: {source}

The recipe of `mvae fit {source}`, all pairs kept, {epochs} epochs, one seed; only `--reconstruct` differs
([the method](../method.md#two-tables) says what it is). In nats, on at most {rows} validation rows, {samples}
importance samples with proposal q(z | what is scored). *Label from image* is the accuracy of the decoder on posterior
draws; *image from label* is the share of {drawn} images drawn for each label that logistic regression on pixels takes
for that label: it says whether they are right, and nothing of how alike they are.

{table}

Made by `{command}` at commit {commit} on {machine}; the numbers are in `results/reconstruct-{source}.json`.
"""


def _score(model: MultimodalVAE, validation: Batch) -> dict[str, float]:
    rows = validation[:SCORED_ROWS]
    probabilities = classify(model, rows, "label", estimator="decoder")
    return {
        "image": log_likelihood(model, rows, ["image"], num_samples=SAMPLES).mean(),
        "joint": log_likelihood(model, rows, ["image", "label"], num_samples=SAMPLES).mean(),
        "accuracy": (probabilities.argmax(1) == rows.values["label"]).double().mean().item(),
    }


def _coherence(model: MultimodalVAE, judge: PairedLogisticRegression) -> float:
    torch.manual_seed(0)
    labels = torch.arange(int(model.modalities["label"].num_classes or 0))
    images = model.generate(Batch({"label": labels}), ["image"], DRAWN, mean=True)["image"].flatten(0, 1)
    predicted = judge.predict(Batch({"image": images}))
    return (torch.from_numpy(predicted) == labels.repeat(DRAWN)).double().mean().item()
