"""How the cells of a column are read and filled, by its kind: base classes, and the registry that users can add to."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, TypeVar

import numpy as np
import pandas as pd
from torch import Tensor

from mvae.batch import Batch
from mvae.config.table_spec import COLUMN_SPECS, ColumnSpec
from mvae.models import MultimodalVAE
from mvae.tables.cells import Cells, as_text

__all__ = ["Answer", "ElementDraws", "Kind", "ModalityKind", "RecordKind", "kind_of", "register", "shortened"]

INTERVAL = (0.05, 0.95)
SHOWN = 3
Rows = np.ndarray | slice
ALL_ROWS = slice(None)
KindT = TypeVar("KindT", bound="type[Kind]")


class Kind(ABC):
    """How the cells of a column of one kind are read and filled, given its spec.

    To add a kind, write a `ColumnSpec`, which is data, and a `Kind` for it: a `RecordKind` if a cell is one number to a
    model, as `Number` (`mvae.tables.kinds.number`), or a `ModalityKind`, as `Text`. Register it in each process that
    fits or loads a run with such a column; a run does not hold its code.

    Example:
        >>> from mvae.config.table_spec import StandardisedColumn
        >>> from mvae.tables.kinds import StandardisedKind, register
        >>> class PercentColumn(StandardisedColumn):
        ...     kind: str = "percent"
        >>> @register
        ... class Percent(StandardisedKind):
        ...     column = PercentColumn
        ...
        ...     def values(self, cells):  # "12 %" is 12
        ...         texts = [(text or "").removesuffix("%") for text in cells.texts(self.words)[0]]
        ...         return Cells(cells.name, pd.Series(texts, dtype=object), cells.place).numbers()
        ...
        ...     def spelled(self, series, known, values, textual):
        ...         return series, [f"{value:.0f} %" for value in values]
        >>> kind_of(PercentColumn()).learned(Cells("share", pd.Series(["10 %", "", "30 %"]), str)).mean
        20.0

        Then `mvae.fit(table, columns={"share": "percent"})`.
    """

    column: ClassVar[type[ColumnSpec]]
    """The class of its spec."""
    dtype: ClassVar[Any] = object
    """Of values in the column's own units: float64 for numbers."""
    missing_words: ClassVar[tuple[str, ...]] = ()
    """Texts that count as missing in every column of this kind, beside empty ones."""

    def __init__(self, spec: Any) -> None:
        self.spec = spec

    @property
    def words(self) -> tuple[str, ...]:
        """Texts that count as missing in this column."""
        return (*self.missing_words, *self.spec.absent)

    def missing(self, cells: Cells) -> np.ndarray:
        """Which cells are missing, boolean `[R]`."""
        return cells.missing(self.words)

    def learned(self, cells: Cells, rows: Rows = ALL_ROWS) -> ColumnSpec:
        """The spec with what is learned from the cells: all of them, of which `rows` are those to train on.

        Raises:
            DataError: on a cell that is not of this kind, naming it, or if there is nothing to learn from.
        """
        return self.spec

    def in_words(self, cells: Cells) -> str:
        """The contents of the column, as `inspect` prints them."""
        missing = self.missing(cells)
        count = f"{int(missing.sum()):,} missing" if missing.any() else "none missing"
        return "; ".join([count, *self.examples(cells.values[~missing].astype(str))])

    def examples(self, texts: pd.Series[str]) -> list[str]:
        """Examples of the cells that are not missing, in words."""
        return [f"{', '.join(map(shortened, texts.iloc[:SHOWN]))}, ..."] if len(texts) else []

    def shown(self, values: np.ndarray) -> np.ndarray:
        """Values in the column's own units for people to read."""
        return values

    def put(self, cells: Cells, rows: np.ndarray, values: np.ndarray) -> pd.Series[Any]:
        """The column with values, in its own units, in some rows, of the type it had as far as possible."""
        series = cells.values.copy()
        known = series[~self.missing(cells)]
        textual = isinstance(series.dtype, pd.StringDtype) or (
            series.dtype == object and bool(known.map(lambda value: isinstance(value, str)).all())
        )
        series, spelled = self.spelled(series, known, values, textual)
        series.iloc[rows] = spelled
        return series

    def spelled(
        self, series: pd.Series[Any], known: pd.Series[Any], values: np.ndarray, textual: bool
    ) -> tuple[pd.Series[Any], Any]:
        """The column `series`, with a type that takes `values` `[R]`, and these, spelled and typed as its own cells.

        Args:
            series: the column.
            known: its cells that are not missing.
            values: `[R]`, in the column's own units.
            textual: whether its cells are texts.
        """
        categories = series.dtype.categories if isinstance(series.dtype, pd.CategoricalDtype) else None
        spelling = {as_text(value): value for value in (known.unique() if categories is None else categories)}
        found = [spelling.get(as_text(value), value) for value in values]
        if categories is not None:
            return series.cat.add_categories([v for v in dict.fromkeys(found) if v not in spelling.values()]), found
        if textual:
            return series, [str(value) for value in found]
        if pd.api.types.is_bool_dtype(series.dtype):
            return series, [as_text(value) == "True" for value in found]
        if pd.api.types.is_numeric_dtype(series.dtype):
            return series, [float(value) for value in found]
        return series, found


