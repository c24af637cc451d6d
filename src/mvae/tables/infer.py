"""The kind of a column, from its cells. What is found is shown before anything runs, and a spec overrides it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import date
from typing import Any

import numpy as np
import pandas as pd

from mvae.tables.columns import (
    NO_NUMBER,
    CategoryColumn,
    CountColumn,
    DateColumn,
    ImageColumn,
    LeftOutColumn,
    NumberColumn,
    PositiveColumn,
    TextColumn,
    as_texts,
)
from mvae.tables.read import Cells

__all__ = ["infer"]

FEW = 10
"""Values of which so few are all different say nothing."""
MOST_CATEGORIES = 100
LONG_TAIL = 2.0
"""Skewness of positive numbers from which logarithms are taken, where these are less skewed."""
COUNTED = 0.5
"""Skewness of whole numbers from 0 or 1 on from which they are counts."""
IMAGE_NAMES = re.compile(r".+\.(png|jpe?g|bmp|gif|tiff?|webp)$", re.IGNORECASE)
DATE = re.compile(r"\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}(\.\d+)?)?(Z|[+-]\d{2}:?\d{2})?)?$")
ODD = {
    re.compile(r"-?\d{1,3}([., ']\d{3})*,\d+$|-?\d{1,3}([, ']\d{3})+(\.\d+)?$|-?\d+,\d+$"): (
        "looks like numbers with a decimal comma or parted thousands; write them as 1234.5"
    ),
    re.compile(r"\d{1,4}[./-]\d{1,2}[./-]\d{1,4}( .*)?$"): "looks like dates; write them as 2024-12-31",
}
"""Texts that would be numbers or dates if they were written otherwise."""
IDENTIFIER = re.compile(r"(^|[_\W])(id|uuid|guid|key|index)$|^unnamed: 0$", re.IGNORECASE)


def infer(cells: Cells) -> Any:  # noqa: PLR0911  # a list of rules, in order
    """A `Column` of the kind that a column's cells look like.

    In this order: nothing, or one value only: left out. True and false, or any two values: yes-no. Dates (ISO 8601).
    Texts that look like numbers or dates written otherwise: left out, saying so. Numbers:
    identifiers (whole, all different, named or numbered as such) left out; a count if whole, from 0 on and with a long
    tail; positive if above 0 with a long tail; else a number. Names of picture files: images. Texts that repeat:
    a category; all different and without a space: left out, as identifiers; else a text, left out if longer than what a
    text is by default.

    Args:
        cells: of training rows.
    """
    absent = cells.absent()
    values = cells.values[~absent]
    if not len(values):
        return LeftOutColumn(why="empty")
    if _are_pictures(values):
        first = np.asarray(values.iloc[0])
        return ImageColumn(colour=first.ndim == 3 and 3 in (first.shape[0], first.shape[-1]))
    texts = [text for text in as_texts(cells)[0] if text is not None]
    distinct = set(texts)
    if len(distinct) == 1:
        return LeftOutColumn(why=f"the same in every row: '{texts[0]}'"[:80])
    dtype = values.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        return _category(distinct, len(texts))
    if pd.api.types.is_timedelta64_dtype(dtype):
        return LeftOutColumn(why="durations; give them as numbers")
    numbers = None if pd.api.types.is_bool_dtype(dtype) else _numbers(values)
    if numbers is not None:
        return _of_numbers(cells.name, numbers, cells.absent(NO_NUMBER), sorted(distinct & set(NO_NUMBER)))
    if len(distinct) == 2:
        return CategoryColumn(kind="yes-no")
    if pd.api.types.is_datetime64_any_dtype(dtype) or _are_dates(values, texts):
        return DateColumn()
    odd = next(
        (why for pattern, why in ODD.items() if all(pattern.match(text) for text in distinct - set(NO_NUMBER))), ""
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


def _numbers(values: pd.Series[Any]) -> np.ndarray | None:
    """The finite numbers that all cells are, but for what stands for nothing; None where they are not."""
    words = [isinstance(value, str) and value.strip() in NO_NUMBER for value in values.tolist()]
    rest = values[~np.array(words, dtype=bool)]
    if not len(rest) or any(isinstance(value, bool) for value in rest.tolist()):
        return None
    found = pd.to_numeric(rest.astype(object), errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    return None if np.isnan(found).any() else found


def _are_dates(values: pd.Series[Any], texts: Sequence[str]) -> bool:
    known = [text for text in texts if text not in NO_NUMBER]
    return bool(known) and (all(map(DATE.match, known)) or all(isinstance(value, date) for value in values.tolist()))


def _of_numbers(name: str, numbers: np.ndarray, absent: np.ndarray, words: list[str]) -> Any:
    whole, count = bool((numbers % 1 == 0).all()), len(np.unique(numbers))
    if count == 1:
        return LeftOutColumn(why=f"the same in every row: {numbers[0]:g}")
    if count == 2:
        return CategoryColumn(kind="yes-no", absent=words)
    if whole and count == len(numbers) > FEW:
        steps = np.diff(numbers)
        if IDENTIFIER.search(name) or (not absent.any() and (steps == 1).all()):
            return LeftOutColumn(why="an identifier: whole numbers, all different")
    skewed = _skewness(numbers)
    if whole and 0 <= numbers.min() <= 1 and skewed > COUNTED:
        return CountColumn()
    if numbers.min() > 0 and skewed > LONG_TAIL and abs(_skewness(np.log(numbers))) < skewed:
        return PositiveColumn()
    return NumberColumn()


def _of_texts(name: str, texts: Sequence[str], distinct: set[str]) -> Any:
    if len(distinct) <= MOST_CATEGORIES and 2 * len(distinct) <= len(texts):
        return CategoryColumn()
    if len(distinct) == len(texts) and (IDENTIFIER.search(name) or not any(" " in text for text in texts)):
        return LeftOutColumn(why="an identifier: all different, without a space")
    longest = max(map(len, texts))
    if longest > TextColumn.MOST:
        return LeftOutColumn(why=f"texts of up to {longest} characters; 'kind: text' with a length takes them")
    return TextColumn()


def _category(distinct: set[str], count: int) -> Any:
    if 2 * len(distinct) > count and len(distinct) > FEW:
        return LeftOutColumn(why=f"{len(distinct)} categories in {count} rows")
    return CategoryColumn(kind="yes-no" if len(distinct) == 2 else "category")


def _skewness(numbers: np.ndarray) -> float:
    centred = numbers - numbers.mean()
    deviation = centred.std()
    return float((centred**3).mean() / deviation**3) if deviation > 0 else 0.0
