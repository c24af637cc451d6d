"""What a model says of a table's missing cells: p(missing | observed), by importance-weighted draws of z."""

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

    The value is the mean, of a category or text the likeliest; `sd` is in the column's units (of a date in days), of a
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
    """Fill the missing cells of a table, as `mvae.impute`.

    Args:
        model: trained on such a table.
        spec: of its columns.
        table: with the same columns.
        draws: how many multiple imputations.
        num_samples: draws of z a row.
        seed: of the draws.
        progress: show a bar.
        alike: the same noise for each row, as `weighted_draws`.
        refine: steps in which q(z | what a row has) is fitted to each row.
    """
    rows = model.checked(as_rows(spec, table))
    kinds = {name: kind_of(column) for name, column in spec.columns.items()}
    records = {name: members for name, members in spec.records.items() if name in model.modalities}
    others = [name for name in spec.others if kinds[name].is_filled and name in model.modalities]
    found, some = dict[str, _Missing](), np.zeros(len(table), dtype=bool)
    for name in [*(name for members in records.values() for name in members), *others]:
        missing = kinds[name].missing(table.cells(name))
        if missing.any():
            found[name] = _Missing(missing, draws, kinds[name].dtype)
            some |= missing & (name not in others)
    wanted, count = torch.from_numpy(np.flatnonzero(some)), max(num_samples, draws)
    with seeded(seed):
        for drawn in weighted_draws(model.eval(), rows, wanted, count, progress, alike, refine):
            chosen = drawn.chosen(count)
            for group, members in records.items():
                distribution = model.modalities[group].decoder(drawn.z)
                assert isinstance(distribution, RecordDistribution)
                # Anew for each chosen z, which may be the same one many times where its weight is all of a row's.
                samples = model.modalities[group].decoder(chosen).sample()
                moments = distribution.mean, distribution.variance
                for number, name in enumerate(members):
                    here = found[name].among(drawn.rows) if name in found else drawn.rows[:0]
                    if len(here):
                        mean, variance, drawn_cells = (part[:, here, number] for part in (*moments, samples))
                        shares = partial(_probabilities, distribution, number, here)
                        part = ElementDraws(drawn.weights[:, here], mean, variance, drawn_cells, shares)
                        found[name].take(drawn.rows[here].numpy(), kinds[name].answer(part))
        for name in others:
            if name in found:
                rest = rows[torch.from_numpy(found[name].rows)].only([other for other in model.names if other != name])
                found[name].take(found[name].rows, kinds[name].answer(model, name, rest, draws))
    return _written(table, spec, found, draws)


def _probabilities(distribution: RecordDistribution, element: int, rows: Tensor) -> Tensor:
    return distribution.probabilities(element)[:, rows]


class _Missing:
    """The missing cells of a column, and what a model says of them, put together from parts.

    All of it is allocated at once: small arrays that stay, made between large ones that go, would leave the memory in
    pieces.
    """

    def __init__(self, missing: np.ndarray, draws: int, dtype: Any) -> None:
        self.missing, self.rows = missing, np.flatnonzero(missing)
        value, low, high = (np.empty(len(self.rows), dtype) for _ in range(3))
        self.answer = Answer(value, np.empty(len(self.rows)), low, high, np.empty((draws, len(self.rows)), dtype))

    def among(self, rows: Tensor) -> Tensor:
        """Which of these rows have the cell missing, as places in them."""
        return torch.from_numpy(np.flatnonzero(self.missing[rows.numpy()]))

    def take(self, rows: np.ndarray, part: Answer) -> None:
        """Put in what is said of some of the rows."""
        places = np.searchsorted(self.rows, rows)
        for own, new in zip(self.answer[:-1], part[:-1], strict=True):
            own[places] = new
        self.answer.samples[:, places] = part.samples[: len(self.answer.samples)]


def _written(table: Table, spec: TableSpec, answers: Mapping[str, _Missing], draws: int) -> Filled:
    frames = [table.frame.copy() for _ in range(1 + draws)]
    lines = []
    for name, found in answers.items():
        kind, cells, of_all = kind_of(spec.columns[name]), table.cells(name), found.answer
        for number, frame in enumerate(frames):
            frame[name] = kind.put(cells, found.rows, of_all.samples[number - 1] if number else of_all.value)
        line = {"row": found.rows, "column": name, "value": None, "sd": of_all.sd}
        shown = {what: kind.shown(getattr(of_all, what)) for what in ("value", "low", "high")}
        lines.append(pd.DataFrame(line).assign(**shown).astype(dict.fromkeys(shown, object)))
    none = pd.DataFrame({name: [] for name in ("row", "column", "value", "sd", "low", "high")})
    lines_of_all = pd.concat(lines, ignore_index=True).sort_values(["row"], kind="stable") if lines else none
    return Filled(frames[0], lines_of_all.reset_index(drop=True), frames[1:])
