"""Filled cells against closed forms, and observed cells unchanged."""

import math

import numpy as np
import pandas as pd
import pytest
import scipy.stats
import torch

import mvae
from mvae.config.build import build_model
from mvae.config.specs import ModelSpec
from mvae.config.table_spec import CategoryColumn, NumberColumn, PositiveColumn, TableSpec
from mvae.files import DataError, RunError
from mvae.tables.answers import open_run
from mvae.tables.draws import draw_rows
from mvae.tables.fill import impute_table
from mvae.tables.kinds import kind_of
from mvae.tables.learn import as_rows
from mvae.tables.read import read_table

TRAINING = {"training": {"epochs": 2, "passes": 1}}


def linear(columns, matrix, scales):
    """A model whose decoder is linear, x = W z + noise, and its table."""
    names = list(columns)
    record = {
        "shape": [len(names)],
        "likelihood": {"kind": "record", "elements": [kind_of(column).element for column in columns.values()]},
        "encoder": {"kind": "record", "hidden": [8]},
        "decoder": {"kind": "mlp", "hidden": [1]},
    }
    torch.manual_seed(0)
    model = build_model(ModelSpec.model_validate({"latent_dim": matrix.shape[1], "modalities": {"all": record}}))
    decoder, encoder = model.modalities["all"].decoder, model.modalities["all"].encoder
    layer = torch.nn.Linear(matrix.shape[1], len(names), bias=False)
    layer.weight.data = torch.as_tensor(matrix, dtype=torch.float32)
    decoder.network = layer
    decoder.likelihood.log_scale_normal.data = torch.as_tensor(np.log(scales), dtype=torch.float32)
    encoder.head.weight.data.zero_()
    encoder.head.bias.data.zero_()  # the proposal is near the prior, so that the weights do all
    return model, TableSpec(columns=columns, groups={"all": names})


def test_numbers_are_filled_with_the_exact_conditional_mean_deviation_and_interval():
    matrix, scales = np.array([[1.0, 0.3], [-0.8, 0.5], [0.2, 1.1]]), np.array([0.5, 0.7, 0.4])
    learned = {"mean": 2.0, "deviation": 3.0, "whole": False}
    model, spec = linear({n: NumberColumn(**learned) for n in "abc"}, matrix, scales)
    frame = pd.DataFrame({"a": [4.0, np.nan, np.nan], "b": [np.nan, 1.0, np.nan], "c": [0.5, -2.0, np.nan]})
    found = impute_table(model, spec, read_table(frame), num_samples=60_000)
    covariance = matrix @ matrix.T + np.diag(scales**2)
    standard = (frame.to_numpy() - 2) / 3
    for _, cell in found.cells.iterrows():
        row, place = cell["row"], "abc".index(cell["column"])
        there = np.flatnonzero(~np.isnan(standard[row]))
        gain = covariance[place, there] @ np.linalg.inv(covariance[np.ix_(there, there)]) if len(there) else np.zeros(0)
        mean = 2 + 3 * (gain @ standard[row, there])
        deviation = 3 * math.sqrt(covariance[place, place] - gain @ covariance[there, place])
        assert cell["value"] == pytest.approx(mean, abs=0.05 * deviation)
        assert cell["sd"] == pytest.approx(deviation, rel=0.05)
        low, high = scipy.stats.norm(mean, deviation).ppf([0.05, 0.95])
        assert cell["low"] == pytest.approx(low, abs=0.1 * deviation)
        assert cell["high"] == pytest.approx(high, abs=0.1 * deviation)
    assert len(found.cells) == 5
    kept = frame.notna()
    assert found.frame[kept].equals(frame[kept])
    assert found.frame.notna().all(axis=None)


def test_draws_have_the_joint_distribution_of_the_missing_cells():
    matrix, scales = np.array([[1.0], [1.0], [1.0]]), np.array([0.3, 0.2, 0.2])
    column = NumberColumn(mean=0.0, deviation=1.0, whole=False)
    model, spec = linear(dict.fromkeys("abc", column), matrix, scales)
    frame = pd.DataFrame({"a": [1.0] * 400, "b": np.nan, "c": np.nan})
    found = impute_table(model, spec, read_table(frame), draws=10, num_samples=500)
    drawn = pd.concat(found.draws)
    given = matrix @ matrix.T + np.diag(scales**2)
    expected = given[1:, 1:] - np.outer(given[1:, 0], given[0, 1:]) / given[0, 0]
    assert np.allclose(drawn[["b", "c"]].cov(), expected, atol=0.01)
    assert (drawn["a"] == 1.0).all()


