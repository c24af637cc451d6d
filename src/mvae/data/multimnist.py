"""`multimnist`: none to four digits at fixed places on a canvas, and the text of them (paper, section 5).

Made from the real MNIST digits, training digits for training rows and test digits for test rows, by the rules of the
authors' release (its variant with fixed places), which draws other digits than this does.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from mvae.batch import Batch
from mvae.data.cache import cached
from mvae.data.download import cache_folder, md5_of
from mvae.data.mnist import MNIST, read_idx
from mvae.files import DataError
from mvae.vocabularies import Alphabet

__all__ = ["DIGITS", "FILL", "LENGTH", "SIZE", "Rules", "load_multimnist", "make_rows"]

SIZE = 50
"""Pixels of a side of the canvas."""
LENGTH = 4
"""Symbols of a text; shorter ones are filled up at the end."""
FILL = 11
"""The symbol after the ten digits and the start symbol of the authors' decoder."""
DIGITS = Alphabet("0123456789", FILL)
DIGIT = 21
"""Pixels of a side of a digit: 28 / 1.3."""
TRIES = 10_000
"""Choices of digits for a row before an error; of real digits one in a few is too bright together."""
CORNERS = ((4, 4), (4, 23), (23, 4), (23, 23))
"""Row and column of the top left pixel of the first to fourth digit: reading order."""


@dataclass(frozen=True)
class Rules:
    """The rules by which rows are drawn."""

    fewest: int = 0
    most: int = 4
    """Digits on a canvas: each number from `fewest` to `most` equally often."""
    anywhere: bool = False
    """At random places and of random sizes, by the rules of the variant that the authors' release makes by default."""
    repeats: bool = True
    """Whether a digit may come twice."""
    seed: int = 681307

    def __post_init__(self) -> None:
        if not 0 <= self.fewest <= self.most <= LENGTH:
            raise ValueError(f"fewest, most: expected 0 <= fewest <= most <= {LENGTH}, got {self.fewest}, {self.most}")
        if self.seed < 0:
            raise ValueError(f"seed: expected a number of at least 0, got {self.seed}")


def load_multimnist(data_dir: str | Path | None = None, rules: Rules = Rules()) -> tuple[Batch, ...]:
    """Training and test rows, as many as MNIST has: `image` `[1, 50, 50]`, bytes, and `text`, 4 symbols.

    They are made once from the files of MNIST, which takes half a minute, and kept in the user cache.

    Raises:
        DataError: if those files, or the rows in the cache, are missing or damaged.
    """
    files, columns, parts = [*MNIST.find(data_dir).values()], {"image": (1, SIZE, SIZE), "text": (LENGTH,)}, []
    for number, (images, labels) in enumerate((files[:2], files[2:])):
        settings = {**asdict(rules), "part": number, "digits": [md5_of(images), md5_of(labels)]}
        make, count = partial(_make, images, labels, rules, number), len(_digits(images, labels)[1])
        made = cached(cache_folder() / "made", "multimnist", settings, columns, count, make)
        text = torch.from_numpy(made["text"]).long()
        parts.append(Batch({"image": torch.from_numpy(made["image"]), "text": text}))
    return tuple(parts)


@lru_cache(maxsize=2)
def _digits(images: Path, labels: Path) -> tuple[np.ndarray, np.ndarray]:
    return read_idx(images, 3).numpy(), read_idx(labels, 1).numpy()


def _make(images: Path, labels: Path, rules: Rules, part: int, rows: range) -> dict[str, np.ndarray]:
    """`make_rows` in a process that reads the digits itself."""
    return make_rows(*_digits(images, labels), rules, part, rows)


def make_rows(digits: np.ndarray, labels: np.ndarray, rules: Rules, part: int, rows: range) -> dict[str, np.ndarray]:
    """Rows by their numbers; a row is the same whichever others it is made with.

    Digits are drawn again where two of them together are brighter than white.

    Args:
        digits: `[M, 28, 28]` unsigned bytes to draw from.
        labels: `[M]`, 0 to 9.
        rules: how rows are drawn.
        part: 0 for training rows, 1 for test rows; they differ.
        rows: row numbers.

    Returns:
        `image` `[R, 1, 50, 50]` and `text` `[R, 4]`, unsigned bytes: the symbols of `DIGITS`.

    Raises:
        DataError: if no choice of digits fits on a canvas.
    """
    images = np.zeros((len(rows), 1, SIZE, SIZE), np.uint8)
    texts = np.full((len(rows), LENGTH), FILL, np.uint8)
    for place, row in enumerate(rows):
        generator = np.random.default_rng([rules.seed, part, row])
        count = int(generator.integers(rules.fewest, rules.most + 1))
        for _ in range(TRIES):
            chosen = _chosen(generator, labels, count, rules.repeats)
            canvas = np.zeros((SIZE, SIZE), np.int64)
            for digit, (top, left, side) in zip(digits[chosen], _boxes(generator, count, rules.anywhere), strict=True):
                small = Image.fromarray(digit).resize((side, side), Image.Resampling.BILINEAR)
                canvas[top : top + side, left : left + side] += np.asarray(small)
            if canvas.max() <= 255:
                break
        else:
            raise DataError(f"row {row}: {TRIES:,} choices of {count} digits were all brighter than white together")
        images[place, 0] = canvas
        texts[place, :count] = labels[chosen]
    return {"image": images, "text": texts}


def _chosen(generator: np.random.Generator, labels: np.ndarray, count: int, repeats: bool) -> np.ndarray:
    """The numbers of the digits to draw."""
    if repeats:
        return generator.integers(len(labels), size=count)
    kinds = generator.permutation(10)[:count]
    return np.array([generator.choice(np.flatnonzero(labels == kind)) for kind in kinds], int)


def _boxes(generator: np.random.Generator, count: int, anywhere: bool) -> list[tuple[int, int, int]]:
    """Top, left and side of each digit."""
    if not anywhere:
        return [(top, left, DIGIT) for top, left in CORNERS[:count]]
    sides = np.clip(28 / np.clip(1.3 + 0.1 * generator.standard_normal(count), 1.0, 2.0), 14, 28).astype(int)
    return [(*generator.integers(0, SIZE - side + 1, 2).tolist(), int(side)) for side in sides]
