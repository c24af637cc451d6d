"""The docs pages of Tables 2 and 3, made from their results."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Any

from mvae.export import markdown_table
from paper.comparison import DATASETS, MODELS
from paper.results import made_by
from paper.tables import FIGURES, main_entries, paper_values

__all__ = ["page"]

BOTH = ["image", "label"]
QUANTITIES = {"marginal": "log p(image)", "joint": "log p(image, label)", "conditional": "log p(image given label)"}
WAYS: list[tuple[list[str], str | None]] = [
    (["image"], "importance"),
    (["label"], "prior"),
    (["label"], "importance"),
    (BOTH, "importance"),
]
"""How else log p(image | label) is estimated than in the main table: the proposal, and log p(label)."""

PARTS = ("celeba",)
"""Data sets of which there may be a part only."""


def page(table: str, content: dict[str, Any]) -> str:
    """The docs page of a table's results, in Markdown."""
    settings, cells = content["settings"], content["cells"]
    seeds = len({cell["seed"] for cell in cells})
    return PAGES[table].format(
        spent=_spent(content),
        marginal=_beside_the_paper(table, content, "marginal"),
        joint=_beside_the_paper(table, content, "joint"),
        conditional=_beside_the_paper(table, content, "conditional"),
        differences=_difference_table(content),
        both=_alone(content, [("marginal", BOTH, None), ("joint", BOTH, None), ("conditional", BOTH, "prior")], table),
        ways=_alone(content, [("conditional", *way) for way in WAYS], table),
        reading=_alone(content, [("conditional", ["image"], "q(z | label)")], table),
        preset=settings["preset"],
        errors="over rows" if seeds == 1 else f"over {seeds} seeds",
        **made_by(content),
    )


def _spent(content: dict[str, Any]) -> str:
    """Data, epochs, rows and samples, data set by data set."""
    found = {cell["dataset"]: cell for cell in content["cells"]}
    lines, settings = [], content["settings"]
    for name, title in DATASETS.items():
        if name in found:
            cell = found[name]
            samples, prior = (
                settings.get(f"{kind}_of", {}).get(name, settings[kind]) for kind in ("samples", "prior_samples")
            )
            data = f" ({cell['data']})" if name in PARTS else ""
            lines.append(
                f"- {title}{data}: {cell['epochs']} epochs{_precision(cell)}; the first {cell['rows']:,} test rows;"
                f" {samples:,} importance samples a row; {prior:,} draws for log p(label) from the prior"
            )
    return "\n".join(lines)


def _beside_the_paper(table: str, content: dict[str, Any], quantity: str) -> str:
    datasets = [name for name in DATASETS if any(cell["dataset"] == name for cell in content["cells"])]
    printed, rows = paper_values(table)[quantity], []
    for model, compared in MODELS.items():
        row = [compared.title]
        for dataset in datasets:
            cells = _cells(content, dataset, model)
            entries = [e for cell in cells for e in main_entries(cell["estimates"]) if e["quantity"] == quantity]
            paper = printed.get(dataset, {}).get(model)
            row += [_shown(entries, table), "" if paper is None else f"{paper:.3f}"]
        rows += [row] if any(row[1::2]) else []
    return markdown_table(["", *(head for name in datasets for head in (DATASETS[name], "paper"))], rows)


def _alone(content: dict[str, Any], wanted: Sequence[tuple[str, list[str], str | None]], table: str) -> str:
    """Estimates that the paper does not print: rows are data set and model, columns what is wanted."""
    rows = []
    for dataset, title in DATASETS.items():
        for model, compared in MODELS.items():
            row = []
            for quantity, proposal, second in wanted:
                cells = _cells(content, dataset, model)
                key = {"quantity": quantity, "proposal": proposal, "second": second}
                entries = [e for cell in cells for e in cell["estimates"] if all(e[k] == v for k, v in key.items())]
                row.append(_shown(entries, table))
            rows += [[title, compared.title, *row]] if any(row) and model != "cvae" else []
    heads = [
        QUANTITIES[quantity] + (f", {_way(proposal, second)}" if quantity == "conditional" else "")
        for quantity, proposal, second in wanted
    ]
    return markdown_table(["", "", *heads], rows)


