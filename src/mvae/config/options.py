"""The one table of options: what `fit` takes, the command line's flags, the printed plan and the page of the docs.

An option is declared once: at a field of a spec, or by a method (`MultimodalVAE.options`). What is written elsewhere is
made from the table by `scripts/write_options.py`.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any

from pydantic import BaseModel

from mvae.config.specs import DataSpec, ModelSpec, RunSpec, SpecError, TrainingSpec
from mvae.data.loading import COMPLETE
from mvae.models import METHODS, MultimodalVAE
from mvae.option import Option

__all__ = ["OPTIONS", "placed", "said", "shown", "table"]

WEIGHT, SHARE, STEPS = "weight", "paired_share", "steps"
DERIVED = {
    WEIGHT: Option("lambda of Eq. 2 by modality, e.g. label=50", dict[str, float], place=("model", "modalities")),
    STEPS: Option(
        "of a table, in place of epochs: about how many optimiser steps in all",
        int,
        least=1,
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
    found = [replace(option, group=option.group or option.place[0]) for option in found]
    return {option.name: option for group in GROUPS for option in found if option.group == group}


def _of_fields(part: str, spec: type[BaseModel]) -> list[Option]:
    found = []
    for key, field in spec.model_fields.items():
        extra: Any = field.json_schema_extra or {}
        if option := extra.get("option"):
            kind = Annotated[field.annotation, option, *field.metadata]  # type: ignore[name-defined]
            default = None if field.is_required() else field.default
            found.append(replace(option, name=option.name or key, type=kind, place=(part, key), default=default))
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
                parts.append(option.said(value) if callable(option.said) else option.said.format(shown(value)))
    return ", ".join(parts)


def shown(value: Any) -> str:
    """A value, to people."""
    if isinstance(value, dict):
        return ", ".join(f"{100 * share:g} % {what}" for what, share in value.items())
    return f"{value:g}" if isinstance(value, float) else str(value)
