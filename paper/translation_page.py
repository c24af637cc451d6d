"""The docs pages of Tables 4 and 5."""

from __future__ import annotations

import re
import statistics
from collections.abc import Iterable, Sequence
from typing import Any

from mvae.data.iwslt import LANGUAGES
from mvae.export import markdown_table
from paper.results import made_by
from paper.translation import DIRECTIONS, MODELS, MVAES, QUANTITIES, SHARES, epochs_of

__all__ = ["page"]

PAPER = dict(
    zip(
        SHARES,
        ("-558.88 ± 3.56", "-494.76 ± 4.18", "-483.23 ± 5.81", "-478.75 ± 3.00", "-478.04 ± 4.95", "-478.12 ± 3.02"),
        strict=True,
    )
)
COMPARED = {
    "pairs": {"log p(joint)": "log p(joint)", "retrieval en to vi": "retrieval from English"},
    "nearest": {
        "bleu en to vi": "BLEU into Vietnamese",
        "chrf en to vi": "chrF into Vietnamese",
        "retrieval en to vi": "retrieval from English",
    },
}
"""By what the MVAEs are compared with the baselines, and its words."""


def page(table: str, content: dict[str, Any]) -> str:
    """The docs page of these results, in Markdown."""
    settings, cells = content["settings"], content["cells"]
    some = cells[0]
    common = {
        "data": some["data"],
        "train_rows": f"{some['train_rows']:,}",
        "longest": settings["longest"],
        "fewest": settings["fewest"],
        "epochs": epochs_of(settings["epochs"]),
        "width": f"embeddings and LSTMs of width {settings['width']}" if settings["width"] else "the recipe's networks",
        "preset": settings["preset"],
        **made_by(content),
    }
    if table == "table5":
        return TABLE5.format(sentences="\n\n".join(_shown(cell) for cell in cells), **common)
    return TABLE4.format(
        likelihoods=_each(cells, (*MVAES, "pairs"), [f"log p({name})" for name in QUANTITIES], paper=True),
        perplexities=_each(cells, MVAES, [f"perplexity({name})" for name in QUANTITIES], digits=1),
        translations=_each(cells, MODELS, [f"{m} {s} to {t}" for m in ("bleu", "chrf") for s, t in DIRECTIONS]),
        retrieval=_each(cells, MODELS, [f"retrieval {s} to {t}" for s, t in DIRECTIONS], scale=100),
        verdicts="\n".join(f"- {verdict}" for verdict in _verdicts(cells)),
        held="\n\n".join(f"### {MODELS[model]}\n\n{_held(cells, model)}" for model in MVAES),
        rows=some["rows"],
        samples=settings["samples"],
        among=f"{settings['found_among']:,}",
        chance=f"{100 / settings['found_among']:g}",
        seeds=settings["seeds"],
        **common,
    )


def _verdicts(cells: Sequence[dict[str, Any]]) -> list[str]:
    """Which model is ahead of which, and at how many of the shares, by means over runs."""
    means = {
        (model, share): {
            name: statistics.mean(cell["scores"][name] for cell in found if name in cell["scores"])
            for name in found[0]["scores"]
        }
        for model in MODELS
        for share in SHARES
        if (found := _runs(cells, model, share))
    }
    lines = []
    for model in MVAES:
        there = [share for share in SHARES if (model, share) in means]
        few = [share for share in there if 0.01 <= share < 1]
        if few and 1.0 in there:
            most, least = means[model, 1.0], means[model, few[0]]
            lines.append(
                f"{MODELS[model]}: with all pairs aligned log p(joint) is {most['log p(joint)']:.1f}, with"
                f" {100 * few[0]:g} % {least['log p(joint)']:.1f}; from English the right one is found for"
                f" {100 * most['retrieval en to vi']:.1f} and {100 * least['retrieval en to vi']:.1f} %."
            )
        for other, names in COMPARED.items():
            both = [share for share in there if (other, share) in means]
            ahead = [
                f"in {words} at {sum(means[model, one][name] > means[other, one][name] for one in both)}"
                for name, words in names.items()
            ]
            if both:
                against = f"{MODELS[other][0].lower()}{MODELS[other][1:]}"
                lines.append(f"Beside {against}, it is ahead {', '.join(ahead)} of {len(both)} shares.")
    return lines


def _runs(cells: Sequence[dict[str, Any]], model: str, share: float) -> list[dict[str, Any]]:
    return [cell for cell in cells if (cell["model"], cell["share"]) == (model, share)]


def _over_seeds(values: Sequence[float], digits: int) -> str:
    if not values:
        return ""
    mean = f"{statistics.mean(values):.{digits}f}"
    return mean if len(values) == 1 else f"{mean} ± {statistics.stdev(values):.{digits}f}"


