"""`imputation`: holes filled in scikit-learn's real tables, beside what people use today."""

import re
import statistics
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from mvae.tables.fill import impute_table
from mvae.tables.read import read_table
from mvae.training.prepare import prepare, with_table
from paper.pages import table
from paper.results import provenance
from paper.runner import CATALOG, Cell, Report, Setup, titles

PATTERNS = CATALOG["imputation"]["patterns"]
"""Which cells are hidden: each with that probability, or each group of columns of a row."""
TABLES, METHODS = titles("imputation", "table"), titles("imputation", "method")
NEIGHBOURS = 5


@dataclass(frozen=True)
class Whole:
    """A real table: numbers, standardised, and one category; and groups of columns that would be lacking together."""

    frame: pd.DataFrame
    categories: tuple[str, ...]
    groups: Mapping[str, tuple[str, ...]]


def load_whole(name: str) -> Whole:
    """A table that comes with scikit-learn. Columns that are the same in every row are left out."""
    from sklearn import datasets

    loader = {"breast-cancer": "breast_cancer"}.get(name, name)
    found = getattr(datasets, f"load_{loader}")(as_frame=True)
    numbers = found.data.loc[:, found.data.std() > 0].astype(np.float64)
    target = found.target.rename("target")
    if name == "diabetes":
        numbers, categories = pd.concat([numbers, target.astype(np.float64)], axis=1), ("sex",)
        sex = numbers.pop("sex").rank(method="dense").map({1.0: "a", 2.0: "b"})
        frame = pd.concat([(numbers - numbers.mean()) / numbers.std(ddof=0), sex], axis=1)
    else:
        categories = ("target",)
        names = target.map(lambda code: f"class {code}")
        frame = pd.concat([(numbers - numbers.mean()) / numbers.std(ddof=0), names], axis=1)
    return Whole(frame, categories, _groups(name, list(frame.columns)))


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
        frame = whole.frame.sample(spent["rows"], random_state=0).reset_index(drop=True)
        whole = Whole(frame, whole.categories, whole.groups)
    hidden = holed(whole, cell["pattern"], cell["seed"])
    known = whole.frame.mask(hidden)
    started = time.perf_counter()
    report("filling in", 0, 1)
    if cell["method"].startswith("mvae"):
        filled, intervals = _by_model(known, whole, cell, spent["epochs"], report)
    else:
        filled, intervals = _by_scikit_learn(known, whole, cell, spent), None
    seconds = time.perf_counter() - started
    made = {"made": provenance(), "seconds": seconds, "rows": len(known)}
    return {**cell, **scores(whole, hidden, filled, intervals), **made}


def scores(
    whole: Whole, hidden: np.ndarray, filled: pd.DataFrame, intervals: pd.DataFrame | None
) -> dict[str, float | None]:
    """How near the hidden cells were guessed: numbers in standard deviations, categories in shares."""
    numbers = [name not in whole.categories for name in whole.frame.columns]
    wanted = hidden & np.array(numbers)
    truth = whole.frame.loc[:, numbers].to_numpy(np.float64)[hidden[:, numbers]]
    found = filled.loc[:, numbers].to_numpy(np.float64)[hidden[:, numbers]]
    right = [
        (filled[name].to_numpy()[hidden[:, place]] == whole.frame[name].to_numpy()[hidden[:, place]])
        for place, name in enumerate(whole.frame.columns)
        if name in whole.categories
    ]
    right_ones = np.concatenate(right)
    result: dict[str, float | None] = {
        "rmse": float(np.sqrt(np.mean((found - truth) ** 2))),
        "hidden_numbers": int(wanted.sum()),
        "accuracy": float(right_ones.mean()) if len(right_ones) else float("nan"),
        "hidden_categories": len(right_ones),
        "coverage": None,
    }
    if intervals is not None:
        cells = intervals[~intervals["column"].isin(whole.categories)]
        places = whole.frame.columns.get_indexer(pd.Index(cells["column"]))
        true = whole.frame.to_numpy()[cells["row"].to_numpy(int), places].astype(np.float64)
        result["coverage"] = float(((cells["low"] <= true) & (true <= cells["high"])).mean())
    return result


