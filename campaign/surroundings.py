"""Who may read and write, names of things, streams, locales, and what a process shares with others."""

import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

import mvae
from campaign.damage import COMMANDS, as_arrow
from campaign.trial import Verdict, at_event, command, judged, lost, recovered, run
from campaign.world import FIT, RESUME, Case, World, kind, nobody
from mvae.sklearn import MVAEClassifier, MVAEImputer

IMPUTE, SHARDS = COMMANDS["impute"], ("fit", "shards", "--config", "shards.yaml", "--out", "out")
ANSWERS = {name: words for name, words in COMMANDS.items() if name not in ("load", "resume")}
QUIET = (0, 1, 2, 120, 128 + signal.SIGPIPE, -signal.SIGPIPE)
"""How a process may end whose reader has gone."""


def _swapped(words: Sequence[str], old: str, new: str) -> list[str]:
    return [new if word == old else word for word in words]


@kind("what is written is open to others against the umask", 2)
def private_files(world: World) -> Iterator[tuple[str, Case]]:
    """Folders and files that commands write."""

    def case(words: Sequence[str], mask: int, place: Path) -> Verdict:
        (place / "run/evaluation.json").unlink()
        before, cache = {*place.rglob("*")}, {"XDG_CACHE_HOME": str(place / "cache")}
        ended = run(command(*words), place, before=partial(os.umask, mask), environment=cache)
        written = [path for path in place.rglob("*") if path not in before]
        is_open = [path.name for path in written if path.stat().st_mode & mask]
        return lost(f"open to others: {', '.join(is_open)[:100]}") if is_open else judged(ended, must="recovered")

    zipped = {"export to a zip": ("export", "run", "--out", "e.zip")}
    for name, words in {"fit": FIT, "fit on shards": SHARDS, **ANSWERS, **zipped}.items():
        for mask in (0o077, 0o027):
            yield f"{name} under {mask:03o}", partial(case, words, mask)


@kind("wide tables and long cells", 1)
def wide_tables(world: World) -> Iterator[tuple[str, Case]]:
    """Any cell or line up to 64 MiB can be read."""

    def case(name: str, text: str, place: Path) -> Verdict:
        (place / name).write_text(text, encoding="utf-8")
        return judged(run(command("inspect", name, "--out", "c.yaml"), place), must="recovered")

    names = [f"gene{n}-{'x' * 60}" for n in range(2500)]
    for mark, name in ((",", "t.csv"), (";", "t.csv"), ("\t", "t.tsv")):
        text = "".join(mark.join(line) + "\n" for line in (names, ["1"] * 2500, ["2"] * 2500))
        yield f"a heading of 160,000 characters parted by {mark!r}", partial(case, name, text)
    for size in (2**17 + 1, 2**20, 2**25):
        yield f"a cell of {size} bytes", partial(case, "t.csv", f"a,b\n1,{'x' * size}\n2,y\n")
        yield f"a quoted cell of {size} bytes", partial(case, "t.csv", f'a,b\n1,"{"x " * (size // 2)}"\n2,y\n')


@kind("a source under another name, or changed", 2)
def sources(world: World) -> Iterator[tuple[str, Case]]:
    """A run resumes from elsewhere; a table that is another now is noticed."""
    once = world.place()
    run(command(*RESUME), once)
    goal = World.reference(once / "run")

    def renamed(folder: str, source: str, out: str, place: Path) -> Verdict:
        (place / "link.csv").symlink_to("people.csv")
        words = ("fit", source.format(place), "--out", out, "--resume", "--epochs", "4")
        verdict = judged(run(command(*words), place / folder), must="recovered")
        is_same = verdict.outcome == "lost" or World.reference(place / "run") == goal
        return verdict if is_same else lost("other weights")

    places = [("shards", "../people.csv", "../run"), (".", "{}/people.csv", "run"), (".", "./people.csv", "run")]
    for folder, source, out in [*places, (".", "shards/../people.csv", "run"), (".", "link.csv", "run")]:
        yield f"resumed in {folder} as {source}", partial(renamed, folder, source, out)

    def changed(change: Callable[[pd.DataFrame], pd.DataFrame], place: Path) -> Verdict:
        path = place / "people.csv"
        change(pd.read_csv(path, dtype=str, keep_default_na=False)).to_csv(path, index=False)
        ended = run(command(*RESUME), place)
        noticed = any(word in (ended.said + ended.out).lower() for word in ("changed", "differ", "not the table"))
        verdict = judged(ended, ["people.csv"])
        return verdict if verdict.outcome != "recovered" or noticed else lost("taken without a word")

    changes: dict[str, Callable[[pd.DataFrame], pd.DataFrame]] = {
        "doubled": lambda frame: pd.concat([frame, frame]),
        "another cell": lambda frame: frame.replace({"age": {frame["age"].max(): "55.5"}}),
        "reordered": lambda frame: frame[::-1],
        "shortened": lambda frame: frame[:-20],
    }
    for how, change in changes.items():
        yield how, partial(changed, change)


