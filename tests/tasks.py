"""Work for processes side by side; run as a script, the parent of some that end only when they are made to."""

import os
import signal
import sys
import time
from pathlib import Path

from paper import side_by_side
from paper.side_by_side import run_side_by_side

LARGE = bytes(range(256)) * 40_000  # far more than a pipe holds


class UnpicklableError(Exception):
    """An exception that cannot be sent to another process."""

    def __init__(self):
        super().__init__("one of a kind")
        self.reason = lambda: None


class Slow:
    """A large object that says when it is about to be sent."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        (self.folder / "about to").write_text(str(os.getpid()))
        (self.folder / "about to").rename(self.folder / "sending")  # whole, for who waits for it
        return bytes, (LARGE,)


def is_alive(process_id):
    try:
        stat = Path(f"/proc/{process_id}/stat").read_text()
    except FileNotFoundError:
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def wait_for(condition, seconds=200.0):
    """Whether the condition came true; long, so that it is no matter how busy a machine is."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def meet(task, folder, report):
    """Wait until as many have come as `task` says with its first letter."""
    (folder / task).write_text("")
    return wait_for(lambda: len(list(folder.iterdir())) >= int(task[0]))


def variable(task, report):
    """What the environment has of that name."""
    return os.environ.get(task)


def sleep(task, folder, report):
    """End only when made to, and then as a training does."""

    def interrupt(*_):
        raise KeyboardInterrupt("stopped early")

    signal.signal(signal.SIGTERM, interrupt)
    path = folder / f"{task}.pid"
    path.with_suffix(".new").write_text(str(os.getpid()))
    path.with_suffix(".new").rename(path)
    time.sleep(3600)


def perform(task, folder, report):
    """Do what the task's name says, and leave marks."""
    if task == "asleep":
        return sleep(task, folder, report)
    if task == "slow":
        wait_for((folder / "go").exists)
        return Slow(folder)
    with (folder / "marks").open("a") as marks:
        print("begin", task, file=marks, flush=True)
        time.sleep(0.5)
        print("end", task, file=marks, flush=True)
    report("working", 1, 2)
    if task == "wrong":
        raise ValueError("no such thing")
    if task == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if task == "unpicklable exception":
        raise UnpicklableError
    return {"large": LARGE, "unpicklable result": lambda: None}.get(task, task.upper())


if __name__ == "__main__":
    side_by_side.PRELOAD = ["paper.side_by_side"]  # these tasks need no more
    try:
        for _ in run_side_by_side(sleep, range(int(sys.argv[2])), 2, [Path(sys.argv[1])]):
            pass
    except KeyboardInterrupt:
        sys.exit(130)
