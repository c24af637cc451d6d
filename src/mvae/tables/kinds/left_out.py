"""Columns that are no part of the model."""

from __future__ import annotations

import pandas as pd

from mvae.config.table_spec import ColumnSpec, LeftOutColumn
from mvae.tables.cells import Cells
from mvae.tables.infer import infer
from mvae.tables.kinds.base import ALL_ROWS, Kind, Rows, register

__all__ = ["LeftOut"]


@register
class LeftOut(Kind):
    """A column that is written back unchanged. It learns whether it identifies rows, from all rows."""

    column = LeftOutColumn

    def learned(self, cells: Cells, rows: Rows = ALL_ROWS) -> ColumnSpec:
        if self.spec.identifier is not None:
            return self.spec
        found = infer(cells)
        return self.spec.model_copy(
            update={"identifier": isinstance(found, LeftOutColumn) and found.identifier is True}
        )

    def examples(self, texts: pd.Series[str]) -> list[str]:
        return []
