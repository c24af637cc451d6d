"""The output of the command line: plans, outcomes and tables."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

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
FEW_NATS = 0.1
FEW_EFFECTIVE = 0.05
"""Share of the samples; with fewer effective ones an estimate is a bound."""
COLLAPSED = (
    ": it has collapsed. Longer annealing, --annealing-cycles, --free-nats (MVAE) and the decoder's word_dropout"
    " and bag_of_words help"
)


def _print_table(headings: Sequence[str], rows: Iterable[Sequence[str]], title: str = "") -> None:
    """A table; a heading that begins with > is of a column that is aligned to the right."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title or None, title_justify="left", box=None, pad_edge=False)
    for heading in headings:
        table.add_column(heading.removeprefix(">"), justify="right" if heading.startswith(">") else "left")
    for row in rows:
        table.add_row(*row)
    Console(highlight=False, width=None if sys.stdout.isatty() else 120).print(table)


def print_plan(run: Run) -> None:
    """The plan of a run: rows, modalities, model, training."""
    spec, rows, world = run.spec, run.dataset, run.processes.world
    if spec.data.table is not None:
        _print_columns(spec.data.table)
    modalities = [
        (
            name,
            "x".join(map(str, variable.shape)) or "one value",
            spec.model.modalities[name].likelihood.kind,
            "given" if name in run.model.conditions else f"{spec.model.modalities[name].weight:g}",
            _present(rows.train, name),
            f"{sum(p.numel() for p in variable.parameters()):,}",
        )
        for name, variable in run.model.variables.items()
    ]
    headings = ("modality", "shape", "likelihood", ">weight", "present in training", ">parameters")
    _print_table(headings, modalities, f"{rows.name}: {rows.description}")
    streamed = isinstance(rows.train, Shards)  # then it would take a pass over all files to know
    paired = "" if streamed else f" ({int(rows.train.presence(run.model.names).all(1).sum()):,} paired)"
    print(
        f"rows: {len(rows.train):,} to train{paired}, {len(rows.validation):,} to validate, {len(rows.test):,} to test"
    )
    for group in ("model", "training", "few labels"):
        if words := said(spec, group):
            print(f"{group}: {words}")
    if world > 1:
        print(f"spread: {world} processes, each with some {spec.training.batch_size / world:.4g} rows of every batch")
    print(f"{'continuing' if run.resume else 'writing to'} {run.folder}", flush=True)


def _print_columns(table: TableSpec) -> None:
    """The kind of each column of a table, and which are left out."""
    kinds: dict[str, list[str]] = {}
    for name, column in table.columns.items():
        why = f", {column.why}" if isinstance(column, LeftOutColumn) and column.why else ""
        kind = f"left out{why}" if isinstance(column, LeftOutColumn) else column.kind
        kinds.setdefault(kind, []).append(name)
    for kind, names in kinds.items():
        shown = ", ".join(names[:MOST_COLUMNS]) + (f", ... ({len(names):,})" if len(names) > MOST_COLUMNS else "")
        print(f"{kind}: {shown}")
    print("to change a kind: --kind COLUMN=KIND, or edit what 'mvae inspect' prints and give it as --config\n")


def _present(rows: Batch | Shards, name: str) -> str:
    """The number of rows in which a modality is present, in words."""
    if isinstance(rows, Batch):
        return f"{int(rows.present[name].sum()):,} of {len(rows):,}"
    count = sum(map(len, rows.files))
    return f"{'at most ' if rows.may_be_nan(name) else ''}{count - rows.nulls(name):,} of {count:,}"


def print_outcome(run: Run, outcome: Outcome) -> None:
    """The end of a training, and what to do next."""
    folder, source = run.folder, run.spec.data.source
    if outcome.interrupted:
        print(f"\ninterrupted after {len(outcome.history)} complete epochs; what was learned is in {folder}")
        print(f"continue: mvae fit {source} --out {folder} --resume")
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
        print(f"fill cells:  mvae impute {folder} {source or 'TABLE'} --out filled.csv")
        print(f"odd rows:    mvae score {folder} {source or 'TABLE'} --out scores.csv")
        print(f"new rows:    mvae sample {folder} --count 1000 --out new.csv")
        return
    print(f"score it:    mvae evaluate {folder}")
    print(f"draw from it: mvae sample {folder}" + (" --given label=7" if "label" in run.model.names else ""))
    print(f"curves:      tensorboard --logdir {folder}/logs")


