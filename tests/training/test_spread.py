"""Training on several real processes: what one process learns, to rounding; and what happens when one of them dies.

Two processes add up gradients in another order than one does, so numbers are compared with a relative tolerance of
1e-4: some hundred times what float32 loses in a sum, for the few dozen steps in which differences grow.
"""

import os
import shutil
import signal
import subprocess
import sys
from contextlib import nullcontext
from itertools import chain
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import mvae
import spread
from mvae.config.folder import METRICS, WEIGHTS, load
from mvae.config.options import placed
from mvae.files import RunError, read_json
from mvae.training.checkpoints import finished_epochs
from mvae.training.prepare import prepare
from mvae.training.spread import Group, LostProcessError, Processes
from tasks import is_alive, wait_for

TOLERANCE = 1e-4
# 1,212 rows in batches of 173: the last one has one row, and one of two processes none of its own.
FLAGS = ("--paired-fraction", 0.3, "--batch-size", 173, "--epochs", 6, "--seed", 3, "--config", "plain.yaml")
PLAIN = "training: {completion: 0.0, shares: null}\n"


def history(run):
    return read_json(run / METRICS)["history"]


def assert_same_curves(first, second):
    assert len(first) == len(second)
    for one, other in zip(first, second, strict=True):
        assert other == pytest.approx(one, rel=TOLERANCE)


def assert_same_weights(first, second):
    first, second = load_file(first / WEIGHTS), load_file(second / WEIGHTS)
    assert first.keys() == second.keys()
    for name, value in first.items():
        torch.testing.assert_close(second[name], value, rtol=TOLERANCE, atol=TOLERANCE)


def children(process):
    return [int(number) for number in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]


def kept_epochs(run):
    return finished_epochs(run)


def stop_in_the_middle(process, run, number, sent):
    """Signal the process of that number once two epochs are kept; what was said, and the other processes' ids."""
    assert wait_for(lambda: process.poll() is not None or kept_epochs(run) >= 2)
    assert process.poll() is None, process.communicate()
    others = children(process)
    os.kill([process.pid, *others][number], sent)
    return *process.communicate(timeout=200), others


