"""Tables as people have them: odd separators, integers with holes, truth values, dates with offsets, mixed keys."""

import datetime
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
import torch

import mvae
from mvae.config.table_spec import CategoryColumn, CountColumn, DateColumn, NumberColumn
from mvae.files import DataError
from mvae.sklearn import MVAEClassifier, MVAEImputer
from mvae.tables.cells import Cells
from mvae.tables.infer import infer
from mvae.tables.kinds import kind_of
from mvae.tables.read import read_table
from mvae.tables.write import write_tables

LARGE = 2**53 + 1
SHORT = {"training": {"epochs": 1, "passes": 1}}


def cells(values, name="x"):
    return read_table(pd.DataFrame({name: pd.Series(values)})).cells(name)


def filled(run, frame, **options):
    return mvae.impute(run, frame, **options).frame


# Reading and writing


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ("a,b,\n1,,\n2,x,\n", {"a": ["1", "2"], "b": ["", "x"]}),
        ("a,b\n1,,\n2,x,\n", {"a": ["1", "2"], "b": ["", "x"]}),
        ("id;weight,kg;height,cm\n1;2,5;3\n", {"id": ["1"], "weight,kg": ["2,5"], "height,cm": ["3"]}),
        ("x\n1\n\n3\n", {"x": ["1", "", "3"]}),
        ('a,b\n"1\n2",x\n', {"a": ["1\n2"], "b": ["x"]}),
    ],
)
def test_each_cell_stays_in_its_column(tmp_path, text, columns):
    (tmp_path / "t.csv").write_text(text, encoding="utf-8")
    assert read_table(tmp_path / "t.csv").frame.to_dict("list") == columns


