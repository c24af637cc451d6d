"""What a run that is resumed may be asked for: what it was started with, and more epochs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mvae.config.folder import read_spec
from mvae.config.recipes import merge, read_config, resolve
from mvae.config.specs import RunSpec
from mvae.files import RunError
from mvae.models import METHODS
from mvae.training.checkpoints import finished_epochs

__all__ = ["resumed"]

EPOCHS, ANNEALING = ("training", "epochs"), ("training", "annealing_epochs")


def resumed(
    source: str | None,
    folder: Path | None,
    config: str | Path | Mapping[str, Any] | None,
    options: Mapping[tuple[str, ...], Any],
) -> RunSpec:
    """The spec a run has, once it is sure that what is asked for does not contradict it. Epochs may grow."""
    if folder is None:
        raise RunError("nothing to resume: name the run's folder")
    spec = read_spec(folder)
    if source != spec.data.source:
        raise RunError(f"{folder} is a run on {spec.data.source}, not on {source}")
    options = {place: value for place, value in options.items() if value is not None}
    content = spec.model_dump(mode="json")
    changes = read_config(config)
    kept = {ANNEALING: spec.training.annealing_epochs}  # more epochs do not stretch what has begun
    asked = resolve(None, merge(content, changes), kept | options).model_dump(mode="json")
    for place in sorted({*_places(changes), *options} - {EPOCHS, *(kept if ANNEALING not in options else ())}):
        new, old = _at(asked, place), _at(content, place)
        if new != old:
            raise RunError(f"{folder} was started with {'.'.join(place)} = {old}; it cannot be resumed with {new}")
    epochs, done = options.get(EPOCHS, spec.training.epochs), finished_epochs(folder)
    stages = METHODS[spec.model.method].num_stages if spec.model.method in METHODS else 1
    if stages > 1 and epochs != spec.training.epochs:
        raise RunError(
            f"{folder} trains in {stages} stages of equally many epochs; it cannot be resumed with another number than"
            f" {spec.training.epochs}"
        )
    if epochs < done:
        raise RunError(f"{folder} has {done} epochs already; it cannot be resumed with training.epochs = {epochs}")
    return spec.model_copy(update={"training": spec.training.model_copy(update={"epochs": epochs})})


def _places(content: Mapping[str, Any], above: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    places = []
    for key, value in content.items():
        places += _places(value, (*above, key)) if isinstance(value, Mapping) else [(*above, key)]
    return places


def _at(content: Any, place: tuple[str, ...]) -> Any:
    for key in place:
        content = content.get(key) if isinstance(content, Mapping) else None
    return content