def messages(error):
    """What was said on stderr, without the progress bar."""
    lines = error.replace("\r", "\n").splitlines()
    return [line for line in lines if line.strip() and "step/s" not in line and "?step" not in line]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a config, and in it `one` and `two`: a run in one process, the same in two."""
    place = tmp_path_factory.mktemp("processes")
    (place / "plain.yaml").write_text(PLAIN)
    return place


@pytest.fixture(scope="module")
def two(mvae_command, place):
    result = mvae_command("fit", "digits", *FLAGS, "--devices", 2, "--out", "two", cwd=place)
    assert result.returncode == 0, result.stderr
    return place / "two", result


@pytest.fixture(scope="module")
def one(place):
    options = {"paired_fraction": 0.3, "batch_size": 173, "epochs": 6, "seed": 3}
    mvae.fit("digits", config=place / "plain.yaml", out=place / "one", progress=False, **options)
    return place / "one"


# The same curves


def test_two_processes_learn_what_one_does(one, two):
    assert_same_curves(history(one), history(two[0]))
    assert_same_weights(one, two[0])
    assert (one / "config.json").read_text() == (two[0] / "config.json").read_text()


def test_only_the_first_of_two_processes_speaks(two):
    _, result = two
    assert "Warning" not in result.stderr
    assert messages(result.stderr) == []
    for said in ("writing to", "to train", "kept the weights", "spread: 2 processes, each with some 86.5 rows"):
        assert result.stdout.count(said) == 1


def parts_of(folder):
    """The rows of each batch of each of two processes, after a look at whether they saw each once and agree."""
    ranks = [folder / f"rank-{rank}" for rank in (0, 1)]
    assert len({(path / WEIGHTS).read_bytes() for path in (folder / "run", *ranks)}) == 1
    parts = [read_json(path / "seen.json") for path in ranks]
    assert [len(part) for part in parts] == [15, 18]  # the last batch of an epoch has one row
    for epoch in range(3):
        numbers = chain(*parts[0][5 * epoch :][:5], *parts[1][6 * epoch :][:6])
        assert sorted(numbers) == list(range(spread.NUM_ROWS))
    return parts


@pytest.fixture(scope="module")
def script(environment, tmp_path_factory):
    """Run the script of `spread` in two processes."""

    def run(kind):
        folder = tmp_path_factory.mktemp(kind)
        spread.write_shards(folder / "rows")
        command = [sys.executable, spread.__file__, str(folder), kind]
        return folder, subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=200, check=False
        )

    return run


def test_stacked_networks_gaps_and_drawn_transforms_learn_the_same_and_every_row_is_seen_once(script, tmp_path):
    folder, result = script("plain")
    assert result.returncode == 0, result.stderr
    seen = []
    model = spread.fit(tmp_path / "run", seen)
    assert any(name.startswith("stack ") for name, _ in model.named_parameters())
    assert_same_curves(history(tmp_path / "run"), history(folder / "run"))
    assert_same_weights(tmp_path / "run", folder / "run")
    parts = parts_of(folder)
    assert sorted(chain(*seen)) == sorted(chain(*chain(*parts)))


def test_rows_on_disk_are_divided_among_processes(script):
    folder, result = script("shards")
    assert result.returncode == 0, result.stderr
    parts_of(folder)


# Ends


def test_a_killed_process_ends_the_job_and_the_run_goes_on(start, mvae_command, place, one, two):
    run = place / "killed"
    process = start("fit", "digits", *FLAGS, "--devices", 2, "--out", "killed", cwd=place)
    _, error, others = stop_in_the_middle(process, run, 1, signal.SIGKILL)
    assert process.returncode == 1
    (said,) = messages(error)
    for part in (
        "mvae: process 1 (of 0 to 1) was killed by SIGKILL",
        "killed/checkpoints",
        "mvae fit digits --out killed --resume",
    ):
        assert part in said
    assert not any(map(is_alive, others))
    assert 2 <= kept_epochs(run) < 6
    alone = shutil.copytree(run, place / "alone")
    mvae.fit("digits", out=alone, resume=True, progress=False)
    assert_same_curves(history(one), history(alone))
    result = mvae_command("fit", "digits", "--out", "killed", "--resume", "--devices", 2, cwd=place)
    assert result.returncode == 0, result.stderr
    for name in (WEIGHTS, METRICS):  # on as many processes, bit for bit
        assert (run / name).read_bytes() == (two[0] / name).read_bytes()


def test_the_others_end_when_the_first_process_is_killed(start, place):
    process = start("fit", "digits", *FLAGS[:4], "--epochs", 500, "--devices", 2, "--out", "orphan", cwd=place)
    _, error, (other,) = stop_in_the_middle(process, place / "orphan", 0, signal.SIGKILL)
    assert wait_for(lambda: not is_alive(other))
    (said,) = messages(error)
    assert "mvae: process 0 (of 0 to 1) was killed; complete epochs are kept in orphan/checkpoints" in said


def test_an_interrupted_job_saves_and_ends_with_130(start, place):
    process = start("fit", "digits", *FLAGS[:4], "--epochs", 500, "--devices", 2, "--out", "interrupted", cwd=place)
    out, error, others = stop_in_the_middle(process, place / "interrupted", 0, signal.SIGINT)
    assert process.returncode == 130
    assert out.count("interrupted after") == 1
    assert messages(error) == []
    assert not any(map(is_alive, others))
    load(place / "interrupted")


def test_a_loss_that_is_not_finite_in_one_process_ends_all_and_is_named(script):
    folder, result = script("huge")
    assert result.returncode == 1
    assert "LostProcessError" not in result.stderr
    said = {
        line.partition("NonFiniteLossError: ")[2] for line in result.stderr.splitlines() if "FiniteLossError:" in line
    }
    (reason,) = said
    assert "step 10 (epoch 2): " in reason
    assert "log p(b | z)" in reason
    assert len(history(folder / "run")) == 1


# What cannot be


@pytest.mark.parametrize(
    ("processes", "options", "words"),
    [
        (Processes(devices=3), {"batch_size": 2}, "batch_size: expected at least a row for each of 3 processes, got 2"),
        (Processes(devices=2, nodes=2), {}, "nodes: 2 machines need their processes started by torchrun"),
        (Processes(devices=0), {}, "at least one device"),
    ],
)
def test_what_cannot_be_spread_is_refused_before_anything_is_written(tmp_path, monkeypatch, processes, options, words):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(ValueError, match=words):
        prepare("digits", options=placed(options), out=tmp_path / "run", processes=processes)
    assert not (tmp_path / "run").exists()


def test_more_processes_than_gpus_are_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ValueError, match="devices: expected at most the 1 GPUs of this machine, got 2"):
        prepare("digits", options={}, processes=Processes(devices=2))


def test_processes_that_torchrun_started_must_be_those_asked_for(monkeypatch):
    for name, value in {"TORCHELASTIC_RUN_ID": "1", "WORLD_SIZE": "4"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match="torchrun started 4 processes; 1 devices on 1 nodes are 1"):
        prepare("digits", options={})


def test_a_process_that_is_not_the_first_minds_no_folder(tmp_path, monkeypatch):
    # The first one may have written to it already.
    (tmp_path / "config.json").write_text("{}")
    monkeypatch.setattr("__main__.__file__", "script.py", raising=False)
    for rank in (0, 1):
        monkeypatch.setattr(Processes, "rank", rank)
        with pytest.raises(RunError, match="holds a run already") if rank == 0 else nullcontext():
            prepare("digits", options={}, out=tmp_path, processes=Processes(devices=2))


def test_only_an_error_in_an_exchange_means_a_lost_process(monkeypatch):
    def broken(value):
        raise RuntimeError("reset by peer")

    group = Group(Processes(devices=2), "; advice")
    monkeypatch.setattr(torch.distributed, "all_reduce", broken)
    with pytest.raises(LostProcessError) as severed:
        group.sum(torch.zeros(2))
    assert str(group.watch.explained(severed.value)) == "the connection to another process was lost; advice"
    own = RuntimeError("a ProcessGroup of gloo or NCCL is named by an error of one's own")
    assert str(group.watch.explained(own)) == f"process 0 (of 0 to 1) failed: {own}; advice"


def test_a_lost_process_is_an_error_of_its_own():
    assert not issubclass(LostProcessError, ValueError)  # the command line ends with 1 and not with 2
