"""A run: from a source and options to a trained model in a folder. The public `fit`."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch

from mvae.building import build_model
from mvae.data.batch import Batch
from mvae.data.files import DataError
from mvae.data.loading import COMPLETE, grouped
from mvae.data.shards import Shards, open_shards
from mvae.data.sources import SOURCES, load_dataset
from mvae.data.splits import Dataset
from mvae.experiments.recipes import for_method, merge, read_config, resolve
from mvae.models import METHODS, MultimodalVAE
from mvae.processes import ALONE, Processes
from mvae.specs import RunSpec, SpecError, parse
from mvae.storage import CONFIG, METRICS, RunError, read_spec, save_weights, write_json
from mvae.tables.reading import is_table

__all__ = ["Outcome", "Run", "fit", "prepare"]

OPTIONS: dict[str, tuple[str, ...]] = {
    "method": ("model", "method"),
    "latent_dim": ("model", "latent_dim"),
    "subsets": ("model", "subsets"),
    "reconstruct": ("model", "reconstruct"),
    "target": ("model", "target"),
    "alpha": ("model", "alpha"),
    "mu": ("model", "mu"),
    "validation_rows": ("data", "validation_rows"),
    "paired_fraction": ("data", "paired_fraction"),
    "balance": ("data", "balance"),
    "binarisation": ("data", "binarisation"),
    "data_options": ("data", "options"),
    "epochs": ("training", "epochs"),
    "batch_size": ("training", "batch_size"),
    "learning_rate": ("training", "learning_rate"),
    "annealing_epochs": ("training", "annealing_epochs"),
    "shares": ("training", "shares"),
    "completion": ("training", "completion"),
    "propagation": ("training", "propagation"),
    "smoothness": ("training", "smoothness"),
    "best_by": ("training", "best_by"),
    "patience": ("training", "patience"),
    "precision": ("training", "precision"),
    "compile": ("training", "compile"),
    "seed": ("training", "seed"),
}
"""The options of `fit` by name, and their places in a `RunSpec`."""
LOOK = 100
"""Rows of a folder that are read and checked before training."""
MOST_NUMBERS = 2**28
"""How many numbers of rows on disk are read into memory at once; 1 GiB."""
EPOCHS, ANNEALING = ("training", "epochs"), ("training", "annealing_epochs")


def fit(
    source: Any = "digits",
    *,
    out: str | Path | None = None,
    columns: Mapping[str, Any] | None = None,
    groups: Mapping[str, Sequence[str]] | None = None,
    join: Sequence[str | Path] = (),
    on: str | None = None,
    method: str | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    latent_dim: int | None = None,
    learning_rate: float | None = None,
    annealing_epochs: int | None = None,
    subsets: int | None = None,
    validation_rows: int | None = None,
    paired_fraction: float | None = None,
    balance: str | None = None,
    binarisation: Literal["dynamic", "fixed"] | None = None,
    data_options: Mapping[str, bool | int] | None = None,
    weight: Mapping[str, float] | None = None,
    reconstruct: Literal["given", "present"] | Sequence[str] | None = None,
    target: str | None = None,
    alpha: float | None = None,
    mu: float | None = None,
    paired_share: float | None = None,
    completion: float | None = None,
    propagation: float | None = None,
    smoothness: float | None = None,
    best_by: str | None = None,
    patience: int | None = None,
    precision: Literal["float32", "bfloat16", "auto"] | None = None,
    compile: bool | None = None,  # noqa: A002
    seed: int | None = None,
    data_dir: str | Path | None = None,
    config: str | Path | Mapping[str, Any] | None = None,
    resume: bool = False,
    progress: bool = True,
    devices: int = 1,
    nodes: int = 1,
    strategy: Literal["ddp", "fsdp"] | None = None,
) -> MultimodalVAE:
    """Train a model and return it, in evaluation mode on the CPU.

    Every option left at None has the value of the source's recipe.

    Args:
        source: a source's name (`mvae.SOURCES`); a table with holes, whose columns' kinds are inferred
            (`mvae.inspect`): a CSV, TSV, Parquet, Feather or JSON lines file, a data frame, a mapping of columns, an
            AnnData or a MuData; or rows for which `config` describes the model: a `Dataset`, or a folder of Arrow or
            Parquet files, which stay on disk (`mvae.open_shards`).
        out: folder to write the run to; kept nowhere where None.
        columns: of a table: column to its kind, e.g. `{"age": "count"}`, or to a mapping as `mvae.inspect` prints it.
        groups: of a table: name to the columns that are one modality; `{}` makes each column one.
        join: of a table: paths of more tables; rows found in only one are kept.
        on: the column that tables are joined by.
        method: a name in `mvae.models.METHODS`.
        epochs: passes over the training rows. Annealing keeps its share of them unless it is given.
        batch_size: rows a step, of all processes together.
        latent_dim: D, the dimension of z.
        learning_rate: of Adam.
        annealing_epochs: epochs over which beta of Eq. 1 rises from 0 to 1.
        subsets: mvae and mvae-q: k of Eq. 5, random subsets a step.
        validation_rows: rows to hold out, of which the best epoch is kept; of a table with fewer than 10,000 none.
        paired_fraction: share of rows that stay paired; the others keep one modality (paper, section 5.1).
        balance: a category of which each value shall be paired equally often.
        binarisation: of binary images, `"dynamic"` or `"fixed"`.
        data_options: what else may be chosen of a source (`load_dataset`), e.g. `{"anywhere": True}` of multimnist.
        weight: lambda of Eq. 2 by modality.
        reconstruct: mvae and mvae-q: what each ELBO term reconstructs: what it is `"given"` (Eq. 2), all that is
            `"present"`, or what it is given and the modalities named.
        target: vae and cvae: the modality that is modelled; the first where None.
        alpha: jmvae: weight of the divergences between posteriors.
        mu: bivcca: weight of the first modality's bound.
        paired_share: fill this share of each batch with complete rows, however few there are; as they come where None.
        completion: weight of rows that lack a category, completed with the model's own guess (`mvae.completion`; not in
            the paper); 0 for none.
        propagation: weight of rows that lack a category, with the class that spreads to them from rows near them in z
            (`mvae.propagation`; not in the paper); 0 for none.
        smoothness: weight of virtual adversarial training, which makes the guess of a category change little where
            what it is guessed from does (`mvae.smoothness`; not in the paper); 0 for none.
        best_by: the category or string whose accuracy given the rest, on validation rows, says which epoch's weights
            are best; the ELBO where None.
        patience: stop after so many epochs without a better validation.
        precision: of the networks' matrix products in training: `"float32"`, `"bfloat16"`, which is faster where the
            processor computes in it and far slower where not, or `"auto"`, the faster one here. Parameters, products of
            experts and likelihoods are float32 either way.
        compile: compile the networks with `torch.compile` first, which takes a minute and needs a C++ compiler.
            Results are the same to rounding.
        seed: of initialisation, order, draws and the choice of paired rows.
        data_dir: where to look first for data files.
        config: a YAML or JSON file, or a mapping, with any part of a run's `config.json`; options given here win.
        resume: continue the run in `out`, with the config it has.
        progress: show a bar.
        devices: processes on each machine that share every batch: GPUs where it has any, else CPU processes. They run
            the script that calls this once more each, and all are returned the same model. Like `nodes` and
            `strategy`, they change the results by rounding only and are no part of the config.
        nodes: machines; their processes must have been started by torchrun or Slurm.
        strategy: `"ddp"`, the default of several processes, or `"fsdp"`.

    Raises:
        ValueError: on bad options or data, naming the place; `RunError` if `out` is not usable.
        NonFiniteLossError: if training diverges.
        OSError: if `compile` is asked for and fails.
        LostProcessError: if one of several processes dies.
        KeyboardInterrupt: on Ctrl-C, after saving the best weights so far.

    Example:
        >>> model = fit("digits", epochs=1, progress=False)
        >>> model.generate({"label": 7}, ["image"])["image"].shape
        torch.Size([1, 1, 1, 8, 8])
    """
    run = prepare(
        source,
        out=out,
        data_dir=data_dir,
        config=with_table(config, columns, groups, join, on),
        resume=resume,
        options=placed(
            {
                "method": method,
                "latent_dim": latent_dim,
                "subsets": subsets,
                "reconstruct": reconstruct,
                "target": target,
                "alpha": alpha,
                "mu": mu,
                "validation_rows": validation_rows,
                "paired_fraction": paired_fraction,
                "balance": balance,
                "binarisation": binarisation,
                "data_options": data_options,
                "epochs": epochs,
                "batch_size": batch_size,
                "learning_rate": learning_rate,
                "annealing_epochs": annealing_epochs,
                "shares": paired_only(paired_share),
                "completion": completion,
                "propagation": propagation,
                "smoothness": smoothness,
                "best_by": best_by,
                "patience": patience,
                "precision": precision,
                "compile": compile,
                "seed": seed,
            },
            weight,
        ),
        processes=Processes(devices, nodes, strategy),
    )
    run.train_to_the_end(progress)
    return run.model


@dataclass(frozen=True)
class Outcome:
    """How a training ended."""

    history: list[dict[str, float]]
    """One record an epoch: means over training batches, and the validation ELBO in nats."""
    kept: dict[str, float]
    """The record of the epoch whose weights the model has."""
    interrupted: bool
    """Whether Ctrl-C ended it."""


@dataclass(frozen=True)
class Run:
    """A run that is ready to train: everything has been read and checked."""

    spec: RunSpec
    dataset: Dataset[Any]
    model: MultimodalVAE
    folder: Path | None
    resume: bool = False
    processes: Processes = ALONE

    def train(self, progress: bool | Callable[[int, int], None] = True) -> Outcome:
        """Train, and write weights and metrics to the folder, also when Ctrl-C or a diverging loss ends it.

        Of several processes, the first one writes.

        Raises:
            NonFiniteLossError: if training diverges; the best weights so far are saved.
            LostProcessError: if one of several processes dies; the checkpoints of whole epochs stay.
        """
        from mvae.training import NonFiniteLossError, train

        start = partial(train, self.model, self.dataset, self.spec.training, progress=progress)
        start = partial(start, processes=self.processes, advice=self._advice)
        if self.folder is None:
            with tempfile.TemporaryDirectory() if self.processes.first else nullcontext("never-written") as temporary:
                return self._outcome(*start(Path(temporary)))
        if self.processes.first:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_json(self.folder / CONFIG, self.spec.model_dump(mode="json"))
        try:
            outcome = self._outcome(*start(self.folder, self.resume))
        except NonFiniteLossError as error:
            self._keep(self._outcome(error.history))
            raise
        self._keep(outcome)
        return outcome

    def train_to_the_end(self, progress: bool | Callable[[int, int], None] = True) -> Outcome:
        """As `train`, for callers that need a whole training.

        Raises:
            KeyboardInterrupt: if Ctrl-C or a signal to end cut it short; what was learned has been saved.
            NonFiniteLossError: as `train`.
        """
        outcome = self.train(progress)
        if outcome.interrupted:
            raise KeyboardInterrupt(f"stopped after epoch {len(outcome.history)}; a run in a folder can be resumed")
        return outcome

    def _outcome(self, history: list[dict[str, float]], interrupted: bool = False) -> Outcome:
        from mvae.training import ELBO, rank

        validated = [record for record in history if ELBO in record]
        if self.spec.training.keep == "best" and validated:
            return Outcome(history, max(reversed(validated), key=rank), interrupted)
        return Outcome(history, history[-1] if history else {}, interrupted)

    @property
    def _advice(self) -> str:
        """What to do when a process is lost."""
        if self.folder is None:
            return "; the run has no folder that it could be continued from"
        go_on = f"mvae fit {self.spec.data.source} --out {self.folder} --resume"
        go_on = "fit(..., resume=True)" if self.spec.data.source is None else go_on
        return f"; whole epochs are kept in {self.folder}/checkpoints; continue on any number of processes: {go_on}"

    def _keep(self, outcome: Outcome) -> None:
        if self.folder is not None and outcome.history and self.processes.first:
            save_weights(self.model, self.folder)
            write_json(self.folder / METRICS, {"kept": outcome.kept, "history": outcome.history})


def with_table(
    config: str | Path | Mapping[str, Any] | None,
    columns: Mapping[str, Any] | None = None,
    groups: Mapping[str, Sequence[str]] | None = None,
    join: Sequence[str | Path] = (),
    on: str | None = None,
) -> str | Path | Mapping[str, Any] | None:
    """A config with what is said of a table's columns beside it, which wins."""
    said: dict[str, Any] = {}
    if columns is not None:
        said["columns"] = {n: {"kind": kind} if isinstance(kind, str) else kind for n, kind in columns.items()}
    if groups is not None:
        said["groups"] = {name: list(members) for name, members in groups.items()}
    if join:
        said["join"] = [str(path) for path in join]
    if on is not None:
        said["on"] = on
    if not said:
        return config
    content = {} if config is None else config if isinstance(config, Mapping) else read_config(config)
    merged = merge(content, {"data": {"table": said}})
    if groups is not None:
        merged["data"]["table"]["groups"] = said["groups"]
    return merged


