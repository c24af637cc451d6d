"""What the trials work on: a table with missing cells, a folder of shards, and a run that was trained on the table."""

import ctypes
import hashlib
import importlib
import json
import os
import pkgutil
import random
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch

import mvae
from campaign.trial import Ended, Verdict, command, run

__all__ = [
    "FIT",
    "KINDS",
    "RESUME",
    "Case",
    "Kind",
    "World",
    "hidden",
    "kind",
    "nobody",
    "remove",
    "same",
    "unreadable",
]

FIT = ("fit", "people.csv", "--config", "short.yaml", "--epochs", "3", "--validation-rows", "50", "--out", "out")
RESUME = ("fit", "people.csv", "--out", "run", "--resume", "--epochs", "4")
SHARDS = """model:
  latent_dim: 4
  modalities:
    a: {shape: [5], likelihood: {kind: normal}, encoder: {kind: mlp, hidden: [16]}, decoder: {kind: mlp, hidden: [16]}}
    b:
      shape: []
      likelihood: {kind: categorical, num_classes: 2}
      encoder: {kind: embedding, hidden: [16, 16]}
      decoder: {kind: mlp, hidden: [16]}
training: {epochs: 3, batch_size: 50}
"""


class World:
    """The inputs, in an empty folder; `small` is an empty file system of 2 MB, where there is one."""

    def __init__(self, folder: Path, small: Path | None = None) -> None:
        self.folder, self.rng, self.small = folder, random.Random(0), small
        self.template = folder / "template"
        self.template.mkdir()
        _table().to_csv(self.template / "people.csv", index=False)
        (self.template / "short.yaml").write_text("training: {passes: 1}\n", encoding="utf-8")
        (self.template / "shards.yaml").write_text(SHARDS, encoding="utf-8")
        for part, rows in (("train", 300), ("validation", 50)):
            (self.template / "shards" / part).mkdir(parents=True)
            pq.write_table(_rows(rows), self.template / "shards" / part / "rows.parquet")
        os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
        _warm(self.template, folder)
        self._ran(*FIT[:-1], "run")
        self._ran("evaluate", "run", "--split", "validation", "--samples", "2")
        self.weights, self.metrics = self.reference(self.template / "run")
        place = self.place()
        self.fit = run(command(*FIT), place)
        if self.reference(place / "out") != (self.weights, self.metrics):
            raise RuntimeError("two runs with one seed differ: nothing here can be compared")
        self.bare = run(command("load", "run"), self.place())

    @staticmethod
    def reference(folder: Path) -> tuple[str, str]:
        """What has to be the same however often a run was cut short."""
        weights = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
        return weights, (folder / "metrics.json").read_text(encoding="utf-8")

    def place(self) -> Path:
        """A fresh copy of the inputs, in place of the last trial's."""
        place = self.folder / "place"
        remove(place)
        return Path(shutil.copytree(self.template, place))

    def _ran(self, *arguments: str) -> None:
        ended = run(command(*arguments), self.template)
        if ended.code:
            raise RuntimeError(f"the inputs of the campaign could not be made: {ended.said}")


Case = Callable[[Path], Verdict]
"""A trial, in its own copy of the inputs."""


class Kind(NamedTuple):
    """A line of the table."""

    name: str
    title: str
    short: int
    """How many of its cases are in the short form."""
    cases: Callable[[World], Iterator[tuple[str, Case]]]


KINDS: list[Kind] = []


def kind(title: str, short: int = 1) -> Callable[[Any], Any]:
    """Add a generator of cases to the table."""

    def add(cases: Any) -> Any:
        KINDS.append(Kind(cases.__name__, title, short, cases))
        return cases

    return add


