"""Dates and times, as seconds since 1970."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd

from mvae.config.table_spec import ColumnSpec, DateColumn
from mvae.tables.cells import Cells
from mvae.tables.kinds.base import ALL_ROWS, Answer, ElementDraws, Rows, register
from mvae.tables.kinds.number import StandardisedKind

__all__ = ["Date"]

SECONDS_A_DAY = 86400.0
YEARS = (-62135596800, 253402300799)
"""Seconds of the first and last moment with a year of four digits."""
DAY, SECOND = "2024-12-31", "2024-12-31T23:59:59"
OFFSET = re.compile(r"Z$|[+-]\d{2}:?\d{2}$")


@register
class Date(StandardisedKind):
    """Dates and times. The standard deviations of `answer` are in days."""

    column = DateColumn

    def learned(self, cells: Cells, rows: Rows = ALL_ROWS) -> ColumnSpec:
        values = self.values(cells)[rows]
        days = bool((values[~np.isnan(values)] % SECONDS_A_DAY == 0).all())
        return super().learned(cells, rows).model_copy(update={"days": days})

    def values(self, cells: Cells) -> np.ndarray:
        """Cells as seconds, float64 `[R]`, NaN where missing."""
        return cells.seconds(self.words)

    def rounded(self, values: np.ndarray) -> np.ndarray:
        step = SECONDS_A_DAY if self.spec.days else 1.0
        return np.round(values / step) * step

    def shown(self, values: np.ndarray) -> np.ndarray:
        """Texts, to the day or to the second, whatever the column's type."""
        return np.array(_as_texts(values, DAY if self.spec.days else SECOND), dtype=object)

    def answer(self, draws: ElementDraws) -> Answer:
        found = super().answer(draws)
        return found._replace(sd=found.sd / SECONDS_A_DAY)

    def spelled(
        self, series: pd.Series[Any], known: pd.Series[Any], values: np.ndarray, textual: bool
    ) -> tuple[pd.Series[Any], Any]:
        """As texts, in a zone, or as objects of Python."""
        if textual:
            return series, _as_texts(values, max(known, key=len) if len(known) else DAY)
        moments = pd.Series(_moments(values))
        if isinstance(series.dtype, pd.DatetimeTZDtype):
            zoned = moments.dt.tz_localize(series.dtype.tz, ambiguous=True, nonexistent="shift_forward")
            return series, zoned.dt.as_unit(series.dtype.unit).tolist()
        if series.dtype == object:  # of `datetime.date`, or `datetime.datetime`
            dates = moments.dt.to_pydatetime().tolist()
            only_days = len(known) and not isinstance(known.iloc[0], datetime)
            return series, [moment.date() for moment in dates] if only_days else dates
        return series, moments.astype(series.dtype).to_numpy()


def _moments(seconds: np.ndarray) -> np.ndarray:
    return np.clip(np.round(seconds), *YEARS).astype(np.int64).astype("datetime64[s]")


def _as_texts(seconds: np.ndarray, like: str) -> list[str]:
    """Dates as texts that look like another: to the day or the second, after a T or a space, with its offset."""
    if len(like) == len(DAY):
        return np.datetime_as_string(_moments(seconds), unit="D").tolist()
    offset = OFFSET.search(like[10:])
    zone = pd.Timestamp(like).utcoffset() if offset else None
    shift = zone.total_seconds() if zone is not None else 0.0
    texts = np.datetime_as_string(_moments(seconds + shift), unit="s")
    return [text.replace("T", like[10]) + (offset.group() if offset else "") for text in texts.tolist()]
