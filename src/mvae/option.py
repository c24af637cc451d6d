"""An option of a method or of its training, as it is declared."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

__all__ = ["Option"]


@dataclass(frozen=True)
class Option:
    """One option. Declared once, by a method (`MultimodalVAE.options`) or at a field of a spec (`mvae.config.specs`).

    `mvae.config.options` gathers them and fills in what the place of the declaration says already.
    """

    help: str
    """Its effect, in a sentence, which does not name the method."""
    type: Any = None
    """The type of its values; filled in at a field."""
    least: float | None = None
    most: float | None = None
    metavar: str = ""
    """Its value in `--help`; by its type where empty."""
    group: str = ""
    """The heading of `--help` that it is listed under; by its place where empty."""
    said: str | Callable[[Any], str] = ""
    """The words of the printed plan, a format of its value; none where empty."""
    unsaid: Any = None
    """The value, beside None, at which the plan leaves it out."""
    names_modalities: bool = False
    """True if its value is the name of a modality, or a list of names."""
    name: str = ""
    """Its name as an argument of `fit`; the key of its place where empty."""
    place: tuple[str, ...] = ()
    """Its place in a `RunSpec`; filled in."""
    methods: tuple[str, ...] = ()
    """The methods that have it, where not all do; filled in."""
    default: Any = None
    """Its default where no recipe has another; filled in."""

    @property
    def flag(self) -> str:
        """Its name on the command line."""
        return "--" + self.name.replace("_", "-")
