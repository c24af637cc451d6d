"""`figure2`: 64 images drawn from the prior, and 64 given a label; texts drawn with images."""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import torch
from torch import Tensor

from mvae.batch import Batch
from mvae.data.celeba import ATTRIBUTES
from mvae.data.multimnist import DIGITS, LENGTH
from mvae.data.pictures import image_grid
from mvae.data.sources import load_dataset
from mvae.modality import levels
from mvae.models import MultimodalVAE
from paper.baselines.logistic import PairedLogisticRegression, pixels, thumbnails
from paper.compared import DATASETS, MODELS, cells_of, check, train_model, trained_model
from paper.pages import save_figure, table
from paper.reader import Reader
from paper.runner import CATALOG, Cell, Report, Setup, titles

__all__ = ["cells", "check", "measure", "view"]

SIDE = 8
LABELS: dict[str, Any] = CATALOG["figure2"]["labels"]
"""What images are drawn for, as in the paper, and its name: a class, a text, an attribute."""
JUDGE_ROWS = 10_000
JUDGED = 1000
TEXTS = 6
"""Rows and columns of the sheets of images and texts."""


def cells(setup: Setup) -> list[Cell]:
    """Each model on each data set."""
    return cells_of(setup.among("dataset"), setup.among("model"), 1)


def measure(cell: Cell, setup: Setup, report: Report) -> dict[str, Any]:
    """Draw the pictures of a model, training it if it is not trained yet; a PNG is written beside the JSON."""
    made = train_model(cell, setup, report)
    report("drawing", 0, 1)
    model, whole = trained_model(cell, setup)
    path = setup.path.with_name(f"{setup.preset}-{cell['dataset']}-{cell['model']}.png")
    judge = _judge(cell["dataset"], setup.data_dir)
    label = LABELS[cell["dataset"]][0]
    right = _draw(model, label, path, judge)
    record = {**cell, "label": label, "file": path.name, "judged": JUDGED, "right": right}
    record |= {"judge": judge.accuracy, "data": judge.data, "trained": made}
    if "text" in model.names:
        sheet = path.with_stem(f"{path.stem}-texts")
        record["texts"] = {"file": sheet.name, **_write_sheet(model, whole.test, sheet, judge.says)}
    return record


class _Judge(NamedTuple):
    """What says which label an image shows, trained on real ones: by logistic regression, or by a `Reader` of texts."""

    says: Callable[[Tensor], Sequence[Any]]
    """From images `[B, ...]` to what each shows: a class or a text."""
    wanted: Any
    """What it says of an image that is as it should be."""
    accuracy: float
    """On the first 1,000 test rows."""
    data: str


@lru_cache(maxsize=1)
def _judge(dataset: str, data_dir: str | None) -> _Judge:
    faces, label = dataset == "celeba", LABELS[dataset][0]
    rows = load_dataset("celeba19" if faces else dataset, data_dir=data_dir)
    test = rows.test[:JUDGED]
    if dataset == "multimnist":
        says: Callable[[Tensor], Sequence[Any]] = Reader().fit(rows.train).read
        truth: Sequence[Any] = [DIGITS.text(text) for text in test.values["text"]]
    else:
        target = label if faces else "label"
        judge = PairedLogisticRegression(thumbnails if faces else pixels, target=target).fit(rows.train[:JUDGE_ROWS])
        says = lambda images: judge.predict(Batch({"image": images})).tolist()  # noqa: E731
        truth = test.values[target].tolist()
    return _Judge(says, 1 if faces else label, _alike(says(test.values["image"]), truth), rows.description)


def _given(model: MultimodalVAE, label: Any) -> dict[str, Any]:
    """A label as the model is given it."""
    if "label" in model.names:
        return {"label": label}
    if "text" in model.names:
        return {"text": DIGITS.symbols(label, LENGTH)}
    if "attributes" in model.names:  # which has all others or none
        return {"attributes": torch.tensor([float(name == label) for name in ATTRIBUTES])}
    return {label: 1}


def _alike(found: Sequence[Any], expected: Sequence[Any]) -> float:
    return sum(one == other for one, other in zip(found, expected, strict=True)) / len(expected)


