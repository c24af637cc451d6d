"""From a source and options to a run that is ready to train: everything read, settled and checked."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import torch

from mvae.batch import Batch
from mvae.config.build import build_model
from mvae.config.folder import refuse_used
from mvae.config.options import OPTIONS
from mvae.config.recipes import for_method, merge, read_config, resolve
from mvae.config.specs import RunSpec, SpecError, TrainingSpec, parse
from mvae.data.dataset import SPLITS, Dataset
from mvae.data.loading import grouped
from mvae.data.shards import Shards, open_shards
from mvae.data.sources import SOURCES, load_dataset
from mvae.files import DataError, RunError, refuse_held, shortened
from mvae.models import MultimodalVAE
from mvae.seeds import seeded, undisturbed
from mvae.tables.read import is_table
from mvae.training.resume import resumed
from mvae.training.run import Run
from mvae.training.spread import ALONE, Processes

__all__ = ["check_training", "compact", "held_rows", "learned", "prepare", "usable_rows", "with_table"]

LOOK = 100
"""Rows of a folder that are read and checked before training."""
STEPS, STEPS_AT = OPTIONS["steps"].place, "training.steps"
Config: TypeAlias = str | Path | Mapping[str, Any] | None
MOST_NUMBERS = 2**28
"""The most numbers of rows on disk that are read into memory at once; 1 GiB."""


@undisturbed()
def prepare(
    source: Any,
    *,
    options: Mapping[tuple[str, ...], Any],
    out: str | Path | None = None,
    data_dir: str | Path | None = None,
    config: Config = None,
    resume: bool = False,
    processes: Processes = ALONE,
) -> Run:
    """Read data, settle every option and build the model, without training it; each of several processes does.

    Arguments and errors are those of `fit`; `options` has them by their places in the `RunSpec`, and None leaves the
    recipe's. Nothing is written.
    """
    folder = None if out is None else Path(out)
    if processes.first:
        refuse_held(folder)
    table = _takes_table(source)
    shards = None if table else _folder_of_shards(source)
    name = str(shards or source) if shards or isinstance(source, str | Path) else None
    _refuse(STEPS in options and (resume or not table), f"{STEPS_AT}: expected of a new run on a table; give epochs")
    dataset = source if isinstance(source, Dataset) else None
    if resume:
        spec = resumed(name, folder, config, options)
        if table and spec.data.table is None:
            raise RunError(f"{folder} was not trained on a table")
    elif table:
        spec, dataset = _new_table(source, name, config, options)
    elif shards:
        _refuse(config is None, f"{name}: a config must say what each column is; give one (--config FILE.yaml)")
        dataset = dataset or open_shards(source)
        mark = dataset.train.fingerprint
        spec = resolve(None, config, {**options, ("data", "source"): name, ("data", "fingerprint"): mark})
    else:
        spec = resolve(name, config, options)
    spec = learned(spec, data_dir)
    if not resume and processes.first:
        refuse_used(folder)
    if dataset is None or (resume and shards):
        dataset = _rows(spec, source, data_dir)
    with seeded(spec.training.seed):
        model = build_model(spec.model)
    processes.check(spec.training.batch_size)
    check_training(model, spec.model.method, spec.training, dataset)
    dataset = (_streamed if isinstance(dataset.train, Shards) else _in_memory)(model, spec, dataset)
    return Run(spec, dataset, model, folder, resume, processes)


def _refuse(wrong: object, fault: str) -> None:
    if wrong:
        raise SpecError(fault)


def _in_memory(model: MultimodalVAE, spec: RunSpec, dataset: Dataset) -> Dataset:
    """Rows in memory that the model can read and learn from, without the modalities that its method leaves out."""
    left_out = spec.model.modalities.keys() - set(model.names)
    for part in SPLITS:
        rows: Batch = dataset.split(part)
        kept = [name for name in rows.values if name not in left_out]
        _refuse(not kept and part == "train", _no_row(model, spec.model.method))
        changes: dict[str, Any] = {part: rows.only(kept) if kept else dataset.train[:0]}
        dataset = replace(dataset, **changes)
    dataset = usable_rows(model, spec.model.method, dataset)
    if dataset.transform is None:
        train = compact(model, dataset.train)
    else:  # the model reads rows made anew at each use, e.g. binarised
        train = dataset.train
        with torch.random.fork_rng(devices=[]):
            model.check(dataset.transform(model.read(train)))
    grouped(train, model.names, spec.training.shares)  # refuses impossible shares before anything is written
    validation, test = compact(model, dataset.validation), compact(model, dataset.test)
    return replace(dataset, train=train, validation=validation, test=test)


def learned(spec: RunSpec, data_dir: str | Path | None = None) -> RunSpec:
    """The spec with all that its data set teaches, such as the words of a language; errors are those of reading it."""
    source = SOURCES.get(str(spec.data.source))
    if source is None or source.learned is None:
        return spec
    content = source.learned(spec.model_dump(mode="json"), data_dir, **spec.data.options)
    return parse(content, str(spec.data.source))


def with_table(
    config: Config,
    columns: Mapping[str, Any] | None = None,
    groups: Mapping[str, Sequence[str]] | None = None,
    join: Sequence[str | Path] = (),
    on: str | None = None,
) -> Config:
    """A config with these arguments of `fit` about a table, which win over its own."""
    kinds = {name: {"kind": kind} if isinstance(kind, str) else kind for name, kind in (columns or {}).items()}
    members = {name: list(columns) for name, columns in (groups or {}).items()}
    given = {
        "columns": None if columns is None else kinds,
        "groups": None if groups is None else members,
        "join": [str(path) for path in join] or None,
        "on": on,
    }
    table = {key: value for key, value in given.items() if value is not None}
    if not table:
        return config
    merged = merge(read_config(config), {"data": {"table": table}})
    merged["data"]["table"] |= {"groups": members} if groups is not None else {}
    return merged


def _takes_table(source: Any) -> bool:
    """True for a table. A known source's name means that source, whatever file here has that name."""
    return not (isinstance(source, str) and source in SOURCES) and is_table(source)


