"""Numbers above 0 with a long tail: their logarithms are normal."""

from __future__ import annotations

import math

import numpy as np

from mvae.config.table_spec import PositiveColumn
from mvae.tables.cells import Cells
from mvae.tables.kinds.base import register
from mvae.tables.kinds.number import StandardisedKind

__all__ = ["Positive"]

LARGEST_LOG = math.log(np.finfo(np.float64).max) - 1
LARGEST_LOG_VARIANCE = 50.0


@register
class Positive(StandardisedKind):
    """Numbers above 0, log-normal."""

    column = PositiveColumn

    def values(self, cells: Cells) -> np.ndarray:
        values = super().values(cells)
        cells.refuse(values <= 0, "a number above 0", "; a column with 0 is a 'number'")
        return values

    def forward(self, values: np.ndarray) -> np.ndarray:
        return np.log(values)

    def back(self, values: np.ndarray) -> np.ndarray:
        return np.exp(np.minimum(values, LARGEST_LOG))

    def moments(self, mean: np.ndarray, variance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Those of a log-normal."""
        log_variance = np.minimum(variance * self.spec.deviation**2, LARGEST_LOG_VARIANCE)
        mean = self.restored(mean) * np.exp(log_variance / 2)
        return mean, mean**2 * np.expm1(log_variance)
