"""The one table of options: what `fit` takes, the command line's flags, the printed plan and the page of the docs.

An option is declared once: at a field of a spec, or by a method (`MultimodalVAE.options`). What is written elsewhere is
made from the table by `python -m mvae.config.options --write`.
"""

from __future__ import annotations

import inspect
import json
import sys
import textwrap
import types
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from mvae.config.specs import DataSpec, ModelSpec, RunSpec, SpecError, TrainingSpec
from mvae.data.loading import COMPLETE
from mvae.models import METHODS, MultimodalVAE
from mvae.option import Option

__all__ = ["OPTIONS", "docs_page", "flags", "placed", "said", "signature", "table", "with_signature"]

WEIGHT, SHARE, STEPS = "weight", "paired_share", "steps"
DERIVED = {
    WEIGHT: Option("lambda of Eq. 2 by modality, e.g. label=50", dict[str, float], place=("model", "modalities")),
    STEPS: Option(
        "of a table, in place of epochs: about how many optimiser steps in all",
        int,
        least=1,
        group="training",
        place=("training", "steps"),
    ),
    SHARE: Option(
        "fill this share of each batch with complete rows, however few; short for shares of complete alone",
        float,
        least=0,
        most=1,
        group="few labels",
        place=("training", "shares"),
    ),
}
"""Options that set something else in a spec than their own field (`placed`, and `prepare` for steps)."""

GROUPS = ("data", "model", "training", "few labels")


def table(
    data: type[BaseModel] = DataSpec,
    model: type[BaseModel] = ModelSpec,
    training: type[BaseModel] = TrainingSpec,
    methods: Mapping[str, type[MultimodalVAE]] = METHODS,
) -> dict[str, Option]:
    """All options by name, group by group, gathered from where they are declared."""
    found = [*_of_fields("data", data), *_of_fields("model", model), *_of_methods(methods)]
    found += [replace(option, name=name) for name, option in DERIVED.items()] + _of_fields("training", training)
    return {option.name: option for group in GROUPS for option in found if option.group == group}


def _of_fields(part: str, spec: type[BaseModel]) -> list[Option]:
    found = []
    for key, field in spec.model_fields.items():
        for option in field.metadata:
            if isinstance(option, Option):
                kind = Annotated[field.annotation, *field.metadata]  # type: ignore[name-defined]
                default = None if field.default is PydanticUndefined else field.default
                name = option.name or key
                found.append(replace(option, name=name, type=kind, place=(part, key), default=default))
    return found


def _of_methods(methods: Mapping[str, type[MultimodalVAE]]) -> list[Option]:
    found: dict[str, Option] = {}
    for method, model in methods.items():
        defaults = inspect.signature(model).parameters
        for name, option in model.options.items():
            users = (*found[name].methods, method) if name in found else (method,)
            default = defaults[name].default if name in defaults else None
            found[name] = replace(option, name=name, place=("model", name), methods=users, default=default)
    return list(found.values())


OPTIONS = table()


def placed(options: Mapping[str, Any]) -> dict[tuple[str, ...], Any]:
    """Options of `fit`, by name, as values by their places in a `RunSpec`; those at None are left out."""
    given = {name: value for name, value in options.items() if value is not None}
    if SHARE in given and "shares" in given:
        raise SpecError("training.shares: expected shares or paired_share, not both")
    places = {OPTIONS[name].place: value for name, value in given.items() if name not in (WEIGHT, SHARE)}
    if SHARE in given:
        places[OPTIONS[SHARE].place] = {COMPLETE: given[SHARE]}
    if "best_by" in given:  # a recipe may keep the last
        places.setdefault(OPTIONS["keep"].place, "best")
    return places | {("model", "modalities", name, "weight"): value for name, value in given.get(WEIGHT, {}).items()}


def said(spec: RunSpec, group: str) -> str:
    """The options of a group, as the printed plan says them."""
    parts = []
    for option in OPTIONS.values():
        if option.said and option.group == group:
            value = getattr(getattr(spec, option.place[0]), option.place[1], None)
            if value is not None and value != option.unsaid:
                parts.append(option.said(value) if callable(option.said) else option.said.format(_shown(value)))
    return ", ".join(parts)


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{100 * share:g} % {what}" for what, share in value.items())
    return f"{value:g}" if isinstance(value, float) else str(value)


# What is written from the table


def signature(options: Mapping[str, Option] = OPTIONS) -> str:
    """The keyword arguments of `fit`."""
    return "".join(
        f"    {name}: {_annotation(option.type)} | None = None,{'  # noqa: A002' if name == 'compile' else ''}\n"
        for name, option in options.items()
    )


def arguments(options: Mapping[str, Option] = OPTIONS) -> str:
    """What the docstring of `fit` says of them."""
    return "".join(
        textwrap.fill(f"{name}: {_help(option)}.", 120, initial_indent=" " * 8, subsequent_indent=" " * 12) + "\n"
        for name, option in options.items()
    )


def flags(options: Mapping[str, Option] = OPTIONS) -> list[dict[str, Any]]:
    """What `mvae fit` needs to know of them. It reads a file, so that `--help` loads neither torch nor the specs."""
    return [
        {
            "name": name,
            "flag": option.flag,
            "place": ".".join(option.place),
            "group": option.group,
            "type": (kind := _kind(option)),
            "choices": _choices(_bare(option.type)[0]) or None,
            "metavar": option.metavar or METAVARS.get(kind) or None,
            "help": _help(option),
        }
        for name, option in options.items()
    ]


