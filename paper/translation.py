"""`mvae reproduce table4` and `table5`: translation from few aligned sentences (paper, section 7).

English and Vietnamese sentences are two modalities; a share of the training pairs stays aligned, and of the others each
keeps one language. Models are trained once and shared by both tables.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import torch

from mvae.batch import Batch
from mvae.config.folder import METRICS
from mvae.config.recipes import resolve
from mvae.data.dataset import Dataset, unpair
from mvae.data.iwslt import ALL_PAIRS, LANGUAGES, count_pairs, sentences
from mvae.data.loading import COMPLETE
from mvae.data.sources import load_dataset
from mvae.data.texts import as_read
from mvae.evaluation.likelihood import log_likelihood
from mvae.evaluation.translation import NearestPair, posterior_means, quality_of_texts, retrieval
from mvae.files import DataError, read_json
from mvae.models import MultimodalVAE
from mvae.optional import imported
from mvae.training.epochs import held
from mvae.training.prepare import learned
from mvae.vocabularies import UNKNOWN
from paper.comparison import train_on_rows
from paper.results import provenance
from paper.setup import Setup
from paper.side_by_side import Report

__all__ = [
    "DIRECTIONS",
    "MODELS",
    "MVAES",
    "PRESETS",
    "QUANTITIES",
    "SHARES",
    "SOURCE",
    "Preset",
    "Task",
    "check_data",
    "data_options",
    "epochs_of",
    "likelihood_scores",
    "load_pairs",
    "plain",
    "reproduce",
    "retrieval_scores",
    "width_options",
    "work",
]

SOURCE = "iwslt-en-vi"
SHARES = (0.001, 0.005, 0.01, 0.05, 0.1, 1.0)
"""Of the training pairs that stay aligned, as in Table 4."""
MODELS = {
    "mvae": "MVAE, aligned and other sentences",
    "mvae-annealed": "MVAE, annealed over all epochs",
    "pairs": "The networks of the MVAE, on the aligned sentences alone",
    "nearest": "The translation of the nearest aligned sentence",
}
MVAES = ("mvae", "mvae-annealed")
"""Of `MODELS`, what learns from aligned and other sentences."""
QUANTITIES = {
    "joint": (("en", "vi"), ()),
    "en": (("en",), ()),
    "vi": (("vi",), ()),
    "vi given en": (("vi",), ("en",)),
    "en given vi": (("en",), ("vi",)),
}
"""What log p is of, each summed over the words of its languages and their ends."""
DIRECTIONS = (("en", "vi"), ("vi", "en"))
PAIRED_SHARE = 0.1
"""Of each batch are aligned sentences at least."""
SHOWN, SHORTEST, LONGEST = 8, 5, 15
"""How many sentences Table 5 shows, and how many words they have."""


@dataclass(frozen=True)
class Preset:
    """How much is spent."""

    shares: Sequence[float]
    seeds: int
    epochs: int | None
    """The recipe's, which are the paper's, where None."""
    width: int | None
    """Of embeddings and recurrent networks; the recipe's where None."""
    longest: int
    """Words of a sentence that are read."""
    fewest: int
    """How often a word must stand in the training sentences to be one."""
    rows: int | None
    """How many test rows are scored, from the first; all where None."""
    samples: int
    """Importance samples a row."""
    found_among: int
    """Sentences among which one has to be found again."""
    train_rows: int | None = None
    precision: str | None = None


PRESETS = {
    "smoke": Preset((0.1, 1.0), 1, 1, 8, 10, 1, 10, 3, 20, train_rows=200),
    "cpu": Preset(SHARES, 3, 5, 64, 20, 5, 200, 20, 1000, precision="auto"),
    "paper": Preset(SHARES, 3, None, None, 70, 1, None, 100, 1000),
}


@dataclass(frozen=True)
class Task:
    """One model, from some of the pairs."""

    model: str
    share: float
    seed: int

    def __str__(self) -> str:
        return f"{self.model}, {100 * self.share:g} % aligned, seed {self.seed}"


def reproduce(
    table: str, setup: Setup, models: Sequence[str] = tuple(MODELS), shares: Sequence[float] = SHARES
) -> Iterator[str]:
    """Train and score for each share of aligned pairs; keep each cell when it is done.

    Args:
        table: `"table4"`, or `"table5"`, which shows sentences of the model with all pairs and of one with few.
        setup: its preset is a name in `PRESETS`.
        models: of `"table4"`, names in `MODELS`.
        shares: of `"table4"`, those of the preset's that are looked at.

    Yields:
        A line for each finished cell.
    """
    imported("sacrebleu", "BLEU and chrF", "translation")  # before anything is trained
    settings = PRESETS[setup.preset]
    results = setup.results(table, plain(settings))
    tasks = results.missing(tasks_of(table, settings, models, shares))
    check_data(setup, settings)
    for task, record in setup.finish(partial(work, table=table), tasks, results):
        scores = record["scores"]
        yield f"{task}: " + ", ".join(f"{name} {value:.2f}" for name, value in list(scores.items())[:4])


