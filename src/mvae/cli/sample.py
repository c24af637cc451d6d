"""`mvae sample`: draws from a model."""

from __future__ import annotations

from pathlib import Path

from jsonargparse import ArgumentParser, Namespace
from jsonargparse.typing import NonNegativeInt, PositiveInt

from mvae.cli.options import Command, answered, pairs

__all__ = ["SAMPLE"]


def _sample_arguments(parser: ArgumentParser) -> None:
    add = parser.add_argument
    add("run", help="folder of a run")
    add(
        "--given",
        metavar="NAME=VALUE",
        type=str,
        nargs="+",
        action="extend",
        help="what is known, e.g. label=7, text=1773 or image=digit.png; nothing draws from the prior",
    )
    add("--count", metavar="N", type=PositiveInt, default=64, help="how many to draw (default: 64)")
    add("--out", metavar="FILE", type=str, help="a .png for images, a .csv or .json for labels, numbers and texts")
    add("--seed", metavar="N", type=NonNegativeInt, default=0, help="of the draws (default: 0)")


def _sample(options: Namespace) -> int:
    import torch

    from mvae.cli.display import print_samples
    from mvae.config.folder import load, read_spec
    from mvae.generation.sample import are_images, draw, read_given, write_samples

    model, table = load(options.run), read_spec(options.run).data.table
    if table is not None:
        from mvae.tables.draws import draw_rows

        given_cells = pairs("--given", options.given)
        return answered(options, lambda: draw_rows(model, table, given_cells, options.count, options.seed))
    given = read_given(model, pairs("--given", options.given))
    torch.manual_seed(options.seed)
    samples = draw(model, given, options.count)
    out = Path(options.out) if options.out else _free_path(Path(options.run) / "samples.png")
    elements = {name: part.elements for name, part in model.variables.items()}
    pictures = any(are_images(values) for values in samples.values())
    if options.out or pictures:
        for path in write_samples(samples, out, elements):
            print(f"written to {path}")
    if out.suffix == ".png":
        print_samples(samples, elements)
    return 0


def _free_path(path: Path) -> Path:
    """The path, or the first of path-2, path-3, ... that is not taken."""
    taken = path
    count = 1
    while taken.exists():
        count += 1
        taken = path.with_stem(f"{path.stem}-{count}")
    return taken


SAMPLE = Command(
    "Images go to a picture, labels and numbers to a table."
    " Example: mvae sample runs/first --given label=7 --out sevens.png",
    _sample_arguments,
    _sample,
)
