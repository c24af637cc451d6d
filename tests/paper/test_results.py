import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from mvae.files import RunError, read_json
from mvae.training.prepare import prepare
from paper import digits
from paper.results import Results, provenance
from paper.runner import CATALOG, Setup, page, run

ROOT = Path(__file__).parents[2]


def test_two_commands_may_add_to_one_file(tmp_path):
    path = tmp_path / "table.json"
    Results(path, {"epochs": 3}).add({"model": "a"})
    first, second = (Results(path, {"epochs": 3}, resume=True) for _ in range(2))
    first.add({"model": "b"})
    second.add({"model": "c"})
    first.add({"model": "d"})
    assert [cell["model"] for cell in read_json(path)["cells"]] == ["a", "b", "c", "d"]


def test_cells_are_on_disk_as_soon_as_they_are_finished(tmp_path):
    path = tmp_path / "deep" / "table.json"
    results = Results(path, {"epochs": 3})
    results.add({"model": "a", "seed": 0, "value": 1.5})
    content = json.loads(path.read_text())
    assert content["cells"] == [{"model": "a", "seed": 0, "value": 1.5}]
    assert content["settings"] == {"epochs": 3}
    assert {"command", "commit", "machine", "torch"} <= content["provenance"].keys()


@pytest.mark.parametrize(
    ("arguments", "kept"),
    [
        (
            ["figure4", "--runs", "{here}", "--out", "out", "--resume"],
            "figure4 --out out --resume",
        ),
        (["figure4", "--runs={here}", "--config", "a=b"], "figure4 --config a=b"),
        (["table1"], "table1"),
        ([], ""),
    ],
)
def test_a_command_is_kept_without_the_places_of_this_machine(monkeypatch, tmp_path, arguments, kept):
    monkeypatch.setattr(sys, "argv", ["mvae", *(one.format(here=tmp_path) for one in arguments)])
    assert provenance()["command"] == f"python -m paper {kept}".rstrip()


def test_finished_cells_are_kept_on_resume_and_known(tmp_path):
    Results(tmp_path / "table.json", {"epochs": 3}).add({"model": "a", "seed": 0})
    results = Results(tmp_path / "table.json", {"epochs": 3}, resume=True)
    assert results.has(model="a", seed=0)
    assert not results.has(model="a", seed=1)
    results.add({"model": "a", "seed": 1})
    assert len(json.loads((tmp_path / "table.json").read_text())["cells"]) == 2


def test_a_file_that_is_there_is_not_overwritten(tmp_path):
    Results(tmp_path / "table.json", {"epochs": 3}).add({"model": "a"})
    before = (tmp_path / "table.json").read_bytes()
    with pytest.raises(RunError, match=r"table\.json is already there"):
        Results(tmp_path / "table.json", {"epochs": 3})
    with pytest.raises(RunError, match="made with other settings"):
        Results(tmp_path / "table.json", {"epochs": 4}, resume=True)
    assert (tmp_path / "table.json").read_bytes() == before


def test_settings_of_more_data_sets_keep_the_cells_of_the_old_ones(tmp_path):
    path = tmp_path / "table.json"
    Results(path, {"epochs": {"a": 3}, "rows": None}).add({"dataset": "a"})
    more = {"epochs": {"a": 3, "b": 2}, "rows": None, "samples": {}}
    Results(path, more, resume=True).add({"dataset": "b"})
    content = json.loads(path.read_text())
    assert content["settings"] == more
    assert content["cells"] == [{"dataset": "a"}, {"dataset": "b"}]
    for other in ({"epochs": {"b": 2}, "rows": None}, {"epochs": {"a": 4, "b": 2}, "rows": None, "samples": {}}):
        with pytest.raises(RunError, match="made with other settings"):
            Results(path, other, resume=True)


