"""The commands on tables, as a user types them, and faults that leave nothing behind."""

import json
import math
import re
import shutil

import numpy as np
import pandas as pd
import pytest
import yaml

import mvae
from forked import run_python
from mvae.cli import main
from mvae.config.folder import METRICS, WEIGHTS, read_spec
from mvae.config.options import placed
from mvae.config.specs import SpecError
from mvae.files import DataError, RunError
from mvae.tables.read import read_table
from mvae.training.loop import Loop
from mvae.training.prepare import prepare

SHORT = ["--epochs", "1"]


@pytest.fixture
def people(tmp_path, monkeypatch):
    """A file with holes in a folder of its own."""
    write_people(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def short_run(tmp_path_factory):
    """A run on that file of one epoch, to be copied."""
    folder = tmp_path_factory.mktemp("people")
    write_people(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        mvae.fit("people.csv", out="run", epochs=1, progress=False)
    return folder / "run"


def write_people(folder):
    rng = np.random.default_rng(0)
    size = rng.normal(5, 2, 80).round(2)
    frame = pd.DataFrame({"name": [f"p{n:03}" for n in range(80)], "size": size, "colour": rng.choice(list("rgb"), 80)})
    frame["double"] = (2 * size + rng.normal(0, 0.1, 80)).round(2)
    frame.loc[:9, "size"] = None
    frame.loc[5:14, "colour"] = None
    frame.to_csv(folder / "people.csv", index=False)


def test_from_a_csv_with_holes_to_a_filled_one(people, capsys):
    before = (people / "people.csv").read_bytes()
    assert main(["fit", "people.csv", *SHORT]) == 0
    said = capsys.readouterr().out
    assert "number: size, double" in said
    assert "left out, an identifier: all different, without a space: name" in said
    assert "mvae impute runs/people people.csv --out filled.csv" in said
    assert main(["impute", "runs/people", "people.csv", "--out", "filled.csv", "--draws", "2"]) == 0
    assert "filled 20 missing cells in 2 columns" in capsys.readouterr().out
    filled, cells = pd.read_csv("filled.csv"), pd.read_csv("filled-cells.csv")
    assert filled.notna().all(axis=None)
    assert len(cells) == 20
    assert sorted(path.name for path in people.iterdir()) == [
        *("filled-1.csv", "filled-2.csv", "filled-cells.csv", "filled.csv", "people.csv", "runs"),
    ]
    assert (people / "people.csv").read_bytes() == before


@pytest.mark.parametrize(
    ("steps", "batch_size", "taken"), [(200, None, 200), (200, 8, 200), (9000, 16, 9000), (1, None, 5)]
)
def test_steps_are_how_many_are_taken_in_whole_passes(people, steps, batch_size, taken):
    training = prepare("people.csv", options=placed({"steps": steps, "batch_size": batch_size})).spec.training
    assert training.epochs * training.passes * math.ceil(80 / training.batch_size) == taken
    assert batch_size in (None, training.batch_size)


def test_steps_win_over_a_config_and_other_options_over_what_they_mean(people):
    config, options = {"training": {"epochs": 7, "passes": 9}}, {"steps": 200, "annealing_epochs": 0}
    training = prepare("people.csv", config=config, options=placed(options)).spec.training
    assert training.epochs * training.passes * math.ceil(80 / training.batch_size) == 200
    assert training.annealing_epochs == 0


def test_a_run_of_so_many_steps(people):
    assert main(["fit", "people.csv", "--steps", "20"]) == 0
    assert read_spec("runs/people") == prepare("people.csv", options=placed({"steps": 20})).spec


def test_steps_go_with_new_runs_on_tables_and_without_epochs(people, capsys):
    refused = [
        (["--epochs", "3"], "mvae: --steps: expected steps, or epochs and passes, not both"),
        (["--passes", "3"], "mvae: --steps: expected steps, or epochs and passes, not both"),
    ]
    for flags, words in refused:
        assert main(["fit", "people.csv", "--steps", "9", *flags]) == 2
        assert words in capsys.readouterr().err
    assert not (people / "runs").exists()
    main(["fit", "people.csv", *SHORT])
    capsys.readouterr()
    assert main(["fit", "people.csv", "--steps", "9", "--resume"]) == 2
    assert "mvae: --steps: expected of a new run on a table; give epochs" in capsys.readouterr().err
    with pytest.raises(SpecError, match=r"training\.steps: expected a whole number of at least 1, got 0"):
        mvae.fit("people.csv", steps=0)


def test_embed_score_and_sample(people, capsys):
    main(["fit", "people.csv", *SHORT])
    assert main(["embed", "runs/people", "people.csv", "--out", "z.parquet"]) == 0
    assert len(pd.read_parquet("z.parquet")) == 80
    assert main(["score", "runs/people", "people.csv", "--out", "odd.jsonl"]) == 0
    assert len(pd.read_json("odd.jsonl", lines=True)) == 80
    assert main(["sample", "runs/people", "--given", "colour=r", "--count", "30", "--out", "new.csv"]) == 0
    new = pd.read_csv("new.csv")
    assert new.columns.tolist() == ["size", "colour", "double"]
    assert (new["colour"] == "r").all()
    assert main(["evaluate", "runs/people", "--split", "validation"]) == 2
    assert "no validation rows; mvae fit --validation-rows N holds some out" in capsys.readouterr().err
    main(["fit", "people.csv", *SHORT, "--validation-rows", "9", "--out", "runs/held"])
    assert main(["evaluate", "runs/held", "--split", "validation", "--samples", "5"]) == 0
    assert json.loads((people / "runs" / "held" / "evaluation.json").read_text())["rows"] == 9


def test_what_inspect_prints_can_be_edited_and_given_to_fit(people, capsys):
    assert main(["inspect", "people.csv", "--out", "people.yaml"]) == 0
    text = (people / "people.yaml").read_text(encoding="utf-8")
    assert "size: {kind: number}  # 10 missing; " in text
    content = yaml.safe_load(text)
    content["data"]["table"]["columns"]["size"] = {"kind": "number", "likelihood": "laplace", "absent": ["9.99"]}
    content["data"]["table"]["groups"] = {"sizes": ["size", "double"]}
    content["model"] = {"latent_dim": 3, "modalities": {"sizes": {"weight": 2.0}}}
    (people / "people.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    assert main(["fit", "people.csv", "--config", "people.yaml", *SHORT]) == 0
    spec = read_spec("runs/people")
    assert spec.model.latent_dim == 3
    assert list(spec.model.modalities) == ["sizes", "colour"]
    assert spec.model.modalities["sizes"].weight == 2
    assert spec.model.modalities["sizes"].likelihood.elements[0].family == "laplace"
    assert spec.data.table.columns["size"].absent == ["9.99"]
    assert main(["inspect", "people.csv", "--kind", "size=positive", "--group", "sizes=size,double"]) == 0
    assert "sizes: [size, double]" in capsys.readouterr().out


def test_a_run_on_a_table_resumes_as_if_it_had_not_stopped(people, monkeypatch):
    options = ["--epochs", "2", "--passes", "20", "--annealing-epochs", "1"]
    main(["fit", "people.csv", *options, "--out", "whole"])
    step = Loop.step

    def stop(loop, *given):
        if loop.history:  # in the second epoch
            raise KeyboardInterrupt
        return step(loop, *given)

    with monkeypatch.context() as patch:
        patch.setattr(Loop, "step", stop)
        assert main(["fit", "people.csv", *options, "--out", "part"]) == 130
    assert len(json.loads((people / "part" / METRICS).read_text(encoding="utf-8"))["history"]) == 1
    assert main(["fit", "people.csv", "--out", "part", "--resume"]) == 0
    assert read_spec("part").data == read_spec("whole").data
    assert len(json.loads((people / "part" / METRICS).read_text(encoding="utf-8"))["history"]) == 2
    for name in (WEIGHTS, METRICS):
        assert (people / "part" / name).read_bytes() == (people / "whole" / name).read_bytes()
    rows = pd.read_csv("people.csv")
    pd.testing.assert_frame_equal(mvae.embed("part", rows), mvae.embed("whole", rows), check_exact=True)


def test_joined_files_are_a_modality_each(people):
    pd.DataFrame(
        {"name": [f"p{n:03}" for n in range(40, 120)], "iron": np.linspace(0, 1, 80), "zinc": 1.0 / np.arange(1, 81)}
    ).to_csv("labs.csv", index=False)
    assert main(["fit", "people.csv", "--join", "labs.csv", "--on", "name", *SHORT]) == 0
    spec = read_spec("runs/people")
    assert list(spec.model.modalities) == ["people", "labs"]
    arguments = ["impute", "runs/people", "people.csv", "--join", "labs.csv", "--out", "filled.parquet"]
    assert main(arguments) == 0
    filled = pd.read_parquet("filled.parquet")
    assert len(filled) == 120
    assert filled.replace("", None).notna().all(axis=None)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["impute", "runs/people", "people.csv", "--out", "people.csv"], "people.csv exists"),
        (["impute", "runs/people", "people.csv", "--out", "filled.xlsx"], "ends in .csv"),
        (["impute", "runs/people", "people.csv", "--out", "no/filled.csv"], "no folder no"),
        (["impute", "runs/people", "none.csv", "--out", "filled.csv"], "none.csv: no such file"),
        (["impute", "runs/people", "bad.csv", "--out", "filled.csv"], "bad.csv, row 2, column 'size'.*'tall'"),
        (["impute", "runs/people", "other.csv", "--out", "filled.csv"], "other.csv: no column 'size'"),
        (["impute", "runs/none", "people.csv", "--out", "filled.csv"], "runs/none is not a run"),
        (["score", "runs/people", "people.csv", "--out", "people.csv"], "people.csv exists; choose another name"),
        (["sample", "runs/people"], "--out: name the file"),
        (["sample", "runs/people", "--given", "shape=round", "--out", "new.csv"], "unknown column 'shape'"),
        (["fit", "people.csv", "--kind", "size=big"], "size.*'big'"),
        (["fit", "people.csv", "--kind", "weight=number"], "weight: no such column in people.csv"),
        (
            ["fit", "people.csv", "--kind", "name=number"],
            r"people\.csv, row \d+, column 'name': expected a finite number, got .p0\d\d.",
        ),
        (["fit", "people.csv", "--group", "all=size,name"], "'name' is left-out"),
        (["fit", "people.csv", "--on", "name"], "joins tables, and there is one"),
        (["fit", "empty.csv", "--out", "runs/e"], "no column to learn from: a: all cells are missing"),
        (["fit", "people.csv", "--method", "jmvae", "--out", "runs/j"], "reads no records"),
    ],
)
def test_faults_are_named_and_leave_nothing(people, short_run, capsys, arguments, words):
    pd.DataFrame({"size": ["1", "tall"], "colour": "r", "double": 1}).to_csv("bad.csv", index=False)
    pd.DataFrame({"length": [1, 2]}).to_csv("other.csv", index=False)
    pd.DataFrame({"a": [None, None], "b": ["x", "x"]}).to_csv("empty.csv", index=False)
    if arguments[0] != "fit":
        shutil.copytree(short_run, "runs/people")
    capsys.readouterr()
    before = sorted(str(path) for path in people.rglob("*"))
    assert main(arguments) == 2
    assert re.search(words, capsys.readouterr().err.replace("\n", " "))
    assert sorted(str(path) for path in people.rglob("*")) == before


