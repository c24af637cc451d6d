"""`k-effect` and `dropping`: the MVAE19 by its number of random terms, and by what rows lack.

The paper's last question of section 5, and the claim of its supplement: more random terms a step change the
log-likelihood little and lower the variance of the importance weights; the model bears modalities that are dropped at
random in training.
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pandas as pd

from mvae.data.dataset import drop
from mvae.data.sources import load_dataset
from paper.runner import CATALOG, Cell, Report, Setup, places
from paper.scores import main_entries, scores
from paper.trained import by_recipe, placed

SOURCE = "celeba19"
KEPT = ("quantity", "proposal", "second", "samples", "nats", "error", "variance", "variance_error")


def cells(setup: Setup) -> list[Cell]:
    """Each number of random terms, or probability of a value's being dropped."""
    return [{"experiment": setup.experiment, "value": value} for value in setup.spent["values"]]


def measure(cell: Cell, setup: Setup, report: Report) -> dict[str, Any]:
    """Train, and score on test rows."""
    spent, whole = setup.spent, load_dataset(SOURCE, data_dir=setup.data_dir)
    rows, held = whole.train[: spent["train_rows"]], whole.validation
    options = {"training.epochs": spent["epochs"], "training.precision": spent["precision"]}
    if cell["experiment"] == "k-effect":
        options["model.random_subsets"] = int(cell["value"])
    else:
        rows, held = drop(rows, cell["value"], seed=0), drop(held, cell["value"], seed=1)
    run = by_recipe(SOURCE, replace(whole, train=rows, validation=held), places(options))
    run.train_to_the_end(lambda done, total: report("training", done, total))
    report("scoring", 0, 1)
    test = whole.test[: spent["rows"]]
    found = scores(placed(run.model), test, spent["samples"], spent["prior_samples"])
    return {
        **cell,
        "epochs": run.spec.training.epochs,
        "precision": run.spec.training.precision_here,
        "train_rows": len(rows),
        "rows": len(test),
        "data": whole.description,
        "estimates": [{key: entry[key] for key in KEPT} for entry in found],
    }


def view(experiment: str, content: Mapping[str, Any]) -> dict[str, Any]:
    """The pages' content: estimates by value."""
    cells = sorted(content["cells"], key=lambda cell: cell["value"])
    shown = {c["value"]: f"{c['value']:g}" if experiment == "k-effect" else f"{100 * c['value']:g} %" for c in cells}
    main = [{"value": cell["value"], **entry} for cell in cells for entry in main_entries(cell["estimates"])]
    first, *_, last = (entry for entry in main if entry["quantity"] == "marginal")
    return {
        "frame": pd.DataFrame(main),
        "values": shown,
        "varies": CATALOG[experiment]["varies"],
        "ends": [shown[cells[0]["value"]], shown[cells[-1]["value"]]],
        "change": {name: last[name] - first[name] for name in ("nats", "variance")},
        "noise": 2 * math.hypot(first["variance_error"], last["variance_error"]),
        "some": cells[0],
        "with_error": _with_error,
    }


def _with_error(value: str, error: str) -> Any:
    """A format of an estimate ± its standard error."""
    return lambda part: f"{part[value].iloc[0]:.1f} ± {part[error].iloc[0]:.1f}"
