"""`mvae reproduce imputation`: holes filled in scikit-learn's real tables, beside what people use today."""

from __future__ import annotations

import statistics
import time
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from mvae.export import markdown_table
from mvae.tables.fill import impute_table
from mvae.tables.read import read_table
from mvae.training.prepare import prepare, with_table
from paper.results import made_by, provenance
from paper.setup import Setup
from paper.side_by_side import Report

__all__ = ["METHODS", "PATTERNS", "PRESETS", "TABLES", "holed", "page", "reproduce", "work"]

TABLES = ("iris", "wine", "diabetes", "breast-cancer", "digits")
PATTERNS = {"10 %": 0.1, "30 %": 0.3, "50 %": 0.5, "groups": 0.3}
"""Which cells are hidden: each with that probability, or each group of columns of a row."""
METHODS = {
    "mean": "mean or mode",
    "neighbours": "5 nearest neighbours",
    "ridge": "chained ridge regressions",
    "forest": "chained random forests",
    "mvae": "MVAE, all columns a record",
    "mvae-groups": "MVAE, each group a modality",
}
"""The first four are scikit-learn's: SimpleImputer, KNNImputer, IterativeImputer with BayesianRidge or with forests."""
NEIGHBOURS, ROUNDS, TREES = 5, 5, 50


@dataclass(frozen=True)
class Preset:
    """How much is spent."""

    seeds: int
    """Choices of hidden cells."""
    rows: int | None
    """How many rows of a table are used, chosen at random; all where None."""
    trees: int
    rounds: int
    epochs: int | None
    """Of the MVAE; what its recipe for tables says where None."""


PRESETS = {
    "smoke": Preset(1, 60, 5, 2, 2),
    "cpu": Preset(3, None, TREES, ROUNDS, None),
    "paper": Preset(10, None, TREES, ROUNDS, None),
}


@dataclass(frozen=True)
class Task:
    """One method on one table, with some cells hidden."""

    table: str
    pattern: str
    method: str
    seed: int

    def __str__(self) -> str:
        return f"{self.table}, {self.pattern} hidden, {self.method}, seed {self.seed}"


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
    """Columns that one examination gives: of digits, quarters of the picture."""

    def of(column: str) -> str:
        if column == "target":
            return "outcome"
        match name:
            case "iris":
                return column.split(maxsplit=1)[0]  # sepal, petal
            case "wine":
                phenols = ("phenols", "flavanoids", "proanthocyanins", "hue", "color", "od280")
                return "colour and phenols" if any(word in column for word in phenols) else "alcohol, acids, minerals"
            case "diabetes":
                return "blood" if column.startswith("s") and column != "sex" else "person"
            case "breast-cancer":
                return next((word for word in ("worst", "error") if word in column), "mean")
        row, number = (int(part) for part in column.removeprefix("pixel_").split("_"))
        return f"{'upper' if row < 4 else 'lower'} {'left' if number < 4 else 'right'}"

    groups: dict[str, tuple[str, ...]] = {}
    for column in columns:
        groups[of(column)] = (*groups.get(of(column), ()), column)
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


def reproduce(setup: Setup, tables: Sequence[str], methods: Sequence[str]) -> Iterator[str]:
    """Hide cells of each table, fill them in with each method, and keep each cell when it is done.

    Args:
        setup: its preset is a name in `PRESETS`.
        tables: names in `TABLES`.
        methods: names in `METHODS`.

    Yields:
        A line for each finished cell.
    """
    results = setup.results("imputation", asdict(PRESETS[setup.preset]))
    tasks = [
        Task(table, pattern, method, seed)
        for seed in range(PRESETS[setup.preset].seeds)
        for table in tables
        for pattern in PATTERNS
        for method in methods
        if method != "mvae-groups" or pattern == "groups"
    ]
    for task, record in setup.finish(work, results.missing(tasks), results):
        yield f"{task}: RMSE {record['rmse']:.3f}, accuracy {100 * record['accuracy']:.1f} %"


