"""The public `train`: a model of your own, with any encoders and decoders, on any rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, TypeVar

from torch.utils.data import DataLoader

from mvae.batch import Batch
from mvae.config.folder import refuse_used
from mvae.config.options import OPTIONS, placed
from mvae.config.specs import OwnRunSpec, validated
from mvae.data.dataset import SPLIT_SEED, Dataset, hold_out
from mvae.data.samples import LoadedBatches, Samples
from mvae.data.shards import Shards
from mvae.files import refuse_held
from mvae.models import MultimodalVAE
from mvae.training.prepare import check_training, compact, usable_rows
from mvae.training.resume import check_resumed
from mvae.training.run import Run
from mvae.training.spread import Processes

__all__ = ["train"]

Model = TypeVar("Model", bound=MultimodalVAE)


# The options from `paired_share` on are written by `scripts/write_options.py`, as those of `fit` are.
def train(
    model: Model,
    data: Any,
    validation: Any = None,
    *,
    out: str | Path | None = None,
    validation_rows: int = 0,
    epochs: int | None = None,
    passes: int | None = None,
    batch_size: int | None = None,
    learning_rate: float | None = None,
    schedule: Literal["constant", "cosine"] | None = None,
    annealing_epochs: int | None = None,
    annealing_cycles: int | None = None,
    keep: Literal["best", "last"] | None = None,
    best_by: str | None = None,
    patience: int | None = None,
    precision: Literal["float32", "bfloat16", "auto"] | None = None,
    compile: bool | None = None,  # noqa: A002
    seed: int | None = None,
    paired_share: float | None = None,
    shares: Mapping[str, float] | None = None,
    completion: float | None = None,
    sharpness: float | None = None,
    propagation: float | None = None,
    neighbours: int | None = None,
    surest: float | None = None,
    smoothness: float | None = None,
    radius: float | None = None,
    resume: bool = False,
    progress: bool = True,
    devices: int = 1,
    nodes: int = 1,
) -> Model:
    """Train a model, whatever its encoders and decoders are, and return it, in evaluation mode on the CPU.

    The run in `out` holds all but the model's code: `mvae.load(out, model=...)` fills a model that you build anew. An
    option left at None has its default (docs/options.md); `epochs` has 20.

    Args:
        model: trained in place. Initial parameters, and the seed they are drawn from, are yours.
        data: the training rows: a `Dataset`; a `Batch`; a torch `Dataset` whose items are single rows, or a
            `DataLoader` whose batches are B rows: mappings of modalities to values, or pairs of such a mapping and one
            of masks. A modality that is left out, None, all NaN or masked is missing in a row.
        validation: validation rows, of any of these kinds; a `Dataset` has its own.
        out: folder to write the run to; kept nowhere where None.
        validation_rows: rows of a `Batch` to hold out, the same ones for every seed; the best epoch on them is kept.
        epochs: epochs of training; annealing keeps its share of them unless it is given too.
        passes: passes over the training rows in an epoch, more than one where rows are few.
        batch_size: rows a step, of all processes together.
        learning_rate: learning rate of Adam.
        schedule: learning rate: constant, or constant for half of the steps, then down to 1 % along half a cosine.
        annealing_epochs: epochs over which beta, the weight of the KL terms, rises from 0 to 1.
        annealing_cycles: how often beta rises in these epochs; in each of several cycles it stays at 1 for the second
            half.
        keep: keep the weights of the epoch with the best validation, or of the last epoch.
        best_by: keep the epoch that predicts this category or string best from the rest, in place of the best ELBO.
        patience: stop after this many epochs without a better validation.
        precision: precision of the networks' matrix products; auto: bfloat16 where the processor computes in it, which
            is then faster (and else far slower), float32 elsewhere.
        compile: compile the networks with torch.compile first, which needs a C++ compiler.
        seed: seed of initialisation, order, draws and the choice of complete rows.
        paired_share: fill this share of each batch with complete rows, however few; short for shares of complete alone.
        shares: share of each batch by what rows have, complete or names joined by +, e.g. complete=0.25 image=0.5
            (default: as they come).
        completion: weight of rows with a missing category, completed with the model's own guess; 0 is the paper's
            method.
        sharpness: sharpness of the guess of completion: 1 draws from p(y | x), more makes it surer.
        propagation: weight of rows with a missing category, given the class of rows near them in z; 0 is the paper's
            method.
        neighbours: neighbours of each row in z over which propagation spreads classes.
        surest: share of the rows with a missing class that propagation trains on, the surest first.
        smoothness: weight of virtual adversarial training, by which a category's guess changes little where what it is
            guessed from does; 0 is the paper's method.
        radius: Euclidean length of the changes that smoothness looks at, in the data's units.
        resume: continue the run in `out`, from the same rows and a model of the same shapes.
        progress: show a bar.
        devices: processes on each machine that share every batch, as for `mvae.fit`.
        nodes: machines, as for `mvae.fit`.

    Raises:
        ValueError: on bad options, or rows that the model cannot read, naming the modality; `RunError` if `out` is not
            usable.
        NonFiniteLossError: if training diverges.
        LostProcessError: if one of several processes dies.
        KeyboardInterrupt: on Ctrl-C, after saving the best weights so far.

    Example:
        >>> import torch
        >>> from mvae import MVAE, Batch, Modality
        >>> from mvae.likelihoods import Normal
        >>> from mvae.modality import Decoder
        >>> from mvae.networks.mlp import MLPDecoder, MLPEncoder
        >>> parts = MLPEncoder((5,), 2, (8,)), Decoder(MLPDecoder(2, 5, (8,)), Normal((5,)))
        >>> model = MVAE({"reading": Modality(*parts, latent_dim=2)}, latent_dim=2)
        >>> train(model, Batch({"reading": torch.randn(30, 5)}), epochs=1, progress=False).training
        False
    """
    given = {name: value for name, value in locals().items() if name in OPTIONS and name != "validation_rows"}
    training = {"epochs": 20} | {place[1]: value for place, value in placed(given).items()}
    folder, processes = None if out is None else Path(out), Processes(devices, nodes)
    if isinstance(data, DataLoader):
        if batch_size is not None:
            raise ValueError("batch_size: the DataLoader has its own; leave it out")
        if processes.world > 1:
            raise ValueError("devices: one process reads a DataLoader; give its rows as a Batch or a torch Dataset")
    modalities = {
        name: {"shape": list(variable.shape), "weight": getattr(variable, "weight", None)}
        for name, variable in model.variables.items()
    }
    described = {"own": type(model).__qualname__, "latent_dim": model.latent_dim, "modalities": modalities}
    content = {"data": {"validation_rows": validation_rows}, "model": described, "training": training}
    spec = validated(OwnRunSpec, content, "")
    if processes.first:
        refuse_held(folder)
    if resume:
        check_resumed(folder, spec, model)
    elif processes.first:
        refuse_used(folder)
    dataset = _dataset(model, data, validation, validation_rows)
    processes.check(spec.training.batch_size)
    check_training(model, type(model).__name__, spec.training, dataset)
    Run(spec, dataset, model, folder, resume, processes).train_to_the_end(progress)
    return model


def _dataset(model: MultimodalVAE, data: Any, validation: Any, validation_rows: int) -> Dataset[Any]:
    """Rows of any kind as the loop reads them."""
    if validation_rows and (validation is not None or not isinstance(data, Batch)):
        raise ValueError("validation_rows: only rows of a Batch can be held out; give others as `validation`")
    if isinstance(data, Dataset):
        if validation is not None:
            raise ValueError("validation: a Dataset has validation rows of its own")
        dataset = data
    elif isinstance(data, Batch):
        kept, held = hold_out(len(data), validation_rows, SPLIT_SEED)
        dataset = Dataset("own rows", data[kept], data[held] if validation is None else validation, data[:0])
    else:
        dataset = Dataset("own rows", data, () if validation is None else validation, ())
    train = _as_read(model, dataset.train, "data", transformed=dataset.transform is not None)
    dataset = replace(dataset, train=train, validation=_as_read(model, dataset.validation, "validation"))
    return usable_rows(model, type(model).__name__, dataset) if isinstance(train, Batch) else dataset


def _as_read(model: MultimodalVAE, rows: Any, place: str, transformed: bool = False) -> Any:
    if isinstance(rows, Batch):
        return rows if transformed else compact(model, rows)
    if isinstance(rows, Shards):
        return rows.read_as(model.variables) if len(rows) else rows
    if isinstance(rows, DataLoader):
        return LoadedBatches(rows, model.checked)
    if hasattr(rows, "__getitem__") and hasattr(rows, "__len__") and not isinstance(rows, Mapping):
        return Samples(rows, model.checked) if len(rows) else ()
    expected = "a Batch, a Dataset, a torch Dataset of known length or a DataLoader"
    raise ValueError(f"{place}: expected {expected}, got {type(rows).__name__}")
