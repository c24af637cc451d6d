"""Values that a model gave, put into cells as their column has them: its type, its spelling, its precision."""

from __future__ import annotations

import re
from datetime import datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd

from mvae.tables.columns import CategoryColumn, DateColumn, RecordColumn
from mvae.tables.read import Cells, as_text

__all__ = ["as_dates", "as_whole", "like_of", "put", "shown"]

LARGEST_WHOLE = 2**53
YEARS = (-62135596800, 253402300799)
"""Seconds of the first and last moment with a year of four digits."""
DAY, SECOND = "2024-12-31", "2024-12-31T23:59:59"
OFFSET = re.compile(r"Z$|[+-]\d{2}:?\d{2}$")


def like_of(column: DateColumn) -> str:
    """A date as those of a column are: to the day, or to the second."""
    return DAY if column.days else SECOND


def shown(column: Any, values: np.ndarray) -> Any:
    """Values of a column as a list of filled cells has them; a date is a text, whatever the column's type."""
    return as_dates(values, like_of(column)) if isinstance(column, DateColumn) else values


def _moments(seconds: np.ndarray) -> np.ndarray:
    return np.clip(np.round(seconds), *YEARS).astype(np.int64).astype("datetime64[s]")


def as_dates(seconds: np.ndarray, like: str) -> list[str]:
    """Dates as texts that look like another: to the day or the second, after a T or a space, with its offset."""
    if len(like) == len("2024-12-31"):
        return np.datetime_as_string(_moments(seconds), unit="D").tolist()
    offset = OFFSET.search(like[10:])
    zone = pd.Timestamp(like).utcoffset() if offset else None
    shift = zone.total_seconds() if zone is not None else 0.0
    texts = np.datetime_as_string(_moments(seconds + shift), unit="s")
    return [text.replace("T", like[10]) + (offset.group() if offset else "") for text in texts.tolist()]


def put(cells: Cells, column: Any, rows: np.ndarray, values: np.ndarray) -> pd.Series[Any]:
    """A column with values put into some rows, of the type it had as far as that can be."""
    series = cells.values.copy()
    known = series[~cells.absent(column.nothing)]
    textual = isinstance(series.dtype, pd.StringDtype) or (
        series.dtype == object and bool(known.map(lambda value: isinstance(value, str)).all())
    )
    if isinstance(column, RecordColumn):
        values = column.rounded(values)
    if isinstance(column, DateColumn):
        return _assigned(series, rows, _dates(series, known, values, textual))
    if isinstance(column, RecordColumn) and not isinstance(column, CategoryColumn):
        if textual:
            return _assigned(series, rows, [f"{value:.6g}" if value % 1 else f"{value:.0f}" for value in values])
        if pd.api.types.is_integer_dtype(series.dtype):
            limits = np.iinfo(getattr(series.dtype, "numpy_dtype", series.dtype))
            values = np.round(values).clip(limits.min, limits.max).astype(np.int64)
        if len(known) and isinstance(known.iloc[0], Decimal):
            values = np.array([known.iloc[0].__class__(f"{value:.6g}") for value in values], dtype=object)
        return _assigned(series, rows, values)
    series, spelled = _in_categories(series, known, values, textual)
    return _assigned(series, rows, spelled)


def _dates(series: pd.Series[Any], known: pd.Series[Any], values: np.ndarray, textual: bool) -> Any:
    """Seconds as the dates of a column: texts, in a zone, or objects of Python."""
    if textual:
        return as_dates(values, max(known, key=len) if len(known) else DAY)
    moments = pd.Series(_moments(values))
    if isinstance(series.dtype, pd.DatetimeTZDtype):
        zoned = moments.dt.tz_localize(series.dtype.tz, ambiguous=True, nonexistent="shift_forward")
        return zoned.dt.as_unit(series.dtype.unit).tolist()
    if series.dtype == object:  # of `datetime.date`, or `datetime.datetime`
        dates = moments.dt.to_pydatetime().tolist()
        only_days = len(known) and not isinstance(known.iloc[0], datetime)
        return [moment.date() for moment in dates] if only_days else dates
    return moments.astype(series.dtype).to_numpy()


def _in_categories(
    series: pd.Series[Any], known: pd.Series[Any], values: np.ndarray, textual: bool
) -> tuple[pd.Series[Any], list[Any]]:
    """Categories spelled as the column spells them, in its type; and the column, which may have to learn some."""
    if isinstance(series.dtype, pd.CategoricalDtype):
        spelled = {as_text(value): value for value in series.dtype.categories}
        found = [spelled.get(as_text(value), value) for value in values]
        new = [value for value in dict.fromkeys(found) if value not in spelled.values()]
        return series.cat.add_categories(new), found
    spelled = {as_text(value): value for value in known.unique()}
    found = [spelled.get(as_text(value), value) for value in values]
    if textual:
        return series, [str(value) for value in found]
    if pd.api.types.is_bool_dtype(series.dtype):
        return series, [as_text(value) == "True" for value in found]
    if pd.api.types.is_numeric_dtype(series.dtype):
        return series, [float(value) for value in found]
    return series, found


def as_whole(values: np.ndarray) -> np.ndarray:
    """Numbers as integers where all are whole."""
    if values.dtype != object and (values % 1 == 0).all() and (np.abs(values) < LARGEST_WHOLE).all():
        return values.astype(np.int64)
    return values


def _assigned(series: pd.Series[Any], rows: np.ndarray, values: Any) -> pd.Series[Any]:
    series.iloc[rows] = values
    return series
