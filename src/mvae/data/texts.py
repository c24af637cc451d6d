"""Texts as people write them, and as words parted by spaces, in the manner of the files of `mvae.data.iwslt`."""

from __future__ import annotations

import html
import re

__all__ = ["as_read", "as_words"]

APART = re.compile(r"((?<=\w)'(?:s|t|re|ve|ll|d|m)\b|(?<!\d)[.,]|[.,](?!\d)|[^\w\s'.,-]|(?<!\w)'|'(?!\w)|--+)")
TIGHT = re.compile(r" (?=[.,!?;:%)\]}…]|n't\b|'(?:s|t|re|ve|ll|d|m)\b)|(?<=[(\[{]) ")
QUOTED = re.compile(r'" ([^"]*?) "')
ESCAPED = (("&", "&amp;"), ("'", "&apos;"), ('"', "&quot;"), ("[", "&#91;"), ("]", "&#93;"))


def as_read(text: str) -> str:
    """A text of words parted by spaces as people write it.

    Example:
        >>> print(as_read("it &apos;s &quot; fine &quot; , isn &apos;t it ( today ) ?"))
        it's "fine", isn't it (today)?
    """
    return TIGHT.sub("", QUOTED.sub(r'"\1"', html.unescape(text)))


def as_words(text: str) -> str:
    """A text as people write it, as words parted by spaces: the inverse of `as_read`.

    Example:
        >>> as_words("It's fine, isn't it (today)?")
        'It &apos;s fine , isn &apos;t it ( today ) ?'
    """
    parted = " ".join(APART.sub(r" \1 ", text).split())
    for character, written in ESCAPED:
        parted = parted.replace(character, written)
    return parted
