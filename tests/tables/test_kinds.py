"""The kinds that are inferred, what they learn, that cells come back, and kinds that a user adds."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mvae.config.table_spec import (
    CategoryColumn,
    CountColumn,
    DateColumn,
    ImageColumn,
    NumberColumn,
    PositiveColumn,
    TextColumn,
)
from mvae.files import DataError
from mvae.tables.infer import infer
from mvae.tables.kinds import kind_of
from mvae.tables.read import read_table


def cells(values, name="x"):
    return read_table(pd.DataFrame({name: pd.Series(values)})).cells(name)


def learned(column, values):
    """The kind of a column that has learned from cells."""
    return kind_of(kind_of(column).learned(cells(values)))


RNG = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([None, None, ""], "left-out"),
        ([3, 3, None, 3], "left-out"),
        (["yes", "no", None, "yes"], "yes-no"),
        ([True, False, None, True], "yes-no"),
        (["0", "1", "1", ""], "yes-no"),
        (RNG.normal(size=50).round(2).astype(str).tolist(), "number"),
        ([*RNG.normal(size=50), None], "number"),
        (["1.5", "2", "NA", "7.25", "nan"], "number"),
        (RNG.poisson(1.0, 200), "count"),
        (np.exp(RNG.normal(0, 1.5, 200)), "positive"),
        (np.exp(RNG.normal(0, 1.5, 200)).astype(str), "positive"),
        (["2024-01-05", "2024-02-07", "", "2023-12-31"], "date"),
        (pd.to_datetime(["2024-01-05", "2024-02-07", "2023-12-31"]), "date"),
        (["red", "green", "blue", "red", "green", "blue"], "category"),
        (pd.Categorical(["a", "b", "c", "a"]), "category"),
        (["a1.png", "b/2.JPG", None, "c.jpeg"], "image"),
        ([np.zeros((4, 4)), np.zeros((4, 4)), None], "image"),
        ([f"sentence number {i}" for i in range(9)], "text"),
        ([f"{'long ' * 40}{i}" for i in range(9)], "left-out"),
        ([f"U{i:04}" for i in range(30)], "left-out"),
        (list(range(100, 150)), "left-out"),
    ],
)
def test_kinds_are_found(values, kind):
    assert infer(cells(values)).kind == kind


def test_numbers_named_as_identifiers_are_left_out_and_others_are_not():
    values = RNG.permutation(1000)[:60] * 7
    assert infer(cells(values, "patient_id")).kind == "left-out"
    assert infer(cells(values, "altitude")).kind == "number"


finite = st.floats(-1e6, 1e6).map(lambda value: round(value, 3))


@given(st.lists(st.one_of(st.none(), finite), min_size=2, max_size=30).filter(lambda v: any(x is not None for x in v)))
def test_numbers_come_back(values):
    column = learned(NumberColumn(), values)
    codes = column.encoded(cells(values))
    assert np.isnan(codes).tolist() == [value is None for value in values]
    assert np.nanstd(codes) == pytest.approx(float(len({*values} - {None}) > 1), abs=1e-6)
    expected = np.array([np.nan if value is None else value for value in values], float)
    assert np.allclose(column.restored(codes), expected, rtol=1e-9, atol=1e-6, equal_nan=True)


@pytest.mark.parametrize(
    ("column", "values"),
    [
        (PositiveColumn(), ["0.5", "", "200", "3"]),
        (CountColumn(), [3, None, 0, 12]),
        (DateColumn(), ["2024-02-29", "", "1999-12-31"]),
        (CategoryColumn(), ["b", None, "a", "c", "a"]),
        (CategoryColumn(), [3, None, 1, 3]),
        (CategoryColumn(kind="yes-no"), [True, None, False]),
    ],
)
def test_other_cells_come_back(column, values):
    kind = learned(column, values)
    codes = kind.encoded(cells(values))
    assert np.isnan(codes).tolist() == [value in (None, "") for value in values]
    restored = kind.restored(codes)
    if column.kind == "date":
        restored = [pd.Timestamp(0) + pd.Timedelta(seconds=round(s)) if s == s else "" for s in restored]
        values = [pd.Timestamp(value) if value else "" for value in values]
    elif column.kind in ("positive", "count"):
        restored = np.round(restored, 9)
        values = [float(value) if value else value for value in values]
    there = ~np.isnan(codes)
    assert [v for v, h in zip(restored, there, strict=True) if h] == [
        v for v, h in zip(values, there, strict=True) if h
    ]


def test_a_category_is_the_same_in_whatever_type_it_comes():
    column = learned(CategoryColumn(), ["3", "1", "3", ""])
    for values in ([3, 1], [3.0, 1.0], ["3", "1"], np.array([3, 1], np.int8)):
        assert column.encoded(cells(values)).tolist() == [1.0, 0.0]


def test_texts_become_symbols():
    column = learned(TextColumn(), ["ba", "abc", None])
    symbols, present = column.encoded(cells(["cab", None, "xa"]))
    assert symbols.tolist() == [[2, 0, 1], [3, 3, 3], [0, 3, 3]]
    assert present.tolist() == [True, False, True]


def test_pictures_are_read_and_fitted(tmp_path):
    from PIL import Image

    Image.new("L", (8, 8), 255).save(tmp_path / "white.png")
    (tmp_path / "no.png").write_text("text", encoding="utf-8")
    (tmp_path / "t.csv").write_text("p,q\nwhite.png,1\n,2\nnone.png,3\n", encoding="utf-8")
    found = read_table(tmp_path / "t.csv").cells("p")
    with pytest.raises(DataError, match=r"t.csv, row 3, column 'p': .*none.png: no such file"):
        kind_of(ImageColumn(size=(4, 4))).encoded(found)
    pictures, present = kind_of(ImageColumn(size=(4, 4), missing="absent")).encoded(found)
    assert present.tolist() == [True, False, False]
    assert (pictures[0] == 255).all()
    (tmp_path / "t.csv").write_text("p,q\nno.png,1\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"row 1, column 'p': .*not readable as a picture"):
        kind_of(ImageColumn()).encoded(read_table(tmp_path / "t.csv").cells("p"))


@pytest.mark.parametrize(
    ("column", "train", "values", "words"),
    [
        (NumberColumn(), [1, 2], ["1", "two"], "row 2, column 'x': expected a finite number, got 'two'"),
        (NumberColumn(), [1, 2], [1.0, np.inf], "row 2, column 'x': expected a finite number, got inf"),
        (NumberColumn(), [1, 2], [[1], 2], "expected a finite number"),
        (PositiveColumn(), [1, 2], [1, 0], "expected a number above 0, got 0"),
        (CountColumn(), [1, 2], [1, 2.5], "expected a count.* got 2.5"),
        (CountColumn(), [1, 2], [-1, 2], "expected a count.* got -1"),
        (DateColumn(), ["2024-01-01", "2024-01-03"], ["2024-13-01"], "expected a date like .* got '2024-13-01'"),
        (CategoryColumn(), ["a", "b"], ["c"], "'c' is none of the categories seen in training, 'a', 'b'"),
    ],
)
def test_cells_of_another_kind_are_named(column, train, values, words):
    kind = learned(column, train)
    with pytest.raises(DataError, match=words):
        kind.encoded(cells(values))


def test_unknown_categories_may_count_as_missing():
    column = learned(CategoryColumn(unknown="absent"), ["a", "b"])
    assert np.isnan(column.encoded(cells(["c", "b"]))).tolist() == [True, False]


@pytest.mark.parametrize(
    ("column", "values", "words"),
    [
        (NumberColumn(), [None, None], "no training row has a value"),
        (TextColumn(), [None, ""], "no training row has a text"),
        (CategoryColumn(), ["a", "a"], "at least 2 categories"),
        (CategoryColumn(), [f"v{i}" for i in range(20)], "20 categories among 20 values"),
    ],
)
def test_columns_there_is_nothing_to_learn_from_are_named(column, values, words):
    with pytest.raises(DataError, match=f"'x': .*{words}"):
        kind_of(column).learned(cells(values))
