"""One trial: a process forked from one that has imported everything, what it said and cost, and how that is judged."""

import os
import re
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import mvae
import mvae.cli

__all__ = ["Act", "Ended", "Verdict", "at_event", "at_time", "command", "judged", "lost", "recovered", "run", "start"]

Act = Callable[[], int | None]
MEGABYTE = 2**20
MEMORY = 5000 * MEGABYTE
"""Address space that a trial may take beyond what it starts with."""
LARGEST = 1000 * MEGABYTE
"""The largest file that it may write."""
TRACEBACK, INTERRUPTED = 99, 130
NO_END = (-signal.SIGALRM, -signal.SIGXCPU, -signal.SIGKILL)
"""Asleep, or over its processor time."""
LONGEST = 1000
"""Characters of a clear refusal."""
REPEATED = re.compile(r"(.)\1{200}")
"""Too much of a file in a message: the long texts of the campaign are of one character."""
EVENTS = ("open", "os.rename", "os.mkdir", "os.remove", "os.chmod", "os.fsync", "shutil.move", "shutil.copyfile")


class Ended(NamedTuple):
    """How a process ended: exit status (below 0: the signal), its two streams, processor time in s, memory in MB."""

    code: int
    out: str
    said: str
    seconds: float
    peak: float


class Verdict(NamedTuple):
    """`recovered`, `refused` or `lost`, and why."""

    outcome: str
    why: str = ""


recovered = Verdict("recovered")
lost = partial(Verdict, "lost")


class Running:
    """A process that has been started, with the files of its streams."""

    def __init__(self, number: int, files: Sequence[int]) -> None:
        self.number, self._files = number, files

    def end(self, idle: float = 6) -> Ended:
        """Wait for it, kill it once it has slept for so many seconds, and end what it has started and left behind."""
        asleep, last, hung = time.monotonic(), -1, False
        said: dict[int, list[bytes]] = {file: [] for file in self._files}

        def read() -> None:
            for file, parts in said.items():
                with suppress(BlockingIOError):
                    while part := os.read(file, MEGABYTE):
                        parts.append(part)

        while not (found := os.wait4(self.number, os.WNOHANG))[0]:
            state = Path(f"/proc/{self.number}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
            used, now = int(state[11]) + int(state[12]), time.monotonic()
            if state[0] != "S" or used != last:
                asleep, last = now, used
            elif now - asleep > idle:
                os.kill(self.number, signal.SIGKILL)
                hung = True
            read()
            time.sleep(0.01)
        _, status, spent = found
        with suppress(ProcessLookupError):
            os.killpg(self.number, signal.SIGKILL)
        read()
        texts = [b"".join(parts).decode(errors="replace") for parts in said.values()]
        for file in self._files:
            os.close(file)
        code = -signal.SIGALRM if hung else os.waitstatus_to_exitcode(status)
        return Ended(code, *texts, spent.ru_utime + spent.ru_stime, spent.ru_maxrss * 1024 / MEGABYTE)


def start(
    act: Act,
    place: Path,
    *,
    before: Callable[[], Any] | None = None,
    environment: Mapping[str, str | None] | None = None,
    stdout: Callable[[], int] | None = None,
    processor: int = 20,
) -> Running:
    """Call `act`, which gives an exit status, in a forked process in the folder `place`.

    `before` is called there first, `stdout` opens what stands for its output, variables of None are taken away, and
    `processor` is its limit in seconds.
    """
    pipes = [os.pipe() for _ in range(2)]
    number = os.fork()
    if number:
        for reader, writer in pipes:
            os.close(writer)
            os.set_blocking(reader, False)
        return Running(number, [reader for reader, _ in pipes])
    code: int | str | None = TRACEBACK
    try:
        os.setpgid(0, 0)
        os.dup2(stdout() if stdout else pipes[0][1], 1)
        os.dup2(pipes[1][1], 2)
        os.chdir(place)
        for name, value in (environment or {}).items():
            os.environ.pop(name, None)
            os.environ.update({} if value is None else {name: value})
        signal.signal(signal.SIGINT, signal.default_int_handler)
        resource.setrlimit(resource.RLIMIT_CPU, (processor, processor + 1))
        resource.setrlimit(resource.RLIMIT_FSIZE, (LARGEST, resource.RLIM_INFINITY))
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
        resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY,) * 2)
        if before:
            before()
        code = act()
        sys.stdout.flush()
    except SystemExit as end:
        code = end.code
    except BaseException:
        with suppress(BaseException):
            traceback.print_exc()
    finally:  # whatever happens: what called this is the parent's
        with suppress(BaseException):
            sys.stderr.flush()
        os._exit(code if isinstance(code, int) else 0 if code is None else 1)