def test_resuming_on_something_else_is_refused(people, short_run):
    shutil.copytree(short_run, "run")
    with pytest.raises(DataError, match=r"other\.csv: no such file"):
        mvae.fit("other.csv", out="run", resume=True)
    with pytest.raises(RunError, match=r"is a run on people\.csv, not on digits"):
        mvae.fit("digits", out="run", resume=True)
    with pytest.raises(RunError, match=r"started with data.table.columns.size.kind = number"):
        mvae.fit("people.csv", columns={"size": "positive"}, out="run", resume=True)
    with pytest.raises(SpecError, match="expected a mapping"):
        mvae.fit("people.csv", config={"data": 3})


def test_a_broken_write_leaves_no_file(people, short_run):
    shutil.copytree(short_run, "run")
    code = (
        "import os, pandas, sys; from mvae.cli import main\n"
        "pandas.DataFrame.to_csv = lambda self, path, **_: (open(path, 'w').write('half'), os._exit(9))\n"
        "main(['impute', 'run', 'people.csv', '--out', 'filled.csv'])"
    )
    assert run_python(code).returncode == 9
    assert not (people / "filled.csv").exists()


def resumed(source, out="run", **options):
    return mvae.fit(source, out=out, epochs=2, resume=True, progress=False, **options)


@pytest.mark.parametrize(
    ("folder", "source", "out"),
    [
        ("elsewhere", "../people.csv", "../run"),
        (".", "./people.csv", "run"),
        (".", "elsewhere/../people.csv", "run"),
        (".", "link.csv", "run"),
        (".", "moved.csv", "run"),
    ],
)
def test_a_run_resumes_under_another_name_of_its_table(people, short_run, monkeypatch, folder, source, out):
    shutil.copytree(short_run, people / "run")
    (people / "elsewhere").mkdir()
    (people / "link.csv").symlink_to("people.csv")
    shutil.copyfile("people.csv", "moved.csv")
    monkeypatch.chdir(folder)
    resumed(source, out)
    assert len(json.loads((people / "run" / METRICS).read_text())["history"]) == 2


