"""The kind of a column, from its cells. What is found is shown before anything runs, and a spec overrides it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import date
from typing import Any

import numpy as np
import pandas as pd

from mvae.config.table_spec import (
    MOST_CHARACTERS,
    CategoryColumn,
    ColumnSpec,
    CountColumn,
    DateColumn,
    ImageColumn,
    LeftOutColumn,
    NumberColumn,
    PositiveColumn,
    TextColumn,
)
from mvae.tables.cells import NUMBER_WORDS, Cells

__all__ = ["infer"]

FEW = 10
"""So few values that are all different tell nothing."""
MOST_CATEGORIES = 100
LONG_TAIL = 2.0
"""Skewness of positive numbers from which logarithms are taken, where these are less skewed."""
COUNTED = 0.5
"""Skewness of whole numbers from 0 or 1 on from which they are counts."""
IMAGE_NAMES = re.compile(r".+\.(png|jpe?g|bmp|gif|tiff?|webp)$", re.IGNORECASE)
DATE = re.compile(r"\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}(\.\d+)?)?(Z|[+-]\d{2}:?\d{2})?)?$")
ODD = {
    re.compile(r"-?\d{1,3}([., ']\d{3})*,\d+$|-?\d{1,3}([, ']\d{3})+(\.\d+)?$|-?\d+,\d+$"): (
        "looks like numbers with a decimal comma or thousands separators; write them as 1234.5"
    ),
    re.compile(r"\d{1,4}[./-]\d{1,2}[./-]\d{1,4}( .*)?$"): "looks like dates; write them as 2024-12-31",
}
"""Texts that would be numbers or dates in another form."""
IDENTIFIER = re.compile(r"(^|[_\W])(id|uuid|guid|key|index)$|^unnamed: 0$", re.IGNORECASE)


def infer(cells: Cells) -> ColumnSpec:  # noqa: PLR0911  # a list of rules, in order
    """The spec of a column of the kind that its cells look like.

    The rules, in this order:

    1. No cell, or one value only: left out.
    2. True and false, or any two values: yes-no.
    3. Numbers: left out as an identifier if whole, all different, and named or numbered as such; a count if whole, from
       0 on and with a long tail; positive if above 0 with a long tail; else a number.
    4. Dates (ISO 8601): a date. Texts that look like numbers or dates in another form: left out, with the reason.
    5. Names of picture files: an image.
    6. Texts that repeat: a category. All different and without a space: left out, as an identifier. Else a text, or
       left out if longer than a text is by default.

    Args:
        cells: of all rows.
    """
    missing = cells.missing()
    values = cells.values[~missing]
    if not len(values):
        return LeftOutColumn(why="all cells are missing")
    if _are_pictures(values):
        first = np.asarray(values.iloc[0])
        return ImageColumn(colour=first.ndim == 3 and 3 in (first.shape[0], first.shape[-1]))
    texts = [text for text in cells.texts()[0] if text is not None]
    distinct = set(texts)
    if len(distinct) == 1:
        return LeftOutColumn(why=f"the same in every row: '{texts[0]}'"[:80])
    dtype = values.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        return _category(distinct, len(texts))
    if pd.api.types.is_timedelta64_dtype(dtype):
        return LeftOutColumn(why="durations; write them as numbers")
    numbers = None if pd.api.types.is_bool_dtype(dtype) else _numbers(cells)
    if numbers is not None:
        return _of_numbers(cells, numbers, sorted(distinct & set(NUMBER_WORDS)))
    if len(distinct) == 2:
        return CategoryColumn(kind="yes-no")
    if pd.api.types.is_datetime64_any_dtype(dtype) or _are_dates(values, texts):
        return DateColumn()
    odd = next(
        (why for pattern, why in ODD.items() if all(pattern.match(text) for text in distinct - set(NUMBER_WORDS))), ""
    )
    if odd:
        return LeftOutColumn(why=odd)
    if all(IMAGE_NAMES.match(text) for text in texts):
        return ImageColumn()
    return _of_texts(cells.name, texts, distinct)


def _are_pictures(values: pd.Series[Any]) -> bool:
    if values.dtype != object:
        return False
    return all(getattr(value, "ndim", 0) in (2, 3) or hasattr(value, "getpixel") for value in values.iloc[:100])


def _numbers(cells: Cells) -> np.ndarray | None:
    """The numbers that all cells but missing ones are; None where some are not."""
    known = ~cells.missing(NUMBER_WORDS)
    numbers = cells.parsed_numbers(NUMBER_WORDS)[known]
    if not len(numbers) or np.isnan(numbers).any():
        return None
    return None if any(isinstance(value, bool) for value in cells.values[known].tolist()) else numbers


def _are_dates(values: pd.Series[Any], texts: Sequence[str]) -> bool:
    known = [text for text in texts if text not in NUMBER_WORDS]
    return bool(known) and (all(map(DATE.match, known)) or all(isinstance(value, date) for value in values.tolist()))


def _of_numbers(cells: Cells, numbers: np.ndarray, words: list[str]) -> ColumnSpec:
    whole, count = bool((numbers % 1 == 0).all()), len(np.unique(numbers))
    if count == 1:
        return LeftOutColumn(why=f"the same in every row: {numbers[0]:g}")
    if count == 2:
        return CategoryColumn(kind="yes-no", absent=words)
    if whole and count == len(numbers) > FEW:
        numbered = len(numbers) == len(cells.values) and (np.diff(numbers) == 1).all()
        if IDENTIFIER.search(cells.name) or numbered:
            return LeftOutColumn(why="an identifier: whole numbers, all different", identifier=True)
    skewed = _skewness(numbers)
    if whole and 0 <= numbers.min() <= 1 and skewed > COUNTED:
        return CountColumn()
    if numbers.min() > 0 and skewed > LONG_TAIL and abs(_skewness(np.log(numbers))) < skewed:
        return PositiveColumn()
    return NumberColumn()


def _of_texts(name: str, texts: Sequence[str], distinct: set[str]) -> ColumnSpec:
    if len(distinct) <= MOST_CATEGORIES and 2 * len(distinct) <= len(texts):
        return CategoryColumn()
    if len(distinct) == len(texts) and (IDENTIFIER.search(name) or not any(" " in text for text in texts)):
        return LeftOutColumn(why="an identifier: all different, without a space", identifier=True)
    longest = max(map(len, texts))
    if longest > MOST_CHARACTERS:
        return LeftOutColumn(why=f"texts of up to {longest} characters; 'kind: text' with a length takes them")
    return TextColumn()


def _category(distinct: set[str], count: int) -> ColumnSpec:
    if 2 * len(distinct) > count and len(distinct) > FEW:
        return LeftOutColumn(why=f"{len(distinct)} categories in {count} rows")
    return CategoryColumn(kind="yes-no" if len(distinct) == 2 else "category")


def _skewness(numbers: np.ndarray) -> float:
    centred = numbers - numbers.mean()
    deviation = centred.std()
    return float((centred**3).mean() / deviation**3) if deviation > 0 else 0.0