def prepare(
    source: Any,
    *,
    options: Mapping[tuple[str, ...], Any],
    out: str | Path | None = None,
    data_dir: str | Path | None = None,
    config: str | Path | Mapping[str, Any] | None = None,
    resume: bool = False,
    processes: Processes = ALONE,
) -> Run:
    """Read data, settle every option and build the model, without training it.

    Args:
        source: as for `fit`.
        options: place in the `RunSpec` to value; None leaves the recipe's.
        out: as for `fit`.
        data_dir: as for `fit`.
        config: as for `fit`.
        resume: as for `fit`.
        processes: those that train it together; each of them prepares the run.

    Raises:
        ValueError: as `fit`. Nothing has been written then.
    """
    folder = None if out is None else Path(out)
    table = takes_table(source)
    shards = None if table else folder_of_shards(source)
    name = str(shards or source) if shards or isinstance(source, str | Path) else None
    dataset: Dataset[Any] | None = None
    if table:
        spec, dataset = _of_table(source, name, folder if resume else None, config, options)
    elif resume:
        given = {place: value for place, value in options.items() if value is not None}
        spec = learned(_resumed(name, folder, config, given), data_dir)
    elif shards:
        if config is None:
            raise SpecError(f"{source}: a config must say what each column is; give one (--config FILE.yaml)")
        spec = resolve(None, config, {**options, ("data", "source"): name})
    else:
        spec = learned(resolve(name, config, options), data_dir)
    if not resume and processes.first and folder is not None and folder.exists() and _holds_something(folder):
        what = "holds a run already; continue it with --resume or" if (folder / CONFIG).exists() else "is not empty;"
        raise RunError(f"{folder} {what} choose another folder")
    dataset = _read(source, spec, data_dir) if dataset is None else dataset
    torch.manual_seed(spec.training.seed)
    model = build_model(spec.model)
    processes.check(model, spec.training.batch_size)
    _check_best_by(model, spec, dataset)
    _check_patience(spec, dataset)
    _check_propagation(model, spec, processes)
    if spec.training.epochs < model.num_stages:
        raise SpecError(
            f"training.epochs: '{spec.model.method}' trains in {model.num_stages} stages of an epoch or more"
        )
    if isinstance(dataset.train, Shards):
        return Run(spec, _streamed(model, spec, dataset), model, folder, resume)
    dataset = _as_learned(model, spec, dataset)
    dataset = replace(
        dataset,
        train=_checked_training_rows(model, dataset).blocked(),
        validation=_compact(model, dataset.validation),
        test=_compact(model, dataset.test),
    )
    grouped(dataset.train, model.names, spec.training.shares)  # refuses impossible shares before anything is written
    return Run(spec, dataset, model, folder, resume, processes)


