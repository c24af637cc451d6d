"""The docs page of Figure 4."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import Any

from mvae.export import markdown_table
from paper.figure4 import BASELINES, DIRECTIONS, DRAWS, LIT, MADE, RECIPES, SOURCE
from paper.results import made_by

__all__ = ["page"]

MEASURES = {
    "psnr": ("PSNR, dB", 1.0, 2),
    "ssim": ("SSIM", 1.0, 3),
    "f1": ("F1, %", 100.0, 1),
    "iou": ("IoU, %", 100.0, 1),
}
WAYS = {"model": "the model alone", "with certain": "with what is sure put in"}


def page(content: dict[str, Any]) -> str:
    """The docs page of these results, in Markdown."""
    cells = {cell["recipe"]: cell for cell in content["cells"]}
    cells = {name: cells[name] for name in RECIPES if name in cells}
    some = next(iter(cells.values()))
    best = _best(cells)
    return PAGE.format(
        tables="\n\n".join(_direction(cells, pair) for pair in DIRECTIONS),
        verdicts="\n".join(f"- {_verdict(cells[best], given)}" for given in ("gray", "obscured", "watermark")),
        validation=_validation(cells),
        best=RECIPES[best].title,
        config=f" (`mvae fit {SOURCE} --config {RECIPES[best].variant}`)" if RECIPES[best].variant else "",
        pictures="\n\n".join(_picture(name, cells[name]) for name in dict.fromkeys([best, next(iter(cells))])),
        data=some["data"],
        train_rows=f"{some['train_rows']:,}",
        epochs=some["epochs"],
        precision=some["precision"],
        rows=f"{some['rows']['test']:,}",
        masks=f"{some['with_mask']['test']:,}",
        held=f"{some['rows']['validation']:,}",
        samples=content["settings"]["samples"],
        spent=_spent(content["settings"]),
        networks=_networks(content["settings"]["layers"]),
        preset=content["settings"]["preset"],
        **made_by(content),
    )


def _picture(name: str, cell: dict[str, Any]) -> str:
    title = RECIPES[name].title
    return f"## {title[0].upper()}{title[1:]}\n\n![The four panels](../../results/figure4/{cell['file']})"


def _spent(settings: dict[str, Any]) -> str:
    """What else differs from the paper."""
    if settings["learning_rate"] is None:
        return "all else as in the paper"
    schedule = f", falling by a {settings['schedule']}" if settings["schedule"] else ""
    return f"Adam at {settings['learning_rate']}{schedule}, {settings['subsets']} subsets drawn a step (k)"


def _networks(layers: list[list[int]] | None) -> str:
    if layers is None:
        return "the paper's"
    return f"smaller than the paper's, with convolutions of {', '.join(str(layer[0]) for layer in layers)} channels"


def _find(cell: dict[str, Any], part: str, pair: tuple[str, str], way: str) -> dict[str, Any] | None:
    return next(
        (one for one in cell[part] if (one["given"], one["wanted"]) == pair and one["way"] == way),
        None,
    )


def _best(cells: Mapping[str, dict[str, Any]]) -> str:
    """The recipe whose images made of other modalities are nearest on validation rows, by the model alone."""

    def mean_ssim(name: str) -> float:
        found = [_find(cells[name], "validation", pair, "model") for pair in DIRECTIONS if pair in MADE]
        return statistics.mean(one["ssim"] for one in found if one is not None)

    return max(cells, key=mean_ssim)


def _shown(one: dict[str, Any], measure: str) -> str:
    _, scale, digits = MEASURES[measure.removeprefix("hidden_")]
    return f"{scale * one[measure]:.{digits}f}"


def _direction(cells: Mapping[str, dict[str, Any]], pair: tuple[str, str]) -> str:
    given, wanted = pair
    rows, measures = [], ("psnr", "ssim", "hidden_psnr", "hidden_ssim", "f1", "iou")
    baseline = next((_find(cell, "test", pair, "baseline") for cell in cells.values()), None)
    name = given if wanted == "image" else wanted
    if baseline is not None:
        rows.append((BASELINES[name], baseline))
    ways = WAYS if given in ("gray", "obscured") else {"model": ""}
    for recipe, cell in cells.items():
        for way, words in ways.items():
            found = _find(cell, "test", pair, way)
            if found is not None:
                rows.append((RECIPES[recipe].title + (f"; {words}" if words else ""), found))
    if not rows:
        return f"### {DIRECTIONS[pair].capitalize()}\n\nNo row has it."
    there = [measure for measure in measures if measure in rows[0][1]]
    heads = [
        ("hidden half: " if measure.startswith("hidden_") else "") + MEASURES[measure.removeprefix("hidden_")][0]
        for measure in there
    ]
    table = markdown_table(["", *heads], [[title, *(_shown(one, measure) for measure in there)] for title, one in rows])
    return f"### {DIRECTIONS[pair].capitalize()}\n\n{table}"


def _verdict(cell: dict[str, Any], given: str) -> str:
    """The simple way and a recipe, in a sentence."""
    pair = (given, "image")
    baseline, plain, sure = (_find(cell, "test", pair, way) for way in ("baseline", "model", "with certain"))
    assert baseline is not None
    assert plain is not None
    assert sure is not None
    against = (
        f"{BASELINES[given]} has {_shown(baseline, 'psnr')} dB and SSIM {_shown(baseline, 'ssim')}; the model alone"
        f" {_shown(plain, 'psnr')} and {_shown(plain, 'ssim')}"
    )
    if given != "watermark":
        against += f", with what is sure put in {_shown(sure, 'psnr')} and {_shown(sure, 'ssim')}"
    return f"{DIRECTIONS[pair].capitalize()}: {against}."


def _validation(cells: Mapping[str, dict[str, Any]]) -> str:
    pairs = [pair for pair in DIRECTIONS if pair[1] == "image"]
    rows = []
    for name, cell in cells.items():
        found = [_find(cell, "validation", pair, "model") for pair in pairs]
        rows.append(
            [RECIPES[name].title]
            + ["" if one is None else f"{_shown(one, 'psnr')}, {_shown(one, 'ssim')}" for one in found]
        )
    return markdown_table(["PSNR in dB, SSIM", *(DIRECTIONS[pair] for pair in pairs)], rows)


PAGE = (
    """# Figure 4: image transformations as modalities

