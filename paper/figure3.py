"""`figure3`: label or text predicted from an image, by how many pairs were seen (paper, section 5.1)."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from mvae.batch import Batch
from mvae.data.dataset import Dataset, pairing_order, unpair
from mvae.data.loading import COMPLETE
from mvae.data.multimnist import FILL
from mvae.data.sources import load_dataset
from mvae.evaluation.classification import alike, guess
from mvae.evaluation.translation import posterior_means
from mvae.models import MultimodalVAE
from mvae.seeds import seeded
from mvae.strings import ended
from mvae.training.epochs import ACCURACY
from mvae.training.run import Run
from paper.baselines.latents import boltzmann_latents, network_latents
from paper.baselines.logistic import PairedLogisticRegression, pixels
from paper.baselines.networks import Deterministic
from paper.figure3_view import ALL, LABEL, TARGETS, draw, view
from paper.results import Results
from paper.runner import CATALOG, Cell, Report, Setup, places
from paper.trained import by_recipe, placed

__all__ = ["cells", "finish", "measure", "view"]

Numbers = Callable[[Batch], np.ndarray]
IMAGE = "image"
MODELS = CATALOG["figure3"]["choices"]["model"]
HELD, MOST_HELD = 5, 5000
"""Of n pairs, n / 5 are set aside to choose the epoch by, but no more than 5,000."""


def cells(setup: Setup) -> list[Cell | list[Cell]]:
    """All there is to do: data set by data set, the first choice of all pairs first.

    What learns from all images learns once, for all choices of pairs together.
    """
    spent, models = setup.spent, setup.among("model")
    shared = [name for name in models if MODELS[name]["kind"] in ("latents", "logistic")]
    found: list[Cell | list[Cell]] = []
    for dataset in setup.among("dataset"):
        seeds = spent["seeds_of"].get(dataset, spent["seeds"])
        choices = [{"pairs": int(pairs), "seed": seed} for pairs, count in seeds.items() for seed in range(count)]
        choices.sort(key=lambda choice: choice["seed"])
        found += [[{"dataset": dataset, "model": name, **choice} for choice in choices] for name in shared]
        found += [
            {"dataset": dataset, "model": name, **choice}
            for choice in choices
            for name in models
            if name not in shared and not (choice["seed"] and (name in spent["once"] or "aside" in MODELS[name]))
            if "aside" not in MODELS[name] or choice["pairs"] in MODELS[name]["aside"].get(dataset, ())
        ]
    return found


def measure(cell: Cell | list[Cell], setup: Setup, report: Report) -> list[dict[str, Any]]:
    """Train a model on each choice of pairs, and score it on the whole test set."""
    spent, choices = setup.spent, cell if isinstance(cell, list) else [cell]
    dataset, model = choices[0]["dataset"], choices[0]["model"]
    whole, kind = load_dataset(dataset, data_dir=setup.data_dir), MODELS[model]["kind"]
    whole = replace(whole, train=whole.train[: spent["train_rows_of"].get(dataset, spent["train_rows"])])
    target = TARGETS.get(dataset, LABEL)
    truth, records = whole.test.values[target], []
    # Pixels and the RBM are read grey, the mean of what the networks see: measured the better of the two.
    numbers: Numbers = pixels
    seen = whole.train
    if model == "rbm":
        report("training", 0, 1)
        numbers = boltzmann_latents(seen, spent["boltzmann_epochs"])
    elif kind == "latents":
        seen = _as_seen(whole, whole.train)
        numbers = _latents(choices[0], spent, whole, seen, report)
    for number, choice in enumerate(choices):
        report("training", number, len(choices))
        pairs = chosen_pairs(whole.train, choice["pairs"], choice["seed"])
        if kind in ("logistic", "latents"):
            fitted = PairedLogisticRegression(numbers, target=target).fit(seen[pairs])
            guesses = torch.from_numpy(fitted.predict(whole.test))
            guesses = ended(guesses, FILL) if target == "text" else guesses  # read up to the first fill, as all texts
            found: dict[str, Any] = {"predictions": {"logistic": guesses}}
        else:
            found = _networks(choice, spent, whole, pairs, report)
        right = {name: int(alike(guesses, truth).sum()) for name, guesses in found.pop("predictions").items()}
        records.append(
            {**choice, **found, "rows": len(truth), "total": len(whole.train)}
            | {"right": right, "accuracy": next(iter(right.values())) / len(truth)}
        )
    return records


def finish(results: Results, setup: Setup) -> Iterator[str]:
    """Draw the curves of each data set beside the JSON."""
    for dataset in setup.among("dataset"):
        yield f"{dataset}: {draw(results.content, dataset, results.path.parent)}"


def chosen_pairs(rows: Batch, pairs: int, seed: int) -> torch.Tensor:
    """The row numbers of a choice of pairs; those of a smaller choice of the same seed are the first of them."""
    order = pairing_order(rows, seed)
    return order[:pairs] if pairs != ALL else order


def _networks(
    cell: Cell, spent: Mapping[str, Any], whole: Dataset, pairs: torch.Tensor, report: Report
) -> dict[str, Any]:
    """Train on the pairs, and on the other rows where the model can, and predict the test rows."""
    dataset, compared, target = cell["dataset"], MODELS[cell["model"]], TARGETS.get(cell["dataset"], LABEL)
    held = pairs[: min(len(pairs) // HELD, MOST_HELD)]
    if compared["kind"] == "joint":
        kept = torch.ones(len(whole.train), dtype=torch.bool)
        kept[held] = False
        train = unpair(whole.train, len(pairs) / len(whole.train), cell["seed"])[kept.nonzero().flatten()]
    else:
        learned = pairs[len(held) :]
        train = whole.train[learned.repeat(round((len(whole.train) - len(held)) / len(learned)))]  # as many steps
    rows = replace(whole, train=train, validation=_as_seen(whole, whole.train[held]))
    share = max(spent["paired_share"], len(pairs) / len(whole.train))
    options = {
        **_of_target(compared.get("options", {}), target),
        "training.epochs": spent["epochs"] and spent["epochs"][dataset] * compared.get("longer", 1),
        "training.precision": spent["precision_of"].get(dataset),
        "training.best_by": target,
        "training.seed": cell["seed"],
        "training.shares": {COMPLETE: share} if compared["kind"] == "joint" and share < 1 else None,
    }
    run = by_recipe(dataset, rows, places(options))
    if compared["kind"] == "supervised":
        run = replace(run, model=_deterministic(run, target))
    outcome = run.train_to_the_end(lambda done, total: report("training", done, total))
    report("predicting", 0, 1)
    return {
        "held": len(held),
        "epoch": outcome.kept["epoch"],
        "epochs": len(outcome.history),
        "precision": run.spec.training.precision_here,
        "validation_accuracy": outcome.kept[ACCURACY],
        "predictions": _predictions(placed(run.model), whole.test, target, compared["kind"], spent["samples"]),
    }


def _of_target(options: Mapping[str, Any], target: str) -> dict[str, Any]:
    """Options that speak of the label, speaking of what is predicted."""
    return {
        place.replace(f".{LABEL}.", f".{target}."): [target] if value == [LABEL] else value
        for place, value in options.items()
    }


def _as_seen(whole: Dataset, rows: Batch) -> Batch:
    """Training rows as a model sees them, e.g. binarised; drawn once."""
    with seeded(0):
        return rows if whole.transform is None else whole.transform(rows)


def _latents(cell: Cell, spent: Mapping[str, Any], whole: Dataset, seen: Batch, report: Report) -> Numbers:
    """Learn from all images; a function from rows to numbers."""
    options = {
        **MODELS[cell["model"]].get("options", {}),
        "training.epochs": spent["epochs"] and spent["epochs"][cell["dataset"]],
        "training.precision": spent["precision_of"].get(cell["dataset"]),
    }
    run = by_recipe(cell["dataset"], replace(whole, validation=whole.train[:0]), places(options))
    if cell["model"] == "autoencoder":
        images = replace(
            run.dataset, train=run.dataset.train.only([IMAGE]), validation=run.dataset.validation.only([IMAGE])
        )
        run = replace(run, model=_deterministic(run, IMAGE), dataset=images)
    run.train_to_the_end(lambda done, total: report("training", done, total))
    return network_latents(placed(run.model), seen)


def _deterministic(run: Run, target: str) -> Deterministic:
    """The networks of a run without the stochastic layer, with the same initial parameters."""
    return Deterministic(run.model.modalities, run.model.latent_dim, IMAGE, target)


@torch.inference_mode()
def _predictions(model: MultimodalVAE, test: Batch, target: str, kind: str, samples: int) -> dict[str, torch.Tensor]:
    """What is guessed for each test row, first by the estimator that the figure shows."""
    images = test.only([IMAGE])
    guesses = {"decoder": guess(model, images, target, num_samples=samples)}
    if kind != "supervised":
        guesses["mean"] = _at_the_mean(model, images, target)
        guesses["label given too"] = _at_the_mean(model, test, target)
    return guesses


def _at_the_mean(model: MultimodalVAE, rows: Batch, target: str) -> torch.Tensor:
    """What the decoder finds likeliest at the mean of q(z | what the rows have)."""
    parts = posterior_means(model, rows)
    return torch.cat([model.modalities[target].decoder(z).mode.cpu() for z in parts])
