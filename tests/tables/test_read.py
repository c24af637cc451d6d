"""Tables from files and from Python, joined, and what counts as missing."""

import numpy as np
import pandas as pd
import pytest

from mvae.files import DataError
from mvae.tables import read
from mvae.tables.read import is_table, read_table


@pytest.fixture
def frame():
    return pd.DataFrame({"age": [31.0, None, 7.0], "city": ["Rome", None, "NA"], "n": [1, 2, 3]})


@pytest.mark.parametrize("suffix", ["csv", "tsv", "parquet", "feather", "jsonl"])
def test_every_format_gives_the_same_missing_cells(frame, tmp_path, suffix):
    path = tmp_path / f"people.{suffix}"
    write = {
        "csv": lambda: frame.to_csv(path, index=False),
        "tsv": lambda: frame.to_csv(path, index=False, sep="\t"),
        "parquet": lambda: frame.to_parquet(path),
        "feather": lambda: frame.to_feather(path),
        "jsonl": lambda: frame.to_json(path, orient="records", lines=True),
    }
    write[suffix]()
    table = read_table(path)
    assert table.names == ["age", "city", "n"]
    assert [cells.missing().tolist() for cells in table] == [[False, True, False], [False, True, False], [False] * 3]
    assert table.tables == {"people": ("age", "city", "n")}
    assert is_table(path)
    assert is_table(str(path))


def test_text_files_keep_what_is_written(tmp_path):
    path = tmp_path / "odd.csv"
    path.write_text('\ufeffcode;size;word\n007;1.50;NA\n008;;"a;b"\n', encoding="utf-8")
    table = read_table(path)
    assert table.frame.to_dict("list") == {"code": ["007", "008"], "size": ["1.50", ""], "word": ["NA", "a;b"]}
    assert table.cells("size").missing().tolist() == [False, True]
    assert table.cells("word").missing().tolist() == [False, False]
    assert table.cells("word").missing(["NA"]).tolist() == [True, False]


def test_a_column_without_a_name_keeps_none(tmp_path):
    (tmp_path / "index.csv").write_text(",a\n0,1\n1,2\n", encoding="utf-8")
    assert read_table(tmp_path / "index.csv").names == ["", "a"]


def test_blanks_nulls_and_missing_dates_are_missing_cells():
    frame = pd.DataFrame({"a": ["x", "  ", None, np.nan], "b": pd.to_datetime(["2024-01-01", None, None, None])})
    assert [cells.missing().tolist() for cells in read_table(frame)] == [[False, True, True, True]] * 2


def test_a_mapping_of_lists_and_arrays_is_a_table():
    table = read_table({"x": [1, None, 3], "m": np.arange(6.0).reshape(3, 2), "picture": np.zeros((3, 4, 4), np.uint8)})
    assert table.names == ["x", "m[0]", "m[1]", "picture"]
    assert table.cells("x").missing().tolist() == [False, True, False]
    assert table.frame["m[1]"].tolist() == [1.0, 3.0, 5.0]
    assert table.frame["picture"][0].shape == (4, 4)
    with pytest.raises(DataError, match="'b' has 2 rows, 'a' has 3"):
        read_table({"a": [1, 2, 3], "b": [1, 2]})


def test_what_has_the_shape_of_annotated_data_is_a_table():
    class Annotated:
        obs_names, var_names = pd.Index(["c1", "c2"]), pd.Index(["g1"])
        X = np.array([[3.0], [np.nan]])
        obs = pd.DataFrame({"kind": ["a", None]}, index=["c1", "c2"])

    class Several:
        mod = {"rna": Annotated()}  # noqa: RUF012
        obs_names = Annotated.obs_names

    assert read_table(Annotated()).names == ["g1", "kind"]
    assert read_table(Several()).names == ["rna:g1", "rna:kind"]


def test_a_hugging_face_data_set_is_a_table():
    datasets = pytest.importorskip("datasets")
    rows = datasets.Dataset.from_dict({"a": [1.0, None], "b": ["x", None]})
    assert [cells.missing().tolist() for cells in read_table(rows)] == [[False, True]] * 2


