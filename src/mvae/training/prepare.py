"""From a source and options to a run that is ready to train: everything read, settled and checked."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from mvae.batch import Batch
from mvae.config.build import build_model
from mvae.config.folder import refuse_used
from mvae.config.options import OPTIONS
from mvae.config.recipes import for_method, merge, read_config, resolve
from mvae.config.specs import RunSpec, SpecError, TrainingSpec, parse
from mvae.config.table_spec import TableSpec
from mvae.data.dataset import SPLITS, Dataset
from mvae.data.loading import grouped
from mvae.data.shards import Shards, open_shards
from mvae.data.sources import SOURCES, load_dataset
from mvae.files import DataError, RunError
from mvae.models import MultimodalVAE
from mvae.tables.read import is_table
from mvae.training.resume import resumed
from mvae.training.run import Run
from mvae.training.spread import ALONE, Processes

__all__ = [
    "check_training",
    "compact",
    "folder_of_shards",
    "held_rows",
    "learned",
    "prepare",
    "takes_table",
    "usable_rows",
    "with_table",
]

LOOK = 100
"""Rows of a folder that are read and checked before training."""
STEPS = OPTIONS["steps"].place
MOST_NUMBERS = 2**28
"""How many numbers of rows on disk are read into memory at once; 1 GiB."""


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
    if STEPS in options and (resume or not table):
        raise SpecError("training.steps: expected of a new run on a table; give epochs")
    dataset: Dataset[Any] | None = None
    if table:
        spec, dataset = _of_table(source, name, folder if resume else None, config, options)
    elif resume:
        spec = learned(resumed(name, folder, config, options), data_dir)
    elif shards:
        if config is None:
            raise SpecError(f"{source}: a config must say what each column is; give one (--config FILE.yaml)")
        spec = resolve(None, config, {**options, ("data", "source"): name})
    else:
        spec = learned(resolve(name, config, options), data_dir)
    if not resume and processes.first:
        refuse_used(folder)
    dataset = _read(source, spec, data_dir) if dataset is None else dataset
    torch.manual_seed(spec.training.seed)
    model = build_model(spec.model)
    processes.check(spec.training.batch_size)
    check_training(model, spec.model.method, spec.training, dataset)
    if isinstance(dataset.train, Shards):
        dataset = _streamed(model, spec, dataset)
    else:
        unused = spec.model.modalities.keys() - set(model.names)
        train, validation, test = (_without(dataset.split(part), unused) for part in SPLITS)
        dataset = replace(dataset, train=train, validation=validation, test=test)
        dataset = usable_rows(model, spec.model.method, dataset)
        dataset = replace(
            dataset,
            train=_checked_training_rows(model, dataset).blocked(),
            validation=compact(model, dataset.validation),
            test=compact(model, dataset.test),
        )
        # Refuses impossible shares before anything is written.
        grouped(dataset.train, model.names, spec.training.shares)
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
    merged = merge(read_config(config), {"data": {"table": said}})
    if groups is not None:
        merged["data"]["table"]["groups"] = said["groups"]
    return merged


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
        return _table_rows(source, spec.data.table, spec.data.validation_rows).split(split)[:limit]
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


def _of_table(
    source: Any,
    name: str | None,
    folder: Path | None,
    config: str | Path | Mapping[str, Any] | None,
    options: Mapping[tuple[str, ...], Any],
) -> tuple[RunSpec, Dataset]:
    """A table as it is described, or as the run that is resumed learned it, and its rows."""
    from mvae.tables import learn
    from mvae.tables.read import read_table
    from mvae.tables.recipe import table_recipe

    if folder is not None:
        spec = resumed(name, folder, config, options)
        if spec.data.table is None:
            raise RunError(f"{folder} was not trained on a table")
        return spec, _table_rows(source, spec.data.table, spec.data.validation_rows)
    changes = read_config(config)
    if not isinstance(changes.get("data") or {}, Mapping):
        raise SpecError(f"config: data: expected a mapping, got {changes['data']!r}")
    data = dict(changes.get("data") or {})
    known = data.pop("table", None) or {}
    table = read_table(source, known.get("join", ()), known.get("on"))
    held = options.get(("data", "validation_rows"))
    held = data.get("validation_rows", learn.default_validation_rows(len(table))) if held is None else held
    train, _ = learn.split(table, held)
    if STEPS in options:
        options = _in_steps(options, len(train))
    columns = learn.learn(learn.described(table, known), table, train)
    changes = {key: value for key, value in changes.items() if key != "data"}
    method = options.get(("model", "method")) or dict(changes.get("model") or {}).get("method") or "mvae"
    content = merge(for_method(table_recipe(columns, len(train)), method), changes)
    content["data"] = {**data, "source": name, "validation_rows": held, "table": columns.model_dump(mode="json")}
    return resolve(None, content, options), learn.dataset(columns, table, held)


def _in_steps(options: Mapping[tuple[str, ...], Any], count: int) -> dict[tuple[str, ...], Any]:
    """The options with what `steps` of a table of so many training rows means."""
    from mvae.tables.recipe import plan

    steps, epochs, passes = (options.get(("training", name)) for name in ("steps", "epochs", "passes"))
    if epochs is not None or passes is not None:
        raise SpecError("training.steps: expected steps, or epochs and passes, not both")
    if not isinstance(steps, int) or steps < 1:
        raise SpecError(f"training.steps: expected a whole number of at least 1, got {steps!r}")
    planned = plan(count, steps, options.get(("training", "batch_size")))
    others = {place: value for place, value in options.items() if place != STEPS and value is not None}
    return {("training", name): value for name, value in planned.items()} | others


def _table_rows(source: Any, table: TableSpec, validation_rows: int) -> Dataset:
    """The rows of a table, by the columns that a run learned."""
    from mvae.tables import learn
    from mvae.tables.read import read_table

    return learn.dataset(table, read_table(source, table.join, table.on), validation_rows)


def _read(source: str | Path | Dataset[Any], spec: RunSpec, data_dir: str | Path | None) -> Dataset[Any]:
    if isinstance(source, Dataset):
        return source
    if folder_of_shards(source):
        return open_shards(source)
    return load_dataset(**spec.data.named | {"source": source}, data_dir=data_dir, seed=spec.training.seed)


def usable_rows(model: MultimodalVAE, method: str, dataset: Dataset) -> Dataset:
    """The data set without the rows that a method cannot learn from.

    Args:
        model: what is to be trained.
        method: what messages call it.
        dataset: its rows, in memory.

    Raises:
        SpecError: if no training row is left.
    """
    usable = model.usable(dataset.train)
    if not usable.any():
        raise SpecError(
            f"model.method: no training row has what '{method}' learns from, all of {', '.join(model.names)}"
        )
    train, validation, description = dataset.train, dataset.validation, dataset.description
    if not usable.all():
        train = train[usable]
        description += f"; {len(train):,} of {len(usable):,} training rows have what '{method}' learns from"
    if isinstance(validation, Batch):
        fit = model.usable(validation)
        validation = validation if fit.all() else validation[fit]
    return replace(dataset, train=train, validation=validation, description=description)


def check_training(model: MultimodalVAE, method: str, training: TrainingSpec, dataset: Dataset[Any]) -> None:
    """Refuse options of a training that cannot do what they say.

    Args:
        model: what is to be trained.
        method: what messages call it.
        training: how.
        dataset: its rows.

    Raises:
        SpecError: naming the option and what was expected.
    """
    _check_best_by(model, method, training, dataset.validation)
    if training.patience is not None and not len(dataset.validation):
        raise SpecError(
            "training.patience: there are no validation rows to get better on; hold some out: validation_rows"
        )
    if training.propagation and (
        model.needs_complete_rows or not any(modality.num_classes for modality in model.modalities.values())
    ):
        raise SpecError(f"training.propagation: '{method}' learns from no row that lacks a category")
    if not isinstance(dataset.train, Batch):
        if training.shares:
            raise SpecError("training.shares: rows that are not in memory are read as they lie; leave it out")
        if training.propagation:
            raise SpecError(
                "training.propagation: rows that are not in memory are too many to be each other's neighbours; leave it"
                " out"
            )
    if training.epochs < model.num_stages:
        raise SpecError(f"training.epochs: '{method}' trains in {model.num_stages} stages of an epoch or more")


def _check_best_by(model: MultimodalVAE, method: str, training: TrainingSpec, rows: Any) -> None:
    target = training.best_by
    if target is None:
        return
    fit = [name for name, modality in model.modalities.items() if modality.num_classes or modality.is_string]
    if target not in fit:
        has = ", ".join(fit) or "has none"
        raise SpecError(f"training.best_by: expected a category or string that '{method}' models ({has}): '{target}'")
    if training.keep != "best":
        raise SpecError("training.best_by: the last epoch is kept (training.keep: last), whichever predicts best")
    rest = [name for name in model.names if name != target]
    if not rest:
        raise SpecError(f"training.best_by: '{method}' has nothing but '{target}' to predict it from")
    if isinstance(rows, Batch) and not (rows.presence([target]).all(1) & rows.presence(rest).any(1)).any():
        more = "" if len(rows) else "; hold some out: validation_rows"
        raise SpecError(f"training.best_by: no validation row has '{target}' and something to predict it from{more}")


def _streamed(model: MultimodalVAE, spec: RunSpec, dataset: Dataset[Shards]) -> Dataset[Shards]:
    """Rows that stay on disk, as the model reads them. Columns are checked now, values as they are read."""
    method, names, train = spec.model.method, ", ".join(model.names), dataset.train
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
    if model.needs_complete_rows and lacking:
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


def _without(rows: Batch, names: AbstractSet[str]) -> Batch:
    return rows.only([name for name in rows.values if name not in names])


def compact(model: MultimodalVAE, rows: Batch) -> Batch:
    """Rows that the model can read. Bytes stay bytes, which may be mapped from a file, until a batch is read."""
    model.check(rows)
    variables = model.variables
    stays = {name: variables[name].num_symbols is None and v.dtype == torch.uint8 for name, v in rows.values.items()}
    values = {name: v if stays[name] else variables[name].as_read(v) for name, v in rows.values.items()}
    return rows.holding(values)


def _checked_training_rows(model: MultimodalVAE, dataset: Dataset) -> Batch:
    if dataset.transform is None:
        return compact(model, dataset.train)
    with torch.random.fork_rng(devices=[]):  # the model reads rows made anew at each use, e.g. binarised
        model.check(dataset.transform(model.read(dataset.train)))
    return dataset.train
