"""The public `train`: a model of your own, with any encoders and decoders, on any rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError
from torch.utils.data import DataLoader

from mvae.batch import Batch
from mvae.config.folder import read_own_spec, refuse_used
from mvae.config.specs import DataSpec, OwnModelSpec, OwnRunSpec, SpecError, TrainingSpec, in_words
from mvae.data.dataset import Dataset, hold_out
from mvae.data.samples import LoadedBatches, Samples
from mvae.data.shards import Shards
from mvae.files import RunError
from mvae.modality import Modality
from mvae.models import MultimodalVAE
from mvae.training.checkpoints import finished_epochs
from mvae.training.prepare import check_training, compact, usable_rows
from mvae.training.run import Run
from mvae.training.spread import Processes

__all__ = ["train"]

Model = TypeVar("Model", bound=MultimodalVAE)
SPLIT_SEED = 0  # the validation rows are the same whatever seed a run has


def train(
    model: Model,
    data: Any,
    validation: Any = None,
    *,
    out: str | Path | None = None,
    epochs: int = 20,
    batch_size: int | None = None,
    validation_rows: int = 0,
    resume: bool = False,
    progress: bool = True,
    devices: int = 1,
    nodes: int = 1,
    **options: Any,
) -> Model:
    """Train a model, whatever its encoders and decoders are, and return it, in evaluation mode on the CPU.

    The run in `out` holds all but the model's code: `mvae.load(out, model=...)` fills a model that you build anew.

    Args:
        model: trained in place. Initial parameters and what they are seeded with are yours.
        data: the training rows: a `Dataset`; a `Batch`; a torch `Dataset` whose items are single rows, or a
            `DataLoader` whose batches are B rows: mappings of modalities to values, or pairs of such a mapping and one
            of masks. A modality that is left out, None, all NaN or masked is missing in a row.
        validation: validation rows, of any of these kinds; a `Dataset` has its own.
        out: folder to write the run to; kept nowhere where None.
        epochs: passes over the training rows.
        batch_size: rows a step, of all processes together; 100 where None. A `DataLoader` has its own.
        validation_rows: rows of a `Batch` to hold out, the same ones for every seed; the best epoch on them is kept.
        resume: continue the run in `out`, from the same rows and a model of the same shapes.
        progress: show a bar.
        devices: processes on each machine that share every batch, as for `mvae.fit`.
        nodes: machines, as for `mvae.fit`.
        options: any other option of a training: `learning_rate`, `annealing_epochs`, `patience`, `seed`, `precision`,
            ... (`mvae fit --help` lists them).

    Raises:
        ValueError: on bad options, or rows that the model cannot read, naming the modality; `RunError` if `out` is not
            usable.
        NonFiniteLossError: if training diverges.
        LostProcessError: if one of several processes dies.
        KeyboardInterrupt: on Ctrl-C, after saving the best weights so far.

    Example:
        >>> import torch
        >>> from mvae import MVAE
        >>> from mvae.likelihoods import Normal
        >>> from mvae.modality import Decoder
        >>> from mvae.networks.mlp import MLPDecoder, MLPEncoder
        >>> parts = MLPEncoder((5,), 2, (8,)), Decoder(MLPDecoder(2, 5, (8,)), Normal((5,)))
        >>> model = MVAE({"reading": Modality(*parts, latent_dim=2)}, latent_dim=2)
        >>> train(model, Batch({"reading": torch.randn(30, 5)}), epochs=1, progress=False).training
        False
    """
    loaded = isinstance(data, DataLoader)
    if loaded and batch_size is not None:
        raise ValueError("batch_size: the DataLoader has its own; leave it out")
    try:
        training = TrainingSpec(epochs=epochs, batch_size=batch_size or 100, **options)
    except ValidationError as error:
        raise SpecError("; ".join(in_words(fault) for fault in error.errors())) from None
    folder, processes = None if out is None else Path(out), Processes(devices, nodes)
    if loaded and processes.world > 1:
        raise ValueError("devices: a DataLoader is read by one process; give its rows as a Batch or a torch Dataset")
    spec = OwnRunSpec(data=DataSpec(validation_rows=validation_rows), model=described(model), training=training)
    if resume:
        _check_resumed(folder, spec)
    elif processes.first:
        refuse_used(folder)
    dataset = _dataset(model, data, validation, validation_rows)
    processes.check(training.batch_size)
    check_training(model, type(model).__name__, training, dataset)
    Run(spec, dataset, model, folder, resume, processes).train_to_the_end(progress)
    return model


def described(model: MultimodalVAE) -> OwnModelSpec:
    """What a model is, but for its code."""
    modalities: dict[str, Any] = {
        name: {"shape": list(variable.shape), "weight": variable.weight if isinstance(variable, Modality) else None}
        for name, variable in model.variables.items()
    }
    return OwnModelSpec(own=type(model).__qualname__, latent_dim=model.latent_dim, modalities=modalities)


def _check_resumed(folder: Path | None, spec: OwnRunSpec) -> None:
    """Refuse to continue a run with another model or other options than it was started with; epochs may grow."""
    if folder is None:
        raise RunError("nothing to resume: name the run's folder")
    old, new = (one.model_dump(mode="json") for one in (read_own_spec(folder), spec))
    for part in ("data", "model", "training"):
        for name in new[part]:
            if name != "epochs" and new[part][name] != old[part][name]:
                raise RunError(
                    f"{folder} was started with {part}.{name} = {old[part][name]}; it cannot be resumed with"
                    f" {new[part][name]}"
                )
    done = finished_epochs(folder)
    if spec.training.epochs < done:
        raise RunError(f"{folder} has {done} epochs already; it cannot be resumed with epochs = {spec.training.epochs}")


def _dataset(model: MultimodalVAE, data: Any, validation: Any, validation_rows: int) -> Dataset[Any]:
    """Rows of any kind as the loop reads them."""
    if validation_rows and (validation is not None or not isinstance(data, Batch)):
        raise ValueError("validation_rows: only rows of a Batch can be held out; give others as `validation`")
    if isinstance(data, Dataset):
        if validation is not None:
            raise ValueError("validation: a Dataset has validation rows of its own")
        whole = data
    elif isinstance(data, Batch):
        kept, held = hold_out(len(data), validation_rows, SPLIT_SEED)
        whole = Dataset("own rows", data[kept], data[held] if validation is None else validation, data[:0])
    else:
        whole = Dataset("own rows", data, () if validation is None else validation, ())
    whole = replace(
        whole,
        train=_as_read(model, whole.train, "data", transformed=whole.transform is not None),
        validation=_as_read(model, whole.validation, "validation"),
    )
    return usable_rows(model, type(model).__name__, whole) if isinstance(whole.train, Batch) else whole


def _as_read(model: MultimodalVAE, rows: Any, place: str, transformed: bool = False) -> Any:
    if isinstance(rows, Batch):
        return rows if transformed else compact(model, rows).blocked()
    if isinstance(rows, Shards):
        return rows.read_as(model.variables) if len(rows) else rows
    if isinstance(rows, DataLoader):
        return LoadedBatches(rows, model.checked)
    if hasattr(rows, "__getitem__") and hasattr(rows, "__len__") and not isinstance(rows, Mapping):
        return Samples(rows, model.checked) if len(rows) else ()
    raise ValueError(
        f"{place}: expected a Batch, a Dataset, a torch Dataset of known length or a DataLoader, got"
        f" {type(rows).__name__}"
    )
