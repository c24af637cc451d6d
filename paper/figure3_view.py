"""The picture and the docs page of Figure 3, made from its results."""

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from mvae.evaluation.classification import proportion_interval
from paper.pages import percent, pivot, save_figure, table
from paper.runner import CATALOG, titles

DATASETS, MODELS = titles("figure3", "dataset"), titles("figure3", "model")
LABEL = "label"
TARGETS = {"multimnist": "text"}
"""What is predicted from the image where it is no label; a text is right if all of it is."""
ALL = 0
"""In place of a number of pairs: all of them."""
ENTRIES = CATALOG["figure3"]["choices"]["model"]
CURVES = {name: MODELS[name] for name, entry in ENTRIES.items() if "aside" not in entry}
OURS = [name for name in CURVES if ENTRIES[name]["kind"] == "joint"]
COMPARED = CATALOG["figure3"]["compared"]
OTHERS = {
    "what learns from the pairs alone": [
        name for name in CURVES if ENTRIES[name]["kind"] in ("pairs", "supervised", "logistic")
    ],
    "all that is no MVAE": [name for name in CURVES if name not in OURS],
}
"""Beside whom."""
READINGS, CAUSES = CATALOG["figure3"]["readings"], CATALOG["figure3"]["causes"]
WINS, LOSES, NEITHER = "wins", "loses", "neither wins nor loses"


def cells_of(content: Mapping[str, Any], dataset: str) -> pd.DataFrame:
    """The cells of a data set, each reading a column `right READING`."""
    return pd.json_normalize([cell for cell in content["cells"] if cell["dataset"] == dataset], sep=" ")


def levels_of(part: pd.DataFrame) -> dict[int, str]:
    """The numbers of pairs, all of them last, with their titles."""
    return {
        pairs: f"{pairs:,}" if pairs else "all" for pairs in sorted(set(part["pairs"]), key=lambda n: (n == ALL, n))
    }


def draw(content: Mapping[str, Any], dataset: str, folder: Path) -> Path:
    """Draw the curves of a data set: the mean over choices of pairs, and the range from the worst to the best."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.5, 4.8), layout="constrained")
    axes = figure.subplots()
    part = cells_of(content, dataset)
    part["x"] = part["pairs"].where(part["pairs"] != ALL, part["total"])
    for model, title in CURVES.items():
        points = 100 * part[part["model"] == model].groupby("x")["accuracy"].agg(["mean", "min", "max"])
        if len(points):
            colour, line = ENTRIES[model]["line"]
            axes.plot(points.index, points["mean"], line, color=colour, label=title, marker=".", linewidth=1.5)
            axes.fill_between(points.index, points["min"], points["max"], color=colour, alpha=0.12, linewidth=0)
    axes.set_xscale("log")
    target = TARGETS.get(dataset, LABEL)
    axes.set_xlabel(f"pairs of image and {target}")
    axes.set_ylabel(f"test accuracy of the {target} given the image, %")
    axes.set_title(DATASETS[dataset])
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    path = folder / f"{content['settings']['preset']}-{dataset}.png"
    save_figure(figure, path, 130)
    return path


def view(_: str, content: Mapping[str, Any]) -> dict[str, Any]:
    """The page's content: a section a data set."""
    parts = {dataset: part for dataset in DATASETS if len(part := cells_of(content, dataset))}
    return {
        "sections": [_section(part, dataset) for dataset, part in parts.items()],
        "total": " or ".join(sorted({f"{cell['total']:,}" for cell in content["cells"]})),
        "epochs": ", ".join(_epochs(part, dataset) for dataset, part in parts.items()),
        "texts": TARGETS.keys() & parts.keys(),
        "scores": {DATASETS[dataset]: _counted(part) for dataset, part in parts.items()},
    }


def trainings(part: pd.DataFrame) -> pd.DataFrame:
    """The cells of the curves' networks that learned labels, with their epochs and precision."""
    columns = ["model", "epoch", "epochs", "precision"]
    return part[part["model"].isin(CURVES)].reindex(columns=columns).dropna(subset="epoch")


def lasting(part: pd.DataFrame) -> str:
    """In how many trainings no epoch before the last was better."""
    found = trainings(part)
    return f"{(found['epoch'] == found['epochs']).sum()} of {len(found)}"


def _epochs(part: pd.DataFrame, dataset: str) -> str:
    """How long the networks were trained, in words, and in how many trainings matrix products were not in float32."""
    found = trainings(part)
    fast = (found["precision"] == "bfloat16").sum()
    precision = f" ({fast} of {len(found)} trainings in bfloat16)" if fast else ""
    return f"{found['epochs'].max() if len(found) else 0:.0f} on {DATASETS[dataset]}{precision}"


