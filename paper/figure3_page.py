"""The picture and the docs page of Figure 3, made from its results."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mvae.evaluation.classification import proportion_interval
from mvae.export import markdown_table
from mvae.files import atomic
from paper.figure3 import ALL, DATASETS, LABEL, MODELS, TARGETS
from paper.results import made_by, percent

__all__ = ["draw", "page"]

STYLES = {
    "mvae": ("C3", "--"),
    "mvae-weight-1": ("C8", "--"),
    "mvae-label": ("C3", "-"),
    "mvae-q": ("C1", "--"),
    "mvae-q-label": ("C1", "-"),
    "jmvae": ("C2", "-"),
    "supervised": ("C4", "-"),
    "logistic": ("C0", "-"),
    "autoencoder": ("C5", ":"),
    "vae": ("C9", ":"),
    "rbm": ("C7", ":"),
}
OURS = [name for name, compared in MODELS.items() if compared.kind == "joint" and not compared.aside]
COMPARED = ("mvae-label", "mvae-weight-1", "mvae")
"""Those of ours that are said to win or lose."""
OTHERS = {
    "what learns from the pairs alone": [
        name for name in STYLES if MODELS[name].kind in ("pairs", "supervised", "logistic")
    ],
    "all that is no MVAE": [name for name in STYLES if name not in OURS],
}
"""Beside whom."""
CAUSES = (
    ("mvae", "decoder", "as written"),
    ("mvae", "mean", "at the mean of q(z given image)"),
    ("mvae-longer", "decoder", "after five times the epochs"),
    ("mvae-weight-10", "decoder", "with weight 10 of the label"),
    ("mvae-weight-1", "decoder", "with weight 1 of it"),
    ("mvae-label", "decoder", "with the label in every term"),
    ("mvae", "label given too", "as written where the label is given too"),
)
"""What a curve as high as the paper's can come from: a model, how it is read, and in words."""
WINS, LOSES, NEITHER = "wins", "loses", "neither wins nor loses"


def draw(content: dict[str, Any], dataset: str, folder: Path) -> Path:
    """Draw the curves of a data set: the mean over choices of pairs, and the range from the worst to the best."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.5, 4.8), layout="constrained")
    axes = figure.subplots()
    levels = _levels(content, dataset)
    numbers = [pairs or _total(content, dataset) for pairs in levels]
    for model, (colour, line) in STYLES.items():
        found = [_accuracies(content, dataset, model, pairs) for pairs in levels]
        points = [(x, values) for x, values in zip(numbers, found, strict=True) if values]
        if not points:
            continue
        xs = [x for x, _ in points]
        means = [100 * statistics.mean(values) for _, values in points]
        low, high = ([100 * of(values) for _, values in points] for of in (min, max))
        axes.plot(xs, means, line, color=colour, label=MODELS[model].title, marker=".", linewidth=1.5)
        axes.fill_between(xs, low, high, color=colour, alpha=0.12, linewidth=0)
    axes.set_xscale("log")
    target = TARGETS.get(dataset, LABEL)
    axes.set_xlabel(f"pairs of image and {target}")
    axes.set_ylabel(f"test accuracy of the {target} given the image, %")
    axes.set_title(DATASETS[dataset])
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    path = folder / f"{content['settings']['preset']}-{dataset}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic(path) as temporary:
        figure.savefig(temporary, dpi=130)
    return path


def page(content: dict[str, Any]) -> str:
    """The docs page of these results, in Markdown."""
    settings = content["settings"]
    datasets = [name for name in DATASETS if any(cell["dataset"] == name for cell in content["cells"])]
    return PAGE.format(
        sections="\n\n".join(_section(content, dataset) for dataset in datasets),
        total=" or ".join(sorted({f"{cell['total']:,}" for cell in content["cells"]})),
        share=round(100 * settings["paired_share"]),
        samples=settings["samples"],
        preset=settings["preset"],
        epochs=_epochs(content, datasets),
        boltzmann=settings["boltzmann_epochs"],
        texts=TEXTS if TARGETS.keys() & set(datasets) else "",
        **made_by(content),
    )


def _epochs(content: dict[str, Any], datasets: Sequence[str]) -> str:
    """How long the networks were trained, in words."""
    parts = []
    for dataset in datasets:
        found = _trainings(content, dataset)
        most = max((cell["epochs"] for cell in found), default=0)
        parts.append(f"{most} on {DATASETS[dataset]}{_precision(found)}")
    return ", ".join(parts)


def _precision(trainings: Sequence[dict[str, Any]]) -> str:
    """In how many trainings matrix products were not in float32."""
    fast = [cell.get("precision") for cell in trainings].count("bfloat16")
    return f" ({fast} of {len(trainings)} trainings in bfloat16)" if fast else ""


def _trainings(content: dict[str, Any], dataset: str) -> list[dict[str, Any]]:
    """The cells of the curves' networks that learned labels."""
    cells = [cell for cell in content["cells"] if cell["dataset"] == dataset and "epoch" in cell]
    return [cell for cell in cells if not MODELS[cell["model"]].aside]


