"""What is hidden, how it is scored, and each method on a few rows."""

import json

import numpy as np
import pandas as pd
import pytest

from paper.__main__ import main
from paper.imputation import METHODS, PATTERNS, TABLES, Whole, holed, load_whole, measure, scores
from paper.runner import Setup, page


@pytest.mark.parametrize("name", TABLES)
def test_tables_are_whole_standardised_and_grouped(name):
    whole = load_whole(name)
    numbers = whole.frame.drop(columns=whole.category)
    assert whole.frame.notna().all(axis=None)
    assert np.allclose(numbers.mean(), 0)
    assert np.allclose(numbers.std(ddof=0), 1)
    assert sorted(name for members in whole.groups.values() for name in members) == sorted(whole.frame.columns)
    assert len(whole.groups) > 1
    assert whole.frame[whole.category].nunique() < 11


@pytest.mark.parametrize("pattern", PATTERNS)
def test_what_is_hidden(pattern):
    whole = load_whole("wine")
    hidden = holed(whole, pattern, 0)
    assert hidden.mean() == pytest.approx(PATTERNS[pattern], abs=0.05)
    assert (~hidden).any(1).all()  # each row keeps something
    assert np.array_equal(hidden, holed(whole, pattern, 0))
    assert not np.array_equal(hidden, holed(whole, pattern, 1))
    names = list(whole.frame.columns)
    together = all(
        len({tuple(row) for row in hidden[:, [names.index(member) for member in members]]}) == 2
        for members in whole.groups.values()
    )
    assert together == (pattern == "groups")


def test_scores_by_hand():
    frame = pd.DataFrame({"a": [1.0, 2.0, 3.0], "c": ["x", "y", "x"]})
    hidden = np.array([[True, False], [True, True], [False, True]])
    filled = pd.DataFrame({"a": [2.0, 4.0, 3.0], "c": ["x", "x", "x"]})
    cells = pd.DataFrame({"row": [0, 1, 1], "column": ["a", "a", "c"], "low": [0.5, 3, 0], "high": [1.5, 5, 0]})
    found = scores(Whole(frame, "c", {}), hidden, filled, cells)
    assert found["rmse"] == pytest.approx(np.sqrt((1 + 4) / 2))
    assert (found["accuracy"], found["coverage"]) == (0.5, 0.5)
    assert (found["hidden_numbers"], found["hidden_categories"]) == (2, 2)


@pytest.mark.parametrize("method", METHODS)
def test_each_method_fills_what_is_hidden_and_leaves_the_rest(method, monkeypatch):
    kept = {}
    monkeypatch.setattr(
        "paper.imputation.scores",
        lambda whole, hidden, filled, _: kept.update(w=whole, h=hidden, f=filled) or {},
    )
    cell = {"table": "iris", "pattern": "groups", "method": method, "seed": 0}
    measure(cell, Setup("imputation", "smoke"), lambda *_: None)
    there = ~kept["h"]
    assert (kept["f"].to_numpy()[there] == kept["w"].frame.to_numpy()[there]).all()
    assert kept["f"].notna().all(axis=None)


def test_the_command_goes_on_where_it_stopped(tmp_path, capsys, in_turn):
    arguments = [
        "imputation",
        "--preset",
        "smoke",
        "--table",
        "iris",
        "--jobs",
        "1",
        "--out",
        str(tmp_path),
    ]
    assert main([*arguments, "--method", "mean", "ridge"]) == 0
    path = tmp_path / "imputation" / "smoke.json"
    assert len(json.loads(path.read_text(encoding="utf-8"))["cells"]) == 8
    assert main([*arguments, "--method", "mean", "mvae", "--resume"]) == 0
    content = json.loads(path.read_text(encoding="utf-8"))
    assert len(content["cells"]) == 12
    text = page("imputation", content)
    assert "One choice of cells" in text
    assert "| iris | groups |" in text
    assert "of mean or mode" in text or "of chained ridge regressions" in text
    assert main([*arguments, "--method", "median"]) == 2
    assert "--method: expected some of mean" in capsys.readouterr().err
