"""The options of a run that is resumed: those it was started with, and more epochs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mvae.config.folder import read_spec
from mvae.config.recipes import merge, read_config, resolve
from mvae.config.specs import DataSpec, ModelSpec, OwnRunSpec, RunSpec, parse
from mvae.data.sources import SOURCES
from mvae.files import RunError, shortened
from mvae.models import METHODS, MultimodalVAE
from mvae.training.checkpoints import finished_epochs

__all__ = ["check_resumed", "resumed"]

EPOCHS, ANNEALING = ("training", "epochs"), ("training", "annealing_epochs")


def resumed(
    source: str | None,
    folder: Path | None,
    config: str | Path | Mapping[str, Any] | None,
    options: Mapping[tuple[str, ...], Any],
) -> RunSpec:
    """The spec of a run, with the epochs asked for, which may be more; a `RunError` names what else differs."""
    folder = _named(folder)
    spec = read_spec(folder)
    if not _may_be_same(source, spec.data):
        raise RunError(f"{folder} is a run on {shortened(spec.data.source)}, not on {source}")
    options = {place: value for place, value in options.items() if value is not None}
    content = spec.model_dump(mode="json")
    kept = {ANNEALING: spec.training.annealing_epochs}  # more epochs do not stretch what has begun
    asked = resolve(None, merge(content, read_config(config)), kept | options).model_dump(mode="json")
    if spec.data.fingerprint and spec.data.table:  # the names of joined tables may be others too
        content["data"]["table"]["join"] = asked["data"]["table"]["join"]
    _refuse_other(folder, content, asked)
    epochs = options.get(EPOCHS, spec.training.epochs)
    stages = METHODS[spec.model.method].num_stages
    if stages > 1 and epochs != spec.training.epochs:
        raise RunError(
            f"{folder} trains in {stages} stages of equally many epochs; it cannot be resumed with another number than"
            f" {spec.training.epochs}"
        )
    _refuse_fewer(folder, epochs, spec.model)
    content["training"]["epochs"] = epochs
    return parse(content, str(folder))


def _may_be_same(source: str | None, data: DataSpec) -> bool:
    """Whether a source may be that of a run; what it holds is compared by its fingerprint, where the run has one."""
    if source == data.source or source is None or data.source is None or {source, data.source} & SOURCES.keys():
        return source == data.source
    return data.fingerprint is not None or Path(source).resolve() == Path(data.source).resolve()


def check_resumed(folder: Path | None, spec: OwnRunSpec, model: MultimodalVAE) -> None:
    """Refuse to continue a run of `mvae.train` with another model or other options than it has; epochs may be more.

    A `RunError` names what differs.
    """
    folder = _named(folder)
    _refuse_other(folder, *(one.model_dump(mode="json") for one in (read_spec(folder, own=True), spec)))
    _refuse_fewer(folder, spec.training.epochs, model)


def _named(folder: Path | None) -> Path:
    if folder is None:
        raise RunError("nothing to resume: name the run's folder")
    return folder


def _refuse_other(folder: Path, content: Any, asked: Any) -> None:
    for place, old, new in _differing(content, asked):
        if place != EPOCHS:
            at, was, now = (shortened(one, 100) for one in (".".join(place), old, new))
            raise RunError(f"{folder} was started with {at} = {was}; it cannot be resumed with {now}")


def _differing(old: Any, new: Any, place: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any, Any]]:
    """Each place at which two contents differ, with what they have there."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in {**old, **new}:
            yield from _differing(old.get(key), new.get(key), (*place, key))
    elif old != new:
        yield place, old, new


def _refuse_fewer(folder: Path, epochs: int, model: MultimodalVAE | ModelSpec) -> None:
    done = finished_epochs(folder, model)
    if epochs < done:
        raise RunError(f"{folder} has {done} epochs already; it cannot be resumed with training.epochs = {epochs}")