def _folder_of_shards(source: str | Path | Dataset[Any]) -> Path | None:
    """The folder of files that a source is; None where it is something else, such as the name of a known source."""
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
    """The first rows, up to a limit, of the `train`, `validation` or `test` rows of a run, in memory.

    For a run on a folder of shards, `data_dir` is where that folder is now. A ValueError says that the data is missing,
    or that there are too many rows for memory.
    """
    source = str(spec.data.source)
    on_disk = spec.data.table is None and source not in SOURCES
    spec = learned(spec, data_dir)  # refuses what the run was not trained on
    dataset = _rows(spec, (data_dir if on_disk else None) or source, data_dir)
    if not on_disk:
        rows: Batch = dataset.split(split)[:limit]
        return dataset.transform(model.read(rows)) if split == "train" and dataset.transform is not None else rows
    dataset = _streamed(model, spec, dataset)
    shards, numbers = dataset.split(split), sum(math.prod(part.shape) for part in model.variables.values())
    most = MOST_NUMBERS // numbers
    if not len(shards):
        raise DataError(f"{dataset.name}: no {split} rows; expected Arrow or Parquet files in {split}/")
    if min(limit or len(shards), len(shards)) > most:
        raise ValueError(
            f"{len(shards):,} {split} rows are too many for memory; say how many, up to {most:,}: --limit N"
        )
    return shards[:limit]


