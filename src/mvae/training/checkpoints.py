"""Checkpoints: tensors and JSON in one safetensors file each, written whole or not at all. Reading one runs no code."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from mvae.config.folder import write_tensors
from mvae.files import RunError

__all__ = ["BEST", "LAST", "Checkpoint", "Checkpoints", "finished_epochs"]

FOLDER = "checkpoints"
LAST, PREVIOUS, BEST = "last.safetensors", "previous.safetensors", "best.safetensors"
EARLIER = "last.ckpt"
HEADER = "mvae"
MODEL, ADAM = "model.", "adam."


class Checkpoint(NamedTuple):
    """The state of a training after an epoch."""

    weights: dict[str, Tensor]
    """The model's `state_dict`."""
    adam: dict[str, Tensor]
    """The optimiser's; empty in a checkpoint of the best epoch, which is never continued."""
    history: list[dict[str, float]]
    """One record for each epoch that is done."""


class Checkpoints:
    """The last and the best state of a run: in its folder, or in memory where it has none."""

    def __init__(self, run: Path | None) -> None:
        self.folder = None if run is None else run / FOLDER
        self.kept: dict[str, Checkpoint] = {}

    def save(self, name: str, checkpoint: Checkpoint) -> None:
        """Keep a checkpoint under a name, `LAST` or `BEST`, in place of the one before."""
        if self.folder is None:
            weights = {key: value.detach().clone() for key, value in checkpoint.weights.items()}
            self.kept[name] = Checkpoint(weights, {}, [*checkpoint.history])
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        tensors = {f"{MODEL}{key}": value for key, value in checkpoint.weights.items()}
        tensors |= {f"{ADAM}{key}": value for key, value in checkpoint.adam.items()}
        if name == LAST:  # the one before stays, as another name of the same file, until the next is written
            with suppress(OSError):  # a file system may have no second names
                (self.folder / PREVIOUS).unlink(missing_ok=True)
                os.link(self.folder / LAST, self.folder / PREVIOUS)
        write_tensors(self.folder / name, tensors, {HEADER: json.dumps({"history": checkpoint.history})})

    def read(self, name: str) -> Checkpoint | None:
        """The checkpoint of that name, or None; where it is damaged the latest one that is not, which stderr is told.

        A `RunError` where all are damaged.
        """
        if self.folder is None:
            return self.kept.get(name)
        path, found = _readable(self.folder / one for one in dict.fromkeys((name, LAST, PREVIOUS)))
        if path is not None and path.name == PREVIOUS:
            path.replace(self.folder / LAST)  # or the next epoch would leave none that can be read
        return found


def finished_epochs(run: Path) -> int:
    """The number of epochs that a run has finished; a `RunError` if an earlier version or something else wrote them."""
    _, last = _readable((run / FOLDER / name for name in (LAST, PREVIOUS)), only_history=True)
    if last is not None:
        return len(last.history)
    if (run / FOLDER / EARLIER).exists():
        raise RunError(
            f"{run / FOLDER / EARLIER}: written by an earlier version of mvae, whose trainings cannot be continued;"
            " the weights it saved still load. Train anew in another folder"
        )
    return 0


def _readable(paths: Iterable[Path], only_history: bool = False) -> tuple[Path | None, Checkpoint | None]:
    """The first file that can be read, and what it holds."""
    faults: list[RunError] = []
    for path in paths:
        try:
            found = _read(path, tensors=not only_history) if path.exists() else None
        except RunError as error:
            faults.append(error)
            continue
        if found is not None:
            if faults and not only_history:
                said = f"{faults[0]}; {path.name}, after epoch {len(found.history)}, takes its place"
                print(f"mvae: {said}", file=sys.stderr)
            return path, found
    if faults:
        raise RunError(f"{faults[0]}; no other checkpoint can be read: train anew in another folder")
    return None, None


def _read(path: Path, tensors: bool = True) -> Checkpoint:
    from safetensors import SafetensorError, safe_open

    parts: dict[str, dict[str, Tensor]] = {MODEL: {}, ADAM: {}}
    try:
        with safe_open(path, "pt") as file:
            content: Any = json.loads((file.metadata() or {})[HEADER])
            for key in file.keys() if tensors else ():  # the file is no mapping
                part = MODEL if key.startswith(MODEL) else ADAM
                parts[part][key.removeprefix(part)] = file.get_tensor(key)
        history = content["history"]
        if not all(isinstance(record["epoch"], int) for record in history):
            raise TypeError("an epoch's number is not an integer")
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise RunError(f"{path}: not a checkpoint of mvae, or damaged ({str(error)[:200]})") from error
    return Checkpoint(parts[MODEL], parts[ADAM], history)