@torch.no_grad()
def _draw(model: MultimodalVAE, label: Any, path: Path, judge: _Judge) -> float:
    """Write both grids as one picture; the share of images given the label that the judge takes for it."""
    from matplotlib.figure import Figure

    torch.manual_seed(0)
    from_prior = model.generate(None, ["image"], SIDE * SIDE, mean=True)["image"]
    given_label = model.generate(_given(model, label), ["image"], JUDGED, mean=True)["image"]
    figure = Figure(figsize=(8, 4.3), layout="constrained")
    axes = figure.subplots(1, 2)
    for axis, images, title in ((axes[0], from_prior, "z from the prior"), (axes[1], given_label, "z given the label")):
        shown = images[: SIDE * SIDE].reshape(SIDE, SIDE, *images.shape[2:])
        axis.imshow(image_grid(shown), interpolation="antialiased")
        axis.set_title(title, fontsize=10)
        axis.set_axis_off()
    save_figure(figure, path, 160)
    return _alike(judge.says(given_label.squeeze(1)), [judge.wanted] * JUDGED)


@torch.no_grad()
def _write_sheet(
    model: MultimodalVAE, test: Batch, path: Path, read: Callable[[Tensor], Sequence[str]]
) -> dict[str, float]:
    """Images and texts side by side: both drawn from the prior; a text drawn for a real image.

    Returns the share in which the text is what the image shows: as `read` reads the prior's, in truth of real ones.
    """
    from matplotlib.figure import Figure

    torch.manual_seed(0)
    z = model.draw_latent(None, JUDGED).squeeze(1)
    drawn = model.decode(z, ["image", "text"])
    images, texts = drawn["image"].mean, [DIGITS.text(text) for text in drawn["text"].mode]  # type: ignore[attr-defined]
    rows = test[:JUDGED]
    z = model.draw_latent(rows.only(["image"]))[0]
    written = [DIGITS.text(text) for text in model.decode(z, ["text"])["text"].mode]  # type: ignore[attr-defined]
    figure = Figure(figsize=(10, 5.6), layout="constrained")
    parts: Any = figure.subfigures(1, 2)
    left = images.cpu(), texts, "image and text, z from the prior"
    right = levels(rows.values["image"]), written, "a real image, and the text for it"
    for part, (some, captions, title) in zip(parts, (left, right), strict=True):
        part.suptitle(title, fontsize=10)
        for axis, image, text in zip(part.subplots(TEXTS, TEXTS).flat, some.numpy(), captions, strict=False):
            axis.imshow(image[0], cmap="gray", vmin=0, vmax=1)
            axis.set_title(text or "none", fontsize=8, pad=2)
            axis.set_axis_off()
    save_figure(figure, path, 110)
    truth = [DIGITS.text(text) for text in rows.values["text"]]
    return {"prior": _alike(texts, read(images)), "real": _alike(written, truth)}


def view(_: str, content: Mapping[str, Any]) -> dict[str, Any]:
    """The page's content: the cells in order."""
    order = cells_of(list(DATASETS), titles("figure2", "model"), 1)
    cells = sorted(content["cells"], key=lambda cell: order.index({key: cell[key] for key in order[0]}))
    rows = [
        [
            *(DATASETS[cell["dataset"]], MODELS[cell["model"]], LABELS[cell["dataset"]][1]),
            *("" if name not in cell else f"{100 * cell[name]:.1f} %" for name in ("right", "judge")),
        ]
        for cell in cells
    ]
    parts = {cell["data"] for cell in cells if cell["dataset"] == "celeba"}
    return {
        "table": table(["data set", "model", "label", "taken for it", "judge right on real images"], rows),
        "judged": JUDGED,
        "titles": DATASETS,
        "kinds": {MODELS[name]: part["right"] for name, part in pd.DataFrame(cells).groupby("model", sort=False)},
        "parts": "".join(f" CelebA here: {part}." for part in parts),
        "cells": [(f"{DATASETS[cell['dataset']]}, {MODELS[cell['model']]}", cell) for cell in cells],
    }
