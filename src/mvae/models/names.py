"""Names of modalities."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import quote

from torch import nn

__all__ = ["as_names", "module_name"]


def as_names(names: str | Iterable[str]) -> tuple[str, ...]:
    """Names as a tuple; a single one may be given as it is.

    Example:
        >>> as_names("label"), as_names(["image", "label"])
        (('label',), ('image', 'label'))
    """
    return (names,) if isinstance(names, str) else tuple(names)


def module_name(name: str) -> str:
    """A modality's name as a valid name of a module in torch; no two collide."""
    escaped = quote(name, safe=" ").replace(".", "%2E")
    return escaped + "%" if hasattr(nn.ModuleDict(), escaped) or not escaped else escaped
