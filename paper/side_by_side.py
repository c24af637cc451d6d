"""Long tasks side by side: one process each, a few at a time, with one progress display over all."""

import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from multiprocessing import get_all_start_methods, get_context, parent_process
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerContext, SpawnContext
from multiprocessing.reduction import ForkingPickler
from threading import Thread
from typing import Any

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from threadpoolctl import threadpool_limits

PRELOAD = ["mvae.training.loop"]
Report = Callable[[str, int, int], None]
"""What a task calls now and then: the phase it is in, how much of it is done, of how much."""


def default_jobs() -> int:
    """How many tasks at a time: one a core; on a GPU, which small networks do not fill, up to six."""
    cores = os.cpu_count() or 1
    return min(6, cores) if torch.cuda.is_available() else cores


def run_side_by_side(
    work: Callable[..., Any], tasks: Sequence[Any], jobs: int, arguments: Sequence[Any] = ()
) -> Iterator[tuple[Any, Any]]:
    """Call `work(task, *arguments, report)` for each task, each in a process of its own; yields each with its result.

    The cores are divided among `jobs` at a time. A task that fails does not stop the others; Ctrl-C ends all of them.

    Raises:
        RuntimeError: after the last one, if some failed, naming them and why.
    """
    threads = max(1, (os.cpu_count() or 1) // jobs)  # whatever is left to do: a resumed table computes the same
    waiting, running, failures = list(tasks), dict[Any, tuple[Any, Any]](), list[str]()
    with _Display(len(tasks)) as display:
        try:
            while waiting or running:
                while waiting and len(running) < jobs:
                    task = waiting.pop(0)
                    connection, process = _start(work, task, tuple(arguments), threads)
                    running[connection] = task, process
                ready: list[Any] = wait(list(running))
                for connection in ready:
                    task, process = running[connection]
                    try:
                        kind, content = connection.recv()
                    except (EOFError, OSError):  # it died without a word, or in the midst of one
                        process.join()
                        kind, content = "failed", f"its process ended with status {process.exitcode}"
                    if kind == "progress":
                        display.show(task, *content)
                        continue
                    del running[connection]
                    _end(process)
                    display.finish(task)
                    if kind == "done":
                        yield task, content
                    else:
                        failures.append(f"{task}: {content}")
        finally:
            for _, process in running.values():
                process.terminate()
            for _, process in running.values():
                _end(process)
    if failures:
        raise RuntimeError("; ".join(failures))


def _start(work: Callable[..., Any], task: Any, arguments: tuple[Any, ...], threads: int) -> tuple[Any, Any]:
    context = _context()
    here, there = context.Pipe(duplex=False)
    given = (work, task, arguments, there, threads, dict(os.environ))
    process = context.Process(target=_child, args=given, daemon=True)
    process.start()
    there.close()
    return here, process


def _end(process: Any) -> None:
    process.join(10)
    process.kill()


def _context() -> ForkServerContext | SpawnContext:
    """How processes are started: forked from one that has imported what takes seconds and done nothing else.

    A training of the small presets takes less time than these imports. Where that cannot be, each imports by itself.
    """
    if "forkserver" not in get_all_start_methods():
        return get_context("spawn")
    context = get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    return context


def _child(
    work: Callable[..., Any],
    task: Any,
    arguments: tuple[Any, ...],
    connection: Connection,
    threads: int,
    environment: dict[str, str],
) -> None:
    os.environ.clear()  # which was that of the first processes that were started
    os.environ.update(environment)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    torch.set_num_threads(threads)
    threadpool_limits(threads)  # NumPy's and scikit-learn's
    Thread(target=_end_with_parent, daemon=True).start()

    def report(phase: str, done: int, total: int) -> None:
        connection.send(("progress", (phase, done, total)))

    message: tuple[str, Any]
    try:
        message = "done", work(task, *arguments, report)
    except (Exception, KeyboardInterrupt, SystemExit) as error:  # the last two: a training that was told to end
        if os.environ.get("MVAE_DEBUG"):
            traceback.print_exc()
        message = "failed", f"{error}" or type(error).__name__
    try:
        content = bytes(ForkingPickler.dumps(message))
    except Exception as error:
        content = bytes(ForkingPickler.dumps(("failed", f"its result cannot be sent: {error}")))
    with suppress(BrokenPipeError):
        connection.send_bytes(content)


def _end_with_parent() -> None:
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)  # nobody waits for this any more


class _Display(Progress):
    """Bars on a terminal: all tasks, and each that is running. A log file gets nothing of it."""

    def __init__(self, count: int) -> None:
        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
        super().__init__(*columns, disable=not sys.stdout.isatty())
        self.bars = {"all": self.add_task("all", total=count)}

    def show(self, task: Any, phase: str, done: int, total: int) -> None:
        if str(task) not in self.bars:
            self.bars[str(task)] = self.add_task("", total=total)
        self.update(self.bars[str(task)], description=f"{task}: {phase}", completed=done, total=total)

    def finish(self, task: Any) -> None:
        if str(task) in self.bars:
            self.remove_task(self.bars.pop(str(task)))
        self.advance(self.bars["all"])
