"""Packages that only some of `mvae` needs: those of its extras."""

from __future__ import annotations

import importlib
from typing import Any

__all__ = ["imported"]


def imported(module: str, what: str, extra: str) -> Any:
    """A module of a package that may not be there.

    Args:
        module: its name.
        what: what needs it, in the plural, for the message.
        extra: the extra of `mvae` that brings it.

    Raises:
        ValueError: if it is not there, saying how to get it.
    """
    try:
        return importlib.import_module(module)
    except ImportError:
        package = module.partition(".")[0]
        raise ValueError(f"{what} need the package {package}: pip install 'mvae[{extra}]'") from None