@kind("closed and full output streams, odd names", 3)
def streams(world: World) -> Iterator[tuple[str, Case]]:
    """`| head`, a full device, what --out may be, and files that may not be read."""

    def closed() -> int:
        reader, writer = os.pipe()
        os.close(reader)
        return writer

    def head(words: Sequence[str], place: Path) -> Verdict:
        ended = run(command(*words), place, stdout=closed)
        quiet = ended.code in QUIET and "mvae: " not in ended.said and "Traceback" not in ended.said
        return recovered if quiet else lost(f"exit status {ended.code}: {ended.said.strip()[-120:]}")

    def full(words: Sequence[str], place: Path) -> Verdict:
        return judged(run(command(*words), place, stdout=partial(os.open, "/dev/full", os.O_WRONLY)))

    def out(words: Sequence[str], must: str, place: Path) -> Verdict:
        (place / "afile").touch()
        (place / "dangling").symlink_to("/nonexistent/elsewhere")
        return judged(run(command(*words), place), must=must)

    def unreadable(name: str, place: Path) -> Verdict:
        (place / "run" / name).chmod(0)
        verdict = judged(run(command(*COMMANDS["sample"]), place, before=nobody), [name], "refused")
        return lost(f"it may not be read, and is called {verdict.why[:100]}") if "damaged" in verdict.why else verdict

    shown = {"inspect": ("inspect", "people.csv"), "list": ("data", "list"), "--help": ("fit", "--help"), "fit": FIT}
    for name, words in {**shown, **ANSWERS}.items():
        yield f"{name} | head", partial(head, words)
        yield f"{name} > /dev/full", partial(full, words)
    for name in ("", "afile", "afile/x", "a\0b", "/", "dangling"):
        yield f"fit --out {name!r}", partial(out, [*FIT[:-1], name], "refused")
    refused = (
        "",
        ".",
        "/dev/full",
        "/dev/null",
        "xy" * 150 + ".csv",
        "a\0b.csv",
        "people.csv",
        "./people.csv",
        "no/f.csv",
    )
    for must, names in {"refused": refused, "recovered": ("a b.csv", "ä\n€.csv", "'; rm.csv", "%s{}.csv")}.items():
        for name in names:
            yield f"impute --out {name[:20]!r}", partial(out, _swapped(IMPUTE, "f.csv", name), must)
    for name in ("config.json", "model.safetensors"):
        yield f"{name} unreadable", partial(unreadable, name)


@kind("the global random state of Python, NumPy and torch", 2)
def random_state(world: World) -> Iterator[tuple[str, Case]]:
    """Left as it was; draws with a seed are the same in any thread."""
    rows = np.array([[1.0, 2.0], [2.0, np.nan], [3.0, 5.0], [np.nan, 8.0]] * 10)

    def in_threads() -> None:
        model = mvae.load("run")

        def drawn(seed: int) -> torch.Tensor:
            return next(iter(model.generate(None, num_samples=50, seed=seed).values()))

        alone = [drawn(seed) for seed in range(8)]
        with ThreadPoolExecutor(4) as pool:
            together = list(pool.map(drawn, range(8)))
        if not all(torch.equal(*pair) for pair in zip(alone, together, strict=True)):
            raise ValueError("draws with one seed differ between threads")

    acts: dict[str, Callable[[], Any]] = {
        "fit, a table": lambda: mvae.fit("people.csv", config="short.yaml", epochs=1, progress=False),
        "fit, digits": lambda: mvae.fit("digits", epochs=1, progress=False),
        "load": lambda: mvae.load("run"),
        "impute": lambda: mvae.impute("run", "people.csv", num_samples=2, refine=1),
        "embed": lambda: mvae.embed("run", "people.csv"),
        "score": lambda: mvae.score("run", "people.csv", num_samples=2),
        "MVAEImputer": lambda: MVAEImputer(steps=5).fit(rows).transform(rows),
        "MVAEClassifier": lambda: MVAEClassifier(steps=5).fit(rows, np.arange(40) % 2).predict(rows),
        "generate, seeded, in threads": in_threads,
    }

    def states() -> dict[str, str]:
        of_numpy = np.random.get_state()  # noqa: NPY002
        return {"torch": f"{torch.get_rng_state().tolist()}", "NumPy": f"{of_numpy}", "Python": f"{random.getstate()}"}

    def compared(act: Callable[[], Any]) -> int:
        before = states()
        act()
        after = states()
        changed = [name for name in before if before[name] != after[name]]
        print(f"mvae: changed: {', '.join(changed)}" if changed else "", file=sys.stderr)
        return 2 * bool(changed)

    for name, act in acts.items():
        yield name, lambda place, act=act: judged(run(partial(compared, act), place), must="recovered")


@kind("a shard truncated while it is read", 1)
def truncated_shard(world: World) -> Iterator[tuple[str, Case]]:
    """A message, no SIGBUS."""

    def case(number: int, size: int, place: Path) -> Verdict:
        path = as_arrow(place, 20)
        ended = run(
            command(*SHARDS, "--epochs", "9"), place, before=at_event(number, "out", lambda: os.truncate(path, size))
        )
        return judged(ended, ["rows.arrow"], "refused")

    for number in (6, 15, 25):
        for size in (0, 300, 5000):
            yield f"to {size} bytes at file event {number}", partial(case, number, size)


