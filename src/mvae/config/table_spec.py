"""Tables as data: the kind of each column, which columns form one modality, and what each has learned.

What a column has learned (means, categories, characters) is part of its spec and so of a run's `config.json`. How its
cells are read and filled is in `mvae.tables.kinds`, which this file does not import.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PositiveFloat,
    PositiveInt,
    SerializeAsAny,
    ValidationError,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

__all__ = [
    "COLUMN_SPECS",
    "MOST_CHARACTERS",
    "CategoryColumn",
    "ColumnSpec",
    "CountColumn",
    "DateColumn",
    "ImageColumn",
    "LeftOutColumn",
    "NumberColumn",
    "PositiveColumn",
    "RecordColumn",
    "StandardisedColumn",
    "TableSpec",
    "TextColumn",
]


MOST_CHARACTERS = 64
"""The most characters of a text that are read, where its column names no length."""


class ColumnSpec(BaseModel):
    """A column: its kind, what the user chose, and what it has learned from training rows."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    kind: str
    absent: list[str] = Field([], description="texts that count as missing, beside empty cells")

    @classmethod
    def kinds(cls) -> tuple[str, ...]:
        """The values that `kind` may have: those of its `Literal`, or its default."""
        field = cls.model_fields["kind"]
        return get_args(field.annotation) or (field.get_default(),)


class LeftOutColumn(ColumnSpec):
    """A column that is no part of the model. It is written back unchanged."""

    kind: Literal["left-out"] = "left-out"
    why: str = ""
    identifier: bool | None = Field(
        None,
        description="whether its cells identify rows, and `embed` and `score` return them; null: inferred in training",
    )

    @model_validator(mode="before")
    @classmethod
    def _identifier_of_earlier_runs(cls, content: Any) -> Any:
        """Earlier runs said that a column identifies rows in `why` alone, in one of two sentences."""
        if isinstance(content, Mapping) and content.get("why") in _EARLIER_IDENTIFIERS:
            return {"identifier": True, **content}
        return content


_EARLIER_IDENTIFIERS = ("an identifier: whole numbers, all different", "an identifier: all different, without a space")


class RecordColumn(ColumnSpec):
    """A column whose cells are single numbers to a model, NaN where missing: an element of a record."""


class StandardisedColumn(RecordColumn):
    """A column of real numbers, standardised for the model."""

    mean: float | None = Field(None, description="learned, of what the model reads")
    deviation: PositiveFloat | None = Field(None, description="learned, of what the model reads")
    whole: bool | None = Field(None, description="learned: whether all are whole numbers, as filled ones then are")
    likelihood: Literal["normal", "laplace"] = "normal"


class NumberColumn(StandardisedColumn):
    """Real numbers: normal, with a standard deviation that is learned."""

    kind: Literal["number"] = "number"


class PositiveColumn(StandardisedColumn):
    """Numbers above 0 with a long tail: their logarithms are normal."""

    kind: Literal["positive"] = "positive"


class DateColumn(StandardisedColumn):
    """Dates and times, as seconds since 1970."""

    kind: Literal["date"] = "date"
    days: bool | None = Field(None, description="learned: whether all are midnights, as filled ones then are")


class CountColumn(RecordColumn):
    """Counts: whole numbers from 0 on, negative binomial or Poisson."""

    kind: Literal["count"] = "count"
    likelihood: Literal["negative-binomial", "poisson"] = "negative-binomial"
    mean: float | None = Field(None, description="learned, of log(1 + x)")
    deviation: PositiveFloat | None = Field(None, description="learned, of log(1 + x)")


class CategoryColumn(RecordColumn):
    """One of a few values."""

    kind: Literal["category", "yes-no"] = "category"
    values: list[str] | None = Field(None, description="learned: the categories, as texts, in order")
    type: Literal["text", "whole", "number", "boolean"] | None = Field(None, description="learned: what they are")
    unknown: Literal["refuse", "absent"] = Field("refuse", description="categories met later: an error, or missing")


