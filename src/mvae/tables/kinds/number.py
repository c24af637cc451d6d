"""Real numbers, standardised."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd

from mvae.config.table_spec import ColumnSpec, NumberColumn
from mvae.files import DataError
from mvae.tables.cells import NUMBER_WORDS, Cells
from mvae.tables.kinds.base import ALL_ROWS, RecordKind, Rows, register

__all__ = ["Number", "NumericKind", "StandardisedKind"]


class NumericKind(RecordKind):
    """A kind whose cells are numbers to people too."""

    missing_words = NUMBER_WORDS

    def scale(self, name: str, values: np.ndarray) -> dict[str, float]:
        """The mean and standard deviation (1 if all are the same) of known values; a `DataError` if there are none."""
        if not len(values):
            raise DataError(f"column '{name}': no training row has a value")
        return {"mean": float(values.mean()), "deviation": float(values.std()) if values.max() > values.min() else 1.0}

    def spelled(
        self, series: pd.Series[Any], known: pd.Series[Any], values: np.ndarray, textual: bool
    ) -> tuple[pd.Series[Any], Any]:
        if textual:
            return series, [f"{value:.6g}" if value % 1 else f"{value:.0f}" for value in values]
        if pd.api.types.is_integer_dtype(series.dtype):
            limits = np.iinfo(getattr(series.dtype, "numpy_dtype", series.dtype))
            return series, np.round(values).clip(limits.min, limits.max).astype(np.int64)
        if len(known) and isinstance(known.iloc[0], Decimal):
            return series, np.array([known.iloc[0].__class__(f"{value:.6g}") for value in values], dtype=object)
        return series, values


class StandardisedKind(NumericKind):
    """A kind of real numbers, which a model reads standardised, after `forward`."""

    @property
    def element(self) -> dict[str, Any]:
        return {"family": self.spec.likelihood}

    def learned(self, cells: Cells, rows: Rows = ALL_ROWS) -> ColumnSpec:
        values = self.values(cells)[rows]
        values = values[~np.isnan(values)]
        whole = bool((values % 1 == 0).all())
        return self.spec.model_copy(update={**self.scale(cells.name, self.forward(values)), "whole": whole})

    def encoded(self, cells: Cells) -> np.ndarray:
        return (self.forward(self.values(cells)) - self.spec.mean) / self.spec.deviation

    def restored(self, numbers: np.ndarray) -> np.ndarray:
        return self.back(numbers * self.spec.deviation + self.spec.mean)

    def values(self, cells: Cells) -> np.ndarray:
        """Cells as numbers, float64 `[R]`, NaN where missing."""
        return cells.numbers(self.words)

    def rounded(self, values: np.ndarray) -> np.ndarray:
        return np.round(values) if self.spec.whole else values

    def moments(self, mean: np.ndarray, variance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """As `RecordKind.moments`; a kind with a `back` that is not linear has its own."""
        return self.restored(mean), variance * self.spec.deviation**2

    def forward(self, values: np.ndarray) -> np.ndarray:
        """From the column's own units to those in which numbers are about normal."""
        return values

    def back(self, values: np.ndarray) -> np.ndarray:
        """The inverse of `forward`."""
        return values


@register
class Number(StandardisedKind):
    """Real numbers, as they are."""

    column = NumberColumn
