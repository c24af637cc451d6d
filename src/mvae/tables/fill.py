"""Fill the missing cells of a table by p(missing | observed), from importance-weighted draws of z."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from mvae.config.table_spec import TableSpec
from mvae.evaluation.refining import STEPS
from mvae.models import MultimodalVAE
from mvae.records import RecordDistribution
from mvae.seeds import seeded
from mvae.tables.draws import IMPUTE_DRAWS, weighted_draws
from mvae.tables.kinds import kind_of
from mvae.tables.kinds.base import Answer, ElementDraws
from mvae.tables.learn import as_rows
from mvae.tables.read import Table

__all__ = ["Filled", "impute_table"]


@dataclass(frozen=True)
class Filled:
    """A table without missing cells, and how certain each filled cell is."""

    frame: pd.DataFrame
    """The table. Observed cells are unchanged."""
    cells: pd.DataFrame
    """A line for each filled cell: its row (from 0) and column, the value, its standard deviation `sd`, and the ends
    `low` and `high` of the interval that holds the true value with a probability of 90 %.

    The value is the mean, for a category or text the likeliest; `sd` is in the column's units (days for a date), for a
    category it is the probability of all others."""
    draws: list[pd.DataFrame]
    """Tables with a joint draw of all missing cells of each row in place of the means: multiple imputations."""


@torch.no_grad()
def impute_table(
    model: MultimodalVAE,
    spec: TableSpec,
    table: Table,
    draws: int = 0,
    num_samples: int = IMPUTE_DRAWS,
    seed: int = 0,
    progress: bool = False,
    alike: bool = False,
    refine: int = STEPS,
) -> Filled:
    """Fill the missing cells of a table as `mvae.impute` does, with `alike` as for `weighted_draws`."""
    rows = model.checked(as_rows(spec, table))
    kinds = {name: kind_of(column) for name, column in spec.columns.items()}
    records = {name: members for name, members in spec.records.items() if name in model.modalities}
    others = [name for name in spec.others if kinds[name].is_filled and name in model.modalities]
    masks, some = dict[str, np.ndarray](), np.zeros(len(table), dtype=bool)
    for name in [*(name for members in records.values() for name in members), *others]:
        missing = kinds[name].missing(table.cells(name))
        if missing.any():
            masks[name] = missing
            some |= missing & (name not in others)
    gaps = {name: np.flatnonzero(mask) for name, mask in masks.items()}
    answers = {name: _room(len(gap), draws, kinds[name].dtype) for name, gap in gaps.items()}
    wanted, count = torch.from_numpy(np.flatnonzero(some)), max(num_samples, draws)
    with seeded(seed):
        for drawn in weighted_draws(model.eval(), rows, wanted, count, progress, alike, refine):
            chosen, numbers = drawn.chosen(count), drawn.rows.numpy()
            for group, members in records.items():
                distribution = model.modalities[group].decoder(drawn.z)
                # Anew for each chosen z, which may be the same one many times where its weight is all of a row's.
                samples = model.modalities[group].decoder(chosen).sample()
                moments = distribution.mean, distribution.variance
                for number, name in enumerate(members):
                    places = np.flatnonzero(masks[name][numbers] if name in masks else [])
                    if len(places):
                        here = torch.from_numpy(places)
                        mean, variance, drawn_cells = (part[:, here, number] for part in (*moments, samples))
                        shares = partial(_probabilities, distribution, number, here)
                        part = ElementDraws(drawn.weights[:, here], mean, variance, drawn_cells, shares)
                        _put(answers[name], gaps[name].searchsorted(numbers[places]), kinds[name].answer(part))
        for name in others:
            if name in gaps:
                rest = rows[torch.from_numpy(gaps[name])].only([other for other in model.names if other != name])
                _put(answers[name], slice(None), kinds[name].answer(model, name, rest, draws))
    return _written(table, spec, gaps, answers, draws)


def _probabilities(distribution: RecordDistribution, element: int, rows: Tensor) -> Tensor:
    return distribution.probabilities(element)[:, rows]


def _room(count: int, draws: int, dtype: Any) -> Answer:
    """Arrays for a column's missing cells, made at once: small ones made in between would leave memory in pieces."""
    value, low, high = (np.empty(count, dtype) for _ in range(3))
    return Answer(value, np.empty(count), low, high, np.empty((draws, count), dtype))


def _put(answer: Answer, places: np.ndarray | slice, part: Answer) -> None:
    for own, new in zip(answer, part, strict=True):
        own[..., places] = new if own.ndim == 1 else new[: len(own)]


def _written(
    table: Table, spec: TableSpec, gaps: Mapping[str, np.ndarray], answers: Mapping[str, Answer], draws: int
) -> Filled:
    frames = [table.frame.copy() for _ in range(1 + draws)]
    lines = []
    for name, rows in gaps.items():
        kind, cells = kind_of(spec.columns[name]), table.cells(name)
        value, sd, low, high, samples = answers[name]
        for frame, filled in zip(frames, [value, *samples], strict=True):
            frame[name] = kind.put(cells, rows, filled)
        shown = {what: kind.shown(part) for what, part in (("value", value), ("low", low), ("high", high))}
        line = {"row": rows, "column": name, "value": None, "sd": sd}
        lines.append(pd.DataFrame(line).assign(**shown).astype(dict.fromkeys(shown, object)))
    none = pd.DataFrame({name: [] for name in ("row", "column", "value", "sd", "low", "high")})
    lines_of_all = pd.concat(lines, ignore_index=True).sort_values(["row"], kind="stable") if lines else none
    return Filled(frames[0], lines_of_all.reset_index(drop=True), frames[1:])
