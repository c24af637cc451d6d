"""The last step of `make quickstart`: one picture of what a digits run has learned, and words for it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mvae.batch import Batch
from mvae.config.folder import load, read_spec
from mvae.data.pictures import image_grid
from mvae.data.sources import load_dataset
from mvae.evaluation.classification import classify
from mvae.files import atomic
from mvae.models import MultimodalVAE

__all__ = ["draw_picture", "main"]

COLUMNS = 8
ANSWERED, WRONG = 24, 8


def main(run: str) -> None:
    """Draw `RUN/picture.png` and explain it."""
    spec = read_spec(run)
    dataset = load_dataset(**spec.data.named, seed=spec.training.seed)
    path = Path(run) / "picture.png"
    draw_picture(load(run), dataset.test, path)
    labelled = int(dataset.train.presence(["image", "label"]).all(1).sum())
    print(
        f"\nOf {len(dataset.train):,} training rows only {labelled} had both an image and its label; the others had one"
        " of the two.\nOne model now answers in every direction. See"
        f" {path}:\n"
        "  left          given a label, images are drawn: one row a digit\n"
        "  right, above  given an image it has never seen, the label is told, with its probability; in red some wrong\n"
        "                answers, each with the truth\n"
        "  right, below  given nothing, image and label are drawn together\n\n"
        "Go on:\n"
        f"  . .venv/bin/activate\n  mvae sample {run} --given label=7 --out sevens.png\n"
        "  mvae fit --help"
    )


@torch.no_grad()
def draw_picture(model: MultimodalVAE, test: Batch, path: Path, seed: int = 0) -> None:
    """Draw images given labels, labels given images, and both given nothing.

    Args:
        model: over `image` and `label`.
        test: complete rows; all are classified, and some shown that were told right and some wrong.
        path: the `.png` to write.
        seed: of the draws.
    """
    from matplotlib.figure import Figure

    torch.manual_seed(seed)
    classes = list(range(model.modalities["label"].num_classes or 0))
    given_label = model.generate({"label": classes}, ["image"], COLUMNS, mean=True)["image"].transpose(0, 1)
    probabilities = classify(model, test, "label", seed=seed)
    is_right = probabilities.argmax(1) == test.values["label"]
    right_ones, wrong_ones = is_right.nonzero()[:, 0], (~is_right).nonzero()[:, 0]
    shown = torch.cat([right_ones[: ANSWERED - min(WRONG, len(wrong_ones))], wrong_ones])[:ANSWERED]
    told = [
        f"{label} ({100 * p:.0f} %)" + ("" if label == truth else f"\ntruth {truth}")
        for p, label, truth in zip(
            *(t[shown].tolist() for t in (*probabilities.max(1), test.values["label"])), strict=True
        )
    ]
    colours = ["black" if right else "crimson" for right in is_right[shown].tolist()]
    z = torch.randn(ANSWERED, model.latent_dim)
    drawn = model.decode(z)

    figure = Figure(figsize=(11, 6.4), layout="constrained")
    parts: Any = figure.subfigures(1, 2, width_ratios=(1, 1.25))
    left, right = parts
    axes = left.subplots()
    axes.imshow(image_grid(given_label))
    axes.set_title("given a label: images", fontsize=11)
    axes.set_axis_off()
    above, below = right.subfigures(2, 1)
    title = f"given an unseen image: its label ({len(right_ones):,} of {len(test):,} right; in red some wrong ones)"
    _captioned(above, title, test.values["image"][shown], told, colours)
    labels = [str(label) for label in drawn["label"].sample().tolist()]
    _captioned(below, "given nothing: image and label", drawn["image"].mean, labels, ["black"] * ANSWERED)
    with atomic(path) as temporary:
        figure.savefig(temporary, dpi=110)


def _captioned(figure: object, title: str, images: Tensor, captions: list[str], colours: list[str]) -> None:
    figure.suptitle(title, fontsize=11)  # type: ignore[attr-defined]
    grid = figure.subplots(3, len(images) // 3)  # type: ignore[attr-defined]
    for axes, image, caption, colour in zip(grid.flat, images, captions, colours, strict=True):
        axes.imshow(image[0].clamp(0, 1).numpy(), cmap="gray", vmin=0, vmax=1)
        axes.set_title(caption, fontsize=8, color=colour, pad=2)
        axes.set_axis_off()


if __name__ == "__main__":
    main(sys.argv[1])
