"""The docs pages of Tables 4 and 5, made from their results."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from mvae.config.recipes import resolve
from paper.pages import mean, pivot
from paper.runner import CATALOG, read, titles

SOURCE = "iwslt-en-vi"
MODELS = titles("table4", "model")
MVAES = ("mvae", "mvae-annealed")
"""Of `MODELS`, what learns from aligned and other sentences."""
QUANTITIES = CATALOG["table4"]["quantities"]
"""What log p is of, each summed over the words of its languages and their ends."""
DIRECTIONS = (("en", "vi"), ("vi", "en"))
COMPARED = CATALOG["table4"]["compared"]


def epochs_of(given: int | None) -> int:
    """The epochs of a preset; the recipe's where it has none of its own."""
    return given or resolve(SOURCE, None, {}).training.epochs


def view(experiment: str, content: Mapping[str, Any]) -> dict[str, Any]:
    """The pages' content: sentences, or scores by share of aligned pairs and in words who is ahead."""
    cells = content["cells"]
    common = {"some": cells[0], "epochs": epochs_of(content["settings"]["epochs"])}
    if experiment == "table5":
        sentences = {cell["share"]: [_plain(one) for one in cell["sentences"]] for cell in cells}
        return common | {"sentences": sentences, "aligned": {cell["share"]: cell["aligned"] for cell in cells}}
    frame = frame_of(cells)
    directions = [f"{one} to {other}" for one, other in DIRECTIONS]

    def each(models: Iterable[str], names: Sequence[str], show: Callable[..., str]) -> dict[str, str]:
        return {MODELS[model]: by_share(frame, model, names, show) for model in models}

    two = mean(2)
    likelihoods = [f"log p({name})" for name in QUANTITIES]
    return common | {
        "seeds": len({cell["seed"] for cell in cells}),
        "printed": {share: float(text.split()[0]) for share, text in read("paper.yaml")["table4"].items()},
        "models": means_of(frame),
        "likelihoods": each(MVAES[:1], ["paper", *likelihoods], two) | each([*MVAES[1:], "pairs"], likelihoods, two),
        "perplexities": each(MVAES, [f"perplexity({name})" for name in QUANTITIES], mean(1)),
        "translations": each(MODELS, [f"{measure} {one}" for measure in ("bleu", "chrf") for one in directions], two),
        "retrieval": each(MODELS, [f"retrieval {one}" for one in directions], mean(2, 100)),
        "held": each(MVAES, ["English", "Vietnamese"], two),
        "verdicts": _verdicts(frame),
    }


def frame_of(cells: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """A row a cell, with its scores, what z holds of each language, and what the paper prints."""
    rows = ({key: cell[key] for key in ("model", "share", "aligned")} | cell["scores"] for cell in cells)
    frame = pd.DataFrame(rows)
    for name, language in (("en", "English"), ("vi", "Vietnamese")):
        frame[language] = [cell.get("held", {}).get(name) for cell in cells]
    return frame.assign(paper=frame["share"].map(read("paper.yaml")["table4"]))


def by_share(frame: pd.DataFrame, model: str, names: Sequence[str], show: Callable[..., str]) -> str:
    """Scores of a model in columns, a row a share of aligned pairs."""
    part = frame[frame["model"] == model].sort_values("share", kind="stable")
    bare = "English" in names
    shares = {
        share: f"{100 * share:g} %" + ("" if bare else f" ({aligned:,})")
        for share, aligned in zip(part["share"], part["aligned"], strict=True)
    }

    return pivot(part, {"share": shares}, {"": {name: name for name in names if name in part}}, show, head=["aligned"])


def means_of(frame: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The scores of each model by share, means over runs."""
    return {str(model): part.groupby("share").mean(numeric_only=True) for model, part in frame.groupby("model")}


def _verdicts(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Scores of each MVAE by share, means over runs; a share to name; of whom it is ahead, in what, how often."""
    means, found = means_of(frame), []
    for model in (name for name in MVAES if name in means):
        ours, beside = means[model], []
        for other, names in COMPARED.items():
            both, theirs = ours.align(means.get(other, ours[:0]), "inner", axis=0)
            ahead = {words: (both[name] > theirs[name]).sum() for name, words in names.items()}
            beside += [(MODELS[other], ahead, len(both))] if len(both) else []
        few = [share for share in ours.index if 0.01 <= share < 1 and 1.0 in ours.index][:1]
        found.append({"title": MODELS[model], "means": ours, "few": few, "beside": beside})
    return found


def _plain(sentence: Mapping[str, str]) -> dict[str, str]:
    return {name: plain_text(text) for name, text in sentence.items()}


def plain_text(text: str) -> str:
    """A text in Markdown, in which no character of it is a sign."""
    return re.sub(r"([\\`*_<>\[\]#])", r"\\\1", text)