Six modalities of a face, learned jointly, so that each can be made from any other: the image, grey, edges, a mask of
the face's parts, the image with its right half hidden, and under a watermark. Data: {data}; {train_rows} rows to train,
{epochs} epochs in {precision}, {spent}; networks {networks}; every term reconstructs
all six, as in the authors' code, but where it is said that it does not. Measured on all {rows} test faces, of people
who are in no other part ({masks} of them have a mask); an answer is the average of the means of p(x | z) over {samples}
draws from q(z | given).

A grey picture says more of the colours than z keeps: their luma. And half of a picture says what that half is. Put into
the answer (all three channels made lighter or darker by as much, until the luma is right; the half itself) that is the
second of the two ways below; `mvae translate` does so unless told `--plain`. From a watermark nothing is put in,
though anyone who knows the mark could take it off again.

{verdicts}

## Against blur

The paper's pictures are blurred: each modality's log-likelihood counts a sixth, and is the cross-entropy on levels from
0 to 1. What may stand in its place was compared on {held} validation faces, by the model alone; the best by the mean
SSIM of images made of other modalities is: {best}{config}.

{validation}

## On test faces

{tables}

The hidden half is measured alone too. Pixels of edges are lit from a level of {edge_lit} on, for lines one pixel wide
have become grey in being made smaller, of masks from {mask_lit} on; from which level on those of an answer are was
chosen on the validation faces, for each way. F1 of edges lets them be one pixel off.

{pictures}

In panels (b) to (d): what is given, what the model says of it on average (and with what is sure put in), {draws} single
draws of z, the truth.

Made by `{command}` (preset `{preset}`) at commit {commits} on {machine}; the numbers are in
`results/figure4/{preset}.json`.
""".replace("{draws}", str(DRAWS))
    .replace("{edge_lit}", str(LIT["edge"]))
    .replace("{mask_lit}", str(LIT["mask"]))
)
