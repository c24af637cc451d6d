"""Run the campaign and print its table: `python -m campaign [--short]`."""

import argparse
import ctypes
import json
import os
import platform
import random
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from campaign import bounds, damage, kills, surroundings  # noqa: F401  (which fill KINDS)
from campaign.trial import Verdict, lost
from campaign.world import KINDS, Kind, World, remove

__all__ = ["main"]

ROOM = "2m"
OUTCOMES = ("recovered", "refused", "lost")


def main() -> int:
    """Run it; the exit status is 1 where something was lost."""
    names = ", ".join(kind.name for kind in KINDS)
    parser = argparse.ArgumentParser(prog="python -m campaign", description=__doc__, epilog=f"Kinds of cases: {names}")
    parser.add_argument("--seed", type=int, default=0, help="of all that is random (default: 0)")
    parser.add_argument("--short", action="store_true", help="a few cases of each kind, in under 60 s")
    parser.add_argument("--only", nargs="+", metavar="KIND", help="these kinds alone")
    parser.add_argument("--without", nargs="+", metavar="KIND", default=[], help="all kinds but these")
    parser.add_argument("--out", type=Path, metavar="FILE.json", help="write each case's outcome to this file")
    options = parser.parse_args()
    unknown = {*(options.only or ()), *options.without} - {kind.name for kind in KINDS}
    if unknown:
        parser.error(f"no kind {', '.join(sorted(unknown))}; there are {names}")
    chosen = [kind for kind in KINDS if kind.name in (options.only or [kind.name]) and kind.name not in options.without]
    folder = Path(tempfile.mkdtemp(prefix="campaign-"))
    began = time.time()
    try:
        small = _small(folder)
        world = World(folder, small)
        found = {kind: _tried(kind, world, options.seed, options.short) for kind in chosen}
    finally:
        remove(folder)
    used = os.times()
    print(_table(found))
    note = f"{time.time() - began:.0f} s, {sum(used[:4]):.0f} s of processor time, seed {options.seed}"
    print(note + ("" if small else "; without a full disk, for no file system may be mounted here"))
    cases = [{"kind": k.name, "case": n, "outcome": v.outcome, "why": v.why} for k in found for n, v in found[k]]
    if options.out:
        about = {"seed": options.seed, "short": options.short, "commit": _commit(), "machine": _machine(), "note": note}
        table = {kind.name: {"title": kind.title, **_counts(found[kind])} for kind in found}
        options.out.write_text(json.dumps({**about, "table": table, "cases": cases}, indent=1) + "\n", encoding="utf-8")
    return int(any(case["outcome"] == "lost" for case in cases))


def _tried(kind: Kind, world: World, seed: int, short: bool) -> list[tuple[str, Verdict]]:
    world.rng = random.Random(f"{seed} {kind.name}")  # the same cases, whichever kinds are chosen
    cases = list(kind.cases(world))
    if short:
        cases = world.rng.sample(cases, min(kind.short, len(cases)))
    found = []
    for name, case in cases:
        try:
            verdict = case(world.place())
        except Exception as error:  # what a trial left cannot even be looked at
            verdict = lost(f"{type(error).__name__}: {error}")
        found.append((name, verdict))
        if verdict.outcome == "lost":
            print(f"lost: {kind.name}, {name}: {verdict.why}", file=sys.stderr, flush=True)
    print(f"{kind.name}: {len(found)} tried", file=sys.stderr, flush=True)
    return found


def _counts(found: list[tuple[str, Verdict]]) -> dict[str, int]:
    return {"tried": len(found), **{o: sum(verdict.outcome == o for _, verdict in found) for o in OUTCOMES}}


def _table(found: dict[Kind, list[tuple[str, Verdict]]]) -> str:
    rows = [(kind.title, *map(str, _counts(found[kind]).values())) for kind in found]
    total = [sum(int(row[column]) for row in rows) for column in range(1, 5)]
    rows = [("kind of case", "tried", "recovered", "refused clearly", "lost"), *rows, ("all", *map(str, total))]
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))])
        for row in rows
    ]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def _small(folder: Path) -> Path | None:
    """A file system of 2 MB that goes with this process; None where none may be mounted."""
    libc, small = ctypes.CDLL(None, use_errno=True), folder / "small"
    small.mkdir()
    new_user, new_mounts, private = 0x10000000, 0x00020000, 0x00044000  # CLONE_NEWUSER, CLONE_NEWNS, MS_REC|MS_PRIVATE
    user, group = os.getuid(), os.getgid()
    if libc.unshare(new_mounts):
        if libc.unshare(new_user | new_mounts):
            return None
        with suppress(OSError):
            Path("/proc/self/setgroups").write_text("deny", encoding="ascii")
            Path("/proc/self/uid_map").write_text(f"0 {user} 1", encoding="ascii")
            Path("/proc/self/gid_map").write_text(f"0 {group} 1", encoding="ascii")
    libc.mount(None, b"/", None, private, None)
    return None if libc.mount(b"none", bytes(small), b"tmpfs", 0, f"size={ROOM}".encode()) else small


def _commit() -> str:
    import mvae

    source = Path(mvae.__file__).parent
    said = subprocess.run(
        ["git", "rev-parse", "--short=7", "HEAD"], cwd=source, capture_output=True, text=True, check=False
    )
    return said.stdout.strip() or mvae.__version__


def _machine() -> str:
    return f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, {platform.system()}"


if __name__ == "__main__":
    sys.exit(main())
