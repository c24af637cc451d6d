"""`mvae reproduce figure2`: 64 images drawn from the prior, and 64 given a label; texts drawn with images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mvae.batch import Batch
from mvae.data.celeba import ATTRIBUTES
from mvae.data.multimnist import DIGITS, LENGTH
from mvae.data.pictures import image_grid
from mvae.data.sources import load_dataset
from mvae.export import markdown_table
from mvae.files import atomic
from mvae.modality import levels
from mvae.models import MultimodalVAE
from paper.baselines.logistic import PairedLogisticRegression, pixels, thumbnails
from paper.comparison import DATASETS, MODELS, PRESETS, cells_of, check, train_model, trained_model
from paper.reader import Reader
from paper.results import made_by
from paper.setup import Setup

__all__ = ["page", "reproduce"]

SIDE = 8
LABELS: dict[str, tuple[Any, str]] = {
    "binary-mnist": (5, "5"),
    "mnist": (5, "5"),
    "fashion-mnist": (9, "ankle boot"),
    "multimnist": ("1773", "1773"),
    "celeba": ("Male", "male"),
}
"""What images are drawn for, as in the paper, and its name: a class, a text, an attribute."""
MODELS_DRAWN = ("mvae", "mvae-label", "mvae19")
"""Names in `MODELS`: the paper's MVAE, that of our recipes, and that with each attribute a modality."""
JUDGE_ROWS = 10_000
JUDGED = 1000
TEXTS = 6
"""Rows and columns of the sheets of images and texts."""


def reproduce(setup: Setup, datasets: Sequence[str], models: Sequence[str]) -> Iterator[str]:
    """Draw the pictures of each model, training those that are not trained yet.

    Args:
        setup: its preset is a name in `PRESETS`; a PNG a data set and model is written beside the JSON.
        datasets: names in `DATASETS`.
        models: names in `MODELS_DRAWN`.

    Yields:
        A line for each picture.
    """
    results = setup.results("figure2", asdict(PRESETS[setup.preset]))
    cells = results.missing(cells_of(datasets, models, 1))
    check(cells, setup)
    judges: dict[str, _Judge] = {}
    for cell, made in setup.side_by_side(train_model, cells):
        model, dataset = trained_model(cell, setup)
        label, name = LABELS[cell.dataset]
        path = results.path.parent / f"{setup.preset}-{cell.dataset}-{cell.model}.png"
        if cell.dataset not in judges:
            judges[cell.dataset] = _Judge(cell.dataset, setup.data_dir)
        judge = judges[cell.dataset]
        right = _draw(model, label, path, judge)
        record = {**asdict(cell), "label": label, "file": path.name, "judged": JUDGED, "right": right}
        record |= {"judge": judge.accuracy, "data": judge.data, "trained": made}
        if "text" in model.names:
            sheet = path.with_stem(f"{path.stem}-texts")
            record["texts"] = {"file": sheet.name, **_write_sheet(model, dataset.test, sheet, judge.says)}
        results.add(record)
        yield f"{cell}: {path}; of {JUDGED} images drawn for '{name}', {100 * right:.1f} % are taken for it"


class _Judge:
    """What says which label an image shows, trained on real ones: by logistic regression, or by a `Reader` of texts."""

    says: Callable[[Tensor], Sequence[Any]]
    """From images `[B, ...]` to what each shows: a class or a text."""
    wanted: Any
    """What it says of an image that is as it should be."""
    accuracy: float
    """On the first 1,000 test rows."""
    data: str

    def __init__(self, dataset: str, data_dir: str | None) -> None:
        faces, self.wanted = dataset == "celeba", LABELS[dataset][0]
        rows = load_dataset("celeba19" if faces else dataset, data_dir=data_dir)
        test, self.data = rows.test[:JUDGED], rows.description
        if dataset == "multimnist":
            self.says = Reader().fit(rows.train).read
            truth = [DIGITS.text(text) for text in test.values["text"]]
        else:
            target = self.wanted if faces else "label"
            self.wanted = 1 if faces else self.wanted
            judge = PairedLogisticRegression(thumbnails if faces else pixels, target=target)
            judge.fit(rows.train[:JUDGE_ROWS])
            self.says = lambda images: judge.predict(Batch({"image": images})).tolist()
            truth = test.values[target].tolist()
        self.accuracy = _alike(self.says(test.values["image"]), truth)


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
        axis.imshow(
            image_grid(images[: SIDE * SIDE].reshape(SIDE, SIDE, *images.shape[2:])), interpolation="antialiased"
        )
        axis.set_title(title, fontsize=10)
        axis.set_axis_off()
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic(path) as temporary:
        figure.savefig(temporary, dpi=160)
    return _alike(judge.says(given_label.squeeze(1)), [judge.wanted] * JUDGED)


