"""Memory of one thing in a process of its own: `python -m benchmarks.memory WHAT NUMBER` prints it as JSON."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks import models
from benchmarks.peer import import_peer, peer_model
from benchmarks.plain import reencoding_loss
from benchmarks.steps import stepping
from mvae.evaluation.likelihood import log_likelihood

__all__ = ["in_fresh_process"]

BATCH = 100
ROWS = 64
MEBIBYTE = 2**20


def in_fresh_process(what: str, number: int, timeout: float = 120, limit: int | None = None) -> dict[str, Any]:
    """What happened: `grown`, bytes at the peak above the start, and `seconds`; or `error`, in the program's own words.

    Args:
        what: a name in `TASKS`.
        number: what the task takes.
        timeout: seconds after which it is ended.
        limit: bytes of address space that it may have.
    """
    command = [sys.executable, "-m", "benchmarks.memory", what, str(number)]

    def restrict() -> None:
        if limit is not None:
            resource.setrlimit(resource.RLIMIT_AS, (limit, limit))

    environment = os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    started = time.perf_counter()
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=timeout, preexec_fn=restrict, env=environment, check=False
        )
    except subprocess.TimeoutExpired:
        return {"error": f"not done after {timeout:.0f} s"}
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"ended with exit status {done.returncode}"]
        return {"error": lines[-1], "after": round(time.perf_counter() - started, 1)}
    return json.loads(done.stdout)


def _stacked_step(columns: int) -> Callable[[], object]:
    model, rows = models.tables(columns), models.numbers(columns, BATCH)
    return stepping(model.parameters(), lambda: model.loss(rows).loss, fused=True)


def _plain_step(columns: int) -> Callable[[], object]:
    with models.unstacked():
        model, rows = models.tables(columns), models.numbers(columns, BATCH)
    return stepping(model.parameters(), lambda: reencoding_loss(model, rows), fused=True)


def _peer_model(columns: int) -> Callable[[], object]:
    model = models.tables(columns)
    import_peer()
    return lambda: peer_model(model)


def _likelihood(memory: int) -> Callable[[], object]:
    model, rows = models.mnist(), models.pictures(ROWS)
    log_likelihood(model, rows[:2], ["image", "label"], num_samples=2)  # what a library sets up at its first call
    return lambda: log_likelihood(model, rows, ["image", "label"], memory=memory * MEBIBYTE)


TASKS: dict[str, Callable[[int], Callable[[], object]]] = {
    "step": _stacked_step,
    "plain-step": _plain_step,
    "peer-model": _peer_model,
    "likelihood": _likelihood,
}


def _resident(field: str) -> int:
    """`VmRSS`, what the process holds, or `VmHWM`, the most it has held; in bytes."""
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    raise OSError(f"no {field} in /proc/self/status")


def main() -> None:
    """Set up, forget the peak so far, do it once, print."""
    what, number = sys.argv[1], int(sys.argv[2])
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    task = TASKS[what](number)
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    before, started = _resident("VmRSS"), time.perf_counter()
    task()
    seconds = time.perf_counter() - started
    print(json.dumps({"grown": _resident("VmHWM") - before, "seconds": seconds}))


if __name__ == "__main__":
    main()