def _each(
    cells: Sequence[dict[str, Any]],
    models: Iterable[str],
    names: Sequence[str],
    digits: int = 2,
    scale: float = 1,
    paper: bool = False,
) -> str:
    """A heading and a table for each model; the paper's numbers stand beside the first."""
    return "\n\n".join(
        f"### {MODELS[model]}\n\n{_by_share(cells, model, names, digits, scale, paper and not number)}"
        for number, model in enumerate(models)
    )


def _by_share(
    cells: Sequence[dict[str, Any]],
    model: str,
    names: Sequence[str],
    digits: int,
    scale: float,
    paper: bool,
) -> str:
    rows = []
    for share in SHARES:
        found = _runs(cells, model, share)
        if found:
            values = [[scale * cell["scores"][name] for cell in found if name in cell["scores"]] for name in names]
            shown = [_over_seeds(value, digits) for value in values]
            rows.append([f"{100 * share:g} % ({found[0]['aligned']:,})", *([PAPER[share]] if paper else []), *shown])
    return markdown_table(["aligned", *(["paper"] if paper else []), *names], rows)


def _held(cells: Sequence[dict[str, Any]], model: str) -> str:
    rows = []
    for share in SHARES:
        found = [cell["held"] for cell in _runs(cells, model, share)]
        if found:
            rows.append([f"{100 * share:g} %", *(_over_seeds([one[name] for one in found], 2) for name in LANGUAGES)])
    return markdown_table(["aligned", "English", "Vietnamese"], rows)


def _shown(cell: dict[str, Any]) -> str:
    lines = []
    for one in cell["sentences"]:
        en, vi, to_vi, to_en = (_plain_text(one[what]) for what in ("en", "vi", "vi from en", "en from vi"))
        lines.append(f"- **en** {en}\\\n  **→ vi** {to_vi}\n- **vi** {vi}\\\n  **→ en** {to_en}")
    return f"## {100 * cell['share']:g} % of the pairs aligned ({cell['aligned']:,})\n\n" + "\n".join(lines)


def _plain_text(text: str) -> str:
    """A text in Markdown, in which no character of it is a sign."""
    return re.sub(r"([\\`*_<>\[\]#])", r"\\\1", text)


SPENT = """Data: {data}. {train_rows} training pairs have both languages. Sentences are cut after {longest} words,
those of the test too; a word is one if it stands at least {fewest} times in training, else unknown. {epochs} epochs;
{width}."""

TABLE4 = (
    """# Table 4: translation from few aligned sentences

A share of the training pairs stays aligned; of the others each keeps one language, so that the number of rows is always
the same. About 10 % of each batch are aligned pairs, however few there are. """
    + SPENT
    + """

The weight of the KL rises to 1 within the first fifth of the epochs, and the model with the best validation ELBO is
kept. Annealed over all epochs, with the last weights kept, z held more on [validation sentences](collapse.md), with all
pairs; those are the sentences of the retrieval below, which has so been looked at before. What is trained on aligned
pairs alone goes through them so much oftener that an epoch has as many steps, and stops after an epoch with a worse
validation ELBO. That is of all validation pairs, which are aligned, also where few training pairs are. Mean over up to
{seeds} runs, each with another seed and other aligned pairs (but for all of them), ± their standard deviation.

{verdicts}

## Log-likelihood of test sentences, in nats

Of the first {rows} test pairs (tst2013), by {samples} draws from the posterior given what is scored. A sentence's is
the sum over the words that are read and its end, where that is read. The paper does not say whether its log p(x) is of
both languages, of one, or of one given the other: here all are given. The paper's numbers are of longer sentences,
other words and more pairs: compare how they rise, not their size.

{likelihoods}

## Perplexity

The exponential of minus the mean over words.

{perplexities}

## Translations

All test sentences, written word by word from the mean of q(z | the other language), unknown words left out: BLEU and
chrF by sacrebleu, against the one reference that there is, whole and with all its words.

{translations}

## Retrieval

Of {among} validation pairs (tst2012), how often the mean of q(z | one language) lies nearest to that of its own
translation (cosine), in percent; chance is {chance}. Without a model: how often the translation of the nearest aligned
sentence has words that are nearest to those of the right one (both by weighted words, of whole sentences).

{retrieval}

## What z holds of a sentence

KL[q(z | x) || p(z)] in nats, the mean over validation sentences: 0 would be a posterior that has collapsed.

{held}

Made by `{command}` (preset `{preset}`) at commit {commits} on {machine}; the numbers are in
`results/table4/{preset}.json`.
"""
)

TABLE5 = (
    """# Table 5: sentences translated both ways

Test sentences of 5 to 15 English words, evenly spaced among all of them and not chosen by hand; each is written word
by word from the mean of q(z | the other language), of the model annealed over all epochs ([Table 4](table4.md)). """
    + SPENT
    + """

{sentences}

Made by `{command}` (preset `{preset}`) at commit {commits} on {machine}; the sentences are in
`results/table5/{preset}.json`.
"""
)
