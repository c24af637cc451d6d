"""`table2` and `table3`: log-likelihoods, and variances of the log importance weights."""

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, product
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import sem

from mvae.files import read_json, write_json
from paper.compared import DATASETS, MODELS, cells_of, check, folder_of, spec_of, train_model, trained_model
from paper.pages import mean, pivot, table
from paper.results import Results, provenance
from paper.runner import CATALOG, Cell, Report, Setup, read
from paper.scores import main_entries, scores
from paper.trained import placed

__all__ = ["cells", "check", "finish", "measure", "view"]

SCORES = "scores.json"
FIGURES = {name: CATALOG[name]["figures"] for name in ("table2", "table3")}
"""What each table keeps of an estimate: first what it prints, then its standard error over rows."""
OURS = ("mvae", "mvae19")
QUANTITIES, SECONDS = CATALOG["table2"]["quantities"], CATALOG["table2"]["seconds"]


def cells(setup: Setup) -> list[Cell]:
    """Each model on each data set, from each seed."""
    return cells_of(setup.among("dataset"), setup.among("model"), setup.options.get("seeds", 1))


def measure(cell: Cell, setup: Setup, report: Report) -> dict[str, Any]:
    """Train and score; of the scores what the table keeps."""
    record = train_and_score(cell, setup, report)
    keys = ("quantity", "proposal", "second", "samples", *FIGURES[setup.experiment])
    return record | {"estimates": [{key: entry[key] for key in keys} for entry in record["estimates"]]}


def train_and_score(cell: Cell, setup: Setup, report: Report) -> dict[str, Any]:
    """Train the model of a cell or take the one that is there, score it or take the scores that are there."""
    trained = train_model(cell, setup, report)
    path, spent, dataset = folder_of(cell, setup) / SCORES, setup.spent, cell["dataset"]
    if path.exists():
        return read_json(path)
    report("scoring", 0, 1)
    model, whole = trained_model(cell, setup)
    rows = whole.test if spent["rows"] is None else whole.test[: spent["rows"][dataset]]
    started = time.perf_counter()
    counts = [spent[f"{kind}_of"].get(dataset, spent[kind]) for kind in ("samples", "prior_samples")]
    estimates = scores(placed(model), rows, *counts)
    training = spec_of(cell, setup).training
    record = {
        **cell,
        "epochs": training.epochs,
        "precision": trained.get("precision", training.precision_here),
        "rows": len(rows),
        "data": whole.description,
        "trained": trained,
        "scored": provenance() | {"seconds": time.perf_counter() - started},
        "estimates": estimates,
    }
    write_json(path, record)
    return record


def finish(results: Results, setup: Setup) -> Iterator[str]:
    """Differences on the same rows, where the scores of all cells of a data set are there; else as they were."""
    if setup.experiment == "table2":
        old = results.content.get("differences", [])
        results.content["differences"] = []
        for dataset in dict.fromkeys(cell["dataset"] for cell in results.cells):
            scored = [cell for cell in results.cells if cell["dataset"] == dataset]
            there = all((folder_of(cell, setup) / SCORES).exists() for cell in scored)
            kept = [entry for entry in old if entry["dataset"] == dataset]
            results.content["differences"] += _differences(scored, setup) if there else kept
        results.save()
    return iter(())


def _differences(cells: Sequence[Cell], setup: Setup, base: str = "mvae") -> list[dict[str, Any]]:
    """Each model minus the MVAE on the same rows, seed by seed: the mean, and its standard error over rows."""
    values: dict[tuple[str, str, str], list[list[float]]] = {}
    for cell in cells:
        for entry in main_entries(read_json(folder_of(cell, setup) / SCORES)["estimates"]):
            values.setdefault((cell["dataset"], entry["quantity"], cell["model"]), []).append(entry["values"])
    differences = []
    for (dataset, quantity, model), seeds in values.items():
        others = values.get((dataset, quantity, base), [])
        if model != base and len(others) == len(seeds):
            rows = (np.array(seeds) - np.array(others)).mean(0)
            found = {"dataset": dataset, "quantity": quantity, "model": model, "minus": base}
            differences.append(found | {"nats": rows.mean().item(), "error": float(sem(rows))})
    return differences


