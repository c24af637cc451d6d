"""`mvae evaluate`: a model scored on held-out rows."""

from __future__ import annotations

from pathlib import Path

from jsonargparse import ArgumentParser, Namespace
from jsonargparse.typing import NonNegativeInt, PositiveInt

from mvae.cli.options import Command

__all__ = ["EVALUATE"]


def _evaluate_arguments(parser: ArgumentParser) -> None:
    add = parser.add_argument
    add("run", help="folder of a run")
    add("--samples", metavar="K", type=PositiveInt, default=1000, help="importance samples a row (default: 1000)")
    add("--split", choices=["test", "validation", "train"], default="test", help="which rows (default: test)")
    add("--limit", metavar="N", type=PositiveInt, help="only the first N rows")
    add("--seed", metavar="N", type=NonNegativeInt, default=0, help="seed of the draws (default: 0)")
    add("--data-dir", metavar="DIR", type=str, help="where to look first for data files")


def _evaluate(options: Namespace) -> int:
    """Log-likelihoods by importance sampling and accuracies, on screen and in RUN/evaluation.json.

    Example: mvae evaluate runs/first --samples 1000
    """
    from mvae.cli.display import print_report
    from mvae.config.folder import load, read_spec
    from mvae.evaluation.report import evaluate
    from mvae.files import write_json
    from mvae.seeds import seeded
    from mvae.training.prepare import held_rows

    model, spec = load(options.run), read_spec(options.run)
    if spec.data.source is None:
        raise ValueError(f"{options.run} was trained on rows from Python; score it there with mvae.log_likelihood")
    with seeded(options.seed):  # training rows may be drawn anew at each use
        rows = held_rows(model, spec, options.split, options.limit, options.data_dir)
    if not len(rows):
        more = "; --split validation has some" if spec.data.validation_rows and options.split == "test" else ""
        more = more or ("; mvae fit --validation-rows N holds some out" if options.split == "validation" else "")
        raise ValueError(f"{options.run} has no {options.split} rows{more}")
    report = {"split": options.split, **evaluate(model, rows, options.samples, options.seed, progress=True)}
    write_json(Path(options.run) / "evaluation.json", report)
    print_report(report, spec.data.source)
    print(f"written to {Path(options.run) / 'evaluation.json'}")
    return 0


EVALUATE = Command(_evaluate_arguments, _evaluate)
