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

from mvae.adam import Adam
from mvae.config.build import outline
from mvae.config.results import History
from mvae.config.specs import ModelSpec, SpecError, validated
from mvae.config.tensors import DamagedError, TensorFile, write_tensors
from mvae.files import RunError, shortened
from mvae.models import MultimodalVAE

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

    def read(self, name: str, model: MultimodalVAE | None = None) -> Checkpoint | None:
        """The checkpoint of that name, or None; where it is damaged the latest one that is not, which stderr is told.

        A `RunError` where all are damaged, or where it is not of that model.
        """
        if self.folder is None:
            return self.kept.get(name)
        path, found = _readable((self.folder / one for one in dict.fromkeys((name, LAST, PREVIOUS))), model)
        if path is not None and path.name == PREVIOUS:
            path.replace(self.folder / LAST)  # or the next epoch would leave none that can be read
        return found


def finished_epochs(run: Path, model: MultimodalVAE | ModelSpec | None = None) -> int:
    """The number of epochs that a run has finished.

    A `RunError` if an earlier version or something else wrote them, or if they are not of that model.
    """
    _, last = _readable((run / FOLDER / name for name in (LAST, PREVIOUS)), model, only_history=True)
    if last is not None:
        return len(last.history)
    if (run / FOLDER / EARLIER).exists():
        raise RunError(
            f"{run / FOLDER / EARLIER}: written by an earlier version of mvae, whose trainings cannot be continued;"
            " the weights it saved still load. Train anew in another folder"
        )
    return 0


def _readable(
    paths: Iterable[Path], model: MultimodalVAE | ModelSpec | None, only_history: bool = False
) -> tuple[Path | None, Checkpoint | None]:
    """The first file that is not damaged, and what it holds."""
    faults: list[DamagedError] = []
    for path in paths:
        try:
            found = _read(path, model, only_history)
        except FileNotFoundError:
            continue
        except DamagedError as error:
            faults.append(error)
            continue
        if faults and not only_history:
            said = f"{faults[0].said}; {path.name}, after epoch {len(found.history)}, takes its place"
            print(f"mvae: {said}", file=sys.stderr)
        return path, found
    if faults:
        raise RunError(f"{faults[0].said}; no other checkpoint can be read: train anew in another folder")
    return None, None


def _read(path: Path, model: MultimodalVAE | ModelSpec | None, only_history: bool) -> Checkpoint:
    file, expected = TensorFile(path), None
    try:
        content: Any = json.loads(file.texts[HEADER])
        validated(History, content, "")
    except (SpecError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise file.fault(f"not a checkpoint of mvae ({shortened(error)})") from error
    if isinstance(model, ModelSpec):
        model = outline(model, [name.removeprefix(MODEL) for name in file.shapes])
    if model is not None:
        expected = {f"{MODEL}{name}": value for name, value in model.state_dict().items()}
        if path.name != BEST:
            expected |= {f"{ADAM}{name}": value for name, value in Adam(model.parameters()).state().items()}
        file.check(expected)
    parts: dict[str, dict[str, Tensor]] = {MODEL: {}, ADAM: {}}
    for key, value in {} if only_history else file.read(expected).items():
        part = MODEL if key.startswith(MODEL) else ADAM
        parts[part][key.removeprefix(part)] = value
    return Checkpoint(parts[MODEL], parts[ADAM], content["history"])
