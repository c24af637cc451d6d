"""Several processes that train one model: their start, their exchanges and their end."""

from __future__ import annotations

import atexit
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

__all__ = ["ALONE", "Group", "LostProcessError", "Processes"]

STARTED_BY = "MVAE_STARTED_BY"
"""Environment variable of a process that another one has started: that one's process id."""
LOOK = 0.2  # seconds from one look at the others to the next
GRACE = 5.0  # seconds for what a death sets off elsewhere, such as an error in an exchange that waits for the dead
LEAVE = 60.0  # seconds for the others to end once this process has


class LostProcessError(RuntimeError):
    """One of the processes of a training ended before the training did; the message says which, and how."""


@contextmanager
def _exchange() -> Iterator[None]:
    """An exchange between processes: whatever error torch has in it, another process has gone."""
    try:
        yield
    except RuntimeError as error:
        raise LostProcessError("the connection to another process was lost") from error


@dataclass(frozen=True)
class Processes:
    """The processes that train a model: one a device (a GPU where there are any, else the CPU), on each of some nodes.

    They change neither the batches nor the draws of a run, so they are no part of its config.
    """

    devices: int = 1
    nodes: int = 1

    @property
    def world(self) -> int:  # how many there are
        return self.devices * self.nodes

    @property
    def rank(self) -> int:
        """The number of this process among them, from 0."""
        return int(os.environ.get("RANK", "0")) if self.world > 1 else 0

    @property
    def first(self) -> bool:
        """True in the process that writes and prints."""
        return self.rank == 0

    @property
    def device(self) -> torch.device:
        """The device of this process: its GPU where there are any, else the CPU."""
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0"))) if _gpus() else torch.device("cpu")

    def check(self, batch_size: int) -> None:
        """Refuse processes that cannot train together: a ValueError names the option and what was expected."""
        import __main__

        devices, nodes, world = self.devices, self.nodes, self.world
        torchrun = dist.is_available() and dist.is_torchelastic_launched()
        count = int(os.environ["WORLD_SIZE"]) if torchrun else world
        started = torchrun or STARTED_BY in os.environ or hasattr(__main__, "__file__")
        for wrong, fault in (
            (devices < 1 or nodes < 1, f"expected at least one device and one node, got {devices} and {nodes}"),
            (
                batch_size < world,
                f"training.batch_size: expected at least a row for each of {world} processes, got {batch_size}",
            ),
            (0 < _gpus() < devices, f"devices: expected at most the {_gpus()} GPUs of this machine, got {devices}"),
            (
                count != world,
                f"devices, nodes: torchrun started {count} processes; {devices} devices on {nodes} nodes are {world}",
            ),
            (nodes > 1 and not torchrun, f"nodes: {nodes} machines need their processes started by torchrun"),
            (world > 1 and not started, f"devices: {devices} processes run one script or command; this is neither"),
        ):
            if wrong:
                raise ValueError(fault)


ALONE = Processes()
"""One process on one device."""


def _gpus() -> int:
    return torch.cuda.device_count()


class Group:
    """The processes of a training, this one among them: they are started where nobody else has, joined and watched.

    With one process every exchange returns its argument. A `LostProcessError` ends with the advice.
    """

    _children: Sequence[subprocess.Popen[bytes]] = ()  # once started, they take part in all that follows

    def __init__(self, processes: Processes, advice: str = "") -> None:
        self.rank, self.world, self.device = processes.rank, processes.world, processes.device
        self.processes, self.watch = processes, Watch(processes, advice)

    def join(self) -> None:
        """Start the processes that nobody has started, and wait until all are there."""
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
            with _exchange():
                dist.init_process_group(backend, rank=self.rank, world_size=self.world)
            atexit.register(_leave_group)

    @_exchange()
    def sum(self, value: Tensor) -> Tensor:
        """The sum over all processes."""
        if self.world > 1:
            value = value.to(self.device)
            dist.all_reduce(value)
        return value

    @_exchange()
    def told(self, value: Any) -> Any:
        """The first process's value, in all."""
        box = [value]
        if self.world > 1:
            dist.broadcast_object_list(box, 0, device=self.device)
        return box[0]

    @_exchange()
    def first_of(self, mine: Any) -> Any:
        """The value of the first process whose value is not None."""
        told = [mine] * self.world
        if self.world > 1:
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
    module = getattr(getattr(__main__, "__spec__", None), "name", None)
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
        """Watch no longer: from now on processes may end."""
        self._over.set()

    def kill(self) -> None:
        """End the processes that this one has started."""
        self.stop()
        for child in self.children:
            child.kill()

    def explained(self, error: Exception) -> BaseException:
        """The error to end this process with after one in training: the reason, given by one process only."""
        severed = isinstance(error, LostProcessError)
        if severed and (self.children or self.parent is not None):  # another process died; the thread learns which
            self._seen.wait(GRACE)
        self.kill()
        if self.processes.first:
            own = str(error) if severed else f"{self._named(0)} failed: {error}"
            return LostProcessError(f"{self.lost or own}{self.advice}")
        if self.lost is not None:
            self._tell()
        return SystemExit(1) if severed else error

    def _start(self) -> None:
        threading.Thread(target=self._run, name="mvae-watch", daemon=True).start()

    def _run(self) -> None:
        while not self._over.wait(LOOK):
            self.lost = self._look()
            if self.lost is None:
                continue
            for child in self.children:
                child.kill()
            self._seen.set()
            if self._over.wait(2 * GRACE):  # the main thread has come out of its exchange, and tells
                return
            self._tell()
            os._exit(1)

    def _look(self) -> str | None:
        """The end of a lost process, in words; None while all are there."""
        if self.parent is not None:
            return f"{self._named(0)} was killed" if os.getppid() != self.parent else None
        failed = [(child.returncode, rank) for rank, child in enumerate(self.children, 1) if child.poll()]
        if not failed:
            return None
        code, rank = min(failed)  # a signal, below 0, is never a consequence
        if code > 0:
            return f"{self._named(rank)} ended with exit status {code}"
        name = signal.Signals(-code).name
        memory = ", as happens when memory runs out" if name == "SIGKILL" else ""
        return f"{self._named(rank)} was killed by {name}{memory}"

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