def _rows(spec: RunSpec, source: Any, data_dir: str | Path | None) -> Dataset[Any]:
    """The rows that a run was trained on, or is to be; a table or a folder of shards may have moved to `source`."""
    if (table := spec.data.table) is not None:
        from mvae.tables import learn
        from mvae.tables.read import read_table

        read = read_table(source, table.join, table.on)
        _refuse_changed(read.name, spec.data.fingerprint, read.fingerprint)
        return learn.dataset(table, read, spec.data.validation_rows)
    if spec.data.source in SOURCES:
        return load_dataset(**spec.data.named, data_dir=data_dir, seed=spec.training.seed)
    dataset = source if isinstance(source, Dataset) else open_shards(source)
    _refuse_changed(dataset.name, spec.data.fingerprint, dataset.train.fingerprint)
    return dataset


def _refuse_changed(name: str, known: str | None, found: str) -> None:
    if known not in (None, found):
        raise RunError(f"{name} has changed since the run was trained: {shortened(known)}; now {found}")


def _new_table(
    source: Any, name: str | None, config: Config, options: Mapping[tuple[str, ...], Any]
) -> tuple[RunSpec, Dataset]:
    """A table with what its columns teach, and its rows."""
    from mvae.tables import learn
    from mvae.tables.read import read_table
    from mvae.tables.recipe import table_recipe

    changes = read_config(config)
    data = changes.pop("data", None) or {}
    _refuse(not isinstance(data, Mapping), f"config: data: expected a mapping, got {data!r}")
    data = dict(data)
    known = data.pop("table", None) or {}
    table = read_table(source, known.get("join", ()), known.get("on"))
    held = options.get(("data", "validation_rows"))
    held = data.get("validation_rows") if held is None else held
    held = learn.default_validation_rows(len(table)) if held is None else held
    train, _ = learn.split(table, held)
    if STEPS in options:
        options = _in_steps(options, len(train))
    columns = learn.learn(learn.described(table, known), table, train)
    method = options.get(("model", "method")) or dict(changes.get("model") or {}).get("method") or "mvae"
    content = merge(for_method(table_recipe(columns, len(train)), method), changes)
    content["data"] = {**data, "source": name, "validation_rows": held, "fingerprint": table.fingerprint}
    content["data"]["table"] = columns.model_dump(mode="json")
    return resolve(None, content, options), learn.dataset(columns, table, held)


def _in_steps(options: Mapping[tuple[str, ...], Any], count: int) -> dict[tuple[str, ...], Any]:
    """The options with what `steps` of a table of so many training rows means."""
    from mvae.tables.recipe import plan

    given: Any = [options.get(("training", name)) for name in ("steps", "epochs", "passes")]
    steps, epochs, passes = given
    _refuse((epochs, passes) != (None, None), f"{STEPS_AT}: expected steps, or epochs and passes, not both")
    whole = isinstance(steps, int) and steps >= 1
    _refuse(not whole, f"{STEPS_AT}: expected a whole number of at least 1, got {steps!r}")
    planned = plan(count, steps, options.get(("training", "batch_size")))
    others = {place: value for place, value in options.items() if place != STEPS and value is not None}
    return {("training", name): value for name, value in planned.items()} | others


def usable_rows(model: MultimodalVAE, method: str, dataset: Dataset) -> Dataset:
    """The data set, in memory, without the rows that a method cannot learn from; messages call it by its name."""
    usable = model.usable(dataset.train)
    _refuse(not usable.any(), _no_row(model, method))
    if not usable.all():
        said = f"{int(usable.sum()):,} of {len(usable):,} training rows have what '{method}' learns from"
        description = f"{dataset.description}; {said}"
        dataset = replace(dataset, train=dataset.train[usable], description=description)
    if isinstance(dataset.validation, Batch) and not (fit := model.usable(dataset.validation)).all():
        dataset = replace(dataset, validation=dataset.validation[fit])
    return dataset


def _no_row(model: MultimodalVAE, method: str) -> str:
    return f"model.method: no training row has what '{method}' learns from, all of {', '.join(model.names)}"


