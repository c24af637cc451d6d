"""`imputation`: holes filled in scikit-learn's real tables, beside what people use today."""

import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from mvae.tables.fill import impute_table
from mvae.tables.read import read_table
from mvae.training.prepare import prepare, with_table
from paper.pages import mean, pivot
from paper.runner import CATALOG, Cell, Report, Setup, titles

PATTERNS = CATALOG["imputation"]["patterns"]
"""Which cells are hidden: each with that probability, or each group of columns of a row."""
TABLES, METHODS = titles("imputation", "table"), titles("imputation", "method")
NEIGHBOURS = 5


@dataclass(frozen=True)
class Whole:
    """A real table: numbers, standardised, and one category; and groups of columns that would be lacking together."""

    frame: pd.DataFrame
    category: str
    groups: Mapping[str, tuple[str, ...]]


def load_whole(name: str) -> Whole:
    """A table that comes with scikit-learn. Columns that are the same in every row are left out."""
    from sklearn import datasets

    found = getattr(datasets, f"load_{name.replace('-', '_')}")(as_frame=True)
    numbers = found.data.loc[:, found.data.std() > 0].astype(np.float64)
    if name == "diabetes":
        classes = numbers.pop("sex").rank(method="dense").map({1.0: "a", 2.0: "b"})
        numbers["target"] = found.target.astype(np.float64)
    else:
        classes = found.target.map(lambda code: f"class {code}").rename("target")
    frame = pd.concat([(numbers - numbers.mean()) / numbers.std(ddof=0), classes], axis=1)
    return Whole(frame, classes.name, _groups(name, list(frame.columns)))