def _way(proposal: list[str], second: str | None) -> str:
    means = {
        "prior": "log p(label) from the prior",
        "importance": "log p(label) by importance",
        "q(z | label)": "q(z given label)",
    }
    return f"q(z given {' and '.join(proposal)}), {means[second or 'prior']}"


def _difference_table(content: dict[str, Any]) -> str:
    found = content.get("differences", [])
    datasets = [name for name in DATASETS if any(d["dataset"] == name for d in found)]
    rows = []
    for quantity, title in QUANTITIES.items():
        for model, compared in MODELS.items():
            row = []
            for dataset in datasets:
                key = {"dataset": dataset, "quantity": quantity, "model": model}
                here = next((d for d in found if all(d[k] == v for k, v in key.items())), None)
                row.append("" if here is None else f"{here['nats']:+.2f} ± {here['error']:.2f}")
            rows += [[title, compared.title, *row]] if any(row) else []
    return markdown_table(["", "", *(DATASETS[name] for name in datasets)], rows)


def _cells(content: dict[str, Any], dataset: str, model: str) -> list[dict[str, Any]]:
    return [cell for cell in content["cells"] if cell["dataset"] == dataset and cell["model"] == model]


def _shown(entries: Sequence[dict[str, Any]], table: str) -> str:
    """The mean over seeds with its standard error over seeds; of one seed, over rows."""
    if not entries:
        return ""
    value, error = FIGURES[table][:2]
    values = [entry[value] for entry in entries]
    spread = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else entries[0][error]
    return f"{statistics.mean(values):.2f} ± {spread:.2f}"


TABLE2 = """# Table 2: test log-likelihoods

In nats, the average test row ± its standard error {errors}, beside what the paper prints. Every model has the same
data, networks, label weight, annealing and epochs; only objective and inference differ
([what each maximises](../method.md#the-models)). MVAE and MVAE-Q train on Eq. 2 as written; the last row is the MVAE of
our recipes. What is called the label here is of MultiMNIST the text and of CelebA the 18 attributes: one modality, or
18 in the MVAE19. How the numbers read is said [on a page of its own](reading-tables.md).

{spent}

## log p(image), proposal q(z | image)

{marginal}

## log p(image, label), proposal q(z | image)

{joint}

## log p(image | label), proposal q(z | image)

The joint estimate minus log p(label), the latter from the prior as in the paper; of the CVAE its own, with proposal
q(z | image, label).

{conditional}

## Differences from the MVAE on the same rows

± the standard error of the mean difference over rows.

{differences}

## Proposal q(z | image, label), as in the paper's supplement

{both}

## Other ways to log p(image | label)

Section 5 of the paper names q(z | label) as the proposal of this estimate. That proposal knows nothing of the image:
its weights are ruled by one draw, and what comes out is a loose bound. The paper's own numbers lie close to its joint
minus log 1/10 and can only have come from q(z | image), which its caption names.

{ways}

Made on {machine}, cells at commit {commits}, by `{command}`. Every cell is in
`results/table2/{preset}.json`.
"""

TABLE3 = """# Table 3: variance of the log importance weights

The variance over draws from q(z | image), the average test row ± its standard error {errors}, beside what the paper
prints. The models, and what is called the label, are those of [Table 2](table2.md), and
[how the numbers read](reading-tables.md) is said elsewhere.

{spent}

## log p(image, z) - log q(z | image)

{marginal}

## log p(image, label, z) - log q(z | image)

{joint}

## log p(image, z | label) - log q(z | image)

Since p(image, z | label) is p(image, label, z) over the constant p(label), its variance is that of the joint, to the
digit; of the CVAE it is that under its own q(z | image, label). The paper prints other numbers than for the joint and
does not say how p(z | label) was had.

{conditional}

With the model's own q(z | label) in the place of p(z | label):

{reading}

## Proposal q(z | image, label)

{both}

Made on {machine}, cells at commit {commits}, by `{command}`. Every cell is in
`results/table3/{preset}.json`.
"""

PAGES = {"table2": TABLE2, "table3": TABLE3}


def _precision(cell: dict[str, Any]) -> str:
    precision = cell.get("precision", "float32")
    return "" if precision == "float32" else f", networks trained in {precision}"
