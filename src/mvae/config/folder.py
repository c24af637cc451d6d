"""A run's folder: `config.json`, `model.safetensors`, `metrics.json`. Reading one never runs code from it."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from mvae.config.build import build_model
from mvae.config.specs import OwnRunSpec, RunSpec, SpecError, parse, validated
from mvae.files import RunError, atomic, read_json
from mvae.models import MultimodalVAE

__all__ = [
    "CONFIG",
    "METRICS",
    "WEIGHTS",
    "fill",
    "load",
    "read_spec",
    "refuse_used",
    "save_weights",
    "write_tensors",
]

CONFIG, WEIGHTS, METRICS = "config.json", "model.safetensors", "metrics.json"


def load(run: str | Path, model: MultimodalVAE | None = None) -> MultimodalVAE:
    """The trained model of a run, in evaluation mode, on the CPU.

    Args:
        run: the folder that `mvae.fit`, `mvae.train` or `mvae fit --out` wrote, or what `mvae export` made of it, a
            zip too.
        model: a model to fill with the weights; needed for a run of `mvae.train`, whose networks are your own. It is
            built as the run's config says where None.

    Raises:
        RunError: if a file is missing or damaged, or the weights do not fit the config, naming the tensor.
        SpecError: if the config is not valid or of another format version.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load as load_bytes

    if model is None:
        with torch.random.fork_rng(devices=[]):  # fresh parameters, which those of the run replace
            model = build_model(read_spec(run).model)
    path = _root(run) / WEIGHTS
    if not path.is_file():
        raise RunError(f"{run} has no {WEIGHTS}: its training did not end; continue it with --resume")
    try:
        weights = load_bytes(path.read_bytes())
    except (SafetensorError, OSError, zipfile.BadZipFile) as error:
        raise RunError(f"{path}: damaged ({error})") from error
    fill(model, weights, path)
    return model.cpu().eval()


def fill(model: MultimodalVAE, weights: Mapping[str, Tensor], path: Path | zipfile.Path) -> None:
    """Give a model the weights that a file holds; a `RunError` names a tensor that is not the model's."""
    found, expected = ({name: tuple(one.shape) for name, one in part.items()} for part in (weights, model.state_dict()))
    for name in sorted(expected.keys() | found.keys()):
        if name not in found:
            raise RunError(f"{path}: tensor '{name}' is missing")
        if name not in expected:
            raise RunError(f"{path}: tensor '{name}' is not part of the model")
        if found[name] != expected[name]:
            raise RunError(f"{path}: tensor '{name}' has shape {found[name]}, the model has {expected[name]}")
    model.load_state_dict(weights)


def read_spec(run: str | Path, own: bool = False) -> RunSpec:
    """The spec of a run; a `RunError` if there is none, a `SpecError` if it is not valid.

    It is an `OwnRunSpec` for a run of `mvae.train`, which is refused unless `own`.
    """
    path = _root(run) / CONFIG
    content = read_json(path)
    if not isinstance(content, dict):
        raise SpecError(f"{path}: expected an object, got {type(content).__name__}")
    if own and "own" in (content.get("model") or {}):
        return validated(OwnRunSpec, content, str(path))
    return parse(content, str(path))


def _root(run: str | Path) -> Path | zipfile.Path:
    """The folder of a run, or the root of its zip."""
    if Path(run).suffix != ".zip" or not Path(run).is_file():
        return Path(run)
    try:
        return zipfile.Path(run)
    except (OSError, zipfile.BadZipFile) as error:
        raise RunError(f"{run}: damaged ({error})") from error


def refuse_used(folder: Path | None) -> None:
    """Refuse a folder that holds anything but the remains of a write that was cut short, by a `RunError`."""
    if folder is None or not folder.exists():
        return
    if not folder.is_dir() or any(not path.name.startswith(".") for path in folder.iterdir()):
        what = "holds a run already; continue it with --resume or" if (folder / CONFIG).exists() else "is not empty;"
        raise RunError(f"{folder} {what} choose another folder")


def save_weights(model: MultimodalVAE, run: str | Path) -> None:
    """Write `model.safetensors`."""
    write_tensors(Path(run) / WEIGHTS, model.state_dict())


def write_tensors(path: Path, tensors: Mapping[str, Tensor], header: dict[str, str] | None = None) -> None:
    """Write tensors to a safetensors file, from whatever device; the header is text, by name."""
    from safetensors.torch import save_file

    with atomic(path) as temporary:
        save_file({name: value.detach().cpu().contiguous() for name, value in tensors.items()}, temporary, header)
