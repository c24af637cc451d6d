"""What a model says of a table's missing cells: p(missing | observed), by importance-weighted draws of z."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from mvae.config.table_spec import TableSpec
from mvae.evaluation.refining import STEPS
from mvae.models import MultimodalVAE
from mvae.records import RecordDistribution
from mvae.tables.draws import IMPUTE_DRAWS, drawing, weighted_draws
from mvae.tables.kinds import Answer, ElementDraws, kind_of
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
    with drawing(seed):
        return _filled(model.eval(), spec, table, draws, num_samples, progress, alike, refine)


def _filled(
    model: MultimodalVAE,
    spec: TableSpec,
    table: Table,
    draws: int,
    num_samples: int,
    progress: bool,
    alike: bool,
    refine: int,
) -> Filled:
    rows = as_rows(spec, table)
    kinds = {name: kind_of(column) for name, column in spec.columns.items()}
    records = {name: members for name, members in spec.records.items() if name in model.modalities}
    elements = [name for members in records.values() for name in members]
    others = [name for name in spec.others if kinds[name].is_filled and name in model.modalities]
    missing = {name: kinds[name].missing(table.cells(name)) for name in elements + others}
    missing = {name: gone for name, gone in missing.items() if gone.any()}
    found = {name: _Answers(np.flatnonzero(gone), draws, kinds[name].dtype) for name, gone in missing.items()}
    some = np.logical_or.reduce([missing[name] for name in elements if name in missing], initial=False)
    wanted = torch.from_numpy(np.flatnonzero(some))
    for drawn in weighted_draws(model, rows, wanted, max(num_samples, draws), progress, alike, refine):
        chosen = drawn.chosen(max(num_samples, draws))
        for group, members in records.items():
            distribution = model.modalities[group].decoder(drawn.z)
            assert isinstance(distribution, RecordDistribution)
            # Anew for each chosen z, which may be the same one many times where its weight is all of a row's.
            samples = model.modalities[group].decoder(chosen).sample()
            means, variances = distribution.mean, distribution.variance
            for number, name in enumerate(members):
                local = missing[name][drawn.rows.numpy()] if name in missing else np.zeros(0, dtype=bool)
                if local.any():
                    here = torch.from_numpy(np.flatnonzero(local))
                    of_cells = ElementDraws(
                        drawn.weights[:, here],
                        means[:, here, number],
                        variances[:, here, number],
                        samples[:, here, number],
                        partial(_probabilities, distribution, number, here),
                    )
                    found[name].take(drawn.rows[here].numpy(), kinds[name].answer(of_cells))
    for name in others:
        if name in found:
            where = found[name].rows
            part = rows[torch.from_numpy(where)].only([other for other in model.names if other != name])
            found[name].take(where, kinds[name].answer(model, name, part, draws))
    return _written(table, spec, found, draws)


def _probabilities(distribution: RecordDistribution, element: int, rows: Tensor) -> Tensor:
    return distribution.probabilities(element)[:, rows]


class _Answers:
    """What a model says of R missing cells of a column, put together from parts.

    All of it is allocated at once: small arrays that stay, made between large ones that go, would leave the memory in
    pieces.
    """

    def __init__(self, rows: np.ndarray, draws: int, dtype: type) -> None:
        shape = len(rows)
        value, low, high = (np.empty(shape, dtype) for _ in range(3))
        self.rows = rows
        self.all = Answer(value, np.empty(shape), low, high, np.empty((draws, shape), dtype))

    def take(self, rows: np.ndarray, part: Answer) -> None:
        """Put in what is said of some of the rows."""
        places = np.searchsorted(self.rows, rows)
        for own, new in zip(self.all[:-1], part[:-1], strict=True):
            own[places] = new
        self.all.samples[:, places] = part.samples[: len(self.all.samples)]


def _written(table: Table, spec: TableSpec, answers: Mapping[str, _Answers], draws: int) -> Filled:
    frames = [table.frame.copy() for _ in range(1 + draws)]
    lines = []
    for name, found in answers.items():
        kind, cells, of_all = kind_of(spec.columns[name]), table.cells(name), found.all
        for number, frame in enumerate(frames):
            frame[name] = kind.put(cells, found.rows, of_all.samples[number - 1] if number else of_all.value)
        line = {"row": found.rows, "column": name, "value": None, "sd": of_all.sd}
        shown = {what: kind.shown(getattr(of_all, what)) for what in ("value", "low", "high")}
        lines.append(pd.DataFrame(line).assign(**shown).astype(dict.fromkeys(shown, object)))
    none = pd.DataFrame({name: [] for name in ("row", "column", "value", "sd", "low", "high")})
    lines_of_all = pd.concat(lines, ignore_index=True).sort_values(["row"], kind="stable") if lines else none
    return Filled(frames[0], lines_of_all.reset_index(drop=True), frames[1:])