@pytest.mark.parametrize(
    "change",
    [
        lambda lines: lines + lines[1:],
        lambda lines: lines[:1] + lines[:0:-1],
        lambda lines: lines[:-20],
        lambda lines: [*lines[:-1], lines[-1].replace(",", ",1", 1)],
        lambda lines: [lines[0].replace(",", "x,", 1), *lines[1:]],
    ],
    ids=["doubled", "reordered", "shortened", "another cell", "another name"],
)
def test_a_table_that_has_changed_is_not_trained_on(people, short_run, change):
    shutil.copytree(short_run, people / "run")
    before = {path: path.read_bytes() for path in (people / "run").rglob("*") if path.is_file()}
    lines = (people / "people.csv").read_text().splitlines()
    (people / "people.csv").write_text("\n".join(change(lines)) + "\n")
    with pytest.raises(RunError, match=r"people\.csv has changed since the run was trained: .* rows .*; now .* rows"):
        resumed("people.csv")
    assert {path: path.read_bytes() for path in (people / "run").rglob("*") if path.is_file()} == before


def test_an_earlier_run_without_a_fingerprint_is_known_by_the_path(people, short_run):
    shutil.copytree(short_run, people / "run")
    config = json.loads((people / "run" / "config.json").read_text())
    config["data"]["fingerprint"] = None
    (people / "run" / "config.json").write_text(json.dumps(config))
    shutil.copyfile("people.csv", "moved.csv")
    with pytest.raises(RunError, match=r"is a run on people\.csv, not on moved\.csv"):
        resumed("moved.csv")
    with pytest.raises(RunError, match=r"is a run on people\.csv, not on digits"):
        resumed("digits")
    resumed("./people.csv")