@torch.no_grad()
def _write_sheet(
    model: MultimodalVAE, test: Batch, path: Path, read: Callable[[Tensor], Sequence[str]]
) -> dict[str, float]:
    """Images and texts side by side: both drawn from the prior; a text drawn for a real image.

    Returns:
        Of 1,000 each the share in which the text is what the image shows: of the prior's as `read` reads it, of the
        real ones in truth.
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
    for part, (some, titles, title) in zip(parts, (left, right), strict=True):
        part.suptitle(title, fontsize=10)
        for axis, image, text in zip(part.subplots(TEXTS, TEXTS).flat, some.numpy(), titles, strict=False):
            axis.imshow(image[0], cmap="gray", vmin=0, vmax=1)
            axis.set_title(text or "none", fontsize=8, pad=2)
            axis.set_axis_off()
    with atomic(path) as temporary:
        figure.savefig(temporary, dpi=110)
    truth = [DIGITS.text(text) for text in rows.values["text"]]
    return {"prior": _alike(texts, read(images)), "real": _alike(written, truth)}


def page(content: dict[str, Any]) -> str:
    """The docs page of these pictures, in Markdown."""
    order = [(cell.dataset, cell.model) for cell in cells_of(list(DATASETS), MODELS_DRAWN, 1)]
    cells = sorted(content["cells"], key=lambda cell: order.index((cell["dataset"], cell["model"])))
    preset = content["settings"]["preset"]
    rows = [
        [
            DATASETS[cell["dataset"]],
            MODELS[cell["model"]].title,
            LABELS[cell["dataset"]][1],
            f"{100 * cell['right']:.1f} %",
            f"{100 * cell['judge']:.1f} %" if "judge" in cell else "",
        ]
        for cell in cells
    ]
    pictures = [
        f"## {DATASETS[cell['dataset']]}, {MODELS[cell['model']].title}\n\n"
        f"![64 images from the prior, 64 given the label](../../results/figure2/{cell['file']})" + _texts(cell)
        for cell in cells
    ]
    parts = {cell["data"] for cell in cells if cell["dataset"] == "celeba"}
    return PAGE.format(
        table=markdown_table(["data set", "model", "label", "taken for it", "judge right on real images"], rows),
        judged=JUDGED,
        parts="".join(f" CelebA here: {part}." for part in parts),
        pictures="\n\n".join(pictures),
        preset=preset,
        **made_by(content),
    )


def _texts(cell: dict[str, Any]) -> str:
    """The sheet of images and texts of a model that has texts."""
    if "texts" not in cell:
        return ""
    found = cell["texts"]
    return TEXTS_PART.format(
        file=found["file"],
        judged=JUDGED,
        prior=f"{100 * found['prior']:.1f}",
        real=f"{100 * found['real']:.1f}",
        judge=f"{100 * cell['judge']:.1f}",
    )


TEXTS_PART = """

![Images and texts](../../results/figure2/{file})

Above each image stands the text that the decoder finds likeliest, symbol by symbol. Left both come from one z of the
prior: of {judged} such pairs the text is what the judge reads off the image in {prior} %; of real canvases the judge
itself reads {judge} % right, all their digits. Right, of {judged} test images, z from q(z | image): the text is the
true one in {real} %."""

PAGE = """# Figure 2: images drawn from the prior and given a label

Left 64 images with z from the prior, right 64 with z from q(z | label), each the mean of p(image | z). As a check that
does not depend on the eye, the share of {judged} images drawn for the label that a judge trained on real ones takes for
it: logistic regression on pixels, of MultiMNIST a support vector machine that reads place by place, of CelebA logistic
regression on 16 x 16 pixels. It says whether they are right, and nothing of how alike they are. The label is of
MultiMNIST a text, of CelebA the attribute male: alone for the MVAE19, and with no other attribute for a model that has
all of them in one modality.{parts}

{table}

{pictures}

Made by `{command}`, preset `{preset}`, at commit {commits} on {machine}; the numbers are in
`results/figure2/{preset}.json`. The models are those of [Table 2](table2.md).
"""