def test_a_row_with_a_cell_too_many_is_named(tmp_path):
    (tmp_path / "t.csv").write_text("a,b\nr1,1,2\nr2,3,4\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"t\.csv: .*line 2: expected 2 cells, as in the heading, got 3"):
        read_table(tmp_path / "t.csv")


@pytest.mark.parametrize("suffix", ["parquet", "feather", "jsonl"])
def test_integers_with_holes_stay_integers(tmp_path, suffix):
    path, frame = tmp_path / f"t.{suffix}", pd.DataFrame({"n": pd.array([LARGE, None, 7], dtype="Int64")})
    write_tables({path: frame})
    found = read_table(path).frame["n"]
    assert [found.iloc[0], found.iloc[2]] == [LARGE, 7]
    assert pd.isna(found.iloc[1])
    again = tmp_path / f"again.{suffix}"
    write_tables({again: read_table(path).frame})
    assert read_table(again).frame["n"].tolist()[0] == LARGE


def test_lines_of_json_keep_every_digit(tmp_path):
    frame = pd.DataFrame(
        {"x": [0.12345678901234567, 1e-12, None], "d": pd.to_datetime(["2024-01-01", None, "2024-01-02"])}
    )
    write_tables({tmp_path / "t.jsonl": frame})
    assert read_table(tmp_path / "t.jsonl").frame["x"].tolist() == [0.12345678901234567, 1e-12, None]
    assert '"d": "2024-01-02T00:00:00"' in (tmp_path / "t.jsonl").read_text(encoding="utf-8")


def test_keys_match_whatever_type_they_have(tmp_path):
    pd.DataFrame({"id": [1, 2, LARGE], "a": [1, 2, 3]}).to_parquet(tmp_path / "a.parquet")
    pd.DataFrame({"id": ["2", " 1", "9.0"], "b": [True, False, True]}).to_csv(tmp_path / "b.csv", index=False)
    frame = read_table(tmp_path / "a.parquet", [tmp_path / "b.csv"], "id").frame
    assert [str(key) for key in frame["id"]] == ["1", "2", str(LARGE), "9.0"]
    assert frame["b"].fillna("").tolist() == ["False", "True", "", "True"]
    assert frame["a"].tolist()[:3] == [1, 2, 3]
    pd.DataFrame({"id": ["x"], "c": [1]}).to_csv(tmp_path / "c.csv", index=False)
    with pytest.raises(DataError, match=r"no value of c\.csv is in the tables before it"):
        read_table(tmp_path / "a.parquet", [tmp_path / "c.csv"], "id")


def test_pictures_lie_beside_the_table_that_names_them(tmp_path):
    (tmp_path / "q").mkdir()
    (tmp_path / "m.csv").write_text("id,n\n1,2\n", encoding="utf-8")
    (tmp_path / "q" / "p.csv").write_text("id,picture\n1,a.png\n", encoding="utf-8")
    table = read_table(tmp_path / "m.csv", [tmp_path / "q" / "p.csv"], "id")
    assert table.cells("picture").folder == tmp_path / "q"


# Kinds


@pytest.mark.parametrize(
    ("values", "kind", "words"),
    [
        (["12,5", "3,25", "4,0", "7,75"], "left-out", "decimal comma"),
        (["1,234", "12,345.5", "3,210", "4,999"], "left-out", "thousands separators"),
        (["31.12.1990", "01.02.2003", "05.06.2010"], "left-out", "looks like dates"),
        (["5", "NA", "5", "NA"], "left-out", "the same in every row"),
        (["0", "1", "NA", "0"], "yes-no", ""),
        (["2024-01-01", "NA", "2024-02-01"], "date", ""),
        ([datetime.date(2024, 1, 1), None, datetime.date(2024, 2, 1), datetime.date(2024, 3, 1)], "date", ""),
        (pd.to_timedelta(["1h", "2h", None, "3h"]), "left-out", "durations"),
    ],
)
def test_what_is_not_read_says_so(values, kind, words):
    column = infer(cells(values))
    assert column.kind == kind
    assert words in getattr(column, "why", "")
    if kind == "yes-no":
        assert column.absent == ["NA"]


def test_a_count_that_was_always_the_same_learns_a_scale():
    assert kind_of(CountColumn()).learned(cells([3, 3, 3])).deviation == 1


def test_no_end_is_a_date():
    column = kind_of(kind_of(DateColumn()).learned(cells(["9999-12-31", "2024-01-01", None])))
    codes = column.encoded(cells(["9999-12-31", "2024-01-01"]))
    assert column.restored(codes)[1] == pytest.approx(pd.Timestamp("2024-01-01").timestamp())


# Cells put back


def put_back(values, column, numbers, train=None):
    """A column whose missing cells are filled with what these numbers mean to the model."""
    part = Cells("x", values if isinstance(values, pd.Series) else pd.Series(values), "row {}".format)
    train = part if train is None else Cells("x", pd.Series(train), "row {}".format)
    kind = kind_of(kind_of(column).learned(train))
    return kind.put(part, np.flatnonzero(part.missing()), kind.restored(np.array(numbers, float)))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (pd.array([True, None, False], dtype="boolean"), True),
        ([True, None, False], True),
        (["true", None, "false"], "true"),
        (["TRUE", "", "FALSE"], "TRUE"),
    ],
)
def test_truth_is_spelled_as_the_column_does(values, expected):
    found = put_back(pd.Series(values), CategoryColumn(kind="yes-no"), [1.0], train=["True", "False", "True"])
    assert found.iloc[1] == expected
    assert found.notna().all()
    assert found.dtype == pd.Series(values).dtype


def test_categories_in_any_type_match_and_come_back():
    train = [1.0, 2.0, 3.0, 1.0]
    column = kind_of(kind_of(CategoryColumn()).learned(cells(["1.0", "2.0", "3.0", "1.0"])))
    assert column.encoded(cells(train)).tolist() == [0, 1, 2, 0]
    assert put_back([1.0, None, 3.0], CategoryColumn(), [1.0], train=["1", "2", "3"]).tolist() == [1.0, 2.0, 3.0]
    assert put_back(["1.0", "", "3.0"], CategoryColumn(), [2.0], train=train).tolist() == ["1.0", "3.0", "3.0"]
    bins = pd.Series(pd.cut(pd.Series([1.0, 5.0, None, 9.0]), [0, 4, 8, 12]))
    found = put_back(bins, CategoryColumn(), [0.0])
    assert found.iloc[2] == bins.iloc[0]
    part = pd.Series(pd.Categorical(["a", None, "a"]))
    assert put_back(part, CategoryColumn(), [1.0], train=["a", "b"]).tolist() == ["a", "b", "a"]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["2024-01-16 16:30:00+02:00", "", "2024-01-18 16:30:00+02:00"], "2024-01-17 16:30:00+02:00"),
        (["2024-01-16T16:30:00Z", "", "2024-01-18T16:30:00Z"], "2024-01-17T16:30:00Z"),
        (["2024-01-16", "", "2024-01-18"], "2024-01-17"),
        ([datetime.date(2024, 1, 16), None, datetime.date(2024, 1, 18)], datetime.date(2024, 1, 17)),
        (
            pd.Series(pd.to_datetime(["2024-01-16", None, "2024-01-18"])).dt.tz_localize("Europe/Oslo"),
            pd.Timestamp("2024-01-17", tz="Europe/Oslo"),
        ),
    ],
)
def test_dates_are_written_as_the_column_writes_them(values, expected):
    assert put_back(values, DateColumn(), [0.0]).iloc[1] == expected


