"""Counts: whole numbers from 0 on."""

from __future__ import annotations

from typing import Any

import numpy as np

from mvae.config.table_spec import ColumnSpec, CountColumn
from mvae.tables.cells import Cells
from mvae.tables.kinds.base import ALL_ROWS, Rows, register
from mvae.tables.kinds.number import NumericKind

__all__ = ["Count"]


@register
class Count(NumericKind):
    """Counts, which a model reads as they are."""

    column = CountColumn

    @property
    def element(self) -> dict[str, Any]:
        return {"family": self.spec.likelihood, "centre": self.spec.mean, "spread": self.spec.deviation}

    def learned(self, cells: Cells, rows: Rows = ALL_ROWS) -> ColumnSpec:
        values = self.encoded(cells)[rows]
        return self.spec.model_copy(update=self.scale(cells.name, np.log1p(values[~np.isnan(values)])))

    def encoded(self, cells: Cells) -> np.ndarray:
        values = cells.numbers(self.words)
        cells.refuse((values < 0) | (values % 1 != 0) & ~np.isnan(values), "a count, a whole number from 0 on")
        return values

    def rounded(self, values: np.ndarray) -> np.ndarray:
        return np.round(values)