@kind("locale C, read-only folders, no HOME", 3)
def confined(world: World) -> Iterator[tuple[str, Case]]:
    """A process that may do little."""

    def case(
        words: Sequence[str], read_only: str, environment: Mapping[str, str | None], must: Any, place: Path
    ) -> Verdict:
        (place / "ro").mkdir()
        for path in [place / read_only, *(place / read_only).rglob("*")]:
            path.chmod(path.stat().st_mode & ~0o222)
        return judged(run(command(*words), place, before=nobody, environment=environment), must=must)

    def locale(words: Sequence[str], place: Path) -> Verdict:
        table = place / "people.csv"
        text = table.read_text(encoding="utf-8").replace("income", "größe €").replace(",a,", ",naïve,")
        table.write_text(text, encoding="utf-8")
        environment = os.environ | {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
        begin = [sys.executable, "-c", "import sys; from mvae.cli import main; sys.exit(main())"]
        for line in (FIT, _swapped(words, "run", "out")):
            ended = subprocess.run([*begin, *line], cwd=place, env=environment, capture_output=True, check=False)
            if ended.returncode:
                return lost(f"exit status {ended.returncode}: {ended.stderr.decode(errors='replace').strip()[-160:]}")
        return recovered

    homeless, read_only = {"HOME": "/nonexistent", "XDG_CACHE_HOME": None}, {"XDG_CACHE_HOME": "ro"}
    cases: dict[str, tuple[Sequence[str], str, Mapping[str, str | None], str | None]] = {
        "fit into a read-only folder": ([*FIT[:-1], "ro/x"], "ro", {}, "refused"),
        "impute into a read-only folder": (_swapped(IMPUTE, "f.csv", "ro/f.csv"), "ro", {}, "refused"),
        **{f"{name} of a read-only run": (words, "run", {}, None) for name, words in ANSWERS.items()},
        "resume of a read-only run": (RESUME, "run", {}, "refused"),
        "read-only cache, Parquet shards": (SHARDS, "ro", read_only, None),
        "no HOME, Parquet shards": (SHARDS, "ro", homeless, None),
        "no HOME, a table": (FIT, "ro", homeless, "recovered"),
        "HOME empty": (("data", "list"), "ro", {"HOME": "", "XDG_CACHE_HOME": ""}, "recovered"),
        "check, no HOME": (("data", "check", "mnist"), "ro", homeless | {"MVAE_DATA": None}, "refused"),
    }
    for name, arguments in cases.items():
        yield name, partial(case, *arguments)
    for name, words in {"inspect": ("inspect", "people.csv"), "impute": IMPUTE}.items():
        yield f"fit and {name} under LC_ALL=C", partial(locale, words)


@kind("formula cells and HTML in names", 2)
def hostile_cells(world: World) -> Iterator[tuple[str, Case]]:
    """Cells are data and come back as they were; names are text wherever a page is made."""

    def both(second: Sequence[str], place: Path) -> Verdict:
        first = judged(run(command(*FIT), place), must="recovered")
        return first if first.outcome == "lost" else judged(run(command(*second), place), must="recovered")

    def formulas(place: Path) -> Verdict:
        frame = pd.read_csv(place / "people.csv", dtype=str, keep_default_na=False)
        frame["group"] = frame["group"].replace({"a": "=1+1", "b": '=HYPERLINK("http://x")', "c": "@SUM(A1)"})
        frame.to_csv(place / "people.csv", index=False)
        verdict = both(_swapped(IMPUTE, "run", "out"), place)
        if verdict.outcome == "lost":
            return verdict
        filled, observed = pd.read_csv(place / "f.csv", dtype=str, keep_default_na=False)["group"], frame["group"] != ""
        kept = (filled[observed] == frame["group"][observed]).all() and {*filled} == {*frame["group"][observed]}
        return recovered if kept else lost("observed cells are changed, or others made up")

    def html(name: str, place: Path) -> Verdict:
        table = place / "people.csv"
        heading, _, rest = table.read_text(encoding="utf-8").partition("\n")
        heading = ",".join(f'"{name if column == "income" else column}"' for column in heading.split(","))
        table.write_text(f"{heading}\n{rest}", encoding="utf-8")
        verdict = both(("export", "out", "--out", "e"), place)
        if verdict.outcome == "lost":
            return verdict
        card = (place / "e/README.md").read_text(encoding="utf-8").partition("## Columns")[2]
        bars = {line.replace("\\|", "").count("|") for line in card.splitlines() if line.startswith("|")}
        harmful = "<script" in card or "<img" in card or len(bars) > 1 or "](javascript:" in card.replace("\\]", "")
        return lost("the model card holds it as HTML, a link or more cells") if harmful else recovered

    yield "formulas in a category", formulas
    for name in ("<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "a|b", "[x](javascript:alert(1))"):
        yield f"a column {name}", partial(html, name)