def _groups(name: str, columns: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Columns that one examination gives, as the catalog says."""
    groups: dict[str, tuple[str, ...]] = {}
    for column in columns:
        expressions = CATALOG["imputation"]["groups"][name].items()
        group = next(group for group, expression in expressions if re.search(expression, column))
        groups[group] = (*groups.get(group, ()), column)
    return groups


def holed(whole: Whole, pattern: str, seed: int) -> np.ndarray:
    """Which cells are hidden, boolean `[R, C]`. Each row keeps a cell, or a group."""
    rng = np.random.default_rng([seed, list(PATTERNS).index(pattern)])
    count, names = len(whole.frame), list(whole.frame.columns)
    units = list(whole.groups.values()) if pattern == "groups" else [(name,) for name in names]
    hidden = rng.random((count, len(units))) < PATTERNS[pattern]
    lost = hidden.all(1)
    hidden[lost, rng.integers(0, len(units), lost.sum())] = False
    if pattern == "groups" and not hidden.any():
        hidden[0, 0] = True
    found = np.zeros((count, len(names)), dtype=bool)
    for unit, members in enumerate(units):
        for member in members:
            found[:, names.index(member)] = hidden[:, unit]
    return found


def cells(setup: Setup) -> list[Cell]:
    """Each method on each table, for each choice of hidden cells."""
    return [
        {"table": table, "pattern": pattern, "method": method, "seed": seed}
        for seed in range(setup.spent["seeds"])
        for table in setup.among("table")
        for pattern in PATTERNS
        for method in setup.among("method")
        if method != "mvae-groups" or pattern == "groups"
    ]


def measure(cell: Cell, setup: Setup, report: Report) -> dict[str, Any]:
    """Fill in what is hidden, and compare it with the truth."""
    spent, whole = setup.spent, load_whole(cell["table"])
    if spent["rows"] is not None:
        whole = replace(whole, frame=whole.frame.sample(spent["rows"], random_state=0).reset_index(drop=True))
    hidden = holed(whole, cell["pattern"], cell["seed"])
    known = whole.frame.mask(hidden)
    report("filling in", 0, 1)
    if cell["method"].startswith("mvae"):
        filled, intervals = _by_model(known, whole, cell, spent["epochs"], report)
    else:
        filled, intervals = _by_scikit_learn(known, whole, cell, spent), None
    return {**cell, "rows": len(known), **scores(whole, hidden, filled, intervals)}


def scores(
    whole: Whole, hidden: np.ndarray, filled: pd.DataFrame, intervals: pd.DataFrame | None
) -> dict[str, float | None]:
    """How near the hidden cells were guessed: numbers in standard deviations, categories in shares."""
    numbers = whole.frame.columns != whole.category
    truth, found = (frame.loc[:, numbers].to_numpy(np.float64)[hidden[:, numbers]] for frame in (whole.frame, filled))
    right = (filled[whole.category] == whole.frame[whole.category])[hidden[:, ~numbers].squeeze(1)]
    result: dict[str, float | None] = {
        "rmse": float(np.sqrt(np.mean((found - truth) ** 2))),
        "hidden_numbers": len(truth),
        "accuracy": float(right.mean()),
        "hidden_categories": len(right),
        "coverage": None,
    }
    if intervals is not None:
        cells = intervals[intervals["column"] != whole.category]
        places = whole.frame.columns.get_indexer(pd.Index(cells["column"]))
        true = whole.frame.to_numpy()[cells["row"].to_numpy(int), places].astype(np.float64)
        result["coverage"] = float(((cells["low"] <= true) & (true <= cells["high"])).mean())
    return result


def _by_model(
    known: pd.DataFrame, whole: Whole, cell: Cell, epochs: int | None, report: Report
) -> tuple[pd.DataFrame, pd.DataFrame]:
    kinds = {name: "category" if name == whole.category else "number" for name in known.columns}
    groups = whole.groups if cell["method"] == "mvae-groups" else {"all": tuple(known.columns)}
    config = with_table(None, kinds, groups)
    run = prepare(known, config=config, options={("training", "epochs"): epochs, ("training", "seed"): cell["seed"]})
    run.train_to_the_end(lambda done, total: report("training", done, total))
    assert run.spec.data.table is not None
    found = impute_table(run.model, run.spec.data.table, read_table(known), seed=cell["seed"])
    return found.frame, found.cells


def _by_scikit_learn(known: pd.DataFrame, whole: Whole, cell: Cell, spent: Mapping[str, Any]) -> pd.DataFrame:
    """The category stands among the numbers as indicators of its classes.

    Of the chained methods the first class has none, since each would else be known from the rest, whatever stands
    there at first; and a classifier of the same family learns the category from the filled in numbers.
    """
    from sklearn.exceptions import ConvergenceWarning

    numbers, category = known.drop(columns=whole.category), known[whole.category]
    imputer, classifier = _learners(spent, cell["seed"])[cell["method"]]
    there, classes = category.notna(), sorted(whole.frame[whole.category].unique())
    indicators = {one: (category == one).astype(float).where(there) for one in classes[int(classifier is not None) :]}
    table = pd.concat([numbers, pd.DataFrame(indicators)], axis=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        filled = pd.DataFrame(imputer.fit_transform(table), columns=table.columns)
        if classifier is None:
            guesses = filled[classes].idxmax(axis=1)
        else:
            inputs = filled[numbers.columns]
            guesses = pd.Series(classifier.fit(inputs[there], category[there]).predict(inputs))
    return filled.assign(**{whole.category: category.where(there, guesses)})[known.columns]


def _learners(spent: Mapping[str, Any], seed: int) -> dict[str, tuple[Any, Any]]:
    """What fills in numbers and, where it is no part of that, what classifies."""
    from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
    from sklearn.experimental import enable_iterative_imputer  # noqa: F401
    from sklearn.impute import IterativeImputer, KNNImputer, SimpleImputer
    from sklearn.linear_model import LogisticRegression

    forest = RandomForestRegressor(spent["trees"], max_features="sqrt", random_state=seed)
    return {
        "mean": (SimpleImputer(), None),
        "neighbours": (KNNImputer(n_neighbors=NEIGHBOURS, weights="distance"), None),
        "ridge": (
            IterativeImputer(max_iter=spent["rounds"], random_state=seed),
            LogisticRegression(max_iter=1000),
        ),
        "forest": (
            IterativeImputer(forest, max_iter=spent["rounds"], random_state=seed),
            RandomForestClassifier(spent["trees"], random_state=seed),
        ),
    }


def view(_: str, content: Mapping[str, Any]) -> dict[str, Any]:
    """The page's content: cells of the choices that all methods have which were tried on a table at all."""
    every = pd.DataFrame(content["cells"])
    tried = every.groupby(["table", "pattern"])["method"].nunique()
    had = every.groupby(["table", "pattern", "seed"])["method"].transform("nunique")
    frame = every[had == tried.loc[list(zip(every["table"], every["pattern"], strict=True))].to_numpy()]
    return {
        "frame": frame,
        "rows": {"table": TABLES, "pattern": dict(zip(PATTERNS, PATTERNS, strict=True))},
        "columns": {"method": METHODS},
        "neighbours": NEIGHBOURS,
        "choices": frame.groupby(["table", "pattern", "method"]).size().tolist(),
        **_best(frame),
    }


def _best(frame: pd.DataFrame) -> dict[str, Any]:
    """Which method has the smallest error of numbers, and how the better MVAE compares with the best other method."""
    errors = frame.pivot_table("rmse", ["table", "pattern"], "method").reindex(columns=list(METHODS))
    winners = errors.idxmin(axis=1).loc[lambda found: [each for each in product(TABLES, PATTERNS) if each in found]]
    won = {name: [" ".join(each) for each in winners.index[winners == name]] for name in METHODS}
    ours = errors.filter(like="mvae").min(axis=1)
    others = errors.drop(columns=["mvae", "mvae-groups"])
    compared = pd.DataFrame({"ours": ours, "best": others.min(axis=1), "title": others.idxmin(axis=1).map(METHODS)})
    compared = compared.dropna()
    gains = 100 * (compared["ours"] / compared["best"] - 1)
    compared["text"] = [f"{gain:+.1f} % of {title}" for gain, title in zip(gains, compared["title"], strict=True)]
    titles = {pattern: f"{pattern} hidden" for pattern in PATTERNS}
    where = pivot(compared.reset_index(), {"table": TABLES}, {"pattern": titles}, mean(), "text", ["table"])
    return {
        "winners": {METHODS[name]: each for name, each in won.items() if each},
        "where": where,
        "compared": compared.assign(first=compared["ours"] < compared["best"]),
    }
