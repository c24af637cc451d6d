"""One of a few values."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from mvae.config.table_spec import CategoryColumn, ColumnSpec
from mvae.files import DataError
from mvae.tables.cells import NUMBER_WORDS, Cells, as_text
from mvae.tables.kinds.base import ALL_ROWS, SHOWN, Answer, ElementDraws, RecordKind, Rows, register, shortened

__all__ = ["Category"]

MOST_SHOWN = 10
"""Categories in a message."""
FEW = 10
"""Categories of which so few may be nearly all different."""


@register
class Category(RecordKind):
    """One of a few values, which a model reads by their number. It learns its values from all rows."""

    column = CategoryColumn
    dtype = object

    @property
    def element(self) -> dict[str, Any]:
        return {"family": "categorical", "num_classes": len(self.spec.values or ())}

    def learned(self, cells: Cells, rows: Rows = ALL_ROWS) -> ColumnSpec:
        texts, kind = cells.texts(self.words)
        found = {text for text in texts if text is not None}
        count = len(texts) - texts.count(None)
        if self.spec.values is not None:  # as the user wrote them
            return self.spec.model_copy(update={"type": self.spec.type or kind})
        if len(found) < 2:
            raise DataError(f"column '{cells.name}': expected at least 2 categories in the training rows, got {found}")
        if 2 * len(found) > count and len(found) > FEW:
            raise DataError(
                f"column '{cells.name}': {len(found)} categories among {count} values;"
                " expected each about twice or more: leave it out, or make it a text"
            )
        order = sorted(found, key=float) if kind in ("whole", "number") else sorted(found)
        return self.spec.model_copy(update={"values": order, "type": kind})

    def encoded(self, cells: Cells) -> np.ndarray:
        known = self.spec.values
        codes = {as_text(text): float(code) for code, text in enumerate(known)}
        texts, _ = cells.texts(self.words)
        if self.spec.unknown == "refuse":
            for row, text in enumerate(texts):
                if text is not None and text not in codes:
                    shown = ", ".join(f"'{value}'" for value in known[:MOST_SHOWN])
                    more = ", ..." if len(known) > MOST_SHOWN else ""
                    raise cells.fault(
                        row,
                        f"'{text}' is none of the categories seen in training, {shown}{more}; 'unknown: absent' counts"
                        " it as missing",
                    )
        return np.array([math.nan if text is None else codes.get(text, math.nan) for text in texts])

    def restored(self, numbers: np.ndarray) -> np.ndarray:
        readers: dict[str, Callable[[str], Any]] = {"whole": int, "number": float, "boolean": "True".__eq__}
        read = readers.get(self.spec.type or "text", str)
        known = np.array([read(value) for value in self.spec.values] + [None], dtype=object)
        codes = np.where(np.isnan(numbers), len(self.spec.values), np.nan_to_num(numbers)).astype(int)
        return known[codes]

    def answer(self, draws: ElementDraws) -> Answer:
        """The likeliest category, and the probability of all others."""
        share, code = (draws.weights.unsqueeze(-1) * draws.probabilities()).sum(0).max(-1)
        value = self.restored(code.double().numpy())
        return Answer(value, 1 - share.double().numpy(), value, value, self.restored(draws.samples.double().numpy()))

    def examples(self, texts: pd.Series[str]) -> list[str]:
        counts = texts.value_counts()
        shown = ", ".join(f"{shortened(value)} ({count:,})" for value, count in counts.iloc[: SHOWN + 1].items())
        words = [f"'{word}' is read as a value" for word in NUMBER_WORDS if word in counts]
        more = ", ..." if len(counts) > SHOWN + 1 else ""
        return [f"{len(counts)} values: {shown}{more}", *words[:1]] if len(counts) else []
