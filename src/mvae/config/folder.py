"""A run's folder: `config.json`, `model.safetensors`, `metrics.json`. Reading one never runs code from it."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

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
    "is_own",
    "load",
    "read_own_spec",
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
    from safetensors.torch import load_file

    if model is None:
        with torch.random.fork_rng(devices=[]):  # fresh parameters, which those of the run replace
            model = build_model(read_spec(run).model)
    path = Path(run) / WEIGHTS
    zipped = _zipped(run, WEIGHTS)
    if zipped is None and not path.is_file():
        raise RunError(f"{run} has no {WEIGHTS}: its training did not end; continue it with --resume")
    try:
        weights = load_file(path) if zipped is None else load_bytes(zipped)
    except (SafetensorError, OSError) as error:
        raise RunError(f"{path}: damaged ({error})") from error
    fill(model, weights, path)
    return model.cpu().eval()


def fill(model: MultimodalVAE, weights: Mapping[str, Tensor], path: Path) -> None:
    """Give a model the weights that a file holds.

    Raises:
        RunError: if they are another model's, naming the file and the tensor.
    """
    found, expected = ({name: tuple(one.shape) for name, one in part.items()} for part in (weights, model.state_dict()))
    for name in sorted(expected.keys() | found.keys()):
        if name not in found:
            raise RunError(f"{path}: tensor '{name}' is missing")
        if name not in expected:
            raise RunError(f"{path}: tensor '{name}' is not part of the model")
        if found[name] != expected[name]:
            raise RunError(f"{path}: tensor '{name}' has shape {found[name]}, the model has {expected[name]}")
    model.load_state_dict(weights)


def read_spec(run: str | Path) -> RunSpec:
    """The spec of a run.

    Raises:
        RunError: if there is no run, or its config is not JSON; `SpecError` if it is not valid.
    """
    return parse(*_config(run))


def read_own_spec(run: str | Path) -> OwnRunSpec:
    """The spec of a run of `mvae.train`; errors are those of `read_spec`."""
    return validated(OwnRunSpec, *_config(run))


def is_own(run: str | Path) -> bool:
    """Whether a run is one of `mvae.train`, which does not hold its model's code."""
    return "own" in (_config(run)[0].get("model") or {})


def refuse_used(folder: Path | None) -> None:
    """Refuse a folder that holds anything but the remains of a write that was cut short.

    Raises:
        RunError: naming the folder.
    """
    if folder is None or not folder.exists():
        return
    if not folder.is_dir() or any(not path.name.startswith(".") for path in folder.iterdir()):
        what = "holds a run already; continue it with --resume or" if (folder / CONFIG).exists() else "is not empty;"
        raise RunError(f"{folder} {what} choose another folder")


def _config(run: str | Path) -> tuple[dict[str, Any], str]:
    path, zipped = Path(run) / CONFIG, _zipped(run, CONFIG)
    content = read_json(path) if zipped is None else json.loads(zipped)
    if not isinstance(content, dict):
        raise SpecError(f"{path}: expected an object, got {type(content).__name__}")
    return content, str(path)


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
    write_tensors(Path(run) / WEIGHTS, model.state_dict())


def write_tensors(path: Path, tensors: Mapping[str, Tensor], header: dict[str, str] | None = None) -> None:
    """Write tensors to a safetensors file, from whatever device; the header is text, by name."""
    from safetensors.torch import save_file

    with atomic(path) as temporary:
        save_file({name: value.detach().cpu().contiguous() for name, value in tensors.items()}, temporary, header)
