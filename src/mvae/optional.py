"""Packages of the extras of `mvae`."""

from __future__ import annotations

import importlib
from typing import Any

__all__ = ["imported"]


def imported(module: str, what: str, extra: str) -> Any:
    """A module by name, that `what` (a plural, for the message) needs and the `extra` of `mvae` installs.

    A ValueError says how to install it.
    """
    try:
        return importlib.import_module(module)
    except ImportError:
        package = module.partition(".")[0]
        raise ValueError(f"{what} need the package {package}: pip install 'mvae[{extra}]'") from None