def work(task: Task, setup: Setup, report: Report) -> dict[str, Any]:
    """One task's record."""
    settings, whole = PRESETS[setup.preset], load_whole(task.table)
    if settings.rows is not None:
        whole = Whole(whole.frame.sample(settings.rows, random_state=0).reset_index(drop=True), *_rest(whole))
    hidden = holed(whole, task.pattern, task.seed)
    known = whole.frame.mask(hidden)
    started = time.perf_counter()
    report("filling in", 0, 1)
    if task.method.startswith("mvae"):
        filled, intervals = _by_model(known, whole, task, settings.epochs, report)
    else:
        filled, intervals = _by_scikit_learn(known, whole, task, settings), None
    seconds = time.perf_counter() - started
    made = {"made": provenance(), "seconds": seconds, "rows": len(known)}
    return {**asdict(task), **scores(whole, hidden, filled, intervals), **made}


def _rest(whole: Whole) -> tuple[tuple[str, ...], Mapping[str, tuple[str, ...]]]:
    return whole.categories, whole.groups


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
    known: pd.DataFrame, whole: Whole, task: Task, epochs: int | None, report: Report
) -> tuple[pd.DataFrame, pd.DataFrame]:
    kinds = {name: "category" if name in whole.categories else "number" for name in known.columns}
    groups = whole.groups if task.method == "mvae-groups" else {"all": tuple(known.columns)}
    config = with_table(None, kinds, groups)
    run = prepare(known, config=config, options={("training", "epochs"): epochs, ("training", "seed"): task.seed})
    run.train_to_the_end(lambda done, total: report("training", done, total))
    assert run.spec.data.table is not None
    found = impute_table(run.model, run.spec.data.table, read_table(known), seed=task.seed)
    return found.frame, found.cells


def _by_scikit_learn(known: pd.DataFrame, whole: Whole, task: Task, settings: Preset) -> pd.DataFrame:
    """Categories stand among the numbers as indicators.

    Of the chained methods the first category has none, since each would else be known from the rest, whatever stands
    there at first; and a classifier of the same family learns the category from the filled in numbers.
    """
    from sklearn.exceptions import ConvergenceWarning

    chained = task.method in ("ridge", "forest")
    table, classes = known.drop(columns=list(whole.categories)), {}
    for name in whole.categories:
        classes[name] = sorted(whole.frame[name].unique())
        indicators = {
            f"{name} {value}": (known[name] == value).astype(float).where(known[name].notna())
            for value in classes[name][int(chained) :]
        }
        table = pd.concat([table, pd.DataFrame(indicators)], axis=1)
    imputer, classifier = _learners(settings, task.seed)[task.method]
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


def _learners(settings: Preset, seed: int) -> dict[str, tuple[Any, Any]]:
    """What fills in numbers and, where it is no part of that, what classifies."""
    from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
    from sklearn.experimental import enable_iterative_imputer  # noqa: F401
    from sklearn.impute import IterativeImputer, KNNImputer, SimpleImputer
    from sklearn.linear_model import LogisticRegression

    forest = RandomForestRegressor(settings.trees, max_features="sqrt", random_state=seed)
    return {
        "mean": (SimpleImputer(), None),
        "neighbours": (KNNImputer(n_neighbors=NEIGHBOURS, weights="distance"), None),
        "ridge": (
            IterativeImputer(max_iter=settings.rounds, random_state=seed),
            LogisticRegression(max_iter=1000),
        ),
        "forest": (
            IterativeImputer(forest, max_iter=settings.rounds, random_state=seed),
            RandomForestClassifier(settings.trees, random_state=seed),
        ),
    }


def page(content: dict[str, Any]) -> str:
    """The docs page of these results, in Markdown."""
    cells = _shared(content["cells"])
    return PAGE.format(
        rmse=_table(cells, "rmse", 1.0, 3),
        accuracy=_table(cells, "accuracy", 100.0, 1),
        coverage=_table(cells, "coverage", 100.0, 0),
        seconds=_table(cells, "seconds", 1.0, 1),
        where=_best(cells),
        winners=_winners(cells),
        neighbours=NEIGHBOURS,
        choices=_choices(cells),
        rounds=content["settings"]["rounds"],
        trees=content["settings"]["trees"],
        preset=content["settings"]["preset"],
        **made_by(content),
    )


