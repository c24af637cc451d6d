"""Columns that are no part of the model."""

from __future__ import annotations

import numpy as np
import pandas as pd

from mvae.config.table_spec import LeftOutColumn
from mvae.tables.cells import Cells
from mvae.tables.infer import infer
from mvae.tables.kinds.base import ALL_ROWS, Kind

__all__ = ["LeftOut"]


class LeftOut(Kind[LeftOutColumn]):
    """A column that is written back unchanged. It learns whether it identifies rows, from all rows."""

    column = LeftOutColumn

    def learned(self, cells: Cells, rows: np.ndarray | slice = ALL_ROWS) -> LeftOutColumn:
        if self.spec.identifier is not None:
            return self.spec
        found = infer(cells)
        return self.spec.model_copy(
            update={"identifier": isinstance(found, LeftOutColumn) and found.identifier is True}
        )

    def examples(self, texts: pd.Series[str]) -> list[str]:
        return []
