"""A column's cells: which are missing, and the others as numbers, dates or texts, each parsed once."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
import pandas as pd

from mvae.files import DataError

__all__ = ["NUMBER_WORDS", "Cells", "as_text"]

NUMBER_WORDS = ("NA", "N/A", "n/a", "NaN", "nan", "-nan", "NULL", "null", "None", "#N/A", "<NA>", "NaT")
"""Texts that count as missing in a column of numbers or dates. In one of categories or texts they are values, unless
`absent` lists them: NA is Namibia."""
WHOLE = re.compile(r"-?\d+\.0+")
MICROSECONDS = 1e6
Parse = TypeVar("Parse", bound=Callable[..., Any])


def _once(parse: Parse) -> Parse:
    """A method whose results are remembered, by the words that count as missing."""

    def remembered(cells: Cells, words: Iterable[str] = ()) -> Any:
        key = parse.__name__, frozenset(words)
        if key not in cells.parsed:
            cells.parsed[key] = parse(cells, key[1])
        return cells.parsed[key]

    return cast(Parse, wraps(parse)(remembered))


@dataclass(frozen=True)
class Cells:
    """A column: its name, its cells, and how a message names each. What was parsed of them is remembered.

    The `words` of its methods are texts that count as missing, beside empty ones.
    """

    name: str
    values: pd.Series[Any]
    place: Callable[[int], str]
    folder: Path = Path()
    """Where relative file names in it start."""
    parsed: dict[Any, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    @_once
    def missing(self, words: Iterable[str] = ()) -> np.ndarray:
        """Which cells are missing, boolean `[R]`: None, NaN, NaT, null, and a text that is blank or one of `words`."""
        missing = pd.isna(self.values).to_numpy().copy()
        if self.values.dtype == object or isinstance(self.values.dtype, pd.StringDtype | pd.CategoricalDtype):
            nothing = {"", *words}
            missing |= np.array([isinstance(v, str) and v.strip() in nothing for v in self.values.tolist()], dtype=bool)
        return missing

    def numbers(self, words: Iterable[str] = ()) -> np.ndarray:
        """Cells as float64 `[R]`, NaN where missing; a `DataError` names a cell that is no finite number."""
        values = self.parsed_numbers(words)
        self.refuse(~self.missing(words) & ~np.isfinite(values), "a finite number")
        return values

    @_once
    def parsed_numbers(self, words: Iterable[str] = ()) -> np.ndarray:
        """As `numbers`, and NaN on a cell that is no number."""
        known = self.values.astype(object).where(~self.missing(words), None)
        return pd.to_numeric(known, errors="coerce").to_numpy(dtype=np.float64, na_value=math.nan)

    @_once
    def seconds(self, words: Iterable[str] = ()) -> np.ndarray:
        """Dates and times as seconds since 1970, float64 `[R]`, NaN where missing; with a zone, by that zone's clock.

        A `DataError` names a cell that is no date.
        """
        values, missing = self.values, self.missing(words)
        if isinstance(values.dtype, pd.DatetimeTZDtype):  # by the clock on its wall, which says what a day is
            values = values.dt.tz_localize(None)
        found = pd.to_datetime(values.astype(object).where(~missing, None), errors="coerce", utc=True, format="ISO8601")
        self.refuse(~missing & found.isna().to_numpy(), "a date like 2024-12-31")
        moments = found.dt.tz_localize(None).to_numpy().astype("datetime64[us]")
        return np.where(np.isnat(moments), math.nan, moments.astype(np.int64) / MICROSECONDS)

    @_once
    def texts(self, words: Iterable[str] = ()) -> tuple[list[str | None], str]:
        """Cells as texts (`as_text`), None where missing, and what all of them are: text, whole, number or boolean."""
        listed = self.values.tolist()
        if isinstance(self.values.dtype, pd.CategoricalDtype):  # whose intervals change beside missing cells
            listed = [self.values.dtype.categories[code] for code in self.values.cat.codes]
        values = [None if gone else value for value, gone in zip(listed, self.missing(words), strict=True)]
        found = [value for value in values if value is not None]
        texts = [None if value is None else as_text(value) for value in values]
        if found and all(isinstance(value, bool | np.bool_) for value in found):
            return texts, "boolean"
        if found and all(isinstance(value, int | float | np.integer | np.floating) for value in found):
            return texts, "whole" if all(float(value).is_integer() for value in found) else "number"
        return texts, "text"

    def fault(self, row: int, words: str) -> DataError:
        """The error to raise about a cell."""
        return DataError(f"{self.place(row)}, column '{self.name}': {words}")

    def refuse(self, wrong: np.ndarray, expected: str, advice: str = "") -> None:
        """Raise the error about the first of the cells that are `wrong`, boolean `[R]`, if there is one."""
        if wrong.any():
            row = int(wrong.argmax())
            value = self.values.iloc[row]
            shown = repr(value) if isinstance(value, str) else value
            raise self.fault(row, f"expected {expected}, got {shown}{advice}")


def as_text(value: object) -> str:
    """A value as a text, the same whatever type it came in: 3, 3.0, "3" and "3.0" are "3", True and "true" are "True".

    Example:
        >>> [as_text(value) for value in (3, 3.0, "3.0", "007", True, "TRUE", 2.5)]
        ['3', '3', '3', '007', 'True', 'True', '2.5']
    """
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    text = str(value)
    if text.lower() in ("true", "false"):
        return text.capitalize()
    return text.partition(".")[0] if WHOLE.fullmatch(text) else text
