"""Columns: the kinds of cells there are, what each learns from training rows, and how cells become numbers and back.

What a column has learned (means, categories, characters) is part of its spec and so of a run's `config.json`.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt

from mvae.files import DataError
from mvae.tables.read import Cells, as_text

__all__ = [
    "SECONDS_A_DAY",
    "CategoryColumn",
    "Column",
    "CountColumn",
    "DateColumn",
    "Element",
    "ImageColumn",
    "LeftOutColumn",
    "NumberColumn",
    "PositiveColumn",
    "RecordColumn",
    "TextColumn",
    "as_numbers",
]

NO_NUMBER = ("NA", "N/A", "n/a", "NaN", "nan", "-nan", "NULL", "null", "None", "#N/A", "<NA>", "NaT")
"""Texts that stand for nothing in a column of numbers or dates. In one of categories or texts they are values, unless
`absent` says otherwise: NA is Namibia."""
MOST_SHOWN = 10
SECONDS_A_DAY, MICRO = 86400.0, 1e6
Element = dict[str, Any]
"""What an `ElementSpec` holds."""


class _Column(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    absent: list[str] = Field([], description="texts that stand for nothing, beside empty cells")
    fixed: ClassVar[tuple[str, ...]] = ()

    @property
    def nothing(self) -> tuple[str, ...]:
        """All texts that stand for nothing."""
        return (*self.fixed, *self.absent)

    def holes(self, cells: Cells) -> np.ndarray:
        """Which cells are empty, boolean `[R]`."""
        return cells.absent(self.nothing)


class LeftOutColumn(_Column):
    """A column that is no part of the model, and is written back as it was."""

    kind: Literal["left-out"] = "left-out"
    why: str = ""


class RecordColumn(_Column):
    """A column whose cells are single numbers to a model, NaN where empty: an element of a record."""

    @property
    @abstractmethod
    def element(self) -> Element:
        """What it is in a record, once it has learned."""

    @abstractmethod
    def learned(self, cells: Cells) -> Self:
        """This column with what training rows say of it.

        Raises:
            DataError: on a cell that is not of this kind, naming it, or if there is nothing to learn from.
        """

    @abstractmethod
    def encoded(self, cells: Cells) -> np.ndarray:
        """Cells as a model reads them, float64 `[R]`, NaN where empty.

        Raises:
            DataError: on a cell that is not of this kind, naming it.
        """

    @abstractmethod
    def restored(self, numbers: np.ndarray) -> np.ndarray:
        """What a model gave, in the column's own units: float64, or categories as objects."""

    def rounded(self, values: np.ndarray) -> np.ndarray:
        """Values in the column's own units as its cells are: whole numbers where all that it has learned from are."""
        return values


class _Standardised(RecordColumn):
    """A column of real numbers, standardised for the model."""

    mean: float | None = Field(None, description="learned, of what the model reads")
    deviation: PositiveFloat | None = Field(None, description="learned, of what the model reads")
    whole: bool | None = Field(None, description="learned: whether all are whole numbers, as filled ones then are")
    likelihood: Literal["normal", "laplace"] = "normal"
    fixed: ClassVar[tuple[str, ...]] = NO_NUMBER

    @property
    def element(self) -> Element:
        return {"family": self.likelihood}

    def learned(self, cells: Cells) -> Self:
        values = self._values(cells)
        found = self._forward(values[~np.isnan(values)])
        if not len(found):
            raise DataError(f"column '{cells.name}': no training row has a value")
        deviation = float(found.std()) if found.max() > found.min() else 1.0
        whole = bool((values[~np.isnan(values)] % 1 == 0).all())
        return self.model_copy(update={"mean": float(found.mean()), "deviation": deviation, "whole": whole})

    def encoded(self, cells: Cells) -> np.ndarray:
        assert self.mean is not None
        assert self.deviation is not None
        return (self._forward(self._values(cells)) - self.mean) / self.deviation

    def restored(self, numbers: np.ndarray) -> np.ndarray:
        assert self.mean is not None
        assert self.deviation is not None
        return self._back(numbers * self.deviation + self.mean)

    def rounded(self, values: np.ndarray) -> np.ndarray:
        return np.round(values) if self.whole else values

    def _values(self, cells: Cells) -> np.ndarray:
        return as_numbers(cells, self.nothing)

    def _forward(self, values: np.ndarray) -> np.ndarray:
        return values

    def _back(self, values: np.ndarray) -> np.ndarray:
        return values


