"""A run's folder: `config.json`, `model.safetensors`, `metrics.json`. Reading one never runs code from it."""

from __future__ import annotations

import zipfile
from pathlib import Path

import torch

from mvae.config.build import build_model, outline
from mvae.config.specs import OwnRunSpec, RunSpec, SpecError, parse, validated
from mvae.config.tensors import TensorFile, write_tensors
from mvae.files import ZIP_FAULTS, RunError, read_json, shortened
from mvae.models import MultimodalVAE

__all__ = ["CONFIG", "METRICS", "WEIGHTS", "load", "read_spec", "refuse_used", "root_of", "save_weights"]

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
    spec = None if model is not None else read_spec(run).model
    try:
        file = TensorFile(root_of(run) / WEIGHTS)
    except FileNotFoundError:
        raise RunError(f"{run} has no {WEIGHTS}: its training did not end; continue it with --resume") from None
    if spec is not None:
        try:
            file.check(outline(spec, file.shapes).state_dict())
            with torch.random.fork_rng(devices=[]):  # fresh parameters, which those of the run replace
                model = build_model(spec)
        except SpecError as error:
            raise SpecError(f"{root_of(run) / CONFIG}: {error}") from error
    assert model is not None
    model.load_state_dict(file.read(model.state_dict()))
    return model.cpu().eval()


def read_spec(run: str | Path, own: bool = False) -> RunSpec:
    """The spec of a run; a `RunError` if there is none, a `SpecError` if it is not valid.

    It is an `OwnRunSpec` for a run of `mvae.train`, which is refused unless `own`.
    """
    path = root_of(run) / CONFIG
    content = read_json(path)
    if not isinstance(content, dict):
        raise SpecError(f"{path}: expected an object, got {type(content).__name__}")
    if own and "own" in (content.get("model") or {}):
        return validated(OwnRunSpec, content, str(path))
    return parse(content, str(path))


def root_of(run: str | Path) -> Path | zipfile.Path:
    """The folder of a run, or the root of its zip."""
    if Path(run).suffix != ".zip" or not Path(run).is_file():
        return Path(run)
    try:
        return zipfile.Path(run)
    except (OSError, ValueError, *ZIP_FAULTS) as error:
        raise RunError(f"{run}: damaged ({shortened(error)})") from error


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