def learned(spec: RunSpec, data_dir: str | Path | None = None) -> RunSpec:
    """The spec with what is learned of its data set, such as the words of a language.

    Raises:
        DataError: as reading the data set does.
    """
    source = SOURCES.get(str(spec.data.source))
    if source is None or source.learned is None:
        return spec
    content = source.learned(spec.model_dump(mode="json"), data_dir, **spec.data.options)
    return parse(content, str(spec.data.source))


def _of_table(
    source: Any,
    name: str | None,
    resumed: Path | None,
    config: str | Path | Mapping[str, Any] | None,
    options: Mapping[tuple[str, ...], Any],
) -> tuple[RunSpec, Dataset]:
    """A table as it is described, or as the run that is resumed learned it, and its rows."""
    from mvae.tables import modelling
    from mvae.tables.reading import read_table

    if resumed is not None:
        given = {place: value for place, value in options.items() if value is not None}
        spec = _resumed(name, resumed, config, given)
        if spec.data.table is None:
            raise RunError(f"{resumed} was not trained on a table")
        table = read_table(source, spec.data.table.join, spec.data.table.on)
        return spec, modelling.dataset(spec.data.table, table, spec.data.validation_rows)
    changes = {} if config is None else dict(config) if isinstance(config, Mapping) else read_config(config)
    if not isinstance(changes.get("data") or {}, Mapping):
        raise SpecError(f"config: data: expected a mapping, got {changes['data']!r}")
    data = dict(changes.get("data") or {})
    known = data.pop("table", None) or {}
    table = read_table(source, known.get("join", ()), known.get("on"))
    held = options.get(OPTIONS["validation_rows"])
    held = data.get("validation_rows", modelling.held_rows_of(len(table))) if held is None else held
    train, _ = modelling.split(table, held)
    columns = modelling.learn(modelling.described(table, known), table, train)
    changes = {key: value for key, value in changes.items() if key != "data"}
    method = options.get(("model", "method")) or dict(changes.get("model") or {}).get("method") or "mvae"
    content = merge(for_method(modelling.table_recipe(columns, len(train)), method), changes)
    content["data"] = {**data, "source": name, "validation_rows": held, "table": columns.model_dump(mode="json")}
    return resolve(None, content, options), modelling.dataset(columns, table, held)


