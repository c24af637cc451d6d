"""`mvae reproduce figure2`: 64 images drawn from the prior, and 64 given a label."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from mvae.baselines.logistic import PairedLogisticRegression
from mvae.data.batch import Batch
from mvae.data.sources import load_dataset
from mvae.experiments.comparison import DATASETS, MODELS, PRESETS, Cell, check, train_model, trained_model
from mvae.experiments.results import Results, markdown_table
from mvae.experiments.side_by_side import run_side_by_side
from mvae.figures import image_grid
from mvae.models import MultimodalVAE
from mvae.storage import atomic

__all__ = ["page", "reproduce"]

SIDE = 8
LABELS = {"binary-mnist": (5, "5"), "mnist": (5, "5"), "fashion-mnist": (9, "ankle boot")}
"""The label that images are drawn for, as in the paper, and its name."""
MODELS_DRAWN = ("mvae", "mvae-label")
"""Names in `MODELS`: the paper's MVAE, and that of our recipes."""
JUDGE_ROWS = 10_000
JUDGED = 1000


def reproduce(
    folder: Path,
    preset: str,
    datasets: Sequence[str],
    models: Sequence[str],
    runs: Path,
    data_dir: str | None = None,
    jobs: int = 1,
    resume: bool = False,
) -> Iterator[str]:
    """Draw the pictures of each model, training those that are not trained yet.

    Args:
        folder: gets `figure2/PRESET.json` and a PNG a data set and model.
        preset: a name in `PRESETS`.
        datasets: names in `DATASETS`.
        models: names in `MODELS_DRAWN`.
        runs: folder of the trained models.
        data_dir: where to look first for data files.
        jobs: how many at a time.
        resume: keep finished pictures.

    Yields:
        A line for each picture.
    """
    results = Results(folder / "figure2" / f"{preset}.json", {"preset": preset, **asdict(PRESETS[preset])}, resume)
    cells = [Cell(dataset, model, 0) for dataset in datasets for model in models]
    cells = [cell for cell in cells if not results.has(**asdict(cell))]
    check(cells, preset, runs, data_dir)
    judges: dict[str, PairedLogisticRegression] = {}
    for cell, made in run_side_by_side(train_model, cells, jobs, (preset, runs, data_dir)):
        model, _ = trained_model(cell, preset, runs, data_dir)
        label, name = LABELS[cell.dataset]
        path = results.path.parent / f"{preset}-{cell.dataset}-{cell.model}.png"
        if cell.dataset not in judges:
            judges[cell.dataset] = PairedLogisticRegression().fit(
                load_dataset(cell.dataset, data_dir=data_dir).train[:JUDGE_ROWS]
            )
        right = _draw(model, label, path, judges[cell.dataset])
        results.add(
            {**asdict(cell), "label": label, "file": path.name, "judged": JUDGED, "right": right, "trained": made}
        )
        yield f"{cell}: {path}; of {JUDGED} images drawn for '{name}', {100 * right:.1f} % are taken for it"


@torch.no_grad()
def _draw(model: MultimodalVAE, label: int, path: Path, judge: PairedLogisticRegression) -> float:
    """Write both grids as one picture; the share of images given the label that the judge takes for it."""
    from matplotlib.figure import Figure

    torch.manual_seed(0)
    from_prior = model.generate(None, ["image"], SIDE * SIDE, mean=True)["image"]
    given_label = model.generate({"label": label}, ["image"], JUDGED, mean=True)["image"]
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
    predicted = judge.predict(Batch({"image": given_label.squeeze(1)}))
    return float((predicted == label).mean())


def page(content: dict[str, Any]) -> str:
    """The docs page of these pictures, in Markdown."""
    order = [(dataset, model) for dataset in DATASETS for model in MODELS_DRAWN]
    cells = sorted(content["cells"], key=lambda cell: order.index((cell["dataset"], cell["model"])))
    preset = content["settings"]["preset"]
    rows = [
        [
            DATASETS[cell["dataset"]],
            MODELS[cell["model"]].title,
            LABELS[cell["dataset"]][1],
            f"{100 * cell['right']:.1f} %",
        ]
        for cell in cells
    ]
    pictures = [
        f"## {DATASETS[cell['dataset']]}, {MODELS[cell['model']].title}\n\n"
        f"![64 images from the prior, 64 given the label](../../results/figure2/{cell['file']})"
        for cell in cells
    ]
    made = content["provenance"]
    return PAGE.format(
        table=markdown_table(["data set", "model", "label", "taken for it"], rows),
        judged=JUDGED,
        pictures="\n\n".join(pictures),
        preset=preset,
        command=made["command"],
        commit=made["commit"],
        machine=made["machine"],
    )


PAGE = """# Figure 2: images drawn from the prior and given a label

Left 64 images with z from the prior, right 64 with z from q(z | label), each the mean of p(image | z). As a check that
does not depend on the eye, the share of {judged} images drawn for the label that logistic regression on pixels, trained
on real ones, takes for it. It says whether they are right, and nothing of how alike they are.

{table}

{pictures}

Made by `{command}`, preset `{preset}`, at commit {commit} on {machine}; the numbers are in
`results/figure2/{preset}.json`. The models are those of [Table 2](table2.md).
"""