def _by_model(
    known: pd.DataFrame, whole: Whole, cell: Cell, epochs: int | None, report: Report
) -> tuple[pd.DataFrame, pd.DataFrame]:
    kinds = {name: "category" if name in whole.categories else "number" for name in known.columns}
    groups = whole.groups if cell["method"] == "mvae-groups" else {"all": tuple(known.columns)}
    config = with_table(None, kinds, groups)
    run = prepare(known, config=config, options={("training", "epochs"): epochs, ("training", "seed"): cell["seed"]})
    run.train_to_the_end(lambda done, total: report("training", done, total))
    assert run.spec.data.table is not None
    found = impute_table(run.model, run.spec.data.table, read_table(known), seed=cell["seed"])
    return found.frame, found.cells


def _by_scikit_learn(known: pd.DataFrame, whole: Whole, cell: Cell, spent: Mapping[str, Any]) -> pd.DataFrame:
    """Categories stand among the numbers as indicators.

    Of the chained methods the first category has none, since each would else be known from the rest, whatever stands
    there at first; and a classifier of the same family learns the category from the filled in numbers.
    """
    from sklearn.exceptions import ConvergenceWarning

    chained = cell["method"] in ("ridge", "forest")
    table, classes = known.drop(columns=list(whole.categories)), {}
    for name in whole.categories:
        classes[name] = sorted(whole.frame[name].unique())
        indicators = {
            f"{name} {value}": (known[name] == value).astype(float).where(known[name].notna())
            for value in classes[name][int(chained) :]
        }
        table = pd.concat([table, pd.DataFrame(indicators)], axis=1)
    imputer, classifier = _learners(spent, cell["seed"])[cell["method"]]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        filled = pd.DataFrame(imputer.fit_transform(table), columns=table.columns)
        for name, values in classes.items():
            there = known[name].notna()
            if classifier is None:
                best = filled[[f"{name} {value}" for value in values]].to_numpy().argmax(1)
                guesses = np.array(values, dtype=object)[best]
            else:
                inputs = filled.drop(columns=[f"{name} {value}" for value in values[1:]])
                guesses = classifier.fit(inputs[there], known[name][there]).predict(inputs)
            filled[name] = known[name].where(there, pd.Series(guesses, index=known.index))
    return filled[list(known.columns)]


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
        "rows": {"table": TABLES, "pattern": {pattern: pattern for pattern in PATTERNS}},
        "columns": {"method": METHODS},
        "neighbours": NEIGHBOURS,
        "choices": _choices(frame.groupby(["table", "pattern", "method"]).size().tolist()),
        **_best(frame),
    }


def _choices(counts: Sequence[int]) -> str:
    """How many choices of cells the numbers are means of."""
    least, most = min(counts), max(counts)
    if most == 1:
        return "One choice of cells: how much another one would differ is not known."
    several = f"{most} choices of cells" if least == most else f"the {least} to {most} choices that all methods have"
    return f"Mean over {several}."


def _best(frame: pd.DataFrame) -> dict[str, str]:
    """Which method has the smallest error of numbers, and how the better MVAE compares with the best other method."""
    winners: dict[str, list[str]] = {name: [] for name in METHODS}
    lines = {name: dict.fromkeys(PATTERNS, "") for name in TABLES}
    for table_name, pattern in product(TABLES, PATTERNS):
        part = frame[(frame["table"] == table_name) & (frame["pattern"] == pattern)]
        means = part.groupby("method", sort=False)["rmse"].apply(statistics.mean)
        if len(means):
            winners[means.idxmin()].append(f"{table_name} {pattern}")
        ours, others = means.filter(like="mvae"), means[~means.index.isin(["mvae", "mvae-groups"])]
        if len(ours) and len(others):
            best = others.idxmin()
            lines[table_name][pattern] = f"{100 * (ours.min() / others[best] - 1):+.1f} % of {METHODS[best]}"
    return {
        "winners": "\n".join(f"- {METHODS[name]}: {', '.join(won)}" for name, won in winners.items() if won),
        "where": table(
            ["table", *(f"{pattern} hidden" for pattern in PATTERNS)],
            [[name, *line.values()] for name, line in lines.items()],
        ),
    }
