"""Cells of the tables on small random files: trained and scored once, for reading only."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from faces import write_faces
from mvae.config.folder import WEIGHTS
from mvae.files import read_json
from paper.compared import folder_of
from paper.runner import Setup
from paper.tables import train_and_score

ROOT = Path(__file__).parents[2]
OPTIONS = ["--dataset", "mnist", "--preset", "smoke", "--out", "out", "--runs", "runs", "--data-dir", "data"]


@pytest.fixture(scope="session", autouse=True)
def from_anywhere():
    """Processes that tests start find the code that is tested, wherever they start."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(map(str, (ROOT, ROOT / "src"))))
        yield


@pytest.fixture(scope="session")
def place(write_mnist, tmp_path_factory):
    """A folder with MNIST files: 5,000 of the training rows are for validation, 40 for training."""
    folder = tmp_path_factory.mktemp("tables")
    write_mnist(folder / "data" / "mnist", 5040, 300)
    return folder


@pytest.fixture(scope="session")
def table2(place):
    """`python -m paper table2` as a real process: what it said, and the folder with `out` and `runs`."""
    command = [sys.executable, "-m", "paper", "table2", "--model", "vae", "mvae", *OPTIONS]
    return subprocess.run(command, cwd=place, capture_output=True, text=True, check=False), place


@pytest.fixture(scope="session")
def cells(table2):
    """More cells beside those of `table2`, made in this process: the folder with all runs."""
    result, place = table2
    assert result.returncode == 0, result.stderr
    setup = Setup("table2", "smoke", runs=place / "runs", data_dir=str(place / "data"))
    for model, seed in (("vae", 1), ("mvae", 1), ("cvae", 0), ("cvae", 1), ("jmvae", 0)):
        train_and_score({"dataset": "mnist", "model": model, "seed": seed}, setup, lambda *_: None)
    return place


@pytest.fixture
def copied(cells, tmp_path):
    """A folder like `cells` that a test may damage."""
    copy = shutil.copytree(
        cells / "runs", tmp_path / "runs", ignore=shutil.ignore_patterns("checkpoints", "logs", WEIGHTS)
    )
    for path in (cells / "runs").rglob(WEIGHTS):
        os.link(path, copy / path.relative_to(cells / "runs"))  # to be replaced or removed, not written into
    (tmp_path / "data").symlink_to(cells / "data")
    return tmp_path


@pytest.fixture
def read_scores(cells):
    def read(model, seed=0):
        cell = {"dataset": "mnist", "model": model, "seed": seed}
        return read_json(folder_of(cell, Setup("table2", "smoke", runs=cells / "runs")) / "scores.json")

    return read


@pytest.fixture
def in_turn(monkeypatch):
    """Tasks are done in this process, one after the other; gives the list of those begun, by what they are called."""
    begun = []

    def run(work, tasks, jobs, arguments=()):
        for task in tasks:
            begun.append(task)
            yield task, work(task, *arguments, lambda *_: None)

    monkeypatch.setattr("paper.runner.run_side_by_side", run)
    return begun


@pytest.fixture(scope="module")
def faces_place(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("faces")
    write_faces(folder / "data", request.module.PARTS)
    (folder / "docs").mkdir()
    return folder


@pytest.fixture
def among_faces(faces_place, monkeypatch):
    """Work in a folder with `data`, faces split as the module's PARTS says, an empty `docs`, and a cache of its own."""
    monkeypatch.chdir(faces_place)
    monkeypatch.setenv("XDG_CACHE_HOME", str(faces_place / "cache"))