class Answer(NamedTuple):
    """A model's answer for R missing cells of a column, in its own units."""

    value: np.ndarray
    sd: np.ndarray
    """Standard deviations; for a category the probability of all others."""
    low: np.ndarray
    high: np.ndarray
    """Ends of the interval that holds the true value with a probability of 90 %."""
    samples: np.ndarray
    """Draws, `[S, R]`."""


@dataclass(frozen=True)
class ElementDraws:
    """p(element | z) of R missing cells of a column, for S draws of z, as the model reads them."""

    weights: Tensor
    """`[S, R]`, summing to 1 over the draws."""
    mean: Tensor
    """`[S, R]`."""
    variance: Tensor
    """`[S, R]`."""
    samples: Tensor
    """Draws of the element, `[S, R]`, equally likely."""
    probabilities: Callable[[], Tensor]
    """The class probabilities of a categorical element, `[S, R, C]`."""


class RecordKind(Kind):
    """A kind whose cells are single numbers to a model, NaN where missing: an element of a record."""

    dtype: ClassVar[Any] = np.float64

    @property
    @abstractmethod
    def element(self) -> dict[str, Any]:
        """Its part of a record: an `ElementSpec`, once it has learned."""

    @abstractmethod
    def encoded(self, cells: Cells) -> np.ndarray:
        """Cells as a model reads them, float64 `[R]`, NaN where missing; a `DataError` names a wrong cell."""

    def restored(self, numbers: np.ndarray) -> np.ndarray:
        """A model's numbers in the column's own units."""
        return numbers

    def values(self, cells: Cells) -> np.ndarray:
        """Cells in the column's own units."""
        return self.restored(self.encoded(cells))

    def rounded(self, values: np.ndarray) -> np.ndarray:
        """Values in the column's own units, rounded to whole numbers where all that it has learned from are."""
        return values

    def moments(self, mean: np.ndarray, variance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and variance of an element, given z, in the column's own units."""
        return mean, variance

    def answer(self, draws: ElementDraws) -> Answer:
        """The answer from draws of z: averaged moments given z, and quantiles of the samples."""
        samples = self.restored(draws.samples.double().numpy())
        w = draws.weights.double().numpy()
        mean, variance = self.moments(draws.mean.double().numpy(), draws.variance.double().numpy())
        value = (w * mean).sum(0)
        sd = np.sqrt(np.maximum((w * (variance + mean**2)).sum(0) - value**2, 0))
        low, high = np.quantile(samples, INTERVAL, axis=0)
        return Answer(value, sd, low, high, samples)

    def put(self, cells: Cells, rows: np.ndarray, values: np.ndarray) -> pd.Series[Any]:
        return super().put(cells, rows, self.rounded(values))


class ModalityKind(Kind):
    """A kind whose columns are modalities of their own."""

    is_filled: ClassVar[bool] = False
    """Whether its missing cells are filled, by `answer`, and new ones drawn, by `drawn`."""

    @property
    @abstractmethod
    def modality(self) -> dict[str, Any]:
        """Its part of a model: a `ModalitySpec`, once it has learned."""

    @abstractmethod
    def encoded(self, cells: Cells) -> tuple[np.ndarray, np.ndarray]:
        """Cells as a model reads them, `[R, ...]`, and a mask of those present; a `DataError` names a wrong cell."""

    def answer(self, model: MultimodalVAE, name: str, rows: Batch, draws: int) -> Answer:
        """A model's answer, with `draws` samples, for the cells of the column `name` in R rows that lack it."""
        raise NotImplementedError

    def drawn(self, model: MultimodalVAE, name: str, z: Tensor) -> Sequence[Any]:
        """New cells of a column, one for each z `[R, D]`."""
        raise NotImplementedError


_KINDS: dict[str, type[Kind]] = {}


def register(kind: KindT) -> KindT:
    """Add a kind of column, for this process; a class decorator. A `ValueError` if another class has its name."""
    for name in kind.column.kinds():
        other = _KINDS.get(name)
        if other is not None and (other.__module__, other.__qualname__) != (kind.__module__, kind.__qualname__):
            raise ValueError(f"a kind of column '{name}' exists ({other.__module__}.{other.__qualname__})")
        _KINDS[name], COLUMN_SPECS[name] = kind, kind.column
    return kind


def kind_of(spec: ColumnSpec) -> Any:
    """The `Kind` of a column: a `RecordKind`, a `ModalityKind` or `LeftOut`; a `ValueError` if it is not registered."""
    if spec.kind not in _KINDS:
        raise ValueError(f"kind of column '{spec.kind}' is not registered (mvae.tables.kinds.register)")
    return _KINDS[spec.kind](spec)


def shortened(value: object) -> str:
    """A value as a text of at most 24 characters."""
    text = " ".join(str(value).split())
    return text if len(text) <= 24 else f"{text[:21]}..."
