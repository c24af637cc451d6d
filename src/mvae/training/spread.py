"""Several processes that train one model: how they start, what they tell one another, and how they end together."""

from __future__ import annotations

import atexit
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

__all__ = ["ALONE", "Group", "LostProcessError", "Processes"]

STARTED_BY = "MVAE_STARTED_BY"
"""Holds, in a process that another one has started, that one's process id."""
LOOK = 0.2  # seconds from one look at the others to the next
GRACE = 5.0  # seconds for what a death sets off elsewhere, such as an error in an exchange that waits for the dead
LEAVE = 60.0  # seconds for the others to end once this process has


class LostProcessError(RuntimeError):
    """One of the processes of a training ended before the training did; the message says which, and how."""


@dataclass(frozen=True)
class Processes:
    """How a training is spread: a process a device, on each of some machines.

    They change neither the batches nor the draws of a run, so they are no part of its config.

    Args:
        devices: processes on each machine: GPUs where it has any, else processes on its CPU.
        nodes: machines. Their processes are started from outside, by torchrun.
    """

    devices: int = 1
    nodes: int = 1

    @property
    def world(self) -> int:
        """How many processes there are."""
        return self.devices * self.nodes

    @property
    def rank(self) -> int:
        """The number of this process among them, from 0."""
        return int(os.environ.get("RANK", "0")) if self.world > 1 else 0

    @property
    def first(self) -> bool:
        """Whether this is the process that writes and speaks."""
        return self.rank == 0

    @property
    def device(self) -> torch.device:
        """Where this process computes: its GPU where there are any, else the CPU."""
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0"))) if _gpus() else torch.device("cpu")

    def check(self, batch_size: int) -> None:
        """Refuse what cannot be trained so.

        Raises:
            ValueError: naming the option and what was expected.
        """
        import __main__

        if self.devices < 1 or self.nodes < 1:
            raise ValueError(f"expected at least one device and one node, got {self.devices} and {self.nodes}")
        if batch_size < self.world:
            raise ValueError(
                f"training.batch_size: expected at least a row for each of {self.world} processes, got {batch_size}"
            )
        if 0 < _gpus() < self.devices:
            raise ValueError(f"devices: expected at most the {_gpus()} GPUs of this machine, got {self.devices}")
        if dist.is_available() and dist.is_torchelastic_launched():
            count = int(os.environ["WORLD_SIZE"])
            if count != self.world:
                raise ValueError(
                    f"devices, nodes: torchrun started {count} processes; {self.devices} devices on {self.nodes} nodes"
                    f" are {self.world}"
                )
        elif self.nodes > 1:
            raise ValueError(
                f"nodes: {self.nodes} machines need their processes started by torchrun; this one was started without"
            )
        elif self.world > 1 and not (STARTED_BY in os.environ or hasattr(__main__, "__file__")):
            raise ValueError(
                f"devices: {self.devices} processes run one script or command; this one was started from neither"
            )


ALONE = Processes()
"""One process on one device."""


def _gpus() -> int:
    return torch.cuda.device_count()


class Group:
    """The processes of a training, this one among them: they are started where nobody else has, joined and watched.

    Of one process every exchange gives back what it is given.

    Args:
        processes: how many there are.
        advice: what a `LostProcessError` says after which process was lost.
    """

    _children: Sequence[subprocess.Popen[bytes]] = ()  # once started, they take part in all that follows

    def __init__(self, processes: Processes, advice: str = "") -> None:
        self.rank, self.world, self.device = processes.rank, processes.world, processes.device
        self.processes, self.watch = processes, Watch(processes, advice)

    def join(self) -> None:
        """Start the processes that nobody has started, and wait until all are there.

        Raises:
            LostProcessError: if one of them ends before.
        """
        if self.world == 1:
            return
        if not (dist.is_initialized() or dist.is_torchelastic_launched() or STARTED_BY in os.environ):
            Group._children = _started(self.processes.devices)
        if Group._children:
            self.watch.begin(Group._children)
        if not dist.is_initialized():
            if self.device.type == "cuda":
                torch.cuda.set_device(self.device)
            backend = "nccl" if self.device.type == "cuda" else "gloo"
            dist.init_process_group(backend, rank=self.rank, world_size=self.world)
            atexit.register(_leave_group)

    def sum(self, value: Tensor) -> Tensor:
        """The sum over all processes."""
        if self.world > 1:
            value = value.to(self.device)
            dist.all_reduce(value)
        return value

    def told(self, value: Any) -> Any:
        """What the first process has, in all."""
        if self.world == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, 0, device=self.device)
        return box[0]

    def first_of(self, mine: Any) -> Any:
        """What this process has to tell or, where it has None, the first that has something."""
        if self.world == 1:
            return mine
        told: list[Any] = [None] * self.world
        dist.all_gather_object(told, mine)
        return next((one for one in told if one is not None), None)

    def sum_gradients(self, parameters: Sequence[Tensor], wrong: bool) -> bool:
        """Give each parameter the sum of its gradients in all processes, in one exchange; whether any is `wrong`.

        A parameter without a gradient in any process keeps none, so that an optimiser leaves it alone.
        """
        if self.world == 1:
            return wrong
        like = parameters[0]
        has = torch.tensor([*(p.grad is not None for p in parameters), wrong], dtype=like.dtype, device=like.device)
        parts = [(torch.zeros_like(p) if p.grad is None else p.grad).reshape(-1) for p in parameters]
        both = self.sum(torch.cat([has, *parts]))
        has, *parts = both.split([len(has), *(p.numel() for p in parameters)])
        *some, any_wrong = (has > 0).tolist()
        for parameter, part, one in zip(parameters, parts, some, strict=True):
            parameter.grad = part.view_as(parameter) if one else None
        return any_wrong


def _started(devices: int) -> list[subprocess.Popen[bytes]]:
    """Run this command once more for each further process on this machine."""
    import __main__

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    module = getattr(__main__.__spec__, "name", None) if getattr(__main__, "__spec__", None) else None
    command = [sys.executable, *(("-m", module) if module else (os.path.abspath(sys.argv[0]),)), *sys.argv[1:]]  # noqa: PTH100
    own = os.environ | {STARTED_BY: str(os.getpid())}
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)  # inherited: Ctrl-C is this process's business
    try:
        return [
            subprocess.Popen(command, env=own | {"RANK": str(rank), "LOCAL_RANK": str(rank)}, stdin=subprocess.DEVNULL)
            for rank in range(1, devices)
        ]
    finally:
        signal.signal(signal.SIGINT, handler)


def _leave_group() -> None:
    with suppress(Exception):  # another process may have gone before
        dist.destroy_process_group()


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
        self.children: Sequence[subprocess.Popen[bytes]] = ()
        self.parent = os.getppid() if os.environ.get(STARTED_BY) == str(os.getppid()) else None
        self.lost: str | None = None
        self._seen, self._over = threading.Event(), threading.Event()
        if self.parent is not None and processes.world > 1:
            self._start()

    def begin(self, children: Sequence[subprocess.Popen[bytes]]) -> None:
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
    if isinstance(error, dist.DistError):
        return True
    return isinstance(error, RuntimeError) and any(word in str(error) for word in ("gloo", "NCCL", "ProcessGroup"))
