"""Writing: the umask is kept, all files of an answer or none, by one process at a time, whatever a killed one left."""

import errno
import os
import re
import resource
import signal
import socket
from contextlib import contextmanager
from multiprocessing import get_context

import pandas as pd
import pytest
import torch

import mvae
from mvae.config.tensors import write_tensors
from mvae.export import export
from mvae.files import RunError, atomic, held, refuse_existing, reserved, together, write_json
from mvae.generation.sample import write_samples
from mvae.tables.write import reserved_tables, write_tables

FORK = get_context("fork")
OPTIONS = {("training", "epochs"): 1}
NAMES = ("f.csv", "f-cells.csv", "f-1.csv")


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def stop_in(block, pipe):
    """Enter a block, say so, and wait for the end."""
    with block:
        pipe.send(True)
        signal.pause()


@contextmanager
def another(block):
    """Another process that is in a block; killed in the end."""
    here, there = FORK.Pipe()
    process = FORK.Process(target=stop_in, args=(block, there))
    process.start()
    assert here.poll(60)
    try:
        yield process.pid
    finally:
        process.kill()
        process.join()


def failing(number, act):
    """`os.replace` that does something else at its n-th call."""
    calls, replace = [], os.replace

    def fail(*arguments):
        calls.append(arguments)
        if len(calls) == number:
            act()
        replace(*arguments)

    return fail


@pytest.fixture
def umask():
    before = os.umask(0o22)
    yield os.umask
    os.umask(before)


@pytest.fixture
def largest():
    """Set the size of the largest file that may be written."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


# Who may read


@pytest.mark.parametrize(("mask", "mode"), [(0o22, 0o644), (0o77, 0o600), (0o27, 0o640)])
def test_the_umask_decides_who_may_read_what_is_written(tmp_path, umask, mask, mode):
    (tmp_path / ".a.part.json").touch(0o666)  # which a killed process left under another umask
    umask(mask)
    write_json(tmp_path / "a.json", {})
    write_tensors(tmp_path / "a.safetensors", {"x": torch.zeros(3)})
    write_tables({tmp_path / f"a.{ending}": pd.DataFrame({"x": [1]}) for ending in ("csv", "parquet", "feather")})
    write_samples({"image": torch.zeros(1, 1, 8, 8)}, tmp_path / "a.png")
    assert {path.name: oct(path.stat().st_mode & 0o777) for path in tmp_path.iterdir()} == {
        f"a.{ending}": oct(mode) for ending in ("json", "safetensors", "csv", "parquet", "feather", "png")
    }


# Killed processes


def test_the_next_writer_clears_what_a_killed_one_left(tmp_path):
    with another(atomic(tmp_path / "a.txt")):
        pass
    assert names(tmp_path) == [".a.part.txt", ".a.txt.lock"]
    with atomic(tmp_path / "a.txt") as temporary:
        assert temporary.read_text() == ""
        temporary.write_text("new")
    assert names(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("number", [1, 2, 3])
def test_an_answer_cut_short_between_its_files_is_finished_by_the_next_run(tmp_path, number):
    paths = [tmp_path / name for name in NAMES]

    process = FORK.Process(target=_killed_at_rename, args=(paths, number))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert not paths[0].exists()
    assert sum(path.exists() for path in paths) == number - 1
    with reserved(*paths), together(*paths) as temporaries:
        for temporary in temporaries:
            temporary.write_text("new")
    assert names(tmp_path) == sorted(NAMES)
    assert {path.read_text() for path in paths} == {"new"}
    with pytest.raises(ValueError, match=r"f\.csv exists; choose another name or delete it"):
        refuse_existing(paths)


def _killed_at_rename(paths, number):
    os.replace = failing(number, lambda: os.kill(os.getpid(), signal.SIGKILL))
    with reserved(*paths), together(*paths) as temporaries:
        for temporary in temporaries:
            temporary.write_text("old")


def test_a_file_of_another_answer_is_not_taken_for_one_that_was_cut_short(tmp_path):
    (tmp_path / "f-cells.csv").touch()
    with pytest.raises(ValueError, match=r"f-cells\.csv exists"):
        refuse_existing([tmp_path / name for name in NAMES])


# Faults of a disk


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_fault_of_the_disk_names_the_file_and_changes_nothing(tmp_path, monkeypatch, call, code):
    path = tmp_path / "a.json"
    write_json(path, {"old": 1})

    def fail(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(f"os.{call}", fail)
    with pytest.raises(OSError, match=re.escape(f"{path}: could not be written: {os.strerror(code)}") + "$"):
        write_json(path, {"new": 1})
    assert path.read_text() == '{\n  "old": 1\n}\n'
    assert names(tmp_path) == ["a.json"]


def test_tensors_that_find_no_space_are_refused_in_a_line(tmp_path, largest):
    largest(4000)
    with pytest.raises(OSError, match=r"^[^\n]*a.safetensors: could not be written: [^\n]*File too large[^\n]*$"):
        write_tensors(tmp_path / "a.safetensors", {"x": torch.zeros(10_000)})
    assert names(tmp_path) == []


def test_an_answer_whose_second_file_fails_is_finished_by_the_next_run(tmp_path, monkeypatch):
    paths = [tmp_path / name for name in NAMES]

    def fail(*_):
        raise OSError(errno.EDQUOT, "Disk quota exceeded")

    monkeypatch.setattr("os.replace", failing(2, fail))
    with pytest.raises(OSError, match=r"f\.csv: could not be written: Disk quota exceeded"), together(*paths):
        pass
    refuse_existing(paths)
    with together(*paths):
        pass
    assert names(tmp_path) == sorted(NAMES)


# One process at a time


def said_by(pid, path):
    """What names the process that holds a file or a folder."""
    return rf"{path} is in use by process {pid} on {socket.gethostname()} since \d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d; wait"


@pytest.mark.parametrize("resume", [False, True])
def test_a_folder_in_which_another_process_trains_is_refused(tmp_path, digits_run, resume):
    before = names(digits_run)
    with another(held(digits_run)) as pid, pytest.raises(RunError, match=said_by(pid, digits_run)):
        mvae.fit("digits", out=digits_run, resume=resume, progress=False)
    with held(digits_run):  # a killed process holds nothing
        pass
    assert names(digits_run) == before


def test_of_two_runs_that_begin_in_one_folder_one_is_refused(tmp_path):
    first, second = (mvae.training.prepare.prepare("digits", out=tmp_path, options=OPTIONS) for _ in range(2))
    first.train(progress=False)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(RunError, match="holds a run already"):
        second.train(progress=False)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_names_that_another_process_will_write_are_refused(tmp_path, digits_run):
    out = tmp_path / "out.csv"
    with another(reserved(tmp_path / "f.csv", out)) as pid:
        with pytest.raises(RunError, match=said_by(pid, out)), reserved_tables(out):
            pass
        with pytest.raises(RunError, match=said_by(pid, out)):
            write_samples({"label": torch.zeros(3)}, out)
        with pytest.raises(RunError, match=said_by(pid, out)):
            export(digits_run, out)
    with reserved_tables(out):
        pass
    assert names(tmp_path) == [".f.csv.lock"]


def test_an_export_clears_what_a_killed_one_left(tmp_path, digits_run):
    (tmp_path / ".e.part" / "run").mkdir(parents=True)
    (tmp_path / ".e.part" / "run" / "model.safetensors").touch()
    export(digits_run, tmp_path / "e")
    assert names(tmp_path) == ["e"]
    mvae.load(tmp_path / "e")