def test_joined_tables_keep_rows_of_only_one(tmp_path):
    (tmp_path / "people.csv").write_text("id,age\n1,30\n2,\n", encoding="utf-8")
    (tmp_path / "labs.csv").write_text("id,iron\n3,0.5\n1,0.7\n", encoding="utf-8")
    table = read_table(tmp_path / "people.csv", [tmp_path / "labs.csv"], "id")
    found = table.frame.set_index("id")
    assert found.loc["1"].tolist() == ["30", "0.7"]
    assert table.cells("age").missing().sum() == 2
    assert table.cells("iron").missing().sum() == 1
    assert table.tables == {"people": ("age",), "labs": ("iron",)}


@pytest.mark.parametrize(
    ("people", "labs", "words"),
    [
        ("id,age\n1,3\n1,4\n", "id,iron\n1,2\n", "people.csv, row 2, column 'id': '1' is in an earlier row"),
        ("id,age\n,3\n", "id,iron\n1,2\n", "people.csv, row 1, column 'id': missing"),
        ("id,age\n1,3\n", "key,iron\n1,2\n", "labs.csv: no column 'id'"),
        ("id,age\n1,3\n", "id,age\n1,3\n", "'age' is in people.csv and in labs.csv"),
    ],
)
def test_what_cannot_be_joined_is_named(tmp_path, people, labs, words):
    (tmp_path / "people.csv").write_text(people, encoding="utf-8")
    (tmp_path / "labs.csv").write_text(labs, encoding="utf-8")
    with pytest.raises(DataError, match=words):
        read_table(tmp_path / "people.csv", [tmp_path / "labs.csv"], "id")


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("none.csv", None, "no such file"),
        ("empty.csv", "", "not readable as csv"),
        ("head.csv", "a,b\n", "0 rows of 2 columns"),
        ("twice.csv", "a,b,a\n1,2,3\n", "2 columns have the name 'a'"),
        ("ragged.csv", "a,b\n1,2\n1,2,3\n", "not readable as csv: .*line 3"),
        ("bad.parquet", "a,b\n", "not readable as parquet"),
        ("table.xlsx", "x", "ends in .csv"),
        ("bad.jsonl", '{"a": 1}\n{"a": \n', "bad.jsonl: not readable as jsonl: line 2"),
        ("list.jsonl", "[1]\n", "line 1: expected an object, got list"),
    ],
)
def test_files_that_are_no_tables_are_named(tmp_path, name, text, words):
    if text is not None:
        (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=words):
        read_table(tmp_path / name)


def test_a_folder_with_one_table_in_it_is_that_table(tmp_path):
    (tmp_path / "a.png").write_bytes(b"")
    assert not is_table(tmp_path)
    (tmp_path / "faces.csv").write_text("face,n\na.png,1\n", encoding="utf-8")
    assert is_table(tmp_path)
    table = read_table(tmp_path)
    assert (table.name, table.cells("face").folder) == ("faces.csv", tmp_path)
    (tmp_path / "more.csv").write_text("x\n1\n", encoding="utf-8")
    assert not is_table(tmp_path)


def test_columns_of_one_name_are_refused():
    with pytest.raises(DataError, match="2 columns have the name 'a'"):
        read_table(pd.DataFrame([[1, 2]], columns=["a", "a"]))


@pytest.mark.parametrize("cell", ["x" * 2**20, f'"{"x," * 2**19}"'], ids=["plain", "quoted"])
def test_cells_and_headings_may_be_long(tmp_path, cell):
    path = tmp_path / "t.csv"
    path.write_text(f"a,b\n1,{cell}\n2,y\n", encoding="utf-8")
    assert read_table(path).frame["b"].tolist() == [cell.strip('"'), "y"]
    names = [f"gene{number}-{'x' * 60}" for number in range(2500)]
    path.write_text("".join(",".join(line) + "\n" for line in (names, ["1"] * 2500)), encoding="utf-8")
    assert read_table(path).names == names


def test_a_line_without_end_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(read, "LONGEST", 1000)
    path = tmp_path / "t.csv"
    path.write_text(f"a\n{'x' * 1000}\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"t\.csv: .*line 2: expected at most 1,000 characters"):
        read_table(path)
