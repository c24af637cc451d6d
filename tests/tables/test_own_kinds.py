"""A kind of column that a user adds: from `mvae.fit` to `mvae.impute`, and refused where it is not registered."""

import json

import numpy as np
import pandas as pd
import pytest

import mvae
from mvae.cli import main
from mvae.config.folder import read_spec
from mvae.config.specs import SpecError
from mvae.config.table_spec import COLUMN_SPECS, ColumnSpec, NumberColumn, RecordColumn, StandardisedColumn
from mvae.files import DataError
from mvae.tables.kinds import Kind, Number, RecordKind, StandardisedKind, base, kind_of, register

SHORT = {"training": {"epochs": 2, "passes": 1}}


class DoseColumn(StandardisedColumn):
    """Doses, as "5 mg"."""

    kind: str = "dose"
    unit: str = "mg"


class Dose(StandardisedKind):
    """Numbers with a unit."""

    column = DoseColumn

    def values(self, cells):
        texts, _ = cells.texts(self.words)
        numbers = [np.nan] * len(texts)
        for row, text in enumerate(texts):
            if text is not None:
                number, _, unit = text.partition(" ")
                if unit != self.spec.unit:
                    raise cells.fault(row, f"expected a dose in {self.spec.unit}, got '{text}'")
                numbers[row] = float(number)
        return np.array(numbers)

    def spelled(self, series, known, values, textual):
        return series, [f"{value:.1f} {self.spec.unit}" for value in values]

    def examples(self, texts):
        return [f"in {self.spec.unit}"]


class StarsColumn(RecordColumn):
    """One to three stars."""

    kind: str = "stars"


class Stars(RecordKind):
    """A category with nothing to learn, from the base class alone."""

    column = StarsColumn
    dtype = object

    @property
    def element(self):
        return {"family": "categorical", "num_classes": 3}

    def encoded(self, cells):
        return np.array([np.nan if text is None else len(text) - 1 for text in cells.texts(self.words)[0]])

    def restored(self, numbers):
        return np.array(["*" * (int(number) + 1) for number in numbers], dtype=object)

    def answer(self, draws):
        share, code = (draws.weights.unsqueeze(-1) * draws.probabilities()).sum(0).max(-1)
        value = self.restored(code.numpy())
        return base.Answer(value, 1 - share.numpy(), value, value, self.restored_draws(draws.samples.numpy()))

    def restored_draws(self, samples):
        return np.array([self.restored(one) for one in samples], dtype=object)


@pytest.fixture
def kinds():
    """The two kinds, registered for one test."""
    for kind in (Dose, Stars):
        register(kind)
    yield
    for name in ("dose", "stars"):
        del COLUMN_SPECS[name], base._KINDS[name]


@pytest.fixture
def trials(tmp_path):
    rng = np.random.default_rng(0)
    size = rng.normal(5, 1, 120)
    frame = pd.DataFrame({"dose": [f"{2 * x:.1f} mg" for x in size], "size": size.round(3)})
    frame["rating"] = ["*" * (1 + n % 3) for n in range(120)]
    frame.loc[:19, "dose"], frame.loc[10:29, "rating"] = None, None
    frame.to_csv(tmp_path / "trials.csv", index=False)
    return tmp_path / "trials.csv"


COLUMNS = {"dose": "dose", "rating": {"kind": "stars"}}


def test_a_kind_of_ones_own_is_trained_on_stored_and_filled(kinds, trials, tmp_path, capsys):
    config = {"training": {"epochs": 40, "passes": 4, "learning_rate": 5e-3}}
    mvae.fit(trials, out=tmp_path / "run", columns=COLUMNS, config=config, progress=False)
    column = read_spec(tmp_path / "run").data.table.columns["dose"]
    assert isinstance(column, DoseColumn)
    table = pd.read_csv(trials)
    known = table["dose"].dropna().str.removesuffix(" mg").astype(float)
    assert column.mean == pytest.approx(known.mean())
    found = mvae.impute(tmp_path / "run", trials, draws=2, num_samples=50)
    for frame in (found.frame, *found.draws):
        assert frame["dose"].str.fullmatch(r"-?\d+\.\d mg").all()
        assert frame["rating"].isin(["*", "**", "***"]).all()
        assert frame["dose"][20:].tolist() == table["dose"][20:].tolist()
    filled = found.frame["dose"][:20].str.removesuffix(" mg").astype(float)
    assert np.corrcoef(filled, table["size"][:20])[0, 1] > 0.8  # the dose is twice the size
    assert (found.cells["column"].value_counts() == 20).all()
    assert main(["inspect", str(trials), "--kind", "dose=dose", "rating=stars"]) == 0
    assert "dose: {kind: dose}  # 20 missing; in mg" in capsys.readouterr().out


def test_cells_that_do_not_fit_a_kind_of_ones_own_are_named(kinds, trials):
    trials.write_text(trials.read_text().replace(" mg", " g", 1))
    with pytest.raises(DataError, match=r"trials\.csv, row 21, column 'dose': expected a dose in mg, got '[\d.]+ g'"):
        mvae.fit(trials, columns=COLUMNS, config=SHORT, progress=False)


def test_a_run_with_a_kind_that_is_not_registered_is_refused_in_a_line(kinds, trials, tmp_path, capsys):
    run = tmp_path / "run"
    mvae.fit(trials, out=run, columns=COLUMNS, config=SHORT, progress=False)
    kept = COLUMN_SPECS.pop("dose")
    try:
        expected = (
            r"config\.json: data\.table\.columns\.dose\.kind: expected a kind of column, one of number, .*left-out.*"
        )
        with pytest.raises(SpecError, match=expected + r"mvae\.tables\.kinds\.register, got 'dose'$"):
            mvae.load(run)
        assert main(["impute", str(run), str(trials), "--out", str(tmp_path / "filled.csv")]) == 2
    finally:
        COLUMN_SPECS["dose"] = kept
    assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "filled.csv").exists()
    with pytest.raises(SpecError, match=r"data\.table: columns\.size\.kind: expected a kind .* got 'size'"):
        mvae.fit(trials, columns={"size": "size"}, config=SHORT, progress=False)


def test_what_a_kind_of_ones_own_is_told_is_checked(kinds, trials, tmp_path):
    with pytest.raises(SpecError, match=r"columns\.dose\.unit: .*got 3"):
        mvae.fit(trials, columns={"dose": {"kind": "dose", "unit": 3}}, config=SHORT, progress=False)
    run = tmp_path / "run"
    mvae.fit(trials, out=run, columns=COLUMNS, config=SHORT, progress=False)
    content = json.loads((run / "config.json").read_text(encoding="utf-8"))
    content["data"]["table"]["columns"]["dose"]["units"] = "g"
    (run / "config.json").write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(SpecError, match=r"data\.table\.columns\.dose\.units: unknown key"):
        mvae.load(run)


def test_a_name_is_given_once(kinds):
    register(Dose)  # again, as in a notebook
    with pytest.raises(ValueError, match=r"a kind of column 'number' exists \(mvae\.tables\.kinds\.number\.Number\)"):

        @register
        class Other(Number):
            column = NumberColumn

    assert type(kind_of(NumberColumn())) is Number

    class Nameless(ColumnSpec):
        kind: str = "nameless"

    with pytest.raises(ValueError, match="kind of column 'nameless' is not registered"):
        kind_of(Nameless())
    assert issubclass(Dose, Kind)
