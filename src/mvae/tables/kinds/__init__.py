"""Kinds of columns, one a file, and the registry that users can add to (`Kind`)."""

from mvae.tables.kinds.base import Answer, ElementDraws, Kind, ModalityKind, RecordKind, kind_of, register
from mvae.tables.kinds.category import Category
from mvae.tables.kinds.count import Count
from mvae.tables.kinds.date import Date
from mvae.tables.kinds.image import Image
from mvae.tables.kinds.left_out import LeftOut
from mvae.tables.kinds.number import Number, NumericKind, StandardisedKind
from mvae.tables.kinds.positive import Positive
from mvae.tables.kinds.text import Text

__all__ = [
    "Answer",
    "Category",
    "Count",
    "Date",
    "ElementDraws",
    "Image",
    "Kind",
    "LeftOut",
    "ModalityKind",
    "Number",
    "NumericKind",
    "Positive",
    "RecordKind",
    "StandardisedKind",
    "Text",
    "kind_of",
    "register",
]

for _kind in (Number, Positive, Date, Count, Category, Text, Image, LeftOut):
    register(_kind)
