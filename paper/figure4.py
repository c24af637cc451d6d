"""`figure4`: image transformations as modalities, and each made from others (paper, section 6).

The paper shows pictures. Here they are measured too, on held-out people, beside the simplest ways.
"""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import max_pool2d

from mvae.batch import Batch
from mvae.config.recipes import resolve
from mvae.config.specs import RunSpec
from mvae.data.celeba import SIDE
from mvae.data.dataset import Dataset
from mvae.data.pictures import image_grid
from mvae.data.sources import load_dataset
from mvae.generation.translate import translate, with_certain
from mvae.modality import levels
from mvae.models import MultimodalVAE
from mvae.training.prepare import learned
from paper.figure4_view import DIRECTIONS, DRAWS, LIT, RECIPES, SOURCE, view
from paper.pages import save_figure
from paper.runner import Cell, Report, Setup, places
from paper.trained import train_on_rows

__all__ = ["check", "measure", "view"]

LEVELS = ("image", "gray", "obscured", "watermark")
"""Modalities whose values lie anywhere from black to white; of edges and masks the question is which pixels are lit."""
THRESHOLDS = [round(0.02 * number, 2) for number in range(1, 48)]
"""From which of these on a pixel of an answer is lit is chosen on validation faces, for each way of answering."""
EXAMPLES = 6
LEAST = 1e-10
"""Mean square difference below which pictures are the same: 100 dB."""


def check(setup: Setup, _: Sequence[Cell]) -> None:
    """Say what is missing, and make all modalities once, before anything starts."""
    _load(_spec("paper", setup), setup)


def measure(cell: Cell, setup: Setup, report: Report) -> dict[str, Any]:
    """Train by a recipe, measure each direction on held-out faces and draw the panels beside the JSON."""
    name, spent, spec = cell["recipe"], setup.spent, _spec(cell["recipe"], setup)
    whole = _load(spec, setup)
    rows = whole.train[: spent["train_rows"]]
    model, trained = train_on_rows(setup.runs / setup.preset / SOURCE / name, spec, replace(whole, train=rows), report)
    known = baselines(rows)
    parts = {"validation": whole.validation[: spent["validation_rows"]], "test": whole.test[: spent["test_rows"]]}
    report("measuring", 0, 2)
    measured = {"validation": _measured(model, parts["validation"], known, spent["samples"])}
    report("measuring", 1, 2)
    chosen = {(one["wanted"], one["way"]): one["threshold"] for one in measured["validation"] if "threshold" in one}
    measured["test"] = _measured(model, parts["test"], known, spent["samples"], chosen)
    picture = setup.path.with_name(f"{setup.preset}-{name}.png")
    _draw(model, whole.test, picture, spent["samples"])
    return {
        "recipe": name,
        "epochs": spec.training.epochs,
        "precision": trained["precision"],
        "train_rows": len(rows),
        "rows": {part: len(held) for part, held in parts.items()},
        "with_mask": {part: int(held.present["mask"].sum()) for part, held in parts.items()},
        "data": whole.description,
        **measured,
        "file": picture.name,
        "trained": trained,
    }


def _spec(name: str, setup: Setup) -> RunSpec:
    """A recipe, with the masks that can be had here."""
    spent, recipe = setup.spent, RECIPES[name]
    options = {f"training.{key}": spent[key] for key in ("epochs", "learning_rate", "schedule", "precision")}
    options |= {"model.random_subsets": spent["subsets"]} | recipe.get("options", {})
    layers = {f"model.modalities.*.{network}.layers": spent["layers"] for network in ("encoder", "decoder")}
    changed = places(options, *LEVELS) | (places(layers, *LEVELS, *LIT) if spent["layers"] else {})
    return learned(resolve(SOURCE, recipe.get("variant"), changed), setup.data_dir)


def _load(spec: RunSpec, setup: Setup) -> Dataset:
    return load_dataset(SOURCE, data_dir=setup.data_dir, options=spec.data.options)


def baselines(train: Batch) -> dict[str, Callable[[Mapping[str, Tensor]], Tensor]]:
    """The simplest ways, by what is given (the image wanted) or by what is wanted (the image given).

    Each is a function from held-out rows `[B, C, H, W]`, by modality, in [0, 1], to what is wanted; of the edges and
    masks of training rows the mean is taken.
    """
    means = {}
    for name in ("edge", "mask"):
        there = train.values[name][train.present[name]]
        means[name] = levels(there).float().mean(0) if len(there) else torch.zeros(1, SIDE, SIDE)
    half = SIDE // 2
    return {
        "gray": lambda rows: rows["gray"].expand(-1, 3, -1, -1),
        "obscured": lambda rows: torch.cat([left := rows["obscured"][..., :half], left.flip(-1)], -1),
        "watermark": lambda rows: rows["watermark"],
        "edge": lambda rows: means["edge"].expand(len(rows["image"]), -1, -1, -1),  # the same for every image
        "mask": lambda rows: means["mask"].expand(len(rows["image"]), -1, -1, -1),
    }


