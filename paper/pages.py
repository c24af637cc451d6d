"""Pages for the docs: Markdown templates filled with tables made of results."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from itertools import compress, product
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd

from mvae.export import markdown_table
from mvae.files import atomic

Show = Callable[[Any], str]
"""From the values, or cells, of a place in a table to its text."""


def mean(digits: int = 1, scale: float = 1.0, deviation: bool = True) -> Show:
    """What shows the mean of values, ± their standard deviation where there are several; or a text as it is.

    Example:
        >>> mean()([1.0]), mean(2)([1.0, 2.0]), mean(2, deviation=False)([1.0, 2.0]), mean()([])
        ('1.0', '1.50 ± 0.71', '1.50', '')
    """

    def show(values: Sequence[Any]) -> str:
        if not values or isinstance(values[0], str):
            return str(values[0]) if values else ""
        found = f"{scale * statistics.mean(values):.{digits}f}"
        several = deviation and len(values) > 1
        return f"{found} ± {scale * statistics.stdev(values):.{digits}f}" if several else found

    return show


percent = mean(scale=100.0)


def table(head: Sequence[str], rows: Sequence[Sequence[str]], keys: int = 1) -> str:
    """A table in Markdown without the rows that have nothing after their first `keys` cells."""
    return markdown_table(head, [row for row in rows if any(row[keys:])])


def pivot(
    frame: pd.DataFrame,
    rows: Mapping[str, Mapping[Any, str]],
    columns: Mapping[str, Mapping[Any, str]],
    show: Show,
    value: str | None = None,
    head: Sequence[str] = (),
) -> str:
    """A pivot table in Markdown, without rows and columns that have no cell.

    Args:
        frame: a row a cell.
        rows: fields by which cells lie in rows, each with its values in order and their titles.
        columns: the same for columns; `""` names the field `value`, so that each column shows another field.
        show: from the values of `value` to a text; from the cells themselves where `value` is None.
        value: the field that is shown.
        head: of the first columns; empty where left out.
    """
    keys = [name for name in (*rows, *columns) if name]
    groups = dict(iter(frame.groupby(keys, sort=False))) if len(frame) else {}
    places = list(product(*(one.items() for one in columns.values())))
    lines, there = [], [False] * len(places)
    for row in product(*(one.items() for one in rows.values())):
        line = []
        for place in places:
            names = dict(zip(columns, (name for name, _ in place), strict=True))
            part = groups.get((*(name for name, _ in row), *(name for key, name in names.items() if key)))
            shown = names.get("", value)
            line.append("" if part is None else show(part if shown is None else part[shown].dropna().tolist()))
        there = [old or bool(text) for old, text in zip(there, line, strict=True)]
        lines.append((row, line))
    heads = [", ".join(title for _, title in place if title) for place in places]
    body = [[*(title for _, title in row), *compress(line, there)] for row, line in lines]
    return table([*(head or [""] * len(rows)), *compress(heads, there)], body, len(rows))


def save_figure(figure: Any, path: Path, dpi: int) -> None:
    """Write a figure of matplotlib, all of it or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic(path) as temporary:
        figure.savefig(temporary, dpi=dpi)


def fill(template: str, content: Mapping[str, Any], view: Mapping[str, Any]) -> str:
    """A page: `templates/TEMPLATE.md` filled with settings, what made the results, and a view of them."""
    common = {"settings": content["settings"], "preset": content["settings"].get("preset"), **_made(content)}
    return _environment().get_template(f"{template}.md").render(common | dict(view))


def _made(content: Mapping[str, Any]) -> dict[str, str]:
    """What made the cells of a file: all commands, commits and machines; where cells do not say so, the last ones."""
    made = [cell[step] for cell in content["cells"] for step in ("made", "trained", "scored") if step in cell]
    between = {"command": "`, `", "commit": ", ", "machine": " and "}
    every = made or [content["provenance"]]
    said = {what: text.join(sorted({one[what] for one in every})) for what, text in between.items()}
    return said | {"command": said["command"].replace("mvae reproduce ", "python -m paper ")}  # its name at first


def render(text: str, fields: Mapping[str, Any]) -> str:
    """A short template, filled."""
    return _environment().from_string(text).render(fields)


@cache
def _environment() -> jinja2.Environment:
    found = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).with_name("templates")),
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
        autoescape=False,
    )
    found.filters["f"] = format
    found.globals.update(average=lambda shares: mean(1, 100, False)(list(shares)))
    found.globals.update(mean=mean, percent=percent, pivot=pivot, table=table)
    return found