def _section(content: dict[str, Any], dataset: str) -> str:
    levels = _levels(content, dataset)
    head = ["", *(f"{pairs:,}" if pairs else f"all {_total(content, dataset):,}" for pairs in levels)]
    rows, minutes = [], sum(cell["seconds"] for cell in content["cells"] if cell["dataset"] == dataset) / 60
    for model, compared in MODELS.items():
        found = [_accuracies(content, dataset, model, pairs) for pairs in levels]
        if any(found) and not compared.aside:
            rows.append([compared.title, *map(percent, found)])
    estimators = _estimators(content, dataset, levels)
    largest = max(cell["rows"] for cell in content["cells"] if cell["dataset"] == dataset)
    widths = [high - low for low, high in (proportion_interval(round(s * largest), largest) for s in (0.5, 0.97))]
    return SECTION.format(
        title=DATASETS[dataset],
        file=f"{content['settings']['preset']}-{dataset}.png",
        table=markdown_table(head, rows),
        causes=_causes(content, dataset),
        estimators=markdown_table(head, estimators),
        words=_in_words(content, dataset),
        verdicts=_verdicts(content, dataset),
        rows=f"{largest:,}",
        half=f"{50 * widths[0]:.1f}",
        less=f"{50 * widths[1]:.1f}",
        minutes=f"{minutes:.0f}",
        lasting=_lasting(content, dataset),
    )


def _lasting(content: dict[str, Any], dataset: str) -> str:
    """In how many trainings no epoch before the last was better."""
    cells = _trainings(content, dataset)
    return f"{sum(cell['epoch'] == cell['epochs'] for cell in cells)} of {len(cells)}"


def _estimators(content: dict[str, Any], dataset: str, levels: Sequence[int]) -> list[list[str]]:
    titles = {"decoder": "draws from q(z given image)", "mean": "the mean of q(z given image)"}
    titles |= {"label given too": "the mean of q(z given image, label), which has seen the answer"}
    rows = []
    for model in (*OURS, "jmvae", *(name for name in MODELS if MODELS[name].aside)):
        for name, title in titles.items():
            found = [_accuracies(content, dataset, model, pairs, name) for pairs in levels]
            if any(found):
                rows.append([f"{MODELS[model].title}; {title}", *map(percent, found)])
    return rows


@dataclass(frozen=True)
class Verdict:
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
        return points, f"{MODELS[self.best].title}, {100 * self.accuracy:.1f}"


def _verdicts(content: dict[str, Any], dataset: str) -> str:
    """Where each MVAE wins and loses against the best of the others, and by how much."""
    lines = []
    for model in COMPARED:
        for pairs in _levels(content, dataset):
            found = [_verdict(content, dataset, model, pairs, others) for others in OTHERS.values()]
            if any(found):
                parts = [part for one in found for part in (one.cells if one else ("", ""))]
                lines.append([MODELS[model].title, _level(pairs), *parts])
    return markdown_table(["", "pairs", *(part for title in OTHERS for part in (f"beside {title}", "best"))], lines)


def _level(pairs: int) -> str:
    return f"{pairs:,}" if pairs else "all"


def _in_words(content: dict[str, Any], dataset: str) -> str:
    """At which numbers of pairs the MVAE with the label in every term wins and loses, and by how much."""
    lines = []
    for title, others in OTHERS.items():
        verdicts = {n: _verdict(content, dataset, COMPARED[0], n, others) for n in _levels(content, dataset)}
        parts = []
        for word in (WINS, LOSES, NEITHER):
            some = {pairs: one for pairs, one in verdicts.items() if one and one.word == word}
            sizes = sorted(100 * abs(one.gain) for one in some.values())
            if some:
                extent = " to ".join(dict.fromkeys((f"{sizes[0]:.1f}", f"{sizes[-1]:.1f}")))
                at = " and ".join(", ".join(map(_level, some)).rsplit(", ", 1))
                parts.append(f"{word} at {at} pairs" + (f" (by {extent} points)" if word != NEITHER else ""))
        if parts:
            lines.append(f"- Beside {title} it {'; '.join(parts)}.")
    return "\n".join(lines)


def _causes(content: dict[str, Any], dataset: str) -> str:
    """How far each of what may have made the paper's curve goes, where there are all pairs, in words."""
    found = []
    for model, estimator, words in CAUSES:
        values = _accuracies(content, dataset, model, ALL, estimator)
        if values:
            found.append(f"{100 * statistics.mean(values):.1f} % {words}")
    return f"With all pairs Eq. 2 finds {', '.join(found)}." if found else ""


def _verdict(content: dict[str, Any], dataset: str, model: str, pairs: int, others: Sequence[str]) -> Verdict | None:
    ours = _by_seed(content, dataset, model, pairs)
    found = {name: _by_seed(content, dataset, name, pairs) for name in others}
    if not ours:
        return None
    means = {  # on the choices of pairs that the MVAE had
        name: statistics.mean(values[seed] for seed in ours)
        for name, values in found.items()
        if ours.keys() <= values.keys()
    }
    if not means:
        return None
    best = max(means, key=means.__getitem__)
    gains = [accuracy - found[best][seed] for seed, accuracy in ours.items()]
    rows = max(cell["rows"] for cell in content["cells"] if cell["dataset"] == dataset)
    of_rows = sum(mean * (1 - mean) / rows for mean in (statistics.mean(ours.values()), means[best]))
    of_choices = statistics.variance(gains) / len(gains) if len(gains) > 1 else 0.0
    return Verdict(best, means[best], statistics.mean(gains), max(of_rows, of_choices) ** 0.5)