def _read(source: str | Path | Dataset[Any], spec: RunSpec, data_dir: str | Path | None) -> Dataset[Any]:
    if isinstance(source, Dataset):
        return source
    if folder_of_shards(source):
        return open_shards(source)
    return load_dataset(**spec.data.named | {"source": source}, data_dir=data_dir, seed=spec.training.seed)


def held_rows(
    model: MultimodalVAE, spec: RunSpec, split: str, limit: int | None = None, data_dir: str | Path | None = None
) -> Batch:
    """The first rows of a part of the data that a run was trained on, in memory.

    Args:
        model: what will read them.
        spec: of the run.
        split: `"train"`, `"validation"` or `"test"`.
        limit: how many; all where None.
        data_dir: where to look first for data files; for a run on a folder of shards, where that folder is now.

    Raises:
        ValueError: if the data is not there, or what was asked for of rows on disk is too much for memory.
    """
    source = str(spec.data.source)
    if spec.data.table is not None:
        from mvae.tables import modelling
        from mvae.tables.reading import read_table

        table = read_table(source, spec.data.table.join, spec.data.table.on)
        return modelling.dataset(spec.data.table, table, spec.data.validation_rows).split(split)[:limit]
    if source in SOURCES:
        learned(spec, data_dir)  # refuses what the run was not trained on
        named = load_dataset(**spec.data.named, data_dir=data_dir, seed=spec.training.seed)
        rows = named.split(split)[:limit]
        return named.transform(model.read(rows)) if split == "train" and named.transform is not None else rows
    dataset = _streamed(model, spec, open_shards(data_dir or source))
    shards, numbers = dataset.split(split), sum(math.prod(part.shape) for part in model.variables.values())
    most = MOST_NUMBERS // numbers
    if not len(shards):
        raise DataError(f"{dataset.name}: no {split} rows; expected Arrow or Parquet files in {split}/")
    if min(limit or len(shards), len(shards)) > most:
        raise ValueError(
            f"{len(shards):,} {split} rows are too many for memory; say how many, up to {most:,}: --limit N"
        )
    return shards[:limit]