def _shared(cells: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The cells of those choices of hidden cells that all methods have, which were tried on a table at all."""
    seeds: dict[tuple[str, str], dict[str, set[int]]] = {}
    for cell in cells:
        tried = seeds.setdefault((cell["table"], cell["pattern"]), {})
        tried.setdefault(cell["method"], set()).add(cell["seed"])
    common = {key: set.intersection(*tried.values()) for key, tried in seeds.items()}
    return [cell for cell in cells if cell["seed"] in common[cell["table"], cell["pattern"]]]


def _means(cells: Sequence[dict[str, Any]], measure: str) -> dict[tuple[str, str, str], float]:
    found: dict[tuple[str, str, str], list[float]] = {}
    for cell in cells:
        if cell[measure] is not None:
            found.setdefault((cell["table"], cell["pattern"], cell["method"]), []).append(cell[measure])
    return {key: statistics.mean(values) for key, values in found.items()}


def _table(cells: Sequence[dict[str, Any]], measure: str, scale: float, digits: int) -> str:
    means = _means(cells, measure)
    methods = [method for method in METHODS if any(key[2] == method for key in means)]
    rows = []
    for table in TABLES:
        for pattern in PATTERNS:
            found = {method: means.get((table, pattern, method)) for method in methods}
            if any(value is not None for value in found.values()):
                shown = ["" if value is None else f"{scale * value:.{digits}f}" for value in found.values()]
                rows.append([table, pattern, *shown])
    return markdown_table(["table", "hidden", *(METHODS[method] for method in methods)], rows)


def _choices(cells: Sequence[dict[str, Any]]) -> str:
    """How many choices of cells the numbers are means of."""
    counts = Counter((cell["table"], cell["pattern"], cell["method"]) for cell in cells).values()
    least, most = min(counts), max(counts)
    if most == 1:
        return "One choice of cells: how much another one would differ is not known."
    several = f"{most} choices of cells" if least == most else f"the {least} to {most} choices that all methods have"
    return f"Mean over {several}."


def _winners(cells: Sequence[dict[str, Any]]) -> str:
    """Which method has the smallest error of numbers, and where."""
    means, won = _means(cells, "rmse"), dict[str, list[str]]()
    for table in TABLES:
        for pattern in PATTERNS:
            found = {key[2]: value for key, value in means.items() if key[:2] == (table, pattern)}
            if found:
                won.setdefault(min(found, key=found.__getitem__), []).append(f"{table} {pattern}")
    return "\n".join(f"- {METHODS[name]}: {', '.join(won[name])}" for name in METHODS if name in won)


def _best(cells: Sequence[dict[str, Any]]) -> str:
    """How much the better MVAE's error is above or below that of the best other method, table by table."""
    means, rows = _means(cells, "rmse"), []
    for table in TABLES:
        row = [table]
        for pattern in PATTERNS:
            found = {key[2]: value for key, value in means.items() if key[:2] == (table, pattern)}
            ours = {name: value for name, value in found.items() if name.startswith("mvae")}
            others = {name: value for name, value in found.items() if name not in ours}
            if ours and others:
                best = min(others, key=others.__getitem__)
                row.append(f"{100 * (min(ours.values()) / others[best] - 1):+.1f} % of {METHODS[best]}")
            else:
                row.append("")
        rows += [row] if any(row[1:]) else []
    return markdown_table(["table", *(f"{pattern} hidden" for pattern in PATTERNS)], rows)


PAGE = """# Holes in tables, filled in

Cells of five real tables that come with scikit-learn are hidden at random, 10, 30 or 50 % of them, or whole groups of
columns, each group of a row with a probability of 30 % (of iris sepal, petal and species; of breast cancer means,
errors and worst values; of digits the quarters of the picture; the outcome is a group of its own). Each method sees the
holed table alone and fills it in; what was hidden is compared with what it says. {choices}

The others are scikit-learn's: the column's mean or mode; the {neighbours} nearest neighbours, weighted by distance;
`IterativeImputer` with Bayesian ridge regression, and with random forests of {trees} trees, of {rounds} rounds at
most, a logistic regression or a forest then guessing the category. The MVAE is what `mvae fit` makes of a table: all
columns one record, or each group a modality. The sizes of its networks were chosen on another choice of hidden cells of
these tables (seed 100, which is not among those here), those of the others are scikit-learn's usual ones.

## Root mean square error of hidden numbers, in standard deviations

{rmse}

The smallest error has:

{winners}

How the better of the two MVAEs compares with the best other method (below zero: its error is smaller):

{where}

## Hidden categories guessed right, in percent

{accuracy}

## True values inside the 90 % interval, in percent

Of the hidden numbers; only the MVAEs give intervals here.

{coverage}

## Seconds

To learn and fill in, two at a time on two cores.

{seconds}

Made by `{command}` (preset `{preset}`) at commit {commits} on {machine}; the numbers are in
`results/imputation/{preset}.json`.
"""
