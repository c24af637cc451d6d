"""`table4` and `table5`: translation from few aligned sentences (paper, section 7).

English and Vietnamese sentences are two modalities; a share of the training pairs stays aligned, and of the others each
keeps one language. Models are trained once and shared by both tables.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
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
from mvae.evaluation.translation import posterior_means, quality_of_texts, retrieval
from mvae.files import DataError, read_json
from mvae.models import MultimodalVAE
from mvae.optional import imported
from mvae.training.epochs import held
from mvae.training.prepare import learned
from mvae.vocabularies import UNKNOWN
from paper.baselines.nearest import NearestPair
from paper.runner import Cell, Report, Setup, places
from paper.trained import train_on_rows
from paper.translation_view import DIRECTIONS, MVAES, QUANTITIES, SOURCE, epochs_of, view

__all__ = ["cells", "check", "measure", "view"]

PAIRED_SHARE = 0.1
"""Of each batch are aligned sentences at least."""
WIDTHS = ("embedding", "hidden")
SHOWN, SHORTEST, LONGEST = 8, 5, 15
"""How many sentences Table 5 shows, and how many words they have."""


def cells(setup: Setup) -> list[Cell]:
    """Each model from each share of aligned pairs, the first seeds first; Table 5 has the most and the fewest."""
    shares = setup.spent["shares"]
    if setup.experiment == "table5":
        few_and_all = sorted({shares[0], max(shares)})
        return [{"model": "mvae-annealed", "share": share, "seed": 0} for share in few_and_all]
    return [
        {"model": model, "share": share, "seed": seed}
        for seed in range(setup.spent["seeds"])
        for share in shares
        if share in setup.among("share")
        for model in setup.among("model")
        if share < 1 or model != "pairs"  # which is then the MVAE itself
    ]


def check(setup: Setup, _: Sequence[Any]) -> None:
    """Say what is missing before anything is trained; a part of the data is not the paper's."""
    imported("sacrebleu", "BLEU and chrF", "translation")
    if setup.preset == "paper" and (count := count_pairs(setup.data_dir)) < ALL_PAIRS:
        raise DataError(f"preset paper: expected all {ALL_PAIRS:,} training pairs, found {count:,}; --preset cpu")
    load_pairs(setup)


def measure(cell: Cell, setup: Setup, report: Report) -> dict[str, Any]:
    """Train and score; of Table 5 show sentences."""
    spent, model_name = setup.spent, cell["model"]
    whole = load_pairs(setup)
    validation, test = whole.validation, whole.test
    train = unpair(whole.train, cell["share"], cell["seed"])
    both = train.presence(LANGUAGES).all(1).nonzero().flatten()
    aligned = train[both]
    record: dict[str, Any] = {
        **cell,
        "train_rows": len(train),
        "aligned": len(aligned),
        "rows": len(test[: spent["rows"]]),
        "data": whole.description,
    }
    references = sentences(setup.data_dir, "tst2013")
    if model_name == "nearest":
        every, among = (sentences(setup.data_dir, part) for part in ("train", "tst2012"))
        known = {name: [texts[row] for row in both.tolist()] for name, texts in every.items()}
        among = {name: texts[: spent["found_among"]] for name, texts in among.items()}
        record["scores"] = _by_nearest(known, references, among) if len(aligned) else {}
    else:
        folder = setup.runs / setup.preset / SOURCE / f"{model_name}-{cell['share']:g}" / f"seed-{cell['seed']}"
        rows = replace(whole, train=aligned if model_name == "pairs" else train)
        options = places(_options(cell, spent, len(train), len(aligned)), *LANGUAGES)
        model, _ = train_on_rows(folder, learned(resolve(SOURCE, None, options), setup.data_dir), rows, report)
        kept = read_json(folder / METRICS)["kept"]
        report("scoring", 0, 1)
        record |= {"held": held(kept), "epoch": kept["epoch"], "scores": {}}
        if setup.experiment == "table5":
            return record | {"sentences": _sentences(model, test, references)}
        record["scores"] = scores_of(model, test[: spent["rows"]], validation[: spent["found_among"]], spent["samples"])
        for source, target in DIRECTIONS:
            found = _translated(model, test, source, target)
            record["scores"] |= _quality(found, references[target], source, target)
    return record


