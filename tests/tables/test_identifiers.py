"""Columns that identify rows are carried by answers, by what the spec says and not by how it explains it."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import mvae
from mvae.config.folder import read_spec
from mvae.config.table_spec import LeftOutColumn

SHORT = {"training": {"epochs": 1, "passes": 1}}
EARLIER = Path(__file__).parents[1] / "earlier_runs" / "people"


@pytest.fixture(scope="module")
def people():
    rng = np.random.default_rng(0)
    size, weight = rng.normal(size=(2, 60))
    frame = pd.DataFrame({"patient_id": np.arange(60) * 7 + 3, "code": [f"U{n:03}" for n in range(60)]})
    return frame.assign(size=size, weight=weight, note=[f"seen on day {n}" for n in range(60)])


@pytest.mark.parametrize(
    ("columns", "carried"),
    [
        ({"note": "left-out"}, ["patient_id", "code"]),
        ({"note": "left-out", "patient_id": "left-out", "code": "left-out"}, ["patient_id", "code"]),
        ({"note": {"kind": "left-out", "why": "not an identifier"}}, ["patient_id", "code"]),
        ({"note": "left-out", "code": {"kind": "left-out", "identifier": False}}, ["patient_id"]),
        ({"note": {"kind": "left-out", "identifier": True}}, ["patient_id", "code", "note"]),
        ({"note": "left-out", "weight": "left-out", "code": "text"}, ["patient_id"]),
    ],
)
def test_identifiers_are_carried_whoever_left_them_out(people, tmp_path, columns, carried):
    mvae.fit(people, out=tmp_path / "run", columns=columns, config=SHORT, progress=False)
    for frame in (mvae.embed(tmp_path / "run", people), mvae.score(tmp_path / "run", people, num_samples=2)):
        here = [name for name in frame.columns if name in people.columns]
        assert here == carried
        assert frame[carried].sort_index().equals(people[carried])
    assert read_spec(tmp_path / "run").data.table.identifiers == carried


def test_the_column_that_joins_is_carried(people, tmp_path):
    labs = people[["note"]].assign(iron=np.linspace(0, 1, 60) ** 2, zinc=people["size"] + 1)
    people.to_csv(tmp_path / "people.csv", index=False)
    labs.to_csv(tmp_path / "labs.csv", index=False)
    source, more = tmp_path / "people.csv", {"join": [tmp_path / "labs.csv"]}
    mvae.fit(source, out=tmp_path / "run", on="note", **more, config=SHORT, progress=False)
    assert "note" in mvae.embed(tmp_path / "run", source, **more).columns


def test_an_earlier_run_is_read_as_it_was_meant():
    """Its spec has no `identifier`: one of two sentences said so."""
    content = json.loads((EARLIER / "config.json").read_text(encoding="utf-8"))
    columns = content["data"]["table"]["columns"]
    left = {name: column["why"] for name, column in columns.items() if column["kind"] == "left-out"}
    assert left == {"name": "an identifier: all different, without a space"}
    assert not any("identifier" in column for column in columns.values())
    assert read_spec(EARLIER).data.table.identifiers == ["name"]
    table = pd.read_csv(EARLIER.with_suffix(".csv"))
    for frame in (mvae.embed(EARLIER, table), mvae.score(EARLIER, table, num_samples=2)):
        assert frame["name"].sort_index().equals(table["name"])


def test_an_explanation_of_ones_own_decides_nothing():
    assert LeftOutColumn(why="this is the identifier of the clinic").identifier is None
    assert LeftOutColumn.model_validate({"why": "an identifier: all different, without a space"}).identifier is True
    kept = {"why": "an identifier: all different, without a space", "identifier": False}
    assert LeftOutColumn.model_validate(kept).identifier is False