def run(act: Act, place: Path, idle: float = 6, **options: Any) -> Ended:
    """Call `act` in a forked process, as `start` does, and wait for its end."""
    return start(act, place, **options).end(idle)


def command(*arguments: Any) -> Act:
    """`mvae` with these arguments; `load RUN` is `mvae.load`, whose errors are those that a command would print."""
    words = [str(argument) for argument in arguments]
    return partial(_load, words[1]) if words[0] == "load" else partial(mvae.cli.main, words)


def _load(path: str) -> int:
    try:
        mvae.load(path)
    except (ValueError, OSError) as error:
        print(f"mvae: {error}", file=sys.stderr)
        return 2
    return 0


def _refusal(said: str) -> str:
    """The message in which a command says why it ended; empty where there is none."""
    found = max(said.rfind(mark) for mark in ("mvae: ", "error: "))
    return said[found:].partition(": ")[2].strip() if found >= 0 else ""


def judged(
    ended: Ended,
    names: Sequence[str] = (),
    must: str | None = None,
    bare: Ended | None = None,
    seconds: float = 2,
    memory: float = 100,
) -> Verdict:
    """Whether a process did its work, or refused it in one line.

    One of `names` has to be in a refusal. `must` is the outcome where only one is right. It may cost so many seconds of
    processor time and MB more than `bare`.
    """
    last, message = ended.said.strip().rpartition("\n")[2][:160], _refusal(ended.said)
    more = (ended.seconds - bare.seconds, ended.peak - bare.peak) if bare else (0, 0)
    done, lines = ended.code == 0, message.count("\n") + 1
    faults = {
        "no end: asleep, or at work for too long": ended.code in NO_END,
        f"ended by signal {-ended.code}": ended.code < 0,
        f"traceback: {last}": "Traceback (most recent call last)" in ended.said,
        f"over the bounds: {more[0]:.1f} s of processor time": more[0] > seconds,
        f"over the bounds: {more[1]:.0f} MB": more[1] > memory,
        "accepted, with exit status 0": done and must == "refused",
        f"exit status {ended.code} without a message: {last}": not done and not message and ended.code != INTERRUPTED,
        f"a message of {len(message)} characters, {lines} lines: {message[:60]!r}": len(message) > LONGEST
        or lines > 1
        or REPEATED.search(message),
        f"a message that does not name {names[:1]}: {message[:120]}": not any(
            name in message for name in names or [""]
        ),
        f"refused: {message[:160]}": not done and must == "recovered",
    }
    fault = next((said for said, is_so in faults.items() if is_so and (not done or "message" not in said)), None)
    return lost(fault) if fault else recovered if done else Verdict("refused", message)


def at_event(number: int, watched: str, act: Callable[[], Any]) -> Callable[[], None]:
    """A function for `before`: it has `act` called before the n-th use of a file in a folder."""

    def prepare() -> None:
        seen, top, fsync, busy = [0], f"{Path.cwd() / watched}/", os.fsync, [False]

        def within(path: Any) -> bool:
            return isinstance(path, str | Path) and f"{Path.cwd() / path}/".startswith(top)

        def hook(event: str, arguments: tuple[Any, ...]) -> None:
            if event in EVENTS and not busy[0] and any(map(within, arguments[:2])):
                seen[0] += 1
                if seen[0] == number:
                    busy[0] = True
                    act()
                    busy[0] = False

        def announced(file: int) -> None:
            sys.audit("os.fsync", str(Path(f"/proc/self/fd/{file}").readlink()))
            fsync(file)

        sys.addaudithook(hook)
        os.fsync = announced

    return prepare


def at_time(seconds: float, number: int = signal.SIGKILL) -> Callable[[], None]:
    """A function for `before`: it has a signal sent once so much processor time is used."""

    def prepare() -> None:
        if number != signal.SIGKILL:
            signal.signal(signal.SIGPROF, lambda *_: signal.raise_signal(number))
        signal.setitimer(signal.ITIMER_PROF, max(seconds, 1e-3))  # which by itself ends a process as SIGKILL does

    return prepare