class NumberColumn(_Standardised):
    """Real numbers: normal, with a standard deviation that is learned."""

    kind: Literal["number"] = "number"


class PositiveColumn(_Standardised):
    """Numbers above 0 with a long tail: their logarithms are normal."""

    kind: Literal["positive"] = "positive"

    def _values(self, cells: Cells) -> np.ndarray:
        values = super()._values(cells)
        if (values <= 0).any():
            row = int((values <= 0).argmax())
            raise cells.fault(row, f"expected a number above 0, got {values[row]:g}; a column with 0 is a 'number'")
        return values

    def _forward(self, values: np.ndarray) -> np.ndarray:
        return np.log(values)

    def _back(self, values: np.ndarray) -> np.ndarray:
        return np.exp(np.minimum(values, math.log(np.finfo(np.float64).max) - 1))


class DateColumn(_Standardised):
    """Dates and times, as seconds since 1970."""

    kind: Literal["date"] = "date"
    days: bool | None = Field(None, description="learned: whether all are midnights, as filled ones then are")

    def learned(self, cells: Cells) -> Self:
        values = self._values(cells)
        days = bool((values[~np.isnan(values)] % SECONDS_A_DAY == 0).all())
        return super().learned(cells).model_copy(update={"days": days})

    def rounded(self, values: np.ndarray) -> np.ndarray:
        step = SECONDS_A_DAY if self.days else 1.0
        return np.round(values / step) * step

    def _values(self, cells: Cells) -> np.ndarray:
        return as_seconds(cells, self.nothing)


class CountColumn(RecordColumn):
    """Counts: whole numbers from 0 on, negative binomial or Poisson."""

    kind: Literal["count"] = "count"
    likelihood: Literal["negative-binomial", "poisson"] = "negative-binomial"
    mean: float | None = Field(None, description="learned, of log(1 + x)")
    deviation: PositiveFloat | None = Field(None, description="learned, of log(1 + x)")
    fixed: ClassVar[tuple[str, ...]] = NO_NUMBER

    @property
    def element(self) -> Element:
        return {"family": self.likelihood, "centre": self.mean, "spread": self.deviation}

    def learned(self, cells: Cells) -> Self:
        values = self.encoded(cells)
        logs = np.log1p(values[~np.isnan(values)])
        if not len(logs):
            raise DataError(f"column '{cells.name}': no training row has a value")
        deviation = float(logs.std()) if logs.max() > logs.min() else 1.0
        return self.model_copy(update={"mean": float(logs.mean()), "deviation": deviation})

    def encoded(self, cells: Cells) -> np.ndarray:
        values = as_numbers(cells, self.nothing)
        wrong = (values < 0) | (values % 1 != 0) & ~np.isnan(values)
        if wrong.any():
            row = int(wrong.argmax())
            raise cells.fault(row, f"expected a count, a whole number from 0 on, got {values[row]:g}")
        return values

    def restored(self, numbers: np.ndarray) -> np.ndarray:
        return numbers

    def rounded(self, values: np.ndarray) -> np.ndarray:
        return np.round(values)