def test_numbers_keep_the_columns_type():
    small = pd.Series(pd.array([250, None, 255], dtype="UInt8"))
    assert put_back(small, NumberColumn(), [40.0]).tolist() == [250, 255, 255]
    money = pd.Series([Decimal("1.50"), None, Decimal("2.50")], dtype=object)
    assert put_back(money, NumberColumn(), [0.0]).tolist() == [Decimal("1.50"), Decimal("2"), Decimal("2.50")]


@pytest.mark.parametrize("name", ["self", "row", "all", "values", "a.b", "größe", "x/y", ""])
def test_columns_may_be_called_anything(tmp_path, name):
    frame = pd.DataFrame({name: [1.0, None, 3.5, 2.0] * 8, "other one": ["x", "y", None, "z"] * 8})
    mvae.fit(frame, out=tmp_path / "run", groups={}, config=SHORT, progress=False)
    found = filled(tmp_path / "run", frame[["other one", name]])
    assert found.columns.tolist() == ["other one", name]
    assert found.notna().all(axis=None)


def test_a_repeated_index_is_kept(tmp_path):
    frame = pd.DataFrame({"a": [1.0, None, 3.0, 4.5] * 8, "b": [2.0, 3.0, None, 1.0] * 8}, index=[5, 5, 6, 6] * 8)
    mvae.fit(frame, out=tmp_path / "run", config=SHORT, progress=False)
    found = filled(tmp_path / "run", frame)
    assert found.index.equals(frame.index)
    assert found.notna().all(axis=None)
    assert filled(tmp_path / "run", frame.iloc[:1]).equals(frame.iloc[:1])


def test_the_callers_generator_is_left_as_it_was(tmp_path):
    frame = pd.DataFrame({"a": [1.0, None, 3.0, 4.5] * 8, "b": [2.0, 3.0, None, 1.0] * 8})
    mvae.fit(frame, out=tmp_path / "run", config=SHORT, progress=False)
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    filled(tmp_path / "run", frame)
    assert torch.equal(torch.rand(3), expected)


# Estimators


def test_a_class_may_be_missing_in_any_type():
    rows = np.random.default_rng(0).normal(size=(40, 2))
    for labels, classes in (
        ([0, 1, None, 1] * 10, [0, 1]),
        ([True, None, False, True] * 10, [False, True]),
        (pd.Series(pd.array([0, 1, None, 1] * 10, dtype="Int64")), [0, 1]),
    ):
        model = MVAEClassifier(steps=20, random_state=0).fit(rows, labels)
        assert model.classes_.tolist() == classes
        assert model.classes_.dtype.kind in "ib"


def test_features_may_be_called_as_our_own_and_be_texts():
    frame = pd.DataFrame({"features": [1.0, 2.5, 3.0, 0.5] * 10, "label": [1.0, 2.0, 0.0, 4.0] * 10})
    assert len(MVAEClassifier(steps=20, random_state=0).fit(frame, [0, 1, 0, 1] * 10).predict(frame)) == 40
    words = pd.DataFrame({"word": [f"{'good' if n % 2 else 'bad'} thing {n}" for n in range(40)]})
    assert len(MVAEClassifier(steps=20, random_state=0).fit(words, [0, 1] * 20).predict(words)) == 40
    with pytest.raises(ValueError, match="kinds: no column 'vists'"):
        MVAEImputer(kinds={"vists": "count"}).fit(frame)


def test_numbers_that_look_like_identifiers_are_filled_too():
    frame = pd.DataFrame({"k_id": np.arange(40.0) * 7, "size": [1.0, 2.0, 4.0, 3.0] * 10})
    frame.loc[::4, "k_id"] = None
    assert MVAEImputer(steps=20, random_state=0).fit_transform(frame).notna().all(axis=None)