def takes_table(source: Any) -> bool:
    """Whether a source is a table. A known source's name is that source, whatever lies here under that name."""
    return not (isinstance(source, str) and source in SOURCES) and is_table(source)


def folder_of_shards(source: str | Path | Dataset[Any]) -> Path | None:
    """The folder of files that a source is; None where it is something else.

    A known source's name is that source, whatever lies here under that name.

    Raises:
        DataError: if it is a path to nothing.
    """
    if isinstance(source, Dataset):
        return Path(source.name) if isinstance(source.train, Shards) else None
    if str(source) in SOURCES:
        return None
    path = Path(source)
    if path.is_dir():
        return path.resolve()
    if isinstance(source, Path) or len(path.parts) > 1:
        raise DataError(f"{source}: no such folder of Arrow or Parquet files")
    return None


def _holds_something(folder: Path) -> bool:
    """Whether anything is there but what a write that was cut short left behind."""
    return not folder.is_dir() or any(not path.name.startswith(".") for path in folder.iterdir())


def paired_only(share: float | None) -> dict[str, float] | None:
    """`--paired-share` as the shares of a spec: so much of each batch complete, the rest as it comes."""
    return None if share is None else {COMPLETE: share}


def placed(options: Mapping[str, Any], weights: Mapping[str, float] | None = None) -> dict[tuple[str, ...], Any]:
    """Options of `fit` by their places in a `RunSpec`.

    Args:
        options: name, a key of `OPTIONS`, to value.
        weights: modality to its weight lambda.
    """
    places = {OPTIONS[name]: value for name, value in options.items()}
    if options.get("best_by") is not None:  # a recipe may keep the last
        places["training", "keep"] = "best"
    return places | {("model", "modalities", name, "weight"): value for name, value in (weights or {}).items()}


