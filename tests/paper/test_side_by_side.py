import contextlib
import multiprocessing
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from paper.side_by_side import default_jobs, run_side_by_side
from tasks import LARGE, is_alive, meet, perform, variable, wait_for

TASKS = ["fine", "wrong", "killed", "unpicklable exception", "unpicklable result", "large"]


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    """Six tasks, two at a time, most of which end badly: the results, what was said, and the marks they left."""
    folder = tmp_path_factory.mktemp("tasks")
    results = []
    with pytest.raises(RuntimeError) as error:
        results.extend(run_side_by_side(perform, TASKS, 2, [folder]))
    return results, str(error.value), (folder / "marks").read_text().splitlines()


def test_results_come_with_their_tasks_and_a_failure_stops_no_other(outcome):
    assert sorted(outcome[0]) == [("fine", "FINE"), ("large", LARGE)]


def test_those_that_failed_are_named_with_the_reason(outcome):
    said = dict(part.split(": ", 1) for part in outcome[1].split("; "))
    assert set(said) == {"wrong", "killed", "unpicklable exception", "unpicklable result"}
    assert said["wrong"] == "no such thing"
    assert said["unpicklable exception"] == "one of a kind"
    assert re.search(r"status -9\b", said["killed"])


def test_no_more_at_a_time_than_said(outcome):
    running, most = set(), 0
    for mark in outcome[2]:
        kind, _, task = mark.partition(" ")
        running.symmetric_difference_update({task})
        assert (kind == "begin") == (task in running)
        most = max(most, len(running))
    assert most <= 2
    assert len(outcome[2]) == 2 * len(TASKS)


def test_more_at_a_time_than_there_are(tmp_path):
    # Each waits for the other: one after the other, they would wait in vain.
    assert dict(run_side_by_side(meet, ["2 a", "2 b"], 9, [tmp_path])) == {"2 a": True, "2 b": True}


def test_each_has_the_environment_that_is_then(monkeypatch):
    monkeypatch.setenv("MVAE_ANYTHING", "first")
    assert list(run_side_by_side(variable, ["MVAE_ANYTHING"], 1)) == [("MVAE_ANYTHING", "first")]
    monkeypatch.setenv("MVAE_ANYTHING", "second")
    assert list(run_side_by_side(variable, ["MVAE_ANYTHING"], 1)) == [("MVAE_ANYTHING", "second")]
    monkeypatch.delenv("MVAE_ANYTHING")
    assert list(run_side_by_side(variable, ["MVAE_ANYTHING"], 1)) == [("MVAE_ANYTHING", None)]


def test_nothing_to_do():
    assert list(run_side_by_side(perform, [], 3, [Path("absent")])) == []
    assert default_jobs() >= 1


def test_closing_ends_those_that_still_run(tmp_path):
    before = set(multiprocessing.active_children())  # of tests that ran in this process earlier
    results = run_side_by_side(perform, ["fine", "asleep"], 2, [tmp_path])
    assert next(results) == ("fine", "FINE")
    assert wait_for((tmp_path / "asleep.pid").exists)
    results.close()
    assert not is_alive((tmp_path / "asleep.pid").read_text())
    assert set(multiprocessing.active_children()) <= before


def test_one_killed_while_it_sends_its_result_stops_no_other(tmp_path):
    results = run_side_by_side(perform, ["fine", "slow", "large"], 2, [tmp_path])
    assert next(results) == ("fine", "FINE")
    (tmp_path / "go").write_text("")
    assert wait_for((tmp_path / "sending").exists)
    slow = int((tmp_path / "sending").read_text())
    # Its result is larger than the pipe: it sleeps until somebody reads.
    assert wait_for(lambda: Path(f"/proc/{slow}/stat").read_text().rpartition(")")[2].split()[0] == "S")
    os.kill(slow, signal.SIGKILL)
    finished = []
    with pytest.raises(RuntimeError, match=r"^slow: "):
        finished.extend(results)
    assert finished == [("large", LARGE)]


@pytest.mark.parametrize(
    ("count", "ending", "everyone"),
    [(1, signal.SIGINT, False), (2, signal.SIGINT, True), (1, signal.SIGTERM, False), (1, signal.SIGKILL, False)],
)
def test_no_process_outlives_its_parent(tmp_path, count, ending, everyone):
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)  # or children of a background shell ignore it
    try:
        with (tmp_path / "said").open("w") as said:
            command = [sys.executable, Path(__file__).parents[1] / "tasks.py", tmp_path, str(count)]
            parent = subprocess.Popen(command, stderr=said, start_new_session=True)
    finally:
        signal.signal(signal.SIGINT, handler)
    try:
        assert wait_for(lambda: len(list(tmp_path.glob("*.pid"))) == count)
        (os.killpg if everyone else os.kill)(parent.pid, ending)
        assert parent.wait(200) == 130 if ending == signal.SIGINT else parent.wait(200)
        workers = [path.read_text() for path in tmp_path.glob("*.pid")]
        assert wait_for(lambda: not any(map(is_alive, workers)))
        assert (tmp_path / "said").read_text() == ""
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(parent.pid, signal.SIGKILL)
        parent.wait()