class TextColumn(ColumnSpec):
    """Texts, character by character."""

    kind: Literal["text"] = "text"
    length: PositiveInt | None = Field(
        None, description=f"of the longest; learned where null, and {MOST_CHARACTERS} at most"
    )
    characters: str | None = Field(None, description="learned: all there are")


class ImageColumn(ColumnSpec):
    """Pictures: names of files, or arrays `[height, width]` or `[height, width, 3]`."""

    kind: Literal["image"] = "image"
    size: tuple[PositiveInt, PositiveInt] = Field((32, 32), description="height and width that pictures are fitted to")
    colour: bool = False
    missing: Literal["refuse", "absent"] = Field("refuse", description="files that do not exist: an error, or missing")


_BUILT_IN: tuple[type[ColumnSpec], ...] = (
    *(NumberColumn, PositiveColumn, DateColumn, CountColumn, CategoryColumn, TextColumn, ImageColumn, LeftOutColumn),
)
COLUMN_SPECS: dict[str, type[ColumnSpec]] = {kind: spec for spec in _BUILT_IN for kind in spec.kinds()}
"""The spec of each kind of column; `mvae.tables.kinds.register` adds a user's."""


def _as_column(content: Any) -> Any:
    """A column's spec, by its `kind`."""
    if not isinstance(content, Mapping):
        return content
    kind = content.get("kind")
    spec = COLUMN_SPECS.get(kind) if isinstance(kind, str) else None
    if spec is None:
        known = "expected a kind of column, one of {known}, or one registered by mvae.tables.kinds.register"
        fault = PydanticCustomError("column_kind", known, {"known": ", ".join(COLUMN_SPECS)})  # type: ignore[arg-type]
        raise ValidationError.from_exception_data("column", [InitErrorDetails(type=fault, loc=("kind",), input=kind)])
    return spec.model_validate(content)


class TableSpec(BaseModel):
    """A table's columns, and how they become modalities.

    A group of columns is one modality, a record, of which a row may have any part. A text or a picture is a modality of
    its own, and so is a column that no group holds.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    columns: dict[str, Annotated[SerializeAsAny[ColumnSpec], BeforeValidator(_as_column)]]
    groups: dict[str, list[str]] = Field({}, description="modality to the columns that it is made of")
    join: list[str] = Field([], description="files of more tables")
    on: str | None = Field(None, description="the column they are joined by")

    @model_validator(mode="after")
    def _groups_fit(self) -> TableSpec:
        owner: dict[str, str] = {}
        for group, names in self.groups.items():
            if not names:
                raise ValueError(f"groups.{group}: expected columns, got none")
            if group in self.columns and names != [group] and group not in self.left_out:
                raise ValueError(f"groups.{group}: a column has this name; choose another name")
            for name in names:
                if not isinstance(self.columns.get(name), RecordColumn):
                    kind = f"is {self.columns[name].kind}" if name in self.columns else "does not exist"
                    raise ValueError(f"groups.{group}: expected columns of numbers or categories; '{name}' {kind}")
                if name in owner:
                    raise ValueError(f"groups.{group}: '{name}' is in {owner[name]} already")
                owner[name] = group
        return self

    @property
    def left_out(self) -> list[str]:
        """Columns that are no part of the model."""
        return [name for name, column in self.columns.items() if isinstance(column, LeftOutColumn)]

    @property
    def identifiers(self) -> list[str]:
        """Columns that identify rows."""
        columns = self.columns.items()
        return [name for name, column in columns if name == self.on or getattr(column, "identifier", False)]

    @property
    def records(self) -> dict[str, list[str]]:
        """The modalities that are records, with their columns: the groups, and columns that none holds."""
        grouped = {name for names in self.groups.values() for name in names}
        alone = [n for n, column in self.columns.items() if isinstance(column, RecordColumn) and n not in grouped]
        return {**self.groups, **{name: [name] for name in alone}}

    @property
    def others(self) -> list[str]:
        """Columns of texts and pictures, each a modality of its name."""
        return [n for n, column in self.columns.items() if not isinstance(column, RecordColumn | LeftOutColumn)]