def _section(part: pd.DataFrame, dataset: str) -> dict[str, Any]:
    largest, levels = int(part["rows"].max()), levels_of(part)
    columns = {"pairs": levels | {ALL: f"all {part['total'].iloc[0]:,}"} if ALL in levels else levels}
    intervals = (proportion_interval(round(share * largest), largest) for share in (0.5, 0.97))
    half, less = (f"{50 * (high - low):.1f}" for low, high in intervals)
    return {
        "dataset": dataset,
        "title": DATASETS[dataset],
        "table": pivot(part, {"model": CURVES}, columns, percent, "accuracy"),
        "readings": _readings(part, columns),
        "causes": causes(part),
        "words": in_words(part),
        "verdicts": _verdicts(part),
        "rows": f"{largest:,}",
        "half": half,
        "less": less,
        "minutes": f"{part['seconds'].sum() / 60:.0f}",
        "lasting": lasting(part),
    }


def _readings(part: pd.DataFrame, columns: Mapping[str, Mapping[int, str]]) -> str:
    """The models that have an encoder of pairs, in each way of reading them."""
    models = [*OURS, "jmvae", *(name for name in MODELS if name not in CURVES)]
    names = {f"{model}/{way}": f"{MODELS[model]}; {title}" for model in models for way, title in READINGS.items()}
    shares = [
        part.assign(reading=part["model"] + f"/{way}", share=part[f"right {way}"] / part["rows"])
        for way in READINGS
        if f"right {way}" in part
    ]
    frame = pd.concat(shares).dropna(subset="share") if shares else part[:0]
    return pivot(frame, {"reading": names}, columns, percent, "share")


def causes(part: pd.DataFrame) -> str:
    """How far each of what may have made the paper's curve goes, where there are all pairs, in words."""
    found, every = [], part[part["pairs"] == ALL].set_index("model")
    for model, way, words in CAUSES:
        if f"right {way}" in every and model in every.index:
            share = (every[f"right {way}"] / every["rows"])[[model]].mean()
            found += [] if pd.isna(share) else [f"{100 * share:.1f} % {words}"]
    return f"With all pairs Eq. 2 finds {', '.join(found)}." if found else ""


class Verdict(NamedTuple):
    """An MVAE beside the best of others, on the same choices of pairs."""

    best: str
    accuracy: float
    gain: float
    error: float
    """The standard error of `gain`."""

    @property
    def word(self) -> str:
        """Up to two standard errors are called neither."""
        if abs(self.gain) <= 2 * self.error:
            return NEITHER
        return WINS if self.gain > 0 else LOSES

    @property
    def cells(self) -> tuple[str, str]:
        """Of a table: who is ahead by how many points, and who the best of the others is."""
        points = f"{self.word}, {100 * self.gain:+.1f} ± {100 * self.error:.1f}"
        return points, f"{MODELS[self.best]}, {100 * self.accuracy:.1f}"


def verdict(part: pd.DataFrame, model: str, pairs: int, others: Sequence[str]) -> Verdict | None:
    """How a model compares with the best of others, on the choices of pairs that it had; None where none had them."""
    found = part[part["pairs"] == pairs].pivot_table("accuracy", "seed", "model")
    found = found[found[model].notna()].dropna(axis=1) if model in found else found[[]]
    means = found.mean()[[name for name in others if name in found]]
    if means.empty:
        return None
    gains, best = found[model] - found[means.idxmax()], means.max()
    of_rows = sum(one * (1 - one) for one in (found[model].mean(), best)) / part["rows"].max()
    of_choices = gains.sem() if len(gains) > 1 else 0.0
    return Verdict(str(means.idxmax()), best, gains.mean(), max(of_rows**0.5, of_choices))


def _verdicts(part: pd.DataFrame) -> str:
    """Where each MVAE wins and loses against the best of the others, and by how much."""
    lines = []
    for model, (pairs, title) in product(COMPARED, levels_of(part).items()):
        found = [verdict(part, model, pairs, others) for others in OTHERS.values()]
        lines.append([MODELS[model], title, *(text for one in found for text in (one.cells if one else ("", "")))])
    return table(["", "pairs", *(text for title in OTHERS for text in (f"beside {title}", "best"))], lines, 2)


def _counted(part: pd.DataFrame) -> dict[str, dict[str, int]]:
    """At how many numbers of pairs each MVAE wins, loses or neither against the best of all others."""
    others = OTHERS["all that is no MVAE"]
    found = {name: [verdict(part, name, pairs, others) for pairs in levels_of(part)] for name in COMPARED}
    return {MODELS[name]: Counter(one.word for one in some if one) for name, some in found.items()}


def in_words(part: pd.DataFrame) -> str:
    """At which numbers of pairs the MVAE with the label in every term wins and loses, and by how much."""
    lines, levels = [], levels_of(part)
    for title, others in OTHERS.items():
        verdicts = {pairs: verdict(part, COMPARED[0], pairs, others) for pairs in levels}
        parts = []
        for word in (WINS, LOSES, NEITHER):
            some = {levels[pairs]: one for pairs, one in verdicts.items() if one and one.word == word}
            sizes = sorted(100 * abs(one.gain) for one in some.values())
            if some:
                extent = " to ".join(dict.fromkeys((f"{sizes[0]:.1f}", f"{sizes[-1]:.1f}")))
                at = " and ".join(", ".join(some).rsplit(", ", 1))
                parts.append(f"{word} at {at} pairs" + (f" (by {extent} points)" if word != NEITHER else ""))
        if parts:
            lines.append(f"- Beside {title} it {'; '.join(parts)}.")
    return "\n".join(lines)
