"""`mvae reproduce collapse`: what keeps z in use where the decoders of sentences could do without it.

Remedies known for it, each alone and together, and Transformers in place of recurrent networks, on validation
sentences: how `mvae-annealed` in Tables 4 and 5 is trained was chosen here, not on test sentences.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from mvae.config.build import build_model
from mvae.config.folder import METRICS
from mvae.config.recipes import resolve
from mvae.config.specs import RunSpec, parse
from mvae.data.iwslt import LANGUAGES
from mvae.export import markdown_table
from mvae.files import read_json
from mvae.training.epochs import ELBO, held
from mvae.training.prepare import learned
from paper import translation
from paper.comparison import train_on_rows
from paper.results import made_by, provenance
from paper.setup import Setup
from paper.side_by_side import Report
from paper.translation import (
    DIRECTIONS,
    SOURCE,
    Preset,
    check_data,
    data_options,
    epochs_of,
    likelihood_scores,
    load_pairs,
    plain,
    retrieval_scores,
    width_options,
)

__all__ = ["PRESETS", "VARIANTS", "page", "reproduce", "work"]

Options = Mapping[tuple[str, ...], Any]


def _decoders(**options: Any) -> dict[tuple[str, ...], Any]:
    return {
        ("model", "modalities", name, "decoder", key): value for name in LANGUAGES for key, value in options.items()
    }


WORD_DROPOUT, FREE_NATS, BAG = 0.38, 10.0, 1.0
NOTHING = {**_decoders(word_dropout=0.0), ("training", "annealing_epochs"): 0}
ALL_EPOCHS = "all epochs"
"""Stands for the number of epochs, of which presets have different ones."""
ANNEALED = {("training", "annealing_epochs"): ALL_EPOCHS}
CYCLES = {**ANNEALED, ("training", "annealing_cycles"): 4}
FREE = {("model", "free_nats"): FREE_NATS}
BOTH = _decoders(word_dropout=WORD_DROPOUT) | ANNEALED
VARIANTS: dict[str, tuple[str, Options]] = {
    "nothing": ("nothing", NOTHING),
    "word-dropout": (f"word dropout, {WORD_DROPOUT}", NOTHING | _decoders(word_dropout=WORD_DROPOUT)),
    "annealing": ("annealing, over all epochs", NOTHING | ANNEALED),
    "cycles": ("annealing in four cycles", NOTHING | CYCLES),
    "free-nats": (f"{FREE_NATS:g} free nats a term", NOTHING | FREE),
    "bag": ("bag of words", NOTHING | _decoders(bag_of_words=BAG)),
    "fifth": ("word dropout, annealing over a fifth of the epochs, as the recipe", {}),
    "both": ("word dropout and annealing", BOTH),
    "all": ("word dropout, annealing, free nats and bag of words", BOTH | FREE | _decoders(bag_of_words=BAG)),
    "transformer": ("Transformers; word dropout and annealing", BOTH),
    "equal-time": ("the slower of the two, in the time of the faster", BOTH),
}
"""Titles, and what is changed of the recipe."""
RECURRENT, TRANSFORMER = "both", "transformer"
"""Two that differ in their networks alone, which have no dropout but that of words."""
NETWORKS = {RECURRENT: "recurrent (LSTM)", TRANSFORMER: "Transformer"}
EQUAL_TIME = "equal-time"
"""The one of them that took longer, once more: for as many epochs as fit into the time of the other."""
LAYERS, HEADS = 2, 4


PRESETS = {name: replace(settings, shares=(1.0,), seeds=1) for name, settings in translation.PRESETS.items()}
"""All pairs, once; else as much is spent as for Table 4."""


def reproduce(setup: Setup, variants: Sequence[str]) -> Iterator[str]:
    """Train and score each variant on all training pairs; keep each when it is done.

    Args:
        setup: its preset is a name in `PRESETS`.
        variants: names in `VARIANTS`.

    Yields:
        A line for each finished variant.
    """
    settings = PRESETS[setup.preset]
    results = setup.results("collapse", plain(settings))
    tasks = [name for name in variants if not results.has(variant=name)]
    check_data(setup, settings)
    last = [name for name in tasks if name == EQUAL_TIME]  # needs to know how long two of the others took
    for part in ([name for name in tasks if name not in last], last):
        for name, record in setup.finish(work, part, results):
            found = record["scores"]["retrieval en to vi"]
            nats = ", ".join(f"KL {key} {value:.2f}" for key, value in record["held"].items())
            yield f"{name}: {nats}, retrieval {100 * found:.1f} %"


def work(name: str, setup: Setup, report: Report) -> dict[str, Any]:
    """One variant's record, all of it on validation rows."""
    settings = PRESETS[setup.preset]
    whole = load_pairs(setup.data_dir, data_options(settings), settings.train_rows)
    folder, networks = setup.runs / setup.preset / "collapse" / name, name
    if name == EQUAL_TIME:
        networks, epochs = in_equal_time(read_json(setup.path("collapse"))["cells"])
        settings = replace(settings, epochs=epochs)
    model, trained = train_on_rows(folder, _spec(networks, settings, setup.data_dir), whole, report)
    report("scoring", 0, 1)
    metrics, scores = read_json(folder / METRICS), dict[str, float]()
    rows = whole.validation[: settings.rows]
    for quantity in ("joint", "vi given en", "en given vi"):
        scores |= likelihood_scores(model, rows, quantity, settings.samples)
    scores |= retrieval_scores(model, whole.validation[: settings.found_among])
    return {
        "variant": name,
        "networks": networks,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "train_rows": len(whole.train),
        "rows": len(rows),
        "found_among": len(whole.validation[: settings.found_among]),
        "data": whole.description,
        "held": held(metrics["kept"]),
        "epoch": metrics["kept"]["epoch"],
        "elbos": [record[ELBO] for record in metrics["history"]],
        "scores": scores,
        "trained": trained,
        "made": provenance(),
    }


