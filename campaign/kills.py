"""Processes that are cut short: killed, told to end, out of disk, robbed of their folder, two in one folder."""

import errno
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from campaign.trial import Verdict, at_event, at_time, command, judged, lost, recovered, run, start
from campaign.world import FIT, RESUME, Case, World, hidden, kind, remove, same, unreadable

Before = Callable[[], Any]
IMPUTE = ("impute", "run", "people.csv", "--out", "f.csv", "--samples", "2", "--refine", "0", "--draws", "2")
ANSWERS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "impute": (IMPUTE, ("f.csv", "f-cells.csv", "f-1.csv", "f-2.csv")),
    "evaluate": (("evaluate", "run", "--split", "validation", "--samples", "20"), ("run/evaluation.json",)),
    "sample": (("sample", "run", "--out", "s.csv", "--count", "5"), ("s.csv",)),
    "export": (("export", "run", "--out", "e"), ("e/config.json", "e/model.safetensors", "e/metrics.json")),
}
UNFINISHED = ("cut short", "incomplete", "unfinished", "not finished", "interrupted")
DIE = partial(os.kill, 0, signal.SIGKILL)


def _cut(world: World, before: Before, place: Path, out: Path | None = None, environment: Any = None) -> Verdict:
    """Fit, with something done to it; then continue it, or start it again where it had not begun."""
    out = out or place / "out"
    first = run(command(*FIT[:-1], out), place, before=before, environment=environment)
    (out.parent / "filler").unlink(missing_ok=True)
    bad, resume = unreadable(out), ["--resume"] if (out / "config.json").exists() else []
    ended = run(command(*FIT[:-1], out, *resume), place, environment=environment)
    if fault := same(world, ended, out):
        return lost(f"{fault}; unreadable before: {', '.join(bad) or 'nothing'}")
    said = judged(first)
    return said if said.why.startswith(("traceback", "a message", "exit status")) else recovered


def _moments(world: World, count: int, seconds: float) -> Iterator[tuple[str, float]]:
    for moment in sorted(world.rng.uniform(0, seconds) for _ in range(count)):
        yield f"after {moment:.3f} s", moment


@kind("SIGKILL in fit, then --resume", 6)
def killed_fit(world: World) -> Iterator[tuple[str, Case]]:
    """At random moments and at each use of a file."""
    for name, moment in _moments(world, 40, world.fit.seconds):
        yield name, partial(_cut, world, at_time(moment))
    for number in range(1, 41):
        yield f"at file event {number}", partial(_cut, world, at_event(number, "out", DIE))


@kind("SIGKILL in impute, evaluate, sample, export, then again", 6)
def killed_answers(world: World) -> Iterator[tuple[str, Case]]:
    """At random moments and at each use of a file."""

    def case(words: Sequence[str], expected: dict[str, bytes], before: Before, place: Path) -> Verdict:
        (place / "run/evaluation.json").unlink()
        ended = run(command(*words), place, before=before)
        left = [file for file in expected if (place / file).exists()]
        if any((place / file).read_bytes() != expected[file] for file in left):
            return lost("a file is left that is not what a whole run writes")
        again = run(command(*words), place)
        finished = len(left) == len(expected)
        if again.code and not finished:
            verdict = judged(again)
            explained = verdict.outcome == "refused" and any(word in verdict.why for word in UNFINISHED)
            return verdict if explained else lost(f"left {', '.join(left)}; again: {verdict.why}")
        if any(not (place / f).exists() or (place / f).read_bytes() != content for f, content in expected.items()):
            return lost("the second run writes something else")
        junk = [] if finished or not ended.code else hidden(place)
        return lost(f"left behind: {junk[0]}") if junk else recovered

    for name, (words, files) in ANSWERS.items():
        place = world.place()
        (place / "run/evaluation.json").unlink()
        whole = run(command(*words), place)
        tried = partial(case, words, {file: (place / file).read_bytes() for file in files})
        for moment, seconds in _moments(world, 6, whole.seconds):
            yield f"{name}, {moment}", partial(tried, at_time(seconds))
        for number in range(1, 49 if name == "impute" else 13):
            yield f"{name}, at file event {number}", partial(tried, at_event(number, ".", DIE))


@kind("SIGKILL in python -m paper, then --resume", 1)
def killed_paper(world: World) -> Iterator[tuple[str, Case]]:
    """At random moments and at each use of a file of the results."""
    from paper.__main__ import main

    words = ["table1", "--out", "results"]

    def cells(place: Path) -> Any:
        found = json.loads((place / "results/table1.json").read_text(encoding="utf-8"))["cells"]
        return [{key: cell[key] for key in cell if key not in ("seconds", "made")} for cell in found]

    first = world.place()
    whole = run(lambda: main(words), first)
    expected = cells(first)

    def case(before: Before, place: Path) -> Verdict:
        run(lambda: main(words), place, before=before)
        ended = run(lambda: main([*words, "--resume"]), place)
        if ended.code:
            return lost(f"--resume ends with {ended.code}: {ended.said.strip()[-120:]}")
        left = hidden(place / "results")
        return recovered if cells(place) == expected and not left else lost(f"other results, or left behind: {left}")

    for number in (1, 2, 3, 5, 7, 9, 12):
        yield f"at file event {number}", partial(case, at_event(number, "results", DIE))
    for name, moment in _moments(world, 3, whole.seconds):
        yield name, partial(case, at_time(moment))