def check_training(model: MultimodalVAE, method: str, training: TrainingSpec, dataset: Dataset[Any]) -> None:
    """Refuse options of a training that cannot do what they say; messages call the method by its name."""
    if training.best_by is not None:
        _check_best_by(model, method, training, dataset.validation)
    _refuse(
        training.patience is not None and not len(dataset.validation),
        "training.patience: there are no validation rows to get better on; hold some out: validation_rows",
    )
    _refuse(
        training.propagation
        and (model.needs_complete_rows or not any(part.num_classes for part in model.modalities.values())),
        f"training.propagation: '{method}' learns from no row with a missing category",
    )
    on_disk = not isinstance(dataset.train, Batch)
    _refuse(
        training.propagation and on_disk,
        "training.propagation: rows that are not in memory are too many to be each other's neighbours; leave it out",
    )
    _refuse(
        training.shares and on_disk,
        "training.shares: rows that are not in memory are read in their order; leave it out",
    )
    _refuse(
        training.epochs < model.num_stages,
        f"training.epochs: '{method}' trains in {model.num_stages} stages of an epoch or more",
    )


def _check_best_by(model: MultimodalVAE, method: str, training: TrainingSpec, held: Any) -> None:
    place, target, rest = "training.best_by", training.best_by, [n for n in model.names if n != training.best_by]
    fit = [name for name, modality in model.modalities.items() if modality.num_classes or modality.is_string]
    known = f"a category or string that '{method}' models ({', '.join(fit) or 'has none'})"
    _refuse(target not in fit, f"{place}: expected {known}: '{target}'")
    last = training.keep != "best"
    _refuse(last, f"{place}: the last epoch is kept (training.keep: last), whichever predicts best")
    _refuse(not rest, f"{place}: '{method}' has nothing but '{target}' to predict it from")
    if isinstance(held, Batch) and not (held.presence([str(target)]).all(1) & held.presence(rest).any(1)).any():
        more = "" if len(held) else "; hold some out: validation_rows"
        raise SpecError(f"{place}: no validation row has '{target}' and something to predict it from{more}")


def _streamed(model: MultimodalVAE, spec: RunSpec, dataset: Dataset[Shards]) -> Dataset[Shards]:
    """Rows that stay on disk, as the model reads them. Columns are checked now, values as they are read."""
    data, method = spec.data, spec.model.method
    for name, default in (("balance", None), ("paired_fraction", 1)):
        changed = getattr(data, name) != default
        _refuse(changed, f"data.{name}: rows on disk are used as they are; leave it out")
    if data.validation_rows:
        _refuse(len(dataset.validation), "data.validation_rows: expected 0, for the folder has rows in validation/")
        train, held = dataset.train.hold_out(data.validation_rows)
        dataset = replace(dataset, train=train, validation=held)
    parts = (rows.read_as(model.variables) if len(rows) else rows for rows in map(dataset.split, SPLITS))
    train, validation, test = parts
    nulls = {name: count for name in model.names if (count := train.nulls(name))}
    if model.needs_complete_rows and nulls:
        learns, name = f"'{method}' learns from rows with all of {', '.join(model.names)}", next(iter(nulls))
        more = f"column '{name}' has {nulls[name]:,} nulls; leave such rows out of the files"
        raise SpecError(f"model.method: {learns}, and {more}")
    nothing = all(nulls.get(name) == sum(map(len, train.files)) for name in model.names)
    _refuse(nothing, _no_row(model, method))
    for rows in (train, validation, test):
        if len(rows):
            rows[:LOOK]  # most faults show in the first rows, before anything is written
    return replace(dataset, train=train, validation=validation, test=test)


def compact(model: MultimodalVAE, rows: Batch) -> Batch:
    """Rows that the model can read. Bytes stay bytes, which may be mapped from a file, until a batch is read."""
    model.check(rows)
    variables = model.variables
    stays = {name: variables[name].num_symbols is None and v.dtype == torch.uint8 for name, v in rows.values.items()}
    values = {name: v if stays[name] else variables[name].as_read(v) for name, v in rows.values.items()}
    return rows.holding(values)