def _as_learned(model: MultimodalVAE, spec: RunSpec, dataset: Dataset) -> Dataset:
    """The data set without what the method has no use for: modalities that it leaves out, rows it cannot learn from."""
    if not model.usable(dataset.train).any():
        raise SpecError(
            f"model.method: no training row has what '{spec.model.method}' learns from, all of {', '.join(model.names)}"
        )
    unused = spec.model.modalities.keys() - set(model.names)
    train, validation, test = (
        rows.only([name for name in rows.values if name not in unused])
        for rows in (dataset.train, dataset.validation, dataset.test)
    )
    usable = model.usable(train)
    description = dataset.description
    if not usable.all():
        train = train[usable]
        description += f"; {len(train):,} of {len(usable):,} training rows have what '{spec.model.method}' learns from"
    fit = model.usable(validation)
    validation = validation if fit.all() else validation[fit]
    return replace(dataset, train=train, validation=validation, test=test, description=description)


def _check_best_by(model: MultimodalVAE, spec: RunSpec, dataset: Dataset[Any]) -> None:
    target, rows = spec.training.best_by, dataset.validation
    if target is None:
        return
    fit = [name for name, modality in model.modalities.items() if modality.num_classes or modality.is_string]
    if target not in fit:
        has = ", ".join(fit) or "has none"
        raise SpecError(
            f"training.best_by: expected a category or string that '{spec.model.method}' models ({has}): '{target}'"
        )
    if spec.training.keep != "best":
        raise SpecError("training.best_by: the last epoch is kept (training.keep: last), whichever predicts best")
    rest = [name for name in model.names if name != target]
    if not rest:
        raise SpecError(f"training.best_by: '{spec.model.method}' has nothing but '{target}' to predict it from")
    if isinstance(rows, Batch) and not (rows.presence([target]).all(1) & rows.presence(rest).any(1)).any():
        more = "" if len(rows) else "; hold some out: validation_rows"
        raise SpecError(f"training.best_by: no validation row has '{target}' and something to predict it from{more}")


def _check_patience(spec: RunSpec, dataset: Dataset[Any]) -> None:
    if spec.training.patience is not None and not len(dataset.validation):
        raise SpecError(
            "training.patience: there are no validation rows to get better on; hold some out: validation_rows"
        )


def _check_propagation(model: MultimodalVAE, spec: RunSpec, processes: Processes) -> None:
    if not spec.training.propagation:
        return
    if model.needs_whole_rows or not any(modality.num_classes for modality in model.modalities.values()):
        raise SpecError(f"training.propagation: '{spec.model.method}' learns from no row that lacks a category")
    if processes.strategy == "fsdp":
        raise SpecError("training.propagation: needs whole models, which fsdp divides; use ddp")


