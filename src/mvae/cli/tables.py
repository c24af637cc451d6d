"""`mvae inspect`, `impute`, `embed` and `score`: answers about tables."""

from __future__ import annotations

from pathlib import Path

from jsonargparse import ArgumentParser, Namespace
from jsonargparse.typing import NonNegativeInt, PositiveInt

from mvae.cli.options import Command, answered, of_table, table_arguments

__all__ = ["EMBED", "IMPUTE", "INSPECT", "SCORE"]


def _inspect_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("data", help="a table: a .csv, .tsv, .parquet, .feather or .jsonl file")
    table_arguments(parser)
    parser.add_argument("--out", metavar="FILE.yaml", type=str, help="write it to this file, for mvae fit --config")


def _inspect(options: Namespace) -> int:
    """The output is a config for mvae fit. Example: mvae inspect people.csv --out people.yaml"""
    from mvae.files import reserved, write_text
    from mvae.tables.inspect import inspect

    said = (of_table(options, None) or {}).get("data", {}).get("table", {})
    known = {key: value for key, value in said.items() if key in ("columns", "groups")}
    text = inspect(options.data, join=options.join or (), on=options.on, known=known)
    print(text, end="")
    if options.out:
        with reserved(Path(options.out)):
            write_text(Path(options.out), text)
        print(f"written to {options.out}; change what is wrong, then: mvae fit {options.data} --config {options.out}")
    return 0


def _answer_arguments(parser: ArgumentParser, out: str) -> None:
    add = parser.add_argument
    add("run", help="folder of a run that was trained on a table")
    add("data", help="a table with the same columns")
    add("--join", metavar="FILE", type=str, nargs="+", help="more tables, joined as in training")
    add("--out", metavar="FILE", type=str, required=True, help=f"{out}: .csv, .tsv, .parquet, .feather or .jsonl")


def _impute_arguments(parser: ArgumentParser) -> None:
    _answer_arguments(parser, "the filled table")
    add = parser.add_argument
    add("--draws", metavar="M", type=NonNegativeInt, default=0, help="multiple imputations, a file each (default: 0)")
    add("--samples", metavar="S", type=PositiveInt, default=100, help="draws of z a row (default: 100)")
    add("--refine", metavar="N", type=NonNegativeInt, default=100, help="steps that fit z to each row (default: 100)")
    add("--seed", metavar="N", type=NonNegativeInt, default=0, help="seed of the draws (default: 0)")


def _impute(options: Namespace) -> int:
    """Observed cells are unchanged; FILE-cells.csv has the standard deviation and interval of each filled one.

    Example: mvae impute runs/people people.csv --out filled.csv --draws 20
    """
    from mvae.tables.answers import impute
    from mvae.tables.write import reserved_tables, write_tables

    out = Path(options.out)
    cells = out.with_name(f"{out.stem}-cells.csv")
    draws = [out.with_stem(f"{out.stem}-{number}") for number in range(1, options.draws + 1)]
    how = {"num_samples": options.samples, "refine": options.refine, "seed": options.seed, "progress": True}
    with reserved_tables(out, cells, *draws):
        found = impute(options.run, options.data, draws=options.draws, join=options.join or (), **how)
        frames = [found.frame, found.cells, *found.draws]
        write_tables(dict(zip([out, cells, *draws], frames, strict=True)))
    columns = found.cells["column"].nunique()
    print(f"filled {len(found.cells):,} missing cells in {columns} columns; written to {out}")
    print(f"standard deviations and intervals: {cells}" + (f"; {len(draws)} draws: {draws[0]}, ..." if draws else ""))
    return 0


def _embed(options: Namespace) -> int:
    """Example: mvae embed runs/people people.csv --out z.parquet"""
    from mvae.tables.answers import embed

    return answered(options, lambda: embed(options.run, options.data, join=options.join or ()))


def _score_arguments(parser: ArgumentParser) -> None:
    _answer_arguments(parser, "a log-likelihood a row")
    add = parser.add_argument
    add("--samples", metavar="K", type=PositiveInt, default=200, help="importance samples a row (default: 200)")
    add("--seed", metavar="N", type=NonNegativeInt, default=0, help="seed of the draws (default: 0)")


def _score(options: Namespace) -> int:
    """Example: mvae score runs/people people.csv --out odd.csv"""
    from mvae.tables.answers import score

    more = {"num_samples": options.samples, "seed": options.seed, "join": options.join or (), "progress": True}
    return answered(options, lambda: score(options.run, options.data, **more))


INSPECT = Command(_inspect_arguments, _inspect)
IMPUTE = Command(_impute_arguments, _impute)
EMBED = Command(lambda parser: _answer_arguments(parser, "the place of each row in the latent space"), _embed)
SCORE = Command(_score_arguments, _score)