def print_samples(samples: Mapping[str, Drawn], elements: Mapping[str, Sequence[str]]) -> None:
    """Numbers on screen: how often each class, or each named element, was drawn, or the first rows."""
    for name, values in samples.items():
        if isinstance(values, list):
            print(f"{name}: " + ", ".join(f"'{text}'" for text in values[:8]) + ", ..." * (len(values) > 8))
        elif is_image_shape(tuple(values.shape[1:])):
            continue
        elif values.dim() == 1 and not values.is_floating_point():
            counted = zip(*(each.tolist() for each in values.unique(return_counts=True)), strict=True)
            print(
                f"{name}, times drawn of {len(values)}: " + ", ".join(f"{value}: {count}" for value, count in counted)
            )
        elif elements.get(name):
            means = zip(elements[name], values.float().mean(0).tolist(), strict=True)
            print(f"{name}, mean of {len(values)} draws: " + ", ".join(f"{part} {mean:.3g}" for part, mean in means))
        else:
            print(f"{name}: " + "; ".join(f"{value:.4g}" for value in values.flatten()[:8].tolist()) + " ...")


def print_report(report: dict[str, Any], source: str) -> None:
    """The scores of `mvae.evaluation.report.evaluate`."""
    columns = {
        "nats": ("nats", 3),
        "± rows": ("standard_error", 3),
        "± samples": ("monte_carlo_error", 3),
        "log-weight variance": ("log_weight_variance", 2),
        "effective samples": ("effective_sample_size", 0),
    }
    rows = [
        (
            ", ".join(score["targets"]) + (f" | {', '.join(score['given'])}" if score["given"] else ""),
            *("-" if (value := score.get(key)) is None else f"{value:.{digits}f}" for key, digits in columns.values()),
            f"q(z | {', '.join(score['proposal'])})"
            + (f", {100 * score['prior_share']:.0f} % prior" if score["prior_share"] else ""),
            f"{score['rows']:,}",
        )
        for score in report["log_likelihood"]
    ]
    title = f"{source}, {report['split']} rows: log-likelihood in nats, {report['samples']} importance samples"
    _print_table(["log p of", *(f">{heading}" for heading in columns), "proposal", ">rows"], rows, title)
    few = [
        f"log p({row[0]})"
        for row, score in zip(rows, report["log_likelihood"], strict=True)
        if score.get("effective_sample_size", math.inf) < FEW_EFFECTIVE * report["samples"]
    ]
    if few:
        print(
            f"few samples count for {' and '.join(few)} (under {100 * FEW_EFFECTIVE:.0f} % effective): a lower bound,"
            f" further off than ± samples; try --samples {10 * report['samples']}"
        )
    for score in report["accuracy"]:
        low, high = score["interval"]
        print(
            f"accuracy of {score['target']} from {', '.join(score['given'])}: {100 * score['accuracy']:.1f} %"
            f" (95 % interval {100 * low:.1f} to {100 * high:.1f}; {score['rows']:,} rows,"
            f" {score['estimator']}, {score['samples']} posterior draws)"
        )


def print_sources(sources: Mapping[str, Source]) -> None:
    """The data sets known by name, and where their files are."""
    rows = []
    for name, source in sources.items():
        try:
            where = "bundled" if source.part is None else source.part(None)
            if source.collection is not None:
                where = str(next(iter(source.collection.find().values())).parent)
        except ValueError:
            where = f"no (mvae data {'check' if source.collection is None else 'fetch'} {name})"
        rows.append((name, source.summary, where))
    _print_table(("name", "what it is", "here"), rows)
