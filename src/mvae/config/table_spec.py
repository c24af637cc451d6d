"""What a run knows of its table: the kind of each column, which of them stand together, and what they have learned."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from mvae.tables.columns import Column, LeftOutColumn, RecordColumn

__all__ = ["TableSpec"]


class TableSpec(BaseModel):
    """A table's columns, and how they become modalities.

    A group of columns is one modality, a record, of which a row may have any part. A text or a picture is a modality of
    its own, and so is a column that no group holds.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    columns: dict[str, Column]
    groups: dict[str, list[str]] = Field({}, description="modality to the columns that it is made of")
    join: list[str] = Field([], description="files of more tables")
    on: str | None = Field(None, description="the column they are joined by")

    @model_validator(mode="after")
    def _groups_fit(self) -> TableSpec:
        owner: dict[str, str] = {}
        for group, names in self.groups.items():
            if not names:
                raise ValueError(f"groups.{group}: expected columns, got none")
            if group in self.columns and names != [group] and not isinstance(self.columns[group], LeftOutColumn):
                raise ValueError(f"groups.{group}: a column is called so too; choose another name")
            for name in names:
                if not isinstance(self.columns.get(name), RecordColumn):
                    kind = self.columns[name].kind if name in self.columns else "not there"
                    raise ValueError(f"groups.{group}: expected columns of numbers or categories; '{name}' is {kind}")
                if name in owner:
                    raise ValueError(f"groups.{group}: '{name}' is in {owner[name]} already")
                owner[name] = group
        return self

    def record(self, name: str) -> RecordColumn:
        """A column that is an element of a record."""
        column = self.columns[name]
        assert isinstance(column, RecordColumn)
        return column

    @property
    def records(self) -> dict[str, list[str]]:
        """The modalities that are records, with their columns: the groups, and columns that none holds."""
        grouped = {name for names in self.groups.values() for name in names}
        alone = [n for n, column in self.columns.items() if isinstance(column, RecordColumn) and n not in grouped]
        return {**self.groups, **{name: [name] for name in alone}}

    @property
    def others(self) -> dict[str, Any]:
        """Columns of texts and pictures, each a modality of its name."""
        kept = (RecordColumn, LeftOutColumn)
        return {name: column for name, column in self.columns.items() if not isinstance(column, kept)}