def docs_page(options: Mapping[str, Option] = OPTIONS) -> str:
    """The page of the docs."""
    lines = [
        "# Options of training",
        "",
        "The options of `mvae.fit` and the flags of `mvae fit`. Defaults come from the data set's recipe; those below",
        "hold where it sets none. In a config, an option is set at its place.",
    ]
    for group in dict.fromkeys(option.group for option in options.values()):
        lines += ["", f"## {group.capitalize()}", "", "| option | type | default | what it does | place |"]
        lines += ["|---|---|---|---|---|"]
        for name, option in options.items():
            if option.group == group:
                default = "" if option.default in (None, {}) else f"`{_shown(option.default)}`"
                cells = (f"`{name}`, `{option.flag}`", f"`{_annotation(option.type)}`", default, _whose(option))
                row = " | ".join(cell.replace("|", "\\|") for cell in (*cells, f"`{'.'.join(option.place)}`"))
                lines.append(f"| {row} |")
    return "\n".join(lines) + "\n"


def _whose(option: Option) -> str:
    return f"{', '.join(option.methods)}: {option.help}" if option.methods else option.help


def _help(option: Option) -> str:
    """With the default of a method's option, which no recipe changes unseen."""
    default = f" (default: {_shown(option.default)})" if option.methods and option.default is not None else ""
    return _whose(option) + default


def _bare(kind: Any) -> tuple[Any, tuple[Any, ...]]:
    """A type without None and without what is annotated, and what was."""
    if get_origin(kind) is Annotated:
        inner, *notes = get_args(kind)
        bare, more = _bare(inner)
        return bare, (*notes, *more)
    if get_origin(kind) in (Union, types.UnionType):
        parts = [part for part in get_args(kind) if part is not type(None)]
        return _bare(parts[0]) if len(parts) == 1 else (Union[tuple(parts)], ())  # noqa: UP007
    return kind, ()


def _annotation(kind: Any) -> str:
    """A type as source."""
    kind, _ = _bare(kind)
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Literal:
        return f"Literal[{', '.join(json.dumps(value) for value in inner)}]"
    if origin in (Union, types.UnionType):
        return " | ".join(map(_annotation, inner))
    if origin in (dict, list):
        return f"{'Mapping' if origin is dict else 'Sequence'}[{', '.join(map(_annotation, inner))}]"
    return str(kind.__name__)


METAVARS = {"PositiveInt": "N", "NonNegativeInt": "N", "str": "NAME", "pairs": "NAME=F"} | dict.fromkeys(
    ("PositiveFloat", "NonNegativeFloat", "ClosedUnitInterval"), "F"
)


def _kind(option: Option) -> str:
    """How a flag reads its value: a type of `jsonargparse.typing`, or str, bool, choice, pairs or names."""
    kind, notes = _bare(option.type)
    for note in notes:
        notes = (*notes, *getattr(note, "metadata", ()))
    least, above, most = (_bound(notes, name) for name in ("ge", "gt", "le"))
    least, most = (least if option.least is None else option.least), (most if option.most is None else option.most)
    if get_origin(kind) in (Literal, dict, Union, types.UnionType):
        return {Literal: "choice", dict: "pairs"}.get(get_origin(kind), "names")
    if kind is int:
        return "PositiveInt" if above == 0 or least == 1 else "NonNegativeInt"
    if kind is float:
        return "ClosedUnitInterval" if most == 1 else "PositiveFloat" if above == 0 else "NonNegativeFloat"
    return str(kind.__name__)


def _choices(kind: Any) -> list[str]:
    if get_origin(kind) is Literal:
        return list(get_args(kind))
    parts = get_args(kind) if get_origin(kind) in (Union, types.UnionType) else ()
    return [value for part in parts for value in _choices(part)]


def _bound(notes: Iterable[Any], name: str) -> Any:
    return next((getattr(note, name) for note in notes if getattr(note, name, None) is not None), None)


PACKAGE = Path(__file__).parents[1]
FLAGS = PACKAGE / "cli" / "fit_flags.json"
FIT, DOCS = PACKAGE / "training" / "fit.py", PACKAGE.parents[1] / "docs" / "options.md"


def with_signature(source: str, options: Mapping[str, Option] = OPTIONS) -> str:
    """The source of `fit` with the arguments of the table: they lie between `on` and `data_dir`."""
    for (first, last), block in zip(
        (("    on: str | None = None,\n", "    data_dir:"), ("        on: the", "        data_dir:")),
        (signature(options), arguments(options)),
        strict=True,
    ):
        start = source.index("\n", source.index(first)) + 1
        source = source[:start] + block + source[source.index(last, start) :]
    return source


def written(options: Mapping[str, Option] = OPTIONS) -> dict[Path, str]:
    """The files that are made from the table, and what they hold."""
    lines = ",\n".join(json.dumps(flag) for flag in flags(options))
    return {
        FIT: with_signature(FIT.read_text(encoding="utf-8"), options),
        FLAGS: f"[\n{lines}\n]\n",
        DOCS: docs_page(options),
    }


if __name__ == "__main__":
    if sys.argv[1:] != ["--write"]:
        sys.exit("usage: python -m mvae.config.options --write")
    for path, text in written().items():
        path.write_text(text, encoding="utf-8")