def in_equal_time(cells: Sequence[Mapping[str, Any]]) -> tuple[str, int]:
    """Which of `NETWORKS` took longer, and how many epochs of it fit into the time of the other, at least one.

    Raises:
        ValueError: if the time of one of them is not known.
    """
    pair = {cell["variant"]: cell for cell in cells if cell["variant"] in NETWORKS}
    if len(pair) < len(NETWORKS) or not _timed(*pair.values()):
        raise ValueError(f"{EQUAL_TIME}: needs {' and '.join(NETWORKS)} first, each trained without a break")
    spent = {name: cell["trained"]["processor_seconds"] for name, cell in pair.items()}
    slower = max(spent, key=spent.__getitem__)
    return slower, max(1, int(len(pair[slower]["elbos"]) * min(spent.values()) / spent[slower]))


def _timed(*cells: Mapping[str, Any]) -> bool:
    """Whether it is known how long the processor worked on them."""
    return all("processor_seconds" in cell["trained"] and not cell["trained"]["resumed"] for cell in cells)


def _spec(name: str, settings: Preset, data_dir: str | None) -> RunSpec:
    options: dict[tuple[str, ...], Any] = {
        ("data", "options"): data_options(settings),
        ("training", "epochs"): settings.epochs,
        ("training", "precision"): settings.precision,
        ("training", "keep"): "last",  # the best ELBO is often that of an epoch before z holds much
        **width_options(settings.width),
        **VARIANTS[name][1],
    }
    options = {place: epochs_of(settings.epochs) if value == ALL_EPOCHS else value for place, value in options.items()}
    spec = learned(resolve(SOURCE, None, options), data_dir)
    return _with_transformers(spec) if name == TRANSFORMER else spec


def _with_transformers(spec: RunSpec) -> RunSpec:
    """Transformers in place of the recurrent networks, of the width that has as many parameters, as near as can be."""
    wanted, low, high = _parameters(spec), 1, 1  # how wide each head is
    while _parameters(_transformers(spec, high)) < wanted:
        low, high = high + 1, 2 * high
    while low < high:  # the first width with no fewer
        middle = (low + high) // 2
        low, high = (low, middle) if _parameters(_transformers(spec, middle)) >= wanted else (middle + 1, high)
    near = [_transformers(spec, each) for each in (low - 1, low) if each]
    return min(near, key=lambda one: abs(_parameters(one) - wanted))


def _transformers(spec: RunSpec, each: int) -> RunSpec:
    network = {"kind": "transformer", "width": HEADS * each, "heads": HEADS, "layers": LAYERS, "dropout": 0.0}
    content = spec.model_dump(mode="json")
    for language in LANGUAGES:
        content["model"]["modalities"][language] |= {
            "encoder": network,
            "decoder": network | {"word_dropout": WORD_DROPOUT},
        }
    return parse(content, "transformer")


