"""`mvae sample`: draws from a model."""

from __future__ import annotations

from itertools import chain, count
from pathlib import Path

from jsonargparse import ArgumentParser, Namespace
from jsonargparse.typing import NonNegativeInt, PositiveInt

from mvae.cli.options import Command, answered, pairs

__all__ = ["SAMPLE"]


def _sample_arguments(parser: ArgumentParser) -> None:
    add = parser.add_argument
    add("run", help="folder of a run")
    known = "observed values, e.g. label=7, text=1773 or image=digit.png; without any, draws come from the prior"
    add("--given", metavar="NAME=VALUE", type=str, nargs="+", action="extend", help=known)
    add("--count", metavar="N", type=PositiveInt, default=64, help="how many to draw (default: 64)")
    add("--out", metavar="FILE", type=str, help="a .png for images, a .csv or .json for labels, numbers and texts")
    add("--seed", metavar="N", type=NonNegativeInt, default=0, help="seed of the draws (default: 0)")


def _sample(options: Namespace) -> int:
    """Images go to a picture, labels and numbers to a table.

    Example: mvae sample runs/first --given label=7 --out sevens.png
    """
    from mvae.cli.display import print_samples
    from mvae.config.folder import load, read_spec
    from mvae.generation.sample import are_images, draw, read_given, write_samples
    from mvae.seeds import seeded

    model, table = load(options.run), read_spec(options.run).data.table
    if table is not None:
        from mvae.tables.draws import draw_rows

        given_cells = pairs("--given", options.given)
        return answered(options, lambda: draw_rows(model, table, given_cells, options.count, options.seed))
    given = read_given(model, pairs("--given", options.given))
    with seeded(options.seed):
        samples = draw(model, given, options.count)
    default = Path(options.run) / "samples.png"
    paths = chain([default], (default.with_stem(f"samples-{number}") for number in count(2)))
    out = Path(options.out) if options.out else next(path for path in paths if not path.exists())
    elements = {name: part.elements for name, part in model.variables.items()}
    pictures = any(are_images(values) for values in samples.values())
    if options.out or pictures:
        for path in write_samples(samples, out, elements):
            print(f"written to {path}")
    if out.suffix == ".png":
        print_samples(samples, elements)
    return 0


SAMPLE = Command(_sample_arguments, _sample)