def load_pairs(setup: Setup) -> Dataset:
    """The rows of the data set that have both languages, of the training rows as many as the preset says."""
    options = options_of(setup.spent)["data.options"]
    whole = load_dataset(SOURCE, data_dir=setup.data_dir, options=options)
    train, validation, test = (
        part[part.presence(LANGUAGES).all(1).nonzero().flatten()]
        for part in (whole.train, whole.validation, whole.test)
    )
    return replace(whole, train=train[: setup.spent["train_rows"]], validation=validation, test=test)


def options_of(spent: Mapping[str, Any]) -> dict[str, Any]:
    """What a preset changes of the recipe: what is read of the files, how wide networks are, epochs and precision."""
    widths = [f"model.modalities.*.{network}.{what}" for network in ("encoder", "decoder") for what in WIDTHS]
    return {
        "data.options": {"longest": spent["longest"], "fewest": spent["fewest"]},
        **dict.fromkeys(widths if spent["width"] else [], spent["width"]),
        "training.epochs": spent["epochs"],
        "training.precision": spent["precision"],
    }


def _options(cell: Cell, spent: Mapping[str, Any], rows: int, aligned: int) -> dict[str, Any]:
    """What differs from the recipe.

    What learns from aligned sentences alone goes through them so many times more, until validation is the worse for it.
    What is annealed to the last epoch has no use for the weights of an earlier one.
    """
    model, alone = cell["model"], cell["model"] == "pairs"
    options = {
        **options_of(spent),
        "training.seed": cell["seed"],
        "training.passes": round(rows / max(1, aligned)) if alone else None,
        "training.patience": 1 if alone else None,
        "training.shares": {COMPLETE: PAIRED_SHARE} if model in MVAES and cell["share"] < PAIRED_SHARE else None,
    }
    if model == "mvae-annealed":
        options |= {"training.annealing_epochs": epochs_of(spent["epochs"]), "training.keep": "last"}
    return options


def _by_nearest(
    aligned: Mapping[str, list[str]], test: Mapping[str, list[str]], among: Mapping[str, list[str]]
) -> dict[str, float]:
    scores: dict[str, float] = {}
    for source, target in DIRECTIONS:
        nearest = NearestPair().fit(aligned[source], aligned[target])
        scores |= _quality([*map(as_read, nearest.predict(test[source]))], test[target], source, target)
        scores[f"retrieval {source} to {target}"] = nearest.retrieval(among[source], among[target])
    return scores


def _quality(found: list[str], truth: list[str], source: str, target: str) -> dict[str, float]:
    quality = quality_of_texts(found, [as_read(text) for text in truth])
    return {f"{name} {source} to {target}": value for name, value in quality.items()}


def scores_of(
    model: MultimodalVAE, rows: Batch, among: Batch, samples: int, names: Iterable[str] = QUANTITIES
) -> dict[str, float]:
    """Log-likelihoods in nats a row with their standard errors, perplexities a word, and retrieval among others."""
    scores: dict[str, float] = {}
    for name in names:
        targets, given = QUANTITIES[name]
        value = log_likelihood(model, rows, targets, given, num_samples=samples, prior_share=0).value
        words = sum(int(_lengths(model, rows, target).sum()) for target in targets)
        scores[f"log p({name})"] = value.mean().item()
        scores[f"error({name})"] = value.std().item() / math.sqrt(len(value))
        scores[f"perplexity({name})"] = math.exp(-value.sum().item() / words)
    for source, target in DIRECTIONS:
        scores[f"retrieval {source} to {target}"] = retrieval(model, among, source, target)
    return scores


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


def _sentences(model: MultimodalVAE, test: Batch, references: Mapping[str, list[str]]) -> list[dict[str, str]]:
    """Translations both ways of sentences that are chosen by a rule: evenly spaced among those of middling length."""
    lengths = _lengths(model, test, "en")
    fit = ((lengths > SHORTEST) & (lengths <= LONGEST + 1)).nonzero().flatten()
    chosen = fit[:: max(1, len(fit) // SHOWN)][:SHOWN]
    shown = {name: [as_read(references[name][row]) for row in chosen.tolist()] for name in LANGUAGES}
    for source, target in DIRECTIONS:
        shown[f"{target} from {source}"] = _translated(model, test[chosen], source, target)
    return [dict(zip(shown, texts, strict=True)) for texts in zip(*shown.values(), strict=True)]
