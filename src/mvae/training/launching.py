"""How Lightning's strategies start the other processes here, and how all end when one of them dies."""

from __future__ import annotations

import atexit
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import torch
from lightning.pytorch.strategies import DDPStrategy, FSDPStrategy
from lightning.pytorch.strategies.launchers.subprocess_script import _SubprocessScriptLauncher

from mvae.training.processes import LostProcessError, Processes

__all__ = ["Watch", "strategy_of"]

STARTED_BY = "MVAE_STARTED_BY"
"""Holds, in a process that another one has started, that one's process id."""
LOOK = 0.2  # seconds from one look at the others to the next
GRACE = 5.0  # seconds for what a death sets off elsewhere, such as an error in an exchange that waits for the dead
LEAVE = 60.0  # seconds for the others to end once this process has


class Watch:
    """Watches the processes that this one has started, or the one that started it.

    An exchange with a dead process fails with gloo and may wait for ever with NCCL. So a thread looks too: it ends the
    other processes and, when the main thread does not come out of its exchange, this one.

    Args:
        processes: those of the training.
        advice: what to say after which process was lost.
    """

    def __init__(self, processes: Processes, advice: str) -> None:
        self.processes, self.advice = processes, advice
        self.children: Sequence[subprocess.Popen[Any]] = []
        self.parent = os.getppid() if os.environ.get(STARTED_BY) == str(os.getppid()) else None
        self.lost: str | None = None
        self._seen, self._over = threading.Event(), threading.Event()
        if self.parent is not None:
            self._start()

    def begin(self, children: Sequence[subprocess.Popen[Any]]) -> None:
        """Watch these processes from now on."""
        self.children = children
        self._start()
        atexit.register(self._leave)

    def stop(self) -> None:
        """What ends from now on may end."""
        self._over.set()

    def kill(self) -> None:
        """End the processes that this one has started."""
        self.stop()
        for child in self.children:
            child.kill()

    def explained(self, error: Exception) -> BaseException:
        """What this process should end with after an error in training: the reason, told by one process only."""
        severed = _is_of_an_exchange(error)
        if severed and (self.children or self.parent is not None):  # another process died; the thread learns which
            self._seen.wait(GRACE)
        self.kill()
        rank = self.processes.rank
        if rank == 0:
            cause = self.lost or (
                "the connection to another process was lost" if severed else f"{self._named(0)} failed: {error}"
            )
            return LostProcessError(f"{cause}{self.advice}")
        if self.lost is not None:
            self._tell()
        return SystemExit(1) if severed else error

    def _start(self) -> None:
        threading.Thread(target=self._run, name="mvae-watch", daemon=True).start()

    def _run(self) -> None:
        while not self._over.wait(LOOK):
            self.lost = self._look()
            if self.lost is not None:
                self._end()
                return

    def _look(self) -> str | None:
        if self.parent is not None:
            return f"{self._named(0)} was killed" if os.getppid() != self.parent else None
        ends = [(rank, child.poll()) for rank, child in enumerate(self.children, 1)]
        failed = [(rank, code) for rank, code in ends if code]
        if not failed:
            return None
        rank, code = min(failed, key=lambda end: end[1])  # a signal, below 0, is never a consequence
        return f"{self._named(rank)} {_in_words(code)}"

    def _end(self) -> None:
        for child in self.children:
            child.kill()
        self._seen.set()
        if self._over.wait(2 * GRACE):  # the main thread has come out of its exchange, and tells
            return
        self._tell()
        os._exit(1)

    def _tell(self) -> None:
        """Say what happened, in the first process that is left; a line may have been begun by one that is not."""
        if self.processes.rank < 2:
            print(f"\nmvae: {self.lost}{self.advice}", file=sys.stderr, flush=True)

    def _named(self, rank: int) -> str:
        return f"process {rank} (of 0 to {self.processes.world - 1})"

    def _leave(self) -> None:
        """At the end of this process: leave none of the others behind."""
        end = time.monotonic() + LEAVE
        for child in self.children:
            with suppress(subprocess.TimeoutExpired):
                child.wait(max(0.0, end - time.monotonic()))
            child.kill()


def _in_words(code: int) -> str:
    if code > 0:
        return f"ended with exit status {code}"
    name = signal.Signals(-code).name
    return f"was killed by {name}" + (", as happens when memory runs out" if name == "SIGKILL" else "")


def _is_of_an_exchange(error: BaseException) -> bool:
    """Whether an error comes from an exchange between processes, in which another one has gone."""
    if isinstance(error, torch.distributed.DistError):
        return True
    return isinstance(error, RuntimeError) and any(word in str(error) for word in ("gloo", "NCCL", "ProcessGroup"))


class _Launcher(_SubprocessScriptLauncher):
    """Lightning's launcher, which runs this command again for each further process, with `Watch` over them."""

    watch: Watch

    def _call_children_scripts(self) -> None:
        os.environ[STARTED_BY] = str(os.getpid())
        handler = signal.signal(signal.SIGINT, signal.SIG_IGN)  # inherited: Ctrl-C is this process's business
        try:
            super()._call_children_scripts()
        finally:
            signal.signal(signal.SIGINT, handler)
        self.watch.begin(self.procs)
        self.procs = []  # Lightning's own observer, which kills this process without a word, has nothing to observe

    def kill(self, signum: Any) -> None:
        """Called by Lightning on Ctrl-C and on SIGTERM, which ends a training in the same way here."""
        self.watch.kill()
        if signum == signal.SIGTERM:
            raise KeyboardInterrupt


class _Watched:
    """What the strategies share."""

    watch: Watch
    _launcher: Any

    def _configure_launcher(self) -> None:
        super()._configure_launcher()  # type: ignore[misc]
        if self._launcher is not None:
            given = self._launcher
            self._launcher = _Launcher(given.cluster_environment, given.num_processes, given.num_nodes)
            self._launcher.watch = self.watch


class _DDP(_Watched, DDPStrategy):
    pass


class _FSDP(_Watched, FSDPStrategy):
    pass


def strategy_of(processes: Processes, watch: Watch) -> DDPStrategy | FSDPStrategy | str:
    """The strategy for Lightning's Trainer."""
    if processes.world == 1 and processes.strategy is None:
        return "auto"
    # A modality that no row of a process has, and what a method has frozen, get no gradient in that process.
    strategy = _FSDP() if processes.strategy == "fsdp" else _DDP(find_unused_parameters=True)
    strategy.watch = watch
    return strategy
