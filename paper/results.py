"""Results on disk: one JSON file an experiment, cell by cell, with what made them."""

import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

from mvae import __version__
from mvae.files import RunError, held, read_json, write_json


class Results:
    """The cells of an experiment in a JSON file, each kept as soon as it is finished.

    With `resume` the cells of a file that exists are kept, if its settings are the same as far as they go: what a
    preset says of another data set changes no cell of the old ones. Else it is refused with a `RunError`.
    """

    def __init__(self, path: Path, settings: dict[str, Any], resume: bool = False) -> None:
        self.path = path
        self.content: dict[str, Any] = {"settings": settings, "provenance": provenance(), "cells": []}
        if path.exists():
            if not resume:
                raise RunError(f"{path} is already there; move it away, or keep its finished cells with --resume")
            old = read_json(path)
            if not _among(old.get("settings"), settings):
                raise RunError(f"{path} was made with other settings; move it away")
            self.content = old | {"settings": settings, "provenance": provenance()}
        path.parent.mkdir(parents=True, exist_ok=True)

    @property
    def cells(self) -> list[dict[str, Any]]:
        """The finished cells."""
        return self.content["cells"]

    def has(self, **key: Any) -> bool:
        """Whether a cell with these values is finished."""
        return any(all(cell.get(name) == value for name, value in key.items()) for cell in self.cells)

    def add(self, cell: dict[str, Any]) -> None:
        """Keep a finished cell, and those that another command has added to the file since it was read."""
        with held(self.path, wait=True):
            if self.path.exists():
                self.cells.extend(other for other in read_json(self.path)["cells"] if other not in self.cells)
            self.cells.append(cell)
            self.save()

    def save(self) -> None:
        """Write the file."""
        write_json(self.path, self.content)


def _among(old: Any, new: Any) -> bool:
    """Whether all that the old settings say, the new ones say too."""
    if isinstance(old, dict) and isinstance(new, dict):
        return all(name in new and _among(value, new[name]) for name, value in old.items())
    return bool(old == new)


def provenance() -> dict[str, Any]:
    """The command, without the folders of this machine, commit, versions and machine of this process."""
    return {
        "command": _command(sys.argv[1:]),
        "commit": _commit(),
        "mvae": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "machine": f"{_processor()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads used",
        "accelerator": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def _command(arguments: Sequence[str]) -> str:
    """What another machine would run: options whose value is a place on this one are left out."""
    words = [word for one in arguments for word in (one.split("=", 1) if one.startswith("--") else [one])]
    places = {at for at, (one, value) in enumerate(pairwise(words)) if one[:2] == "--" and Path(value).is_absolute()}
    kept = [word for at, word in enumerate(words) if not places & {at, at - 1}]
    return " ".join(["python -m paper", *kept])


def _commit() -> str:
    """The commit of this code, marked where the code, and not only results beside it, is another."""
    root = Path(__file__).parents[1]

    def said(*command: str) -> str:
        return subprocess.run(["git", *command], cwd=root, capture_output=True, text=True, check=True).stdout.strip()

    try:
        commit = said("rev-parse", "--short=12", "HEAD")
        return f"{commit}-dirty" if said("status", "--porcelain", "--", "src", "paper", ":!paper/results") else commit
    except (OSError, subprocess.CalledProcessError):
        return f"not in a git checkout; mvae {__version__}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