def test_joined_tables_are_known_by_their_cells(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        rows = "".join(f"{number},{number * 7 % 11}\n" for number in range(40))
        (tmp_path / f"{name}.csv").write_text(f"id,{name}\n{rows}")
    mvae.fit("a.csv", join=["b.csv"], on="id", out="run", epochs=1, progress=False)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    resumed("../a.csv", "../run", join=["../b.csv"])
    (tmp_path / "b.csv").write_text((tmp_path / "b.csv").read_text().replace("39,9", "39,8"))
    with pytest.raises(RunError, match=r"a\.csv \+ b\.csv has changed since the run was trained"):
        resumed("../a.csv", "../run", join=["../b.csv"])


def test_every_kind_of_cell_counts_for_the_fingerprint():
    frame = pd.DataFrame({"n": [1.5, None], "t": ["a", None], "p": [np.zeros((2, 2)), None], "l": [[1], [2, 3]]})
    frame["d"], frame["i"] = pd.to_datetime(["2020-01-01", None]), pd.array([1, None], "Int64")
    mark = read_table(frame).fingerprint
    assert mark.startswith("2 rows of 6 columns, checksum ")
    assert read_table(frame.copy()).fingerprint == mark
    others = {"n": 2.5, "t": "b", "l": "x", "d": pd.Timestamp("2020-01-02"), "i": 3}
    changed = [frame.assign(**{name: [value, *frame[name][1:]]}) for name, value in others.items()]
    assert len({mark, *(read_table(one).fingerprint for one in changed)}) == 6