def _streamed(model: MultimodalVAE, spec: RunSpec, dataset: Dataset[Shards]) -> Dataset[Shards]:
    """Rows that stay on disk, as the model reads them. Columns are checked now, values as they are read."""
    method, names, train = spec.model.method, ", ".join(model.names), dataset.train
    if spec.training.shares:
        raise SpecError("training.shares: rows on disk are read as they lie, not by what they have; leave it out")
    if spec.training.propagation:
        raise SpecError("training.propagation: rows on disk are too many to be each other's neighbours; leave it out")
    if spec.data.balance is not None:
        raise SpecError("data.balance: rows on disk are used as they are; leave it out")
    if spec.data.paired_fraction != 1:
        raise SpecError("data.paired_fraction: rows on disk are used as they are; leave it out")
    if spec.data.validation_rows:
        if len(dataset.validation):
            raise SpecError("data.validation_rows: expected 0, for the folder has rows in validation/")
        train, held = train.hold_out(spec.data.validation_rows)
        dataset = replace(dataset, train=train, validation=held)
    train, validation, test = (
        rows.read_as(model.variables) if len(rows) else rows for rows in (train, dataset.validation, dataset.test)
    )
    lacking = [name for name in model.names if train.nulls(name)]
    if model.needs_whole_rows and lacking:
        raise SpecError(
            f"model.method: '{method}' learns from rows with all of {names}, and column '{lacking[0]}' has"
            f" {train.nulls(lacking[0]):,} nulls; leave such rows out of the files"
        )
    if all(train.nulls(name) == sum(map(len, train.files)) for name in model.names):
        raise SpecError(f"model.method: no training row has what '{method}' learns from, all of {names}")
    for rows in (train, validation, test):
        if len(rows):
            rows[:LOOK]  # most faults show in the first rows, before anything is written
    return replace(dataset, train=train, validation=validation, test=test)


def _compact(model: MultimodalVAE, rows: Batch) -> Batch:
    """Rows that the model can read. Bytes stay bytes, which may be mapped from a file, until a batch is read."""
    model.check(rows)
    variables = model.variables
    stays = {name: variables[name].num_symbols is None and v.dtype == torch.uint8 for name, v in rows.values.items()}
    values = {name: v if stays[name] else variables[name].as_read(v) for name, v in rows.values.items()}
    return Batch(values, rows.present)


def _checked_training_rows(model: MultimodalVAE, dataset: Dataset) -> Batch:
    if dataset.transform is None:
        return _compact(model, dataset.train)
    with torch.random.fork_rng(devices=[]):  # the model reads rows made anew at each use, e.g. binarised
        model.check(dataset.transform(model.read(dataset.train)))
    return dataset.train


def _resumed(
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
    content = spec.model_dump(mode="json")
    changes = {} if config is None else config if isinstance(config, Mapping) else read_config(config)
    kept = {ANNEALING: spec.training.annealing_epochs}  # more epochs do not stretch what has begun
    asked = resolve(None, merge(content, changes), kept | dict(options)).model_dump(mode="json")
    for place in sorted({*_places(changes), *options} - {EPOCHS, *(kept if ANNEALING not in options else ())}):
        new, old = _at(asked, place), _at(content, place)
        if new != old:
            raise RunError(f"{folder} was started with {'.'.join(place)} = {old}; it cannot be resumed with {new}")
    epochs, done = options.get(EPOCHS, spec.training.epochs), _finished_epochs(folder)
    stages = METHODS[spec.model.method].num_stages if spec.model.method in METHODS else 1
    if stages > 1 and epochs != spec.training.epochs:
        raise RunError(
            f"{folder} trains in {stages} stages of equally many epochs; it cannot be resumed with another number than"
            f" {spec.training.epochs}"
        )
    if epochs < done:
        raise RunError(f"{folder} has {done} epochs already; it cannot be resumed with training.epochs = {epochs}")
    return spec.model_copy(update={"training": spec.training.model_copy(update={"epochs": epochs})})


def _finished_epochs(folder: Path) -> int:
    last = folder / "checkpoints" / "last.ckpt"
    return len(torch.load(last, weights_only=True, map_location="cpu")["history"]) if last.exists() else 0


def _places(content: Mapping[str, Any], above: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    places = []
    for key, value in content.items():
        places += _places(value, (*above, key)) if isinstance(value, Mapping) else [(*above, key)]
    return places


def _at(content: Any, place: tuple[str, ...]) -> Any:
    for key in place:
        content = content.get(key) if isinstance(content, Mapping) else None
    return content