def unreadable(folder: Path) -> list[str]:
    """The files that a process left under their final names and that cannot be read."""
    from safetensors.torch import load_file

    readers: dict[str, Callable[[Path], Any]] = {
        ".json": lambda path: json.loads(path.read_text(encoding="utf-8")),
        ".safetensors": load_file,
        ".ckpt": lambda path: torch.load(path, weights_only=True),
        ".csv": pd.read_csv,
    }
    found = []
    for path in folder.rglob("*"):
        if path.is_file() and not path.name.startswith(".") and path.suffix in readers:
            try:
                readers[path.suffix](path)
            except Exception as error:
                found.append(f"{path.name} ({path.stat().st_size} bytes): {type(error).__name__}")
    return found


def hidden(folder: Path) -> list[str]:
    """Temporary files that are left behind; a lock that nobody holds is none."""
    return [p.name for p in folder.rglob(".*") if p.is_file() and not p.name.endswith("lock")]


def remove(folder: Path) -> None:
    """Remove a folder, also what may not be written in."""
    for path in [folder, *folder.rglob("*")] if folder.is_dir() else ():
        if path.is_dir() and not path.is_symlink():
            path.chmod(0o700)
    shutil.rmtree(folder, ignore_errors=True)


def same(world: World, ended: Ended, out: Path) -> str:
    """What is wrong with a run that should be the reference; empty where nothing is."""
    if ended.code:
        return f"exit status {ended.code}: {ended.said.strip()[-160:]}"
    if world.reference(out) != (world.weights, world.metrics):
        return "other weights or metrics than those of an unbroken run"
    left = hidden(out)
    return f"left behind: {left[0]}" if left else ""


def nobody() -> None:
    """Give up root's right to pass over permissions."""
    if os.geteuid():
        return
    libc, head, data = ctypes.CDLL(None), (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    libc.capget(head, data)
    for part in range(3):  # CHOWN, DAC_OVERRIDE, DAC_READ_SEARCH and FOWNER are the first four
        data[part] &= ~0b1111
    if libc.capset(head, data):
        raise OSError("cannot give up rights")


def _table(rows: int = 200) -> pd.DataFrame:
    generator = np.random.default_rng(0)
    x, group = generator.normal(size=rows), generator.integers(0, 3, rows)
    frame = pd.DataFrame(
        {
            "age": np.round(40 + 10 * x + group, 1),
            "income": np.round(np.exp(x + 0.1 * group), 3),
            "visits": generator.poisson(2 + group),
            "group": np.array(["a", "b", "c"])[group],
            "smokes": np.where(x > 0, "yes", "no"),
        }
    ).astype(object)
    return frame.mask(generator.random(frame.shape) < 0.15)


def _rows(count: int) -> pa.Table:
    generator = np.random.default_rng(count)
    z = generator.normal(size=(count, 2))
    a = (z @ generator.normal(size=(2, 5))).astype("f4")
    return pa.table({"a": pa.array(list(a)), "b": pa.array((z[:, 0] > 0).astype("i8"))})


def _warm(template: Path, folder: Path) -> None:
    """Import what commands import, so that a trial costs its work alone."""
    torch.set_num_threads(1)
    for module in pkgutil.walk_packages(mvae.__path__, "mvae."):
        if "__main__" not in module.name:
            importlib.import_module(module.name)
    place, listed = Path(shutil.copytree(template, folder / "warm")), folder / "modules"
    shards = ("fit", "shards", "--config", "shards.yaml", "--epochs", "1", "--out", "shards-run")
    impute = ("impute", "out", "people.csv", "--out", "o.csv", "--samples", "2", "--refine", "1")
    each = (FIT, impute, ("sample", "out", "--out", "s.csv"), ("export", "out", "--out", "e"), shards)

    def act() -> int:
        failed = any(command(*words)() for words in each)
        listed.write_text("\n".join(sys.modules), encoding="utf-8")
        return failed

    ended = run(act, place)
    if ended.code:
        raise RuntimeError(f"mvae does not work here: {ended.said}")
    for name in listed.read_text(encoding="utf-8").split():
        with suppress(Exception):  # a name that only its own package can give
            if name not in sys.modules and not name.startswith("_"):
                importlib.import_module(name)
