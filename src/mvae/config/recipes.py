"""Recipes: for each source, the specs it is trained with unless told otherwise, and how options change them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from mvae.config.options import OPTIONS
from mvae.config.specs import RunSpec, SpecError, parse, renamed
from mvae.data.sources import SOURCES
from mvae.files import read_bytes, shortened

__all__ = ["for_method", "merge", "read_config", "recipe", "resolve"]

MOST_PARTS, DEEPEST = 1_000_000, 100
"""The most values that a config may hold, and how deep, where it is YAML."""


def recipe(source: str) -> dict[str, Any]:
    """The recipe of a source, as plain data; a `SpecError` lists the sources that have one."""
    if source not in (known := _named()):
        raise SpecError(f"no recipe for source '{source}'; there is one for {', '.join(known)}")
    content = _yaml(known[source].read_text(encoding="utf-8"))
    complete = SOURCES[source].recipe if source in SOURCES else None
    return content if complete is None else complete(content)


def _yaml(text: str) -> Any:
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        _refuse_bombs(yaml.parse(text, loader))
        return yaml.load(text, loader)
    except (yaml.YAMLError, LookupError, AttributeError, TypeError, ArithmeticError) as error:
        raise ValueError(str(error)) from error


def _refuse_bombs(events: Iterable[Any]) -> None:
    """Refuse what is too large or too deep once each alias is what it stands for, by a ValueError."""
    count, deepest = 0, 0
    known: dict[str, tuple[int, int]] = {}  # by anchor: how many parts, and how deep
    within: list[tuple[str | None, int, int]] = []
    for event in events:
        opens, name = hasattr(event, "flow_style"), getattr(event, "anchor", None)
        if opens:
            within.append((name, count, deepest))
            deepest = 0
        elif type(event).__name__ in ("MappingEndEvent", "SequenceEndEvent"):
            name, before, other = within.pop()
            known[name or ""] = count - before + 1, deepest + 1
            count, deepest = count + 1, max(other, deepest + 1)
        elif type(event).__name__ == "AliasEvent":
            if any(name == outer for outer, _, _ in within):
                raise ValueError(f"alias '{shortened(name, 40)}' is a part of what it stands for")
            parts, depth = known.get(name or "", (1, 1))
            count, deepest = count + parts, max(deepest, depth)
        else:
            count += 1
        if count > MOST_PARTS or len(within) + deepest > DEEPEST:
            raise ValueError(f"expected at most {MOST_PARTS:,} parts, {DEEPEST} deep")


def _named(folder: str = "recipes") -> dict[str, Traversable]:
    """The files of the recipes, by name."""
    files = sorted((resources.files(__package__) / folder).iterdir(), key=lambda file: file.name)
    return {file.name.removesuffix(".yaml"): file for file in files if file.name.endswith(".yaml")}


def resolve(
    source: str | None, config: str | Path | Mapping[str, Any] | None, options: Mapping[tuple[str, ...], Any]
) -> RunSpec:
    """The spec of a new run: the source's recipe, changed by a config, changed by single options.

    Where `epochs` changes and `annealing_epochs` does not, annealing keeps its share of the epochs. A recipe's choices
    for its own method (that method's options, shares of each batch, completion) are dropped where the method changes.

    Args:
        source: a source's name; None where `config` holds everything.
        config: a YAML or JSON file with any part of a `RunSpec` (a run's `config.json` is one), or such a mapping.
        options: place to value, e.g. `{("training", "epochs"): 5}`; None leaves a value as it is.

    A `SpecError` names the place of an invalid value, or the file that cannot be read.
    """
    content = recipe(source) if source is not None else {}
    changes = read_config(config)
    options = {place: value for place, value in options.items() if value is not None}
    where = "the options" if config is None else "config" if isinstance(config, Mapping) else str(config)
    method = options.get(("model", "method")) or _at(changes, "model", "method")
    if content and isinstance(method, str) and method:
        content = for_method(content, method)
    content = _changed(content, changes)
    modalities = _at(content, "model", "modalities")
    parts = [content.get(part, {}) for part in ("data", "model", "training")]
    if not all(isinstance(part, Mapping) for part in (*parts, modalities)):
        return parse(content, where)  # which says what is wrong
    found = _at(content, "data", "source") if source is not None else None
    if found != source:
        raise SpecError(
            f"{where}: data.source: expected '{source}', the data set to train on, got {shortened(repr(found))}"
        )
    asked: dict[str, Any] = {}
    for place, value in options.items():
        if place[:2] == ("model", "modalities") and place[2] not in modalities:
            raise SpecError(f"unknown modality '{place[2]}'; there are {', '.join(modalities)}")
        if isinstance(value, Mapping):  # an option replaces what a recipe says there
            content = merge(content, _nested(place, None))
        asked = merge(asked, _nested(place, value))
    return parse(_changed(content, asked), where, options)


def _changed(content: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A spec with changes; annealing keeps its share of the epochs where they change and it does not."""
    old, new = content.get("training", {}), changes.get("training")
    epochs = new.get("epochs") if isinstance(new, Mapping) and "annealing_epochs" not in new else None
    if isinstance(epochs, int) and old.get("annealing_epochs") and old.get("epochs"):
        annealing = round(epochs * old["annealing_epochs"] / old["epochs"])
        changes = merge(changes, {"training": {"annealing_epochs": annealing}})
    return merge(content, changes)


def merge(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with `changes`, mapping by mapping. Where the kind of a part changes, the old kind's options go.

    Example:
        >>> merge({"a": {"b": 1, "c": 2}}, {"a": {"c": 3}})
        {'a': {'b': 1, 'c': 3}}
    """
    merged = dict(base)
    for key, value in changes.items():
        old: Any = merged.get(key)
        both = isinstance(value, Mapping) and isinstance(old, Mapping)
        merged[key] = merge(old, value) if both and value.get("kind", old.get("kind")) == old.get("kind") else value
    return merged


def _at(content: Any, *place: str) -> Any:
    for key in place:
        content = content.get(key, {}) if isinstance(content, Mapping) else {}
    return content


def for_method(content: dict[str, Any], method: Any) -> dict[str, Any]:
    """A recipe for another method than its own: without the options that are none of that method's."""
    model, training = content["model"], content["training"]
    if method == model["method"]:
        return content
    others = {option.name for option in OPTIONS.values() if option.methods and method not in option.methods}
    own = {option.place for option in OPTIONS.values() if option.group == "few labels"}
    return content | {
        "model": {key: value for key, value in model.items() if key not in others},
        "training": {key: value for key, value in training.items() if ("training", key) not in own},
    }


def _nested(place: tuple[str, ...], value: Any) -> dict[str, Any]:
    for key in reversed(place):
        value = {key: value}
    return value


def read_config(config: str | Path | Mapping[str, Any] | None) -> dict[str, Any]:
    """The content of a config, with the names of today.

    It is a YAML or JSON file; the name of a recipe, or of a variant of one; a mapping; None for an empty one.
    """
    if config is None or isinstance(config, Mapping):
        return renamed(config or {})
    path, name, variants = Path(config), str(config), _named("recipes/variants")
    if name in _named() and not path.is_file():
        return renamed(recipe(name))
    if not path.exists() and not path.suffix and name not in variants:
        raise SpecError(f"{path}: no such file, nor one of the recipes {', '.join([*_named(), *variants])}")
    try:
        if name in variants and not path.is_file():
            content = _yaml(variants[name].read_text(encoding="utf-8"))
        else:
            content = _yaml(read_bytes(path).decode("utf-8"))
    except (OSError, ValueError) as error:
        said = str(error).removeprefix(f"{path}: ")
        raise SpecError(f"{path}: not readable as YAML: {shortened(said)}") from error
    if not isinstance(content, dict):
        raise SpecError(f"{path}: expected a mapping with data, model or training, got {type(content).__name__}")
    return renamed(content)