def test_a_positive_number_is_filled_with_the_mean_of_its_log_normal():
    column = PositiveColumn(mean=1.0, deviation=0.5, whole=False)
    model, spec = linear({"a": column}, np.array([[1.0]]), np.array([0.5]))
    frame = pd.DataFrame({"a": [np.nan] * 2})
    cell = impute_table(model, spec, read_table(frame), num_samples=60_000).cells.iloc[0]
    exact = scipy.stats.lognorm(0.5 * math.sqrt(1 + 0.25), scale=math.exp(1.0))
    assert cell["value"] == pytest.approx(exact.mean(), rel=0.02)
    assert cell["sd"] == pytest.approx(exact.std(), rel=0.05)
    assert cell["high"] == pytest.approx(exact.ppf(0.95), rel=0.05)


def test_a_category_is_the_likeliest_by_enumeration():
    columns = {
        "a": NumberColumn(mean=0.0, deviation=1.0, whole=False),
        "b": CategoryColumn(values=["x", "y", "z"], type="text"),
    }
    model, spec = linear({"a": columns["a"]}, np.zeros((1, 1)), np.ones(1))
    del model, spec
    record = {
        "shape": [2],
        "likelihood": {"kind": "record", "elements": [kind_of(column).element for column in columns.values()]},
        "encoder": {"kind": "record", "hidden": [8]},
        "decoder": {"kind": "mlp", "hidden": [8]},
    }
    torch.manual_seed(3)
    model = build_model(ModelSpec.model_validate({"latent_dim": 1, "modalities": {"all": record}})).eval()
    with torch.no_grad():
        for parameter in model.modalities["all"].decoder.parameters():
            parameter.mul_(3)
    spec = TableSpec(columns=columns, groups={"all": ["a", "b"]})
    frame = pd.DataFrame({"a": [0.8, -1.2], "b": [None, None]})
    found = impute_table(model, spec, read_table(frame), num_samples=50_000)
    grid = torch.linspace(-6, 6, 4001).unsqueeze(1)
    with torch.no_grad():
        distribution = model.modalities["all"].decoder(grid)
        for row, value in enumerate(frame["a"]):
            there = torch.tensor([value, math.nan]).expand(len(grid), 2)
            weights = (distribution.log_prob(there) - 0.5 * grid[:, 0] ** 2).softmax(0)
            shares = weights @ distribution.probabilities(1)
            assert found.cells["value"][row] == "xyz"[int(shares.argmax())]
            assert found.cells["sd"][row] == pytest.approx(1 - shares.max().item(), abs=0.02)
            assert found.frame["b"][row] == found.cells["value"][row]


@pytest.fixture(scope="module")
def people():
    rng = np.random.default_rng(0)
    age = rng.integers(18, 80, 200)
    frame = pd.DataFrame(
        {
            "id": np.arange(500, 700),
            "age": age.astype(float),
            "visits": rng.poisson(age / 30).astype(float),
            "smoker": pd.array(rng.random(200) < 0.4, dtype="boolean"),
            "city": rng.choice(["Rome", "Oslo", "NA"], 200),
            "grade": pd.Categorical(rng.choice(["low", "mid", "high"], 200)),
            "seen": pd.Timestamp("2020-01-01") + pd.to_timedelta(age * 10, unit="D"),
            "weight": pd.array(rng.integers(50, 90, 200), dtype="Int64"),
            "word": rng.choice(["aba", "bab", "abb"], 200),
        }
    )
    for place, name in enumerate(frame.columns[1:]):
        frame.loc[rng.random(200) < 0.2, name] = pd.NA if place in (2, 6) else None
    return frame