def _parameters(spec: RunSpec) -> int:
    return sum(parameter.numel() for parameter in build_model(spec.model).parameters())


def page(content: dict[str, Any]) -> str:
    """The docs page of these results, in Markdown."""
    settings = content["settings"]
    found = {cell["variant"]: cell for cell in content["cells"]}
    cells = {name: found[name] for name in VARIANTS if name in found}
    some = next(iter(cells.values()))
    return PAGE.format(
        data=some["data"],
        train_rows=f"{some['train_rows']:,}",
        rows=some["rows"],
        samples=settings["samples"],
        among=f"{some['found_among']:,}",
        chance=f"{100 / some['found_among']:.2g}",
        longest=settings["longest"],
        fewest=settings["fewest"],
        width=settings["width"] or "those of the recipe",
        epochs=len(some["elbos"]),
        remedies=_remedies({name: cell for name, cell in cells.items() if name != EQUAL_TIME}),
        networks=_networks(cells),
        preset=settings["preset"],
        **made_by(content),
    )


def _remedies(cells: Mapping[str, dict[str, Any]]) -> str:
    rows = []
    for name, cell in cells.items():
        scores = cell["scores"]
        rows.append(
            [
                VARIANTS[name][0],
                *(f"{cell['held'][language]:.2f}" for language in LANGUAGES),
                *(f"{100 * scores[f'retrieval {one} to {other}']:.1f}" for one, other in DIRECTIONS),
                *(f"{scores[f'log p({what})']:.2f}" for what in ("joint", "vi given en", "en given vi")),
            ]
        )
    heads = ["", "KL en", "KL vi", "found en to vi, %", "found vi to en, %"]
    return markdown_table([*heads, "log p(joint)", "log p(vi given en)", "log p(en given vi)"], rows)


def _networks(cells: Mapping[str, dict[str, Any]]) -> str:
    """Recurrent networks and Transformers after as many epochs, and after as long a time."""
    if not NETWORKS.keys() <= cells.keys():
        return "Not run yet."
    shown = {title: cells[name] for name, title in NETWORKS.items()}
    timed = _timed(*shown.values())
    if EQUAL_TIME in cells:
        cell = cells[EQUAL_TIME]
        shown[f"{NETWORKS[cell['networks']]}, in the time of the other"] = cell
    rows = [
        [
            title,
            f"{cell['parameters']:,}",
            str(len(cell["elbos"])),
            f"{cell['trained']['processor_seconds'] / 60:.1f}" if timed else "",
            f"{cell['elbos'][-1]:.2f}",
            f"{100 * cell['scores']['retrieval en to vi']:.1f}",
        ]
        for title, cell in shown.items()
    ]
    heads = ["", "parameters", "epochs", "processor minutes", "validation ELBO", "found en to vi, %"]
    return markdown_table(heads, rows)


PAGE = """# What keeps z in use

A decoder of sentences that sees the words so far can do without z, and then q(z | x) becomes the prior: the posterior
has collapsed. What is known against it, each alone and together, on English and Vietnamese. Data: {data};
{train_rows} training pairs, all aligned, cut after {longest} words; a word is one if it stands at least {fewest} times;
{epochs} epochs, embeddings and networks of width {width}, one training each. All on validation sentences (tst2012).

KL is KL[q(z | one language) || p(z)] in nats, the mean over them: 0 would be a posterior that has collapsed. Found: how
often, among {among} sentences, the mean of q(z | one language) lies nearest to that of its own translation; chance is
{chance} %. log p is in nats a sentence pair, or sentence, the mean over the first {rows}, by {samples} draws.

{remedies}

Word dropout: a word is hidden from those after it that often (Bowman et al. 2016). Annealing: the weight of the KL
rises from 0 to 1. Free nats: the KL of a term costs nothing up to there (Kingma et al. 2016). Bag of words: z alone has
to say the words too, in any order (Zhao et al. 2017).

## Transformers

In place of recurrent networks, of the width that has as many parameters; both with word dropout and annealing. In equal
time: the one that takes longer, annealed and trained for as many epochs as fit.

{networks}

Made by `{command}` (preset `{preset}`) at commit {commits} on {machine}; the numbers are in
`results/collapse/{preset}.json`.
"""
