"""`python -m paper`: what it lists, and what it says where it cannot begin."""

import re
import subprocess
import sys

import pytest

from paper.__main__ import main

EXPERIMENTS = ["table1", "table2", "table3", "figure2", "figure3", "few-pairs", "k-effect", "dropping", "attributes"]
EXPERIMENTS += ["figure4", "table4", "table5", "collapse", "imputation", "digits", "reconstruct"]


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def assert_said_in_one_line(error, parts):
    (line,) = error.strip().splitlines()
    assert line.startswith("paper: ")
    assert all(part in line for part in parts), line


@pytest.mark.parametrize(
    "arguments",
    [[], *([name] for name in ("digits", "reconstruct", "table1", "table2", "figure2", "k-effect", "attributes"))],
)
def test_help_ends_well_and_shows_an_example(capsys, arguments):
    with pytest.raises(SystemExit) as ended:
        main([*arguments, "--help"])
    assert ended.value.code == 0
    said = capsys.readouterr()
    assert said.err == ""
    assert re.search(rf"Example:\s*python\s+-m\s+paper\s+{arguments[0] if arguments else 'table1'}", said.out)


def test_every_experiment_is_listed():
    out = subprocess.run([sys.executable, "-m", "paper", "--help"], capture_output=True, text=True, check=True).stdout
    listed = set(re.search(r"\{(.*?)\}", out).group(1).split(","))
    assert listed == set(EXPERIMENTS)


def test_table1_on_screen_and_in_its_files(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "docs").mkdir()
    assert main(["table1", "--docs", "docs"]) == 0
    out = capsys.readouterr().out
    assert "| MNIST, BinaryMNIST | MVAE | 1,063,680 | 1,063,680 | exact |" in out
    assert (tmp_path / "docs" / "table1.md").read_text() in out
    before = contents(tmp_path)
    assert main(["table1"]) == 2
    assert_said_in_one_line(capsys.readouterr().err, ["paper/results/table1.json is already there", "--resume"])
    assert contents(tmp_path) == before


def test_results_that_cannot_be_written_are_said_in_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken").write_text("mine")
    assert main(["table1", "--out", "taken"]) == 2
    assert_said_in_one_line(capsys.readouterr().err, ["taken"])
    assert contents(tmp_path) == {(tmp_path / "taken").relative_to(tmp_path): b"mine"}