@kind("a full disk, limits and faults of files, then --resume", 4)
def full_disk(world: World) -> Iterator[tuple[str, Case]]:
    """So many KiB free, temporary files there or on another file system; limits of files; errors of a disk."""

    def filled(free: int, temporary: Path | None, place: Path) -> Verdict:
        small = world.small
        assert small is not None
        for path in small.iterdir():
            path.unlink() if path.is_file() else shutil.rmtree(path)
        folder = temporary or small / "tmp"
        folder.mkdir(exist_ok=True)
        about = os.statvfs(small)
        (small / "filler").write_bytes(bytes(max(0, about.f_bavail * about.f_frsize - free * 1024)))
        return _cut(world, lambda: None, place, small / "run", {"TMPDIR": str(folder)})

    def fail(error: OSError) -> None:
        raise error

    for name, temporary in (("the same", None), ("another", world.folder / "tmp")):
        for free in (0, 8, 16, 24, 32, 44, 60, 72, 80, 100) if world.small else ():
            yield f"{free} KiB free, TMPDIR on {name} file system", partial(filled, free, temporary)
    limits = [("FSIZE", size) for size in (0, 100, 1000, 4000, 12000, 20000, 34000)]
    for name, size in [*limits, *(("NOFILE", count) for count in (12, 16, 24, 32))]:
        before = partial(resource.setrlimit, getattr(resource, f"RLIMIT_{name}"), (size, size))
        yield f"{name} {size}", partial(_cut, world, before)
    for number in range(1, 31):
        code = world.rng.choice([errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EROFS, errno.EACCES])
        before = at_event(number, "out", partial(fail, OSError(code, os.strerror(code))))
        yield f"{errno.errorcode[code]} at file event {number}", partial(_cut, world, before)


@kind("Ctrl-C, SIGTERM and SIGHUP in fit, then --resume", 4)
def signals(world: World) -> Iterator[tuple[str, Case]]:
    """At random moments and file events; and Ctrl-C while a real process still imports."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        for name, moment in _moments(world, 5, world.fit.seconds):
            yield f"{number.name} {name}", partial(_cut, world, at_time(moment, number))
        for event in (1, 4, 8, 15, 25):
            told = at_event(event, "out", partial(signal.raise_signal, number))
            yield f"{number.name} at file event {event}", partial(_cut, world, told)
    for imports in (1, 60, 600):
        yield f"Ctrl-C after {imports} imports", partial(_early, imports)


def _early(imports: int, place: Path) -> Verdict:
    """Ctrl-C once a real process has begun to import `mvae` and then so many modules."""
    begin = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); from mvae.cli import main"
    words = [sys.executable, "-X", "importtime", "-c", f"{begin}; sys.exit(main())", *FIT]
    with subprocess.Popen(words, cwd=place, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        said, count = "", 0
        for line in process.stderr:
            said += "" if line.startswith("import time:") else line
            count += bool(count) or line.rstrip().endswith(" mvae")
            if count == imports:
                process.send_signal(signal.SIGINT)
    return lost(f"traceback: {said.strip().splitlines()[-1][:160]}") if "Traceback" in said else recovered


@kind("the folder removed while it trains", 1)
def removed(world: World) -> Iterator[tuple[str, Case]]:
    """All of it, or a part."""

    def case(what: str, number: int, place: Path) -> Verdict:
        def take() -> None:
            remove(place / what)
            (place / what).unlink(missing_ok=True)

        verdict = judged(run(command(*FIT), place, before=at_event(number, "out", take)))
        if verdict.outcome != "recovered":
            return verdict
        loaded = run(command("load", "out"), place)
        return recovered if loaded.code == 0 else lost(f"exit status 0, but the run is gone: {loaded.said[:120]}")

    for what in ("out", "out/checkpoints", "out/logs", "out/config.json"):
        for number in (5, 12, 20, 30):
            yield f"{what} at file event {number}", partial(case, what, number)


@kind("two processes in one --out", 1)
def several_writers(world: World) -> Iterator[tuple[str, Case]]:
    """The first waits in the midst of its work until the second has ended; one writes, the first if it has begun to."""

    def case(first: Sequence[str], second: Sequence[str], number: int, out: str, place: Path) -> Verdict:
        (go, let_go), (there, waits) = os.pipe(), os.pipe()

        def wait() -> None:
            os.write(waits, b"1")
            os.close(let_go)
            os.read(go, 1)

        running = start(command(*first), place, before=at_event(number, out, wait))
        os.close(waits)
        os.read(there, 1)
        holds = any(path.stat().st_size for path in place.rglob(".*lock"))
        ended = run(command(*second), place)
        os.close(let_go)
        done = running.end(idle=60)
        os.close(go)
        os.close(there)
        if ended.code == 0 and (holds or done.code == 0):
            return lost("both wrote")
        did, refused = (done, ended) if ended.code else (ended, done)
        fault = same(world, did, place / "out") if out == "out" else did.said[-120:] if did.code else ""
        verdict = judged(refused)
        if fault or verdict.outcome == "lost":
            return lost(f"the one that wrote: {fault}; the other: {verdict.why}")
        named = not holds or str(running.number) in verdict.why
        return verdict if named else lost(f"refused without who holds it: {verdict.why[:120]}")

    for number in (2, 6, 12, 20):
        yield f"fit, fit at file event {number}", partial(case, FIT, FIT, number, "out")
        yield f"fit, fit --resume at file event {number}", partial(case, FIT, [*FIT, "--resume"], number, "out")
    for number in (1, 9, 12):
        yield f"impute twice at file event {number}", partial(case, IMPUTE, IMPUTE, number, ".")
    yield "resume twice", partial(case, RESUME, RESUME, 30, "run")
