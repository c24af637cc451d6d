"""`celeba` and `celeba19`: aligned faces and 18 of their attributes, as one modality or as 18 (paper, section 5).

The images are decoded once, resized to 64 pixels on the short side and cropped to the middle, into the user cache.
Works on the full 202,599 images as on any part of them that the two lists name.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError

from mvae.batch import Batch
from mvae.data.cache import cached
from mvae.data.download import cache_folder, locate, text_lines
from mvae.data.pictures import as_pixels
from mvae.files import DataError

__all__ = ["ATTRIBUTES", "NOTHING", "SIDE", "as_seen", "find_faces", "load_celeba", "part_at_hand", "undamaged"]

SIDE = 64
ALL_IMAGES = 202_599
ATTRIBUTES = (
    *("Bald", "Bangs", "Black_Hair", "Blond_Hair", "Brown_Hair", "Bushy_Eyebrows", "Eyeglasses", "Gray_Hair"),
    *("Heavy_Makeup", "Male", "Mouth_Slightly_Open", "Mustache", "Pale_Skin", "Receding_Hairline", "Smiling"),
    *("Straight_Hair", "Wavy_Hair", "Wearing_Hat"),
)
"""The 18 that the paper keeps (Perarnau et al. 2016), in the order of the list."""
IMAGES, LIST, PARTITION = "img_align_celeba", "list_attr_celeba.txt", "list_eval_partition.txt"
VERSION = 1
"""Another version of how rows are made of the files makes them anew."""
DAMAGED, SEEN, NOTHING = 0, 1, 2
"""The state of an image: not decodable, decoded, or nothing was found in it."""
ON_REQUEST = "such images are left out with the option skip_damaged=true only"

See = Callable[[Image.Image], np.ndarray | None]
"""From a picture to bytes `[C, 64, 64]`, or None where nothing is found in it."""


def load_celeba(
    data_dir: str | Path | None = None, apart: bool = False, skip_damaged: bool = False
) -> tuple[Batch, ...]:
    """Training, validation and test rows: `image` `[3, 64, 64]`, bytes, and the attributes, 0 or 1.

    Args:
        data_dir: where to look first for the folder `celeba`.
        apart: each attribute a modality of its own name, a category of two; else `attributes` `[18]`.
        skip_damaged: leave out images that cannot be decoded.

    Raises:
        DataError: naming the file, and line, that is missing, damaged or misaligned.
    """
    faces = find_faces(data_dir)
    images, state = faces.pictures("celeba", 3, as_seen, {"version": VERSION}, skip_damaged)
    batches = []
    for part in faces.parts:
        attributes = torch.from_numpy(faces.attributes[part])
        values = {"image": torch.from_numpy(images[part])}
        if apart:
            values |= {name: attributes[:, column].long() for column, name in enumerate(ATTRIBUTES)}
        else:
            values["attributes"] = attributes.float()
        batches.append(undamaged(Batch(values), state[part]))
    return tuple(batches)


def undamaged(rows: Batch, state: np.ndarray) -> Batch:
    """The rows whose image could be decoded."""
    good = state != DAMAGED
    return rows if good.all() else rows[torch.from_numpy(np.flatnonzero(good))]


@dataclass(frozen=True)
class Faces:
    """The images of CelebA, or of a part of it, in order: rows to train on, to validate on, to test on."""

    folder: Path
    names: tuple[str, ...]
    sizes: tuple[int, ...]
    """Sizes of the files, in bytes."""
    attributes: np.ndarray
    """`[R, 18]`, bytes: 1 where an image has that one of `ATTRIBUTES`."""
    parts: tuple[slice, ...]
    """Rows to train on, to validate on and to test on."""

    def pictures(
        self, name: str, channels: int, see: See, settings: Mapping[str, Any], skip_damaged: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        """Apply a function to each image once, and keep the bytes in the user cache of that name.

        Args:
            name: name of the cache.
            channels: C.
            see: from a picture to bytes `[C, 64, 64]`.
            settings: all that it depends on besides the images, as JSON.
            skip_damaged: go on where an image cannot be decoded; else a `DataError` names it.

        Returns:
            Bytes `[R, C, 64, 64]`, mapped into memory, and for each row `DAMAGED`, `SEEN` or `NOTHING`.
        """
        made = cached(
            cache_folder() / "made",
            name,
            {"images": self.names, "bytes": self.sizes, "side": SIDE, **settings},
            {"pixels": (channels, SIDE, SIDE), "state": ()},
            len(self.names),
            partial(_make, self.folder, self.names, channels, see, skip_damaged),
        )
        damaged = np.flatnonzero(made["state"] == DAMAGED)
        if len(damaged) and not skip_damaged:  # it had been skipped when the rows were made
            raise DataError(f"{self.folder / self.names[damaged[0]]}: cannot be decoded; {ON_REQUEST}")
        return made["pixels"], made["state"]


def find_faces(data_dir: str | Path | None = None) -> Faces:
    """The images that the two lists name; a `DataError` names the file, and line, that is missing or misaligned."""
    folder, listed, parted = _find(data_dir)
    names, table = read_attributes(listed)
    partition = read_partition(parted)
    strangers = set(names) ^ partition.keys()
    if strangers:
        raise DataError(f"{parted}: expected the images of {LIST}; they differ in {min(strangers)}")
    with os.scandir(folder) as files:
        sizes = {file.name: file.stat().st_size for file in files}
    lost = next((name for name in names if name not in sizes), None)
    if lost is not None:
        raise DataError(f"{folder}: no {lost}, which {LIST} names")
    parts = np.array([partition[name] for name in names])
    order = np.argsort(parts, kind="stable")  # so that each part is one stretch of the file
    ends = [0, *np.bincount(parts, minlength=3).cumsum().tolist()]
    names = [names[row] for row in order]
    slices = tuple(slice(start, end) for start, end in pairwise(ends))
    return Faces(folder, tuple(names), tuple(sizes[name] for name in names), table[order], slices)


def part_at_hand(data_dir: str | Path | None = None) -> str:
    """The share of the data set that is here, in words; errors as `load_celeba`."""
    folder, listed, _ = _find(data_dir)
    names, _ = read_attributes(listed)
    first = folder / names[0]
    try:
        with Image.open(first) as image:
            return f"{len(names):,} of {ALL_IMAGES:,} images, stored at {image.width}x{image.height}"
    except (OSError, UnidentifiedImageError) as error:
        raise DataError(f"{first}: cannot be read: {error}") from error


def read_attributes(path: Path) -> tuple[list[str], np.ndarray]:
    """The images of the list, and `[R, 18]` bytes, 1 where an image has an attribute; a `DataError` names the line."""
    lines = list(text_lines(path))
    if len(lines) < 2 or not lines[0].strip().isdigit():
        raise DataError(f"{path}, line 1: expected the number of images, got {''.join(lines[:1])[:40]!r}")
    titles, count = lines[1].split(), int(lines[0])
    lost = next((name for name in ATTRIBUTES if name not in titles), None)
    if lost is not None:
        raise DataError(f"{path}, line 2: expected the names of the attributes, {lost} among them")
    if len(lines) - 2 != count:
        raise DataError(f"{path}, line 1: says {count} images; {len(lines) - 2} follow")
    columns, names = [1 + titles.index(name) for name in ATTRIBUTES], []
    table = np.zeros((count, len(ATTRIBUTES)), np.uint8)
    for row, line in enumerate(lines[2:]):
        fields = line.split()
        if len(fields) != len(titles) + 1 or not set(fields[1:]) <= {"1", "-1"}:
            raise DataError(f"{path}, line {row + 3}: expected an image and {len(titles)} values, 1 or -1")
        names.append(fields[0])
        table[row] = [fields[column] == "1" for column in columns]
    return names, table


def read_partition(path: Path) -> dict[str, int]:
    """Image to part: 0 for training, 1 for validation, 2 for test; a `DataError` names the line."""
    parts = {}
    for number, line in enumerate(text_lines(path), 1):
        fields = line.split()
        if len(fields) != 2 or fields[1] not in ("0", "1", "2"):
            raise DataError(f"{path}, line {number}: expected an image and 0, 1 or 2, got {line[:40]!r}")
        parts[fields[0]] = int(fields[1])
    return parts


def as_seen(image: Image.Image) -> np.ndarray:
    """A picture as the models see it: `[3, 64, 64]` bytes of its middle square."""
    return as_pixels(image, (3, SIDE, SIDE))


def _make(
    folder: Path, names: tuple[str, ...], channels: int, see: See, skip_damaged: bool, rows: range
) -> dict[str, np.ndarray]:
    pixels, state = np.zeros((len(rows), channels, SIDE, SIDE), np.uint8), np.full(len(rows), SEEN, np.uint8)
    for place, row in enumerate(rows):
        path = folder / names[row]
        try:
            with Image.open(path) as file:
                image = file.convert("RGB")
        except (OSError, UnidentifiedImageError, SyntaxError) as error:
            if not skip_damaged:
                raise DataError(f"{path}: cannot be decoded ({error}); {ON_REQUEST}") from None
            state[place] = DAMAGED
            continue
        seen = see(image)
        if seen is None:
            state[place] = NOTHING
        else:
            pixels[place] = seen
    return {"pixels": pixels, "state": state}


def _find(data_dir: str | Path | None) -> tuple[Path, ...]:
    advice = "; the authors of CelebA say how to get them"
    return tuple(locate("celeba", (f"{IMAGES}/", LIST, PARTITION), data_dir, advice).values())