def quality(wanted: str, found: Tensor, truth: Tensor, threshold: float = 0.5) -> dict[str, float]:
    """How near pictures `[B, C, H, W]`, cut off at 0 and 1, are to the truth, averaged over rows.

    It is `psnr` in dB and `ssim` (Wang et al. 2004, 7 x 7 pixels, the mean over channels); of edges, whose pixels are
    lit from `threshold` on, `f1`, with a tolerance of a pixel; of masks `iou`.
    """
    from skimage.metrics import structural_similarity

    found, truth = found.clamp(0, 1).double(), truth.double()
    if wanted in LIT:
        return _of_lit(wanted, (found >= threshold).double(), (truth >= LIT[wanted]).double())
    error = (found - truth).square().flatten(1).mean(1)
    pairs = zip(truth.numpy(), found.numpy(), strict=True)
    ssim = [float(structural_similarity(true, one, data_range=1, channel_axis=0)) for true, one in pairs]
    return {"psnr": -10 * error.clamp(min=LEAST).log10().mean().item(), "ssim": statistics.mean(ssim)}


def _of_lit(wanted: str, found: Tensor, truth: Tensor) -> dict[str, float]:
    """F1 of edges or IoU of masks, from pictures of zeros and ones; it is 1 where neither has a lit pixel."""

    def count(lit: Tensor) -> Tensor:
        return lit.flatten(1).sum(1)

    if wanted == "edge":
        near_truth, near_found = (max_pool2d(lit, 3, stride=1, padding=1) for lit in (truth, found))
        precision = count(found * near_truth) / count(found).clamp(min=1)
        recall = count(truth * near_found) / count(truth).clamp(min=1)
        score = 2 * precision * recall / (precision + recall).clamp(min=1e-9)
    else:
        score = count(found * truth) / count(found + truth - found * truth).clamp(min=1)
    lit = count(found + truth) > 0
    return {"f1" if wanted == "edge" else "iou": score.where(lit, 1.0).mean().item()}


def _measured(
    model: MultimodalVAE,
    held: Batch,
    known: Mapping[str, Callable[[Mapping[str, Tensor]], Tensor]],
    samples: int,
    thresholds: Mapping[tuple[str, str], float] | None = None,
) -> list[dict[str, Any]]:
    """Each direction in each way; at the given thresholds, by what is wanted and the way, or the best on these rows."""
    measured = []
    for given, wanted in DIRECTIONS:
        rows = held[held.present[wanted].nonzero().flatten()]
        if not len(rows):
            continue
        truth, seen = (levels(rows.values[name]).float() for name in (wanted, given))
        ours = translate(model, rows.only([given]), wanted, num_samples=samples)
        ways = {"model": ours[wanted].mean, "with certain": with_certain(ours, {given: seen})[wanted].mean}
        baseline = known.get(given if wanted == "image" else wanted)
        if baseline is not None:
            ways["baseline"] = baseline({given: seen})
        for way, found in ways.items():
            cell: dict[str, Any] = {"given": given, "wanted": wanted, "way": way}
            if wanted in LIT:
                choices = THRESHOLDS if thresholds is None else [thresholds.get((wanted, way), 0.5)]
                tried = [{**cell, "threshold": one, **quality(wanted, found, truth, one)} for one in choices]
                cell = max(tried, key=_score)
            else:
                cell |= quality(wanted, found, truth)
            if (given, wanted) == ("obscured", "image"):
                hidden = quality(wanted, found[..., SIDE // 2 :], truth[..., SIDE // 2 :])
                cell |= {f"hidden_{name}": value for name, value in hidden.items()}
            measured.append(cell)
    return measured


def _score(one: Mapping[str, Any]) -> float:
    return float(one.get("f1", one.get("iou")))


def _draw(model: MultimodalVAE, test: Batch, path: Path, samples: int) -> None:
    """The paper's four panels, on the first test faces that have a mask, where there are enough of them."""
    from matplotlib.figure import Figure

    there = test.present["mask"].nonzero().flatten()
    rows = test[there[:EXAMPLES]] if len(there) >= EXAMPLES else test[:EXAMPLES]
    seen = {name: levels(value).float() for name, value in rows.values.items()}
    panels = []
    for title, given, wanted in (
        ("(a) an image, itself again, its edges, its mask", "image", ("image", "edge", "mask")),
        ("(b) grey to colours", "gray", ("image",)),
        ("(c) half to whole", "obscured", ("image",)),
        ("(d) watermarked to clean", "watermark", ("image",)),
    ):
        plain = translate(model, rows.only([given]), wanted, DRAWS, samples)
        found = with_certain(plain, {given: seen[given]})
        columns = [("given", seen[given])]
        for name in wanted:
            label = "" if len(wanted) == 1 else f" ({name})"
            columns.append((f"model{label}", plain[name].mean))
            if given != "image":
                sure = found[name].mean
                columns += [] if torch.equal(sure, plain[name].mean) else [("and what is sure", sure)]
                columns += [("draw", draw) for draw in found[name].draws]
            columns.append((f"truth{label}", seen[name]))
        images = torch.stack([column.expand(-1, 3, -1, -1) for _, column in columns], 1)
        panels.append((title, [head for head, _ in columns], images))
    figure = Figure(figsize=(14, 12.5), layout="constrained")
    for axis, (title, heads, images) in zip(figure.subplots(2, 2).flat, panels, strict=True):
        axis.imshow(image_grid(images), interpolation="antialiased")
        axis.set_title(title, fontsize=11)
        axis.set_xticks([SIDE / 2 + 4 + (SIDE + 4) * number for number in range(len(heads))], heads, fontsize=6)
        axis.set_yticks([])
        axis.tick_params(length=0)
        for spine in axis.spines.values():
            spine.set_visible(False)
    save_figure(figure, path, 90)
