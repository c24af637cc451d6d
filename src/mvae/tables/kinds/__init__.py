"""Kinds of columns, one a file, and the registry that users can add to (`Kind`)."""

from mvae.tables.kinds import category, count, date, image, left_out, positive, text  # noqa: F401  # they register
from mvae.tables.kinds.base import Kind, ModalityKind, RecordKind, kind_of, register
from mvae.tables.kinds.number import Number, StandardisedKind

__all__ = ["Kind", "ModalityKind", "Number", "RecordKind", "StandardisedKind", "kind_of", "register"]
