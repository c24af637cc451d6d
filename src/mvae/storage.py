"""A run's folder: `config.json`, `model.safetensors`, `metrics.json`. Reading one never runs code from it."""

from __future__ import annotations

import json
import os
import tempfile
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from mvae.building import build_model
from mvae.models import MultimodalVAE
from mvae.specs import RunSpec, SpecError, parse

__all__ = [
    "CONFIG",
    "METRICS",
    "WEIGHTS",
    "RunError",
    "atomic",
    "load",
    "read_json",
    "read_spec",
    "refuse_existing",
    "save_weights",
    "write_json",
    "write_text",
]

CONFIG, WEIGHTS, METRICS = "config.json", "model.safetensors", "metrics.json"


class RunError(ValueError):
    """A run's folder cannot be used; the message names it and why."""


def load(run: str | Path) -> MultimodalVAE:
    """The trained model of a run, in evaluation mode, on the CPU.

    Args:
        run: the folder that `mvae.fit` or `mvae fit --out` wrote, or what `mvae export` made of it, a zip too.

    Raises:
        RunError: if a file is missing or damaged, or the weights do not fit the config, naming the tensor.
        SpecError: if the config is not valid or of another format version.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load as load_bytes
    from safetensors.torch import load_file

    with torch.random.fork_rng(devices=[]):  # the fresh parameters, which give way to those of the run
        model = build_model(read_spec(run).model)
    path = Path(run) / WEIGHTS
    zipped = _zipped(run, WEIGHTS)
    if zipped is None and not path.is_file():
        raise RunError(f"{run} has no {WEIGHTS}: its training did not end; continue it with --resume")
    try:
        weights = load_file(path) if zipped is None else load_bytes(zipped)
    except (SafetensorError, OSError) as error:
        raise RunError(f"{path}: damaged ({error})") from error
    expected = model.state_dict()
    for name in sorted(expected.keys() | weights.keys()):
        if name not in weights:
            raise RunError(f"{path}: tensor '{name}' is missing")
        if name not in expected:
            raise RunError(f"{path}: tensor '{name}' is not part of the model in {CONFIG}")
        if weights[name].shape != expected[name].shape:
            raise RunError(
                f"{path}: tensor '{name}' has shape {tuple(weights[name].shape)}, the model in {CONFIG} has"
                f" {tuple(expected[name].shape)}"
            )
    model.load_state_dict(weights)
    return model.eval()


def read_spec(run: str | Path) -> RunSpec:
    """What a run was made of.

    Raises:
        RunError: if there is no run, or its config is not JSON; `SpecError` if it is not valid.
    """
    path, zipped = Path(run) / CONFIG, _zipped(run, CONFIG)
    content = read_json(path) if zipped is None else json.loads(zipped)
    if not isinstance(content, dict):
        raise SpecError(f"{path}: expected an object, got {type(content).__name__}")
    return parse(content, str(path))


def _zipped(run: str | Path, name: str) -> bytes | None:
    """A file of a run in a zip; None where the run is no zip."""
    if Path(run).suffix != ".zip" or not Path(run).is_file():
        return None
    try:
        with zipfile.ZipFile(run) as archive:
            return archive.read(name)
    except KeyError:
        raise RunError(f"{run} is not a run: it has no {name}") from None
    except (OSError, zipfile.BadZipFile) as error:
        raise RunError(f"{run}: damaged ({error})") from error


def save_weights(model: MultimodalVAE, run: str | Path) -> None:
    """Write `model.safetensors`."""
    from safetensors.torch import save_file

    with atomic(Path(run) / WEIGHTS) as temporary:
        save_file({name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}, temporary)


def read_json(path: Path) -> Any:
    """The contents of a JSON file.

    Raises:
        RunError: if it is missing or not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RunError(f"{path.parent} is not a run: it has no {path.name}") from None
    except (OSError, ValueError) as error:
        raise RunError(f"{path}: not readable as JSON: {error}") from error


def refuse_existing(paths: Iterable[Path]) -> None:
    """Refuse to write over files.

    Raises:
        ValueError: naming the first that is there.
    """
    for path in paths:
        if path.exists():
            raise ValueError(f"{path} is already there; choose another name")


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file, whole or not at all."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, renamed to it when the block ends well and removed when it does not."""
    if not path.parent.is_dir():
        raise RunError(f"{path}: there is no folder {path.parent}")
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o644)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
