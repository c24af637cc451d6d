"""An option of a method or of its training: what is said of it where it is declared."""

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
    """What it does, in a sentence; of a method's option without the method."""
    type: Any = None
    """Of its values; filled in at a field."""
    least: float | None = None
    most: float | None = None
    metavar: str = ""
    """Its value in `--help`; by its type where empty."""
    group: str = ""
    """The heading of `--help` that it is listed under; by its place where empty."""
    said: str | Callable[[Any], str] = ""
    """How the printed plan says it: a format of its value. Not at all where empty."""
    unsaid: Any = None
    """The value, beside None, at which the plan leaves it out."""
    names_modalities: bool = False
    """Whether its value is the name of a modality, or a list of names."""
    name: str = ""
    """As an argument of `fit`; the key of its place where empty."""
    place: tuple[str, ...] = ()
    """In a `RunSpec`; filled in."""
    methods: tuple[str, ...] = ()
    """Whose it is, where it is not every method's; filled in."""
    default: Any = None
    """Without a recipe that says otherwise; filled in."""

    @property
    def flag(self) -> str:
        """On the command line."""
        return "--" + self.name.replace("_", "-")
