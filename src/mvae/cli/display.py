"""What the command line shows: plans, outcomes and tables."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from mvae.batch import Batch
from mvae.config.options import said
from mvae.config.table_spec import LeftOutColumn
from mvae.data.shards import Shards
from mvae.modality import is_image_shape
from mvae.training.epochs import ACCURACY, ELBO, held

if TYPE_CHECKING:
    from mvae.config.table_spec import TableSpec
    from mvae.data.sources import Source
    from mvae.generation.sample import Drawn
    from mvae.training.run import Outcome, Run

__all__ = ["print_outcome", "print_plan", "print_report", "print_samples", "print_sources"]

MOST_COLUMNS = 12


def print_plan(run: Run) -> None:
    """What a run is about to do: rows, modalities, model, training."""
    spec, rows = run.spec, run.dataset
    if spec.data.table is not None:
        _print_columns(spec.data.table)
    table = Table(title=f"{rows.name}: {rows.description}", title_justify="left", box=None, pad_edge=False)
    for heading in ("modality", "shape", "likelihood", "weight", "present in training", "parameters"):
        table.add_column(heading, justify="right" if heading in ("weight", "parameters") else "left")
    for name, variable in run.model.variables.items():
        table.add_row(
            name,
            "x".join(map(str, variable.shape)) or "one value",
            spec.model.modalities[name].likelihood.kind,
            "given" if name in run.model.conditions else f"{spec.model.modalities[name].weight:g}",
            _present(rows.train, name),
            f"{sum(p.numel() for p in variable.parameters()):,}",
        )
    _console().print(table)
    streamed = isinstance(rows.train, Shards)  # then it would take a pass over all files to know
    paired = "" if streamed else f" ({int(rows.train.presence(run.model.names).all(1).sum()):,} paired)"
    print(
        f"rows: {len(rows.train):,} to train{paired}, {len(rows.validation):,} to validate,"
        f" {len(rows.test):,} to test\n"
        f"model: {said(spec, 'model')}\n"
        f"training: {said(spec, 'training')}\n"
        f"{f'few labels: {few}{chr(10)}' if (few := said(spec, 'few labels')) else ''}"
        f"{_spread(run)}"
        f"{'continuing' if run.resume else 'writing to'} {run.folder}",
        flush=True,
    )


def _print_columns(table: TableSpec) -> None:
    """The kind of each column of a table, and which are left out."""
    kinds: dict[str, list[str]] = {}
    for name, column in table.columns.items():
        kind = column.kind
        if isinstance(column, LeftOutColumn):
            kind = f"left out, {column.why}" if column.why else "left out"
        kinds.setdefault(kind, []).append(name)
    for kind, names in kinds.items():
        shown = ", ".join(names[:MOST_COLUMNS]) + (f", ... ({len(names):,})" if len(names) > MOST_COLUMNS else "")
        print(f"{kind}: {shown}")
    print("to change a kind: --kind COLUMN=KIND, or edit what 'mvae inspect' prints and give it as --config\n")


def _spread(run: Run) -> str:
    """How many processes share a batch, where there are several."""
    rows, world = run.spec.training.batch_size, run.processes.world
    return f"spread: {world} processes, each with some {rows / world:.4g} rows of every batch\n" if world > 1 else ""


def _present(rows: Batch | Shards, name: str) -> str:
    """In how many rows a modality is present, in words."""
    if isinstance(rows, Batch):
        return f"{int(rows.present[name].sum()):,} of {len(rows):,}"
    count = sum(map(len, rows.files))
    return f"{'at most ' if rows.may_be_nan(name) else ''}{count - rows.nulls(name):,} of {count:,}"


FEW_NATS = 0.1
COLLAPSED = (
    ": it has collapsed. Longer annealing, --annealing-cycles, --free-nats (MVAE) and the decoder's word_dropout"
    " and bag_of_words help"
)


def print_outcome(run: Run, outcome: Outcome) -> None:
    """How training ended, and what to do next."""
    if outcome.interrupted:
        print(f"\ninterrupted after {len(outcome.history)} whole epochs; what was learned is in {run.folder}")
        print(f"continue: mvae fit {run.spec.data.source} --out {run.folder} --resume")
    if not outcome.history:
        return
    kept, elbo = outcome.kept, outcome.kept.get(ELBO)
    which = "the best on validation" if run.spec.training.keep == "best" and elbo is not None else "the last"
    score = "" if elbo is None else f" (validation ELBO {elbo:.2f} nats)"
    if (right := kept.get(ACCURACY)) is not None:
        score = f" ({run.spec.training.best_by} right in {100 * right:.1f} % of validation rows)"
    print(f"{len(outcome.history)} epochs; kept the weights of epoch {kept['epoch']}, {which}{score}")
    for name, nats in held(kept).items():
        print(f"z holds {nats:.2f} nats of {name}" + (COLLAPSED if nats < FEW_NATS else ""))
    if run.spec.data.table is not None:
        source = run.spec.data.source or "TABLE"
        print(f"fill cells:  mvae impute {run.folder} {source} --out filled.csv")
        print(f"odd rows:    mvae score {run.folder} {source} --out scores.csv")
        print(f"new rows:    mvae sample {run.folder} --count 1000 --out new.csv")
        return
    print(f"score it:    mvae evaluate {run.folder}")
    print(f"draw from it: mvae sample {run.folder}" + (" --given label=7" if "label" in run.model.names else ""))
    print(f"curves:      tensorboard --logdir {run.folder}/logs")


def print_samples(samples: Mapping[str, Drawn], elements: Mapping[str, Sequence[str]]) -> None:
    """Numbers on screen: how often each class, or each named element, was drawn, or the first rows."""
    for name, values in samples.items():
        if isinstance(values, list):
            print(f"{name}: " + ", ".join(f"'{text}'" for text in values[:8]) + ", ..." * (len(values) > 8))
            continue
        if is_image_shape(tuple(values.shape[1:])):
            continue
        if values.dim() == 1 and not values.is_floating_point():
            classes, counts = values.unique(return_counts=True)
            shares = ", ".join(f"{c}: {n}" for c, n in zip(classes.tolist(), counts.tolist(), strict=True))
            print(f"{name}, times drawn of {len(values)}: {shares}")
        elif elements.get(name):
            means = zip(elements[name], values.float().mean(0).tolist(), strict=True)
            print(
                f"{name}, mean of {len(values)} draws: " + ", ".join(f"{called} {mean:.3g}" for called, mean in means)
            )
        else:
            print(f"{name}: " + "; ".join(f"{value:.4g}" for value in values.flatten()[:8].tolist()) + " ...")


def print_report(report: dict[str, Any], source: str) -> None:
    """The scores of `mvae.evaluation.report.evaluate`."""
    table = Table(
        title=f"{source}, {report['split']} rows: log-likelihood in nats, {report['samples']} importance samples",
        title_justify="left",
        box=None,
        pad_edge=False,
    )
    for heading in (
        "log p of",
        "nats",
        "± rows",
        "± samples",
        "log-weight variance",
        "effective samples",
        "proposal",
        "rows",
    ):
        table.add_column(heading, justify="left" if heading in ("log p of", "proposal") else "right")

    def shown(score: dict[str, Any], name: str, digits: int) -> str:
        return "-" if score.get(name) is None else f"{score[name]:.{digits}f}"

    for score in report["log_likelihood"]:
        table.add_row(
            ", ".join(score["targets"]) + (f" | {', '.join(score['given'])}" if score["given"] else ""),
            shown(score, "nats", 3),
            shown(score, "standard_error", 3),
            shown(score, "monte_carlo_error", 3),
            shown(score, "log_weight_variance", 2),
            shown(score, "effective_sample_size", 0),
            f"q(z | {', '.join(score['proposal'])})",
            f"{score['rows']:,}",
        )
    _console().print(table)
    for score in report["accuracy"]:
        low, high = score["interval"]
        print(
            f"accuracy of {score['target']} from {', '.join(score['given'])}: {100 * score['accuracy']:.1f} %"
            f" (95 % interval {100 * low:.1f} to {100 * high:.1f}; {score['rows']:,} rows,"
            f" {score['estimator']}, {score['samples']} posterior draws)"
        )


def print_sources(sources: Mapping[str, Source]) -> None:
    """The data sets known by name, and where their files are."""
    table = Table(box=None, pad_edge=False)
    for heading in ("name", "what it is", "here"):
        table.add_column(heading)
    for name, source in sources.items():
        try:
            where = "bundled" if source.part is None else source.part(None)
            if source.collection is not None:
                where = str(next(iter(source.collection.find().values())).parent)
        except ValueError:
            where = f"no (mvae data {'check' if source.collection is None else 'fetch'} {name})"
        table.add_row(name, source.summary, where)
    _console().print(table)


def _console() -> Console:
    return Console(highlight=False, width=None if sys.stdout.isatty() else 120)