def tasks_of(table: str, settings: Preset, models: Sequence[str], shares: Sequence[float]) -> list[Task]:
    """All there is to do, the first seeds first."""
    if table == "table5":
        return [Task("mvae-annealed", share, 0) for share in sorted({settings.shares[0], max(settings.shares)})]
    return [
        Task(model, share, seed)
        for seed in range(settings.seeds)
        for share in settings.shares
        if share in shares
        for model in models
        if share < 1 or model != "pairs"  # which is then the MVAE itself
    ]


def plain(settings: Preset) -> dict[str, Any]:
    """A preset as JSON gives it back."""
    return {**asdict(settings), "shares": list(settings.shares)}


def data_options(settings: Preset) -> dict[str, bool | int]:
    """What is read of the files."""
    return {"longest": settings.longest, "fewest": settings.fewest}


def work(task: Task, setup: Setup, report: Report, table: str) -> dict[str, Any]:
    """One task's record."""
    settings, started = PRESETS[setup.preset], time.perf_counter()
    whole = load_pairs(setup.data_dir, data_options(settings), settings.train_rows)
    validation, test = whole.validation, whole.test
    train = unpair(whole.train, task.share, task.seed)
    both = train.presence(LANGUAGES).all(1).nonzero().flatten()
    aligned = train[both]
    record: dict[str, Any] = {
        **asdict(task),
        "train_rows": len(train),
        "aligned": len(aligned),
        "rows": len(test[: settings.rows]),
        "data": whole.description,
    }
    references = sentences(setup.data_dir, "tst2013")
    if task.model == "nearest":
        known = {
            name: [texts[row] for row in both.tolist()] for name, texts in sentences(setup.data_dir, "train").items()
        }
        among = {name: texts[: settings.found_among] for name, texts in sentences(setup.data_dir, "tst2012").items()}
        scores = _by_nearest(known, references, among) if len(aligned) else {}
        return record | {"scores": scores, "seconds": time.perf_counter() - started, "made": provenance()}
    folder = setup.runs / setup.preset / SOURCE / f"{task.model}-{task.share:g}" / f"seed-{task.seed}"
    dataset = replace(whole, train=aligned if task.model == "pairs" else train)
    spec = learned(resolve(SOURCE, None, _options(task, settings, len(train), len(aligned))), setup.data_dir)
    model, _ = train_on_rows(folder, spec, dataset, report)
    kept = read_json(folder / METRICS)["kept"]
    report("scoring", 0, 1)
    found = _sentences(model, test, references) if table == "table5" else {}
    scores = _scores(model, validation, test, references, settings) if table == "table4" else {}
    record |= {"scores": scores, "held": held(kept), "epoch": kept["epoch"], **found}
    return record | {"seconds": time.perf_counter() - started, "made": provenance()}


def check_data(setup: Setup, settings: Preset) -> None:
    """Say what is missing of the data before anything is trained; a part of it is not the paper's.

    Raises:
        DataError: as reading it does; if the preset is `paper` and the training files lack lines.
    """
    if setup.preset == "paper" and (count := count_pairs(setup.data_dir)) < ALL_PAIRS:
        raise DataError(f"preset paper: expected all {ALL_PAIRS:,} training pairs, found {count:,}; --preset cpu")
    load_pairs(setup.data_dir, data_options(settings))


def load_pairs(data_dir: str | None, options: Mapping[str, bool | int], train_rows: int | None = None) -> Dataset:
    """The rows of the data set that have both languages, of the training rows the first so many."""
    whole = load_dataset(SOURCE, data_dir=data_dir, options=options)
    train, validation, test = (
        part[part.presence(LANGUAGES).all(1).nonzero().flatten()]
        for part in (whole.train, whole.validation, whole.test)
    )
    return replace(whole, train=train[:train_rows], validation=validation, test=test)


def _options(task: Task, settings: Preset, rows: int, aligned: int) -> dict[tuple[str, ...], Any]:
    """What differs from the recipe. What learns from aligned sentences alone goes through them so much oftener, until
    validation is the worse for it. What is annealed to the last epoch has no use for the weights of an earlier one.
    """
    options: dict[tuple[str, ...], Any] = {
        ("data", "options"): data_options(settings),
        **width_options(settings.width),
        ("training", "epochs"): settings.epochs,
        ("training", "precision"): settings.precision,
        ("training", "seed"): task.seed,
        ("training", "passes"): round(rows / max(1, aligned)) if task.model == "pairs" else None,
        ("training", "patience"): 1 if task.model == "pairs" else None,
        ("training", "shares"): {COMPLETE: PAIRED_SHARE} if task.model in MVAES and task.share < PAIRED_SHARE else None,
    }
    if task.model == "mvae-annealed":
        options |= {("training", "annealing_epochs"): epochs_of(settings.epochs), ("training", "keep"): "last"}
    return options


