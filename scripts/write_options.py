"""Write what is made from the table of options: `python scripts/write_options.py`.

These are the signatures of `mvae.fit` and `mvae.train` with their docstrings, the flags of `mvae fit` and a page of the
docs.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

import mvae
from mvae.config.options import OPTIONS, STEPS, shown
from mvae.option import Option

PACKAGE = Path(mvae.__file__).parent
FIT, TRAIN = PACKAGE / "training" / "fit.py", PACKAGE / "training" / "train.py"
FLAGS, DOCS = PACKAGE / "cli" / "fit_flags.json", PACKAGE.parents[1] / "docs" / "options.md"
METAVARS = {"PositiveInt": "N", "NonNegativeInt": "N", "str": "NAME", "pairs": "NAME=F"} | dict.fromkeys(
    ("PositiveFloat", "NonNegativeFloat", "ClosedUnitInterval"), "F"
)


def trained(options: Mapping[str, Option] = OPTIONS) -> dict[str, Option]:
    """The options of `train`."""
    return {name: option for name, option in options.items() if option.place[0] == "training" and name != STEPS}


def signature(options: Mapping[str, Option] = OPTIONS) -> str:
    """Options as keyword arguments."""
    return "".join(
        f"    {name}: {_annotation(_schema(option))} | None = None,{'  # noqa: A002' if name == 'compile' else ''}\n"
        for name, option in options.items()
    )


def arguments(options: Mapping[str, Option] = OPTIONS) -> str:
    """Options as a docstring says them."""
    return "".join(
        textwrap.fill(f"{name}: {_help(option)}.", 120, initial_indent=" " * 8, subsequent_indent=" " * 12) + "\n"
        for name, option in options.items()
    )


def with_signature(source: str, options: Mapping[str, Option] = OPTIONS) -> str:
    """The source of a function with these arguments, in place of those between its own first and last ones.

    Those before are its arguments up to `on` (fit) or `validation_rows` (train), those after begin with `data_dir` or
    `resume`.
    """
    before, after = ("on:", "data_dir:") if "    on: str" in source else ("validation_rows:", "resume:")
    for indent, block in ((" " * 4, signature(options)), (" " * 8, arguments(options))):
        first, last = f"\n{indent}{before} ", f"{indent}{after} "
        start = source.index("\n", source.index(first) + 1) + 1
        source = source[:start] + block + source[source.index(last, start) :]
    return source


def flags(options: Mapping[str, Option] = OPTIONS) -> list[dict[str, Any]]:
    """What `mvae fit` needs to know of options. It reads a file, so that `--help` loads neither torch nor the specs."""
    return [
        {
            "name": name,
            "flag": option.flag,
            "place": ".".join(option.place),
            "group": option.group,
            "type": (kind := _kind(option)),
            "choices": next((part["enum"] for part in _parts(_schema(option)) if "enum" in part), None),
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
                default = "" if option.default in (None, {}) else f"`{shown(option.default)}`"
                cells = (f"`{name}`, `{option.flag}`", f"`{_annotation(_schema(option))}`", default, _whose(option))
                row = " | ".join(cell.replace("|", "\\|") for cell in (*cells, f"`{'.'.join(option.place)}`"))
                lines.append(f"| {row} |")
    return "\n".join(lines) + "\n"


def _whose(option: Option) -> str:
    return f"{', '.join(option.methods)}: {option.help}" if option.methods else option.help


def _help(option: Option) -> str:
    """With the default of a method's option, which no recipe changes unseen."""
    default = f" (default: {shown(option.default)})" if option.methods and option.default is not None else ""
    return _whose(option) + default


def _schema(option: Option) -> dict[str, Any]:
    """The type of an option, as JSON schema says it."""
    return TypeAdapter(option.type).json_schema()


def _parts(schema: dict[str, Any]) -> list[dict[str, Any]]:
    """The alternatives that a type has, but for None."""
    return [part for part in schema.get("anyOf", [schema]) if part.get("type") != "null"]


def _annotation(schema: dict[str, Any]) -> str:
    """A type as source."""
    found = []
    for part in _parts(schema):
        if "enum" in part:
            found.append(f"Literal[{', '.join(map(json.dumps, part['enum']))}]")
        elif part["type"] == "object":
            found.append(f"Mapping[str, {_annotation(part['additionalProperties'])}]")
        elif part["type"] == "array":
            found.append(f"Sequence[{_annotation(part['items'])}]")
        else:
            found.append({"integer": "int", "number": "float", "boolean": "bool", "string": "str"}[part["type"]])
    return " | ".join(found)


def _kind(option: Option) -> str:
    """How a flag reads its value: a type of `jsonargparse.typing`, or str, bool, choice, pairs or names."""
    schema, *others = _parts(_schema(option))
    if others:
        return "names"
    if "enum" in schema:
        return "choice"
    least, most = schema.get("minimum", option.least), schema.get("maximum", option.most)
    match schema["type"]:
        case "integer":
            return "PositiveInt" if schema.get("exclusiveMinimum") == 0 or least == 1 else "NonNegativeInt"
        case "number" if most == 1:
            return "ClosedUnitInterval"
        case "number":
            return "PositiveFloat" if schema.get("exclusiveMinimum") == 0 else "NonNegativeFloat"
    return {"object": "pairs", "boolean": "bool", "string": "str"}[schema["type"]]


def written(options: Mapping[str, Option] = OPTIONS) -> dict[Path, str]:
    """The files that are made from the table, and what they hold."""
    lines = ",\n".join(json.dumps(flag) for flag in flags(options))
    return {
        FIT: with_signature(FIT.read_text(encoding="utf-8"), options),
        TRAIN: with_signature(TRAIN.read_text(encoding="utf-8"), trained(options)),
        FLAGS: f"[\n{lines}\n]\n",
        DOCS: docs_page(options),
    }


if __name__ == "__main__":
    for path, text in written().items():
        path.write_text(text, encoding="utf-8")