def _by_seed(
    content: dict[str, Any], dataset: str, model: str, pairs: int, estimator: str | None = None
) -> dict[int, float]:
    """Accuracy of each choice of so many pairs; empty where the estimator was not used."""
    cells = [c for c in content["cells"] if (c["dataset"], c["model"], c["pairs"]) == (dataset, model, pairs)]
    if estimator is None:
        return {cell["seed"]: cell["accuracy"] for cell in cells}
    return {cell["seed"]: cell["right"][estimator] / cell["rows"] for cell in cells if estimator in cell["right"]}


def _accuracies(
    content: dict[str, Any], dataset: str, model: str, pairs: int, estimator: str | None = None
) -> list[float]:
    """As `_by_seed`, without the seeds."""
    return list(_by_seed(content, dataset, model, pairs, estimator).values())


def _levels(content: dict[str, Any], dataset: str) -> list[int]:
    found = {cell["pairs"] for cell in content["cells"] if cell["dataset"] == dataset}
    return sorted(found - {ALL}) + [ALL] * (ALL in found)


def _total(content: dict[str, Any], dataset: str) -> int:
    return next(cell["total"] for cell in content["cells"] if cell["dataset"] == dataset)


PAGE = """# Figure 3: a label predicted from an image, by how many pairs were seen

Of {total} training rows n keep image and label; of the others half keep the image and half the label, so that the
number of rows is always the same. All models get the same n pairs. The MVAE and MVAE-Q learn from all rows; JMVAE,
the supervised network (the image's encoder up to the mean, then the label's decoder, nothing drawn) and logistic
regression on pixels from the pairs alone; autoencoder, VAE and RBM from all {total} images, of which the MVAE has
half where pairs are few, and logistic regression on what they make of an image from the pairs.

**What is chosen for a run, is chosen on its n pairs.** The networks that learn labels set a fifth of them aside, at
most 5,000, and keep the epoch with the highest accuracy there, of equal ones the last. Logistic regression, which is
cheap to fit, chooses its regularisation on the pairs by cross-validation, from 2,000 on in one split (scikit-learn's
default where a class has one pair only), and is then fitted to all n, which favours it. Networks and learning rate
are those of the [recipes](../guide/train.md), the weight of the label 50 as in the authors' README, and 1 in a curve
that was added after that weight had done so much better at 1,000 pairs. In the MVAEs {share} % of each batch at least
are pairs, however few there are: this share, the same for all, was found on 5,000 labelled training rows, where more
did not help. So was that regression on pixels, and the RBM, do better on grey training images than on one binarised
draw of them (test images are binarised). Autoencoder, VAE and RBM are trained once, and the regression on the first
two reads one draw of each pair.

The MVAE stands here as the paper writes it, each term reconstructing what it is given (Eq. 2), and with the label
reconstructed by every term, as [our recipes have it](../method.md#two-tables). Predictions are the label's decoder
averaged over {samples} draws from q(z given image).

Preset `{preset}`: epochs of the networks: {epochs}; {boltzmann} of the RBM, which has 500 units. What learns from pairs
alone sees them again and again, so that all networks take equally many steps.
{texts}
{sections}

Made by `{command}` at commit {commits} on {machine}; the numbers are in `results/figure3/{preset}.json`.
[What helps with few pairs beyond the paper](few-pairs.md) is measured apart.
"""

TEXTS = """
Of MultiMNIST the label is the text, and right only if all of it is. It is written symbol by symbol, each the likeliest
under the average of the decoder over the draws; logistic regression predicts each of its four places apart. Its weight
is 10 as in the authors' code.
"""

SECTION = """## {title}

![Accuracy by number of pairs](../../results/figure3/{file})

Accuracy in percent on all {rows} test rows: the mean over choices of pairs, ± their standard deviation where there are
several; the band in the figure goes from the worst to the best of them; an empty cell was not run. For one trained
model the 95 % interval over test rows is ± {half} at 50 % and ± {less} at 97 %. Computing took {minutes} minutes of
one core. {lasting} trainings that choose their epoch kept the last one: where that is most of them, the networks would
gain from more epochs than this preset has, which regression on pixels would not.

{table}

The MVAE with the label in every term, in words:

{words}

That is against the best of them at each number of pairs, chosen by these numbers themselves: the mean difference in
points on the same choices of pairs, ± its standard error, the larger of that over test rows and, where there are
several choices, that over them; less than two of them is called neither. Where there is one choice, how much another
training would differ is not in it.

{verdicts}

The same models, read otherwise, and Eq. 2 with other weights of the label or longer training where that was tried: what
a curve as high as the paper's can come from. {causes}

{estimators}"""