def epochs_of(given: int | None) -> int:
    """The epochs of a preset; the recipe's where it has none of its own."""
    return given or resolve(SOURCE, None, {}).training.epochs


def width_options(width: int | None) -> dict[tuple[str, ...], Any]:
    """Recurrent networks of that width; the recipe's where None."""
    places = [
        ("model", "modalities", language, network, what)
        for language in LANGUAGES
        for network in ("encoder", "decoder")
        for what in ("embedding", "hidden")
    ]
    return dict.fromkeys(places if width else [], width)


def _by_nearest(
    aligned: Mapping[str, list[str]], test: Mapping[str, list[str]], among: Mapping[str, list[str]]
) -> dict[str, float]:
    scores: dict[str, float] = {}
    for source, target in DIRECTIONS:
        nearest = NearestPair().fit(aligned[source], aligned[target])
        found = nearest.predict(test[source])
        scores |= _named(quality_of_texts([*map(as_read, found)], [*map(as_read, test[target])]), source, target)
        scores[f"retrieval {source} to {target}"] = nearest.retrieval(among[source], among[target])
    return scores


def _named(scores: Mapping[str, float], source: str, target: str) -> dict[str, float]:
    return {f"{name} {source} to {target}": value for name, value in scores.items()}


def _scores(
    model: MultimodalVAE, validation: Batch, test: Batch, references: Mapping[str, list[str]], settings: Preset
) -> dict[str, float]:
    """Log-likelihoods of test rows in nats, their standard error over rows, perplexities, BLEU, chrF, retrieval."""
    scores: dict[str, float] = {}
    rows = test[: settings.rows]
    for name in QUANTITIES:
        scores |= likelihood_scores(model, rows, name, settings.samples)
    for source, target in DIRECTIONS:
        truth = [as_read(text) for text in references[target]]
        scores |= _named(quality_of_texts(_translated(model, test, source, target), truth), source, target)
    return scores | retrieval_scores(model, validation[: settings.found_among])


def retrieval_scores(model: MultimodalVAE, rows: Batch) -> dict[str, float]:
    """How often a sentence finds its translation among rows, both ways."""
    return {f"retrieval {source} to {target}": retrieval(model, rows, source, target) for source, target in DIRECTIONS}


def likelihood_scores(model: MultimodalVAE, rows: Batch, name: str, samples: int) -> dict[str, float]:
    """The mean log-likelihood of one of `QUANTITIES` in nats a row, its standard error, the perplexity a word."""
    targets, given = QUANTITIES[name]
    value = log_likelihood(model, rows, targets, given, num_samples=samples).value
    words = sum(int(_lengths(model, rows, target).sum()) for target in targets)
    return {
        f"log p({name})": value.mean().item(),
        f"error({name})": value.std().item() / math.sqrt(len(value)),
        f"perplexity({name})": math.exp(-value.sum().item() / words),
    }


def _lengths(model: MultimodalVAE, rows: Batch, name: str) -> torch.Tensor:
    lengths = model.modalities[name].lengths(rows.values[name])
    assert lengths is not None
    return lengths


@torch.no_grad()
def _translated(model: MultimodalVAE, rows: Batch, source: str, target: str) -> list[str]:
    """Sentences written word by word, each the likeliest next, from the mean of q(z | source); none is unknown."""
    alphabet, found = model.modalities[target].alphabet, []
    assert alphabet is not None
    for z in posterior_means(model, rows.only([source])):
        found += [alphabet.text(symbols) for symbols in model.decode(z, target)[target].mode.cpu()]  # type: ignore[attr-defined]
    return [as_read(" ".join(text.replace(UNKNOWN, "").split())) for text in found]


def _sentences(
    model: MultimodalVAE, test: Batch, references: Mapping[str, list[str]]
) -> dict[str, list[dict[str, str]]]:
    """Translations both ways of sentences that are chosen by a rule: evenly spaced among those of middling length."""
    lengths = _lengths(model, test, "en")
    fit = ((lengths > SHORTEST) & (lengths <= LONGEST + 1)).nonzero().flatten()
    chosen = fit[:: max(1, len(fit) // SHOWN)][:SHOWN]
    made = {target: _translated(model, test[chosen], source, target) for source, target in DIRECTIONS}
    return {
        "sentences": [
            {
                **{name: as_read(references[name][row]) for name in LANGUAGES},
                "vi from en": made["vi"][place],
                "en from vi": made["en"][place],
            }
            for place, row in enumerate(chosen.tolist())
        ]
    }