def test_what_else_a_file_holds_is_kept_on_resume(tmp_path):
    results = Results(tmp_path / "table.json", {"epochs": 3})
    results.add({"model": "a", "seed": 0})
    results.content["differences"] = [{"model": "a", "nats": 1.5}]
    results.save()
    Results(tmp_path / "table.json", {"epochs": 3}, resume=True).add({"model": "a", "seed": 1})
    assert json.loads((tmp_path / "table.json").read_text())["differences"] == [{"model": "a", "nats": 1.5}]


def test_a_results_file_that_is_damaged_is_named_and_left(tmp_path):
    (tmp_path / "table.json").write_text('{"settings": {"epochs": 3}, "cel')
    with pytest.raises(RunError, match=r"table\.json: not readable as JSON"):
        Results(tmp_path / "table.json", {"epochs": 3}, resume=True)
    assert (tmp_path / "table.json").read_text() == '{"settings": {"epochs": 3}, "cel'


def test_digits_cell_by_cell(tmp_path, monkeypatch):
    monkeypatch.setitem(CATALOG["digits"]["settings"], "fractions", [0.05, 1.0])
    monkeypatch.setitem(CATALOG["digits"]["settings"], "samples", 100)
    some = {("training", "epochs"): 25}  # fewer leave the models behind the bound below
    monkeypatch.setattr(digits, "prepare", lambda source, options: prepare(source, options=options | some))
    setup = Setup("digits", folder=tmp_path, options={"seeds": 1, "validation_rows": 0})
    lines = run(setup)
    assert next(lines).startswith("5 % paired, seed 0: ")
    lines.close()  # as if interrupted in the second cell
    (line,) = run(replace(setup, resume=True))
    assert line.startswith("100 % paired, seed 0: ")
    content = json.loads((tmp_path / "digits.json").read_text())
    few, all_pairs = content["cells"]
    assert [few["pairs"], all_pairs["pairs"]] == [67, 1347]
    assert few["importance"] > 0.7
    assert min(all_pairs[name] for name in ("decoder", "importance", "logistic", "nearest")) > 0.94
    assert "| 5 % paired | 100 % paired |" in page("digits", content)


def test_reconstruct_on_digits(tmp_path):
    options = {"dataset": "digits", "epochs": 2, "data_dir": None}
    lines = list(run(Setup("reconstruct", folder=tmp_path, options=options)))
    assert [line.partition(":")[0] for line in lines] == ["given", "present", "label"]
    content = json.loads((tmp_path / "reconstruct-digits.json").read_text())
    assert all(cell["joint"] < cell["image"] < 0 for cell in content["cells"])
    assert "`label`" in page("reconstruct", content)


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_a_training_cut_short_is_no_cell(tmp_path, ending):
    command = [sys.executable, "-m", "paper", "reconstruct", "--dataset", "digits", "--epochs", "2000"]
    process = subprocess.Popen([*command, "--out", str(tmp_path)], cwd=ROOT, stderr=subprocess.PIPE, text=True)
    said = process.stderr.read(1)  # the bar appears when training has begun
    time.sleep(0.5)
    process.send_signal(ending)
    said += process.communicate(timeout=200)[1]
    assert process.returncode not in (0, None)
    assert "Traceback" not in said
    assert not (tmp_path / "reconstruct-digits.json").exists()


@pytest.mark.parametrize(
    "path", sorted((ROOT / "paper" / "results").glob("*/cpu.json")), ids=lambda path: path.parent.name
)
def test_what_was_measured_can_be_added_to(path):
    """The presets of the catalog are those that the committed cells were made with."""
    setup = Setup(path.parent.name, "cpu")
    settings = json.loads(json.dumps({"preset": "cpu", **setup.spent}))
    results = Results(path, settings, resume=True)
    names = set(setup.cells[-1])
    done = [{name: cell[name] for name in names} for cell in results.cells]
    planned = [one for some in setup.cells for one in (some if isinstance(some, list) else [some])]
    assert all(cell in planned for cell in done if cell.get("seed", 0) == 0)