class CategoryColumn(RecordColumn):
    """One of a few values."""

    kind: Literal["category", "yes-no"] = "category"
    values: list[str] | None = Field(None, description="learned: the categories, as texts, in order")
    type: Literal["text", "whole", "number", "boolean"] | None = Field(None, description="learned: what they are")
    unknown: Literal["refuse", "absent"] = Field("refuse", description="what is done with others, met later")

    @property
    def element(self) -> Element:
        return {"family": "categorical", "num_classes": len(self.values or ())}

    def learned(self, cells: Cells) -> Self:
        texts, kind = as_texts(cells, self.nothing)
        found = {text for text in texts if text is not None}
        if self.values is not None:  # as the user wrote them
            return self.model_copy(update={"type": self.type or kind})
        if len(found) < 2:
            raise DataError(f"column '{cells.name}': expected at least 2 categories in the training rows, got {found}")
        if 2 * len(found) > len(texts) - texts.count(None) and len(found) > MOST_SHOWN:
            raise DataError(
                f"column '{cells.name}': {len(found)} categories among {len(texts) - texts.count(None)} values;"
                " expected each about twice or more: leave it out, or make it a text"
            )
        order = sorted(found, key=float) if kind in ("whole", "number") else sorted(found)
        return self.model_copy(update={"values": order, "type": kind})

    def encoded(self, cells: Cells) -> np.ndarray:
        assert self.values is not None
        codes = {as_text(text): float(code) for code, text in enumerate(self.values)}
        texts, _ = as_texts(cells, self.nothing)
        if self.unknown == "refuse":
            for row, text in enumerate(texts):
                if text is not None and text not in codes:
                    more = ", ..." if len(self.values) > MOST_SHOWN else ""
                    known = ", ".join(f"'{value}'" for value in self.values[:MOST_SHOWN]) + more
                    raise cells.fault(
                        row,
                        f"'{text}' is none of the categories seen in training, {known}; 'unknown: absent' allows it",
                    )
        return np.array([math.nan if text is None else codes.get(text, math.nan) for text in texts])

    def restored(self, numbers: np.ndarray) -> np.ndarray:
        assert self.values is not None
        readers: dict[str, Callable[[str], Any]] = {"whole": int, "number": float, "boolean": "True".__eq__}
        read = readers.get(self.type or "text", str)
        known = np.array([read(value) for value in self.values] + [None], dtype=object)
        codes = np.where(np.isnan(numbers), len(self.values), np.nan_to_num(numbers)).astype(int)
        return known[codes]


class TextColumn(_Column):
    """Texts, character by character."""

    kind: Literal["text"] = "text"
    length: PositiveInt | None = Field(None, description="of the longest; learned where null, and 64 at most")
    characters: str | None = Field(None, description="learned: all there are")
    MOST: ClassVar[int] = 64

    def learned(self, cells: Cells) -> Self:
        """As `RecordColumn.learned`."""
        texts = [text for text in as_texts(cells, self.nothing)[0] if text is not None]
        if not texts:
            raise DataError(f"column '{cells.name}': no training row has a text")
        length = self.length or min(self.MOST, max(map(len, texts)))
        return self.model_copy(update={"length": length, "characters": "".join(sorted(set("".join(texts))))})

    def encoded(self, cells: Cells) -> tuple[np.ndarray, np.ndarray]:
        """Symbols `[R, length]`, and which rows have a text. What is longer is cut, a character not known left out."""
        assert self.length is not None
        assert self.characters is not None
        code = {character: number for number, character in enumerate(self.characters)}
        texts, _ = as_texts(cells, self.nothing)
        symbols = np.full((len(texts), self.length), len(code), dtype=np.int64)
        for row, text in enumerate(texts):
            known = [code[character] for character in text or "" if character in code][: self.length]
            symbols[row, : len(known)] = known
        return symbols, np.array([text is not None for text in texts])


class ImageColumn(_Column):
    """Pictures: names of files, or arrays `[height, width]` or `[height, width, 3]`."""

    kind: Literal["image"] = "image"
    size: tuple[PositiveInt, PositiveInt] = Field((32, 32), description="height and width that pictures are fitted to")
    colour: bool = False
    missing: Literal["refuse", "absent"] = Field("refuse", description="what is done where a file is not there")

    def encoded(self, cells: Cells) -> tuple[np.ndarray, np.ndarray]:
        """Bytes `[R, 1 or 3, height, width]`, and which rows have a picture.

        Raises:
            DataError: on a file that is missing (unless allowed) or no picture, naming row and file.
        """
        shape = (3 if self.colour else 1, *self.size)
        present = ~self.holes(cells)
        pictures = np.zeros((len(present), *shape), dtype=np.uint8)
        for row in present.nonzero()[0]:
            value = cells.values.iloc[row]
            path = cells.folder / value if isinstance(value, str | Path) else None
            if path is not None and not path.is_file():
                if self.missing == "refuse":
                    raise cells.fault(int(row), f"{path}: no such file; 'missing: absent' allows it")
                present[row] = False
                continue
            try:
                pictures[row] = self._read(value if path is None else path, shape)
            except ValueError as error:
                raise cells.fault(int(row), str(error)) from error
        return pictures, present

    @staticmethod
    def _read(value: Any, shape: tuple[int, ...]) -> np.ndarray:
        from PIL import Image

        from mvae.data.pictures import fitted, read_image

        if isinstance(value, Path):
            return (read_image(value, shape) * 255).round().byte().numpy()
        picture = value if isinstance(value, Image.Image) else Image.fromarray(_as_bytes(np.asarray(value)))
        picture = fitted(picture.convert("L" if shape[0] == 1 else "RGB"), shape[2], shape[1])
        return np.asarray(picture).reshape(*shape[1:], shape[0]).transpose(2, 0, 1)