def standing(main: pd.DataFrame, experiment: str, differences: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Which of the paper's models is best, here and in the paper, and whether here the MVAE is it or level with it.

    Level is a difference of up to two standard errors: in Table 2 of that on the same rows, in Table 3 of both models.
    """
    (value, error), sign = FIGURES[experiment][:2], 1 if experiment == "table2" else -1
    figures = main[main["model"] != "mvae-label"].groupby(["quantity", "dataset", "model"])[[value, error]].mean()
    paired = {(one["quantity"], one["dataset"], one["model"]): one["error"] for one in differences}
    found = []
    for quantity, dataset in product(QUANTITIES, DATASETS):
        if (quantity, dataset, "mvae") in figures.index:
            printed, here = read("paper.yaml")[experiment][quantity][dataset], figures.loc[quantity, dataset]
            best, theirs = (sign * here[value]).idxmax(), max(printed, key=lambda name: sign * printed[name])
            one, other = here.loc[best], here.loc["mvae"]
            unpaired = 0.0 if experiment == "table2" else math.hypot(one[error], other[error])
            level = abs(one[value] - other[value]) <= 2 * paired.get((quantity, dataset, best), unpaired)
            held = {"held": level or best in OURS, "claimed": theirs in OURS}
            found.append({"quantity": quantity, "dataset": DATASETS[dataset], "best": MODELS[best]} | held)
    return pd.DataFrame(found, columns=["quantity", "dataset", "best", "held", "claimed"])


def view(experiment: str, content: Mapping[str, Any]) -> dict[str, Any]:
    """The pages' content: estimates beside the paper's, and those that the paper does not print."""
    cells = content["cells"]
    value, error = FIGURES[experiment][:2]

    def show(part: pd.DataFrame) -> str:
        """The mean over seeds with its standard error over seeds; of one seed, over rows."""
        found = part[value]
        return f"{found.mean():.2f} ± {found.sem() if len(found) > 1 else part[error].iloc[0]:.2f}"

    every = [{"dataset": c["dataset"], "model": c["model"], **entry} for c in cells for entry in c["estimates"]]
    main = [{"dataset": c["dataset"], "model": c["model"], **e} for c in cells for e in main_entries(c["estimates"])]
    estimates = pd.DataFrame(main)
    texts = {key: show(part) for key, part in estimates.groupby(["quantity", "model", "dataset"])}
    datasets = [name for name in DATASETS if any(cell["dataset"] == name for cell in cells)]
    beside = {}
    for quantity, printed in read("paper.yaml")[experiment].items():
        rows = []
        for model in (name for name in MODELS if any((quantity, name, dataset) in texts for dataset in datasets)):
            theirs = [mean(3)([printed[name][model]] if model in printed.get(name, {}) else []) for name in datasets]
            ours = [texts.get((quantity, model, name), "") for name in datasets]
            rows.append([MODELS[model], *chain(*zip(ours, theirs, strict=True))])
        beside[quantity] = table(["", *(head for name in datasets for head in (DATASETS[name], "paper"))], rows)
    frame = pd.DataFrame(every)
    frame["way"] = [" and ".join(proposal) for proposal in frame["proposal"]]
    frame["way"] += ": " + frame["quantity"] + " " + frame["second"].fillna("-")

    def alone(*wanted: tuple[str, str, str | None]) -> str:
        """Estimates by way: quantity, proposal, and how log p(label) of a conditional was found."""
        heads = {}
        for quantity, proposal, second in wanted:
            way = f", q(z given {proposal}), {SECONDS[second or 'prior']}" if quantity == "conditional" else ""
            heads[f"{proposal}: {quantity} {second or '-'}"] = QUANTITIES[quantity] + way
        models = {name: title for name, title in MODELS.items() if name != "cvae"}
        return pivot(frame, {"dataset": DATASETS, "model": models}, {"way": heads}, show)

    seeds = len({cell["seed"] for cell in cells})
    image, label, both = "image", "label", "image and label"
    others = (image, "importance"), (label, "prior"), (label, "importance"), (both, "importance")
    return {
        **beside,
        "datasets": {name: [cell for cell in cells if cell["dataset"] == name][-1] for name in datasets},
        "titles": DATASETS,
        "quantities": QUANTITIES,
        "standing": standing(estimates, experiment, content.get("differences", [])),
        "sizes": estimates[estimates["quantity"] == "marginal"].groupby("dataset"),
        "seeds": seeds,
        "both": alone(("marginal", both, None), ("joint", both, None), ("conditional", both, "prior")),
        "ways": alone(*(("conditional", *way) for way in others)),
        "reading": alone(("conditional", image, "q(z | label)")),
        "differences": pivot(
            pd.DataFrame(content.get("differences", [])),
            {"quantity": QUANTITIES, "model": MODELS},
            {"dataset": DATASETS},
            lambda part: f"{part['nats'].iloc[0]:+.2f} ± {part['error'].iloc[0]:.2f}",
        ),
        "errors": "over rows" if seeds == 1 else f"over {seeds} seeds",
    }