@pytest.fixture(scope="module")
def run(people, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "people"
    mvae.fit(people, out=folder, columns={"word": "text"}, config=TRAINING, progress=False)
    return folder


def test_a_frame_comes_back_complete_in_its_types_with_observed_cells_unchanged(run, people):
    before = people.copy(deep=True)
    found = mvae.impute(run, people, draws=2)
    pd.testing.assert_frame_equal(people, before)
    for frame in (found.frame, *found.draws):
        assert frame.dtypes.equals(people.dtypes)
        assert frame.notna().all(axis=None)
        for name in people.columns:
            there = people[name].notna()
            assert frame.loc[there, name].equals(people.loc[there, name])
    assert set(found.frame["city"]) == {"Rome", "Oslo", "NA"}
    assert (found.frame["age"] % 1 == 0).all()  # all that were there are whole
    assert len(found.cells) == people.isna().sum().sum()
    assert (found.cells["sd"].dropna() >= 0).all()
    numbers = found.cells[found.cells["column"].isin(["age", "weight"])]
    assert (numbers["low"].astype(float) < numbers["high"].astype(float)).all()
    assert not found.draws[0].equals(found.draws[1])


def test_a_csv_keeps_the_text_of_what_was_there(tmp_path):
    path = tmp_path / "t.csv"
    lines = [f"{i % 7}.50,{'yes' if i % 2 else 'no'},00{i % 3}" for i in range(60)]
    lines[3], lines[10] = ",yes,001", "3.50,,"
    path.write_text("size,ok,code\n" + "\n".join(lines) + "\n", encoding="utf-8")
    mvae.fit(path, out=tmp_path / "run", columns={"code": "category"}, config=TRAINING, progress=False)
    found = mvae.impute(tmp_path / "run", path)
    again = [",".join(row) for row in found.frame.itertuples(index=False)]
    assert [one for n, one in enumerate(again) if n not in (3, 10)] == [
        one for n, one in enumerate(lines) if n not in (3, 10)
    ]
    assert again[3].endswith(",yes,001")
    assert again[10].startswith("3.50,")
    assert found.frame["code"][10] in ("000", "001", "002")


def test_embedding_and_scores_have_a_row_each(run, people):
    embedding = mvae.embed(run, people)
    assert embedding["id"].equals(people["id"])
    assert embedding.filter(regex=r"^z\d+$").shape == (200, mvae.load(run).latent_dim)
    assert (embedding.filter(regex=r"_sd$") > 0).all(axis=None)
    odd = people.copy()
    odd.loc[7, "age"] = 4000.0
    scores = mvae.score(run, odd, num_samples=20)
    assert scores["row"].iloc[0] == 7
    assert scores["nats_per_cell"].is_monotonic_increasing
    assert (scores.sort_index()["cells"] == people.drop(columns="id").notna().sum(axis=1)).all()


def test_new_rows_are_of_the_columns_kinds_and_hold_what_is_given(run):
    model, spec = open_run(run)
    rows = draw_rows(model, spec, {"city": "Rome", "age": "30"}, 50)
    assert len(rows) == 50
    assert set(rows["city"]) == {"Rome"}
    assert set(rows["grade"]) <= {"low", "mid", "high"}
    assert ((rows["visits"] >= 0) & (rows["visits"] % 1 == 0)).all()
    assert rows["word"].str.fullmatch("[ab]{0,3}").all()
    with pytest.raises(ValueError, match="unknown column 'town'; there are age"):
        draw_rows(model, spec, {"town": "Rome"}, 5)
    with pytest.raises(DataError, match="'Rom' is none of the categories"):
        draw_rows(model, spec, {"city": "Rom"}, 5)


def test_a_table_of_other_columns_is_refused(run, people):
    with pytest.raises(DataError, match="no column 'age', which the model was trained with"):
        mvae.impute(run, people.drop(columns="age"))
    assert mvae.impute(run, people.drop(columns="id").assign(more=1)).frame["more"].eq(1).all()


def test_a_run_on_other_data_fills_no_table(tmp_path, people):
    mvae.fit("digits", epochs=1, out=tmp_path / "run", progress=False)
    with pytest.raises(RunError, match="was not trained on a table"):
        mvae.impute(tmp_path / "run", people)


def test_rows_of_missing_cells_are_filled_and_complete_tables_are_left(run, people):
    nothing = people.iloc[:3].copy()
    nothing[people.columns[1:]] = pd.NA
    nothing = nothing.astype(object)
    assert mvae.impute(run, nothing).frame.notna().all(axis=None)
    assert mvae.score(run, nothing, num_samples=5)["nats"].isna().all()
    whole = people.dropna()
    found = mvae.impute(run, whole)
    assert found.frame.equals(whole)
    assert not len(found.cells)


def test_missing_cells_of_a_record_are_read_as_missing(people):
    columns = {"age": NumberColumn(mean=40.0, deviation=10.0, whole=True)}
    spec = TableSpec(columns={**columns, "city": CategoryColumn(values=["NA", "Oslo", "Rome"], type="text")})
    rows = as_rows(spec, read_table(people))
    assert rows.present["age"].tolist() == people["age"].notna().tolist()
    assert rows.values["city"].shape == (200, 1)