def _as_bytes(values: np.ndarray) -> np.ndarray:
    values = np.moveaxis(values, 0, -1) if values.ndim == 3 and values.shape[0] in (1, 3) else values
    values = values[..., 0] if values.ndim == 3 and values.shape[-1] == 1 else values
    if values.ndim not in (2, 3):
        raise ValueError(f"expected a picture, [height, width] or [height, width, 3], got shape {values.shape}")
    if values.dtype == np.uint8:
        return values
    if not (np.isfinite(values).all() and values.min() >= 0 and values.max() <= 1):
        raise ValueError("expected a picture of bytes, or of numbers from 0 to 1")
    return (values * 255).round().astype(np.uint8)


Column = Annotated[
    NumberColumn
    | PositiveColumn
    | DateColumn
    | CountColumn
    | CategoryColumn
    | TextColumn
    | ImageColumn
    | LeftOutColumn,
    Field(discriminator="kind"),
]


def as_numbers(cells: Cells, nothing: Sequence[str] = NO_NUMBER) -> np.ndarray:
    """Cells as float64 `[R]`, NaN where empty.

    Raises:
        DataError: on a cell that is no finite number, naming it.
    """
    absent = cells.absent(nothing)
    found = pd.to_numeric(cells.values.astype(object).where(~absent, None), errors="coerce")
    values = found.to_numpy(dtype=np.float64, na_value=math.nan)
    wrong = ~absent & ~np.isfinite(values)
    if wrong.any():
        row = int(wrong.argmax())
        raise cells.fault(row, f"expected a finite number, got {_shown(cells.values.iloc[row])}")
    return values


def as_seconds(cells: Cells, nothing: Sequence[str] = NO_NUMBER) -> np.ndarray:
    """Dates and times as seconds since 1970, float64 `[R]`, NaN where empty; of a column with a zone, in that zone.

    Raises:
        DataError: on a cell that is no date, naming it.
    """
    absent = cells.absent(nothing)
    if isinstance(cells.values.dtype, pd.DatetimeTZDtype):  # by the clock on its wall, which says what a day is
        cells = replace(cells, values=cells.values.dt.tz_localize(None))
    found = pd.to_datetime(
        cells.values.astype(object).where(~absent, None), errors="coerce", utc=True, format="ISO8601"
    )
    wrong = ~absent & found.isna().to_numpy()
    if wrong.any():
        row = int(wrong.argmax())
        raise cells.fault(row, f"expected a date like 2024-12-31, got {_shown(cells.values.iloc[row])}")
    moments = found.dt.tz_localize(None).to_numpy().astype("datetime64[us]")
    return np.where(np.isnat(moments), math.nan, moments.astype(np.int64) / MICRO)


def as_texts(
    cells: Cells, nothing: Sequence[str] = ()
) -> tuple[list[str | None], Literal["text", "whole", "number", "boolean"]]:
    """Cells as texts, None where empty, and what all of them are.

    A value has the same text whatever type it came in (`as_text`).
    """
    absent = cells.absent(nothing)
    listed = cells.values.tolist()
    if isinstance(cells.values.dtype, pd.CategoricalDtype):  # whose intervals change beside holes
        listed = [cells.values.dtype.categories[code] for code in cells.values.cat.codes]
    values = [None if gone else value for value, gone in zip(listed, absent, strict=True)]
    found = [value for value in values if value is not None]
    texts = [None if value is None else as_text(value) for value in values]
    if found and all(isinstance(value, bool | np.bool_) for value in found):
        return texts, "boolean"
    if found and all(isinstance(value, int | float | np.integer | np.floating) for value in found):
        return texts, "whole" if all(float(value).is_integer() for value in found) else "number"
    return texts, "text"


def _shown(value: Any) -> str:
    return repr(value) if isinstance(value, str) else str(value)
