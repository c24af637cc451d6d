"""`vision`: a face and five image transformations of it, each a modality (paper, section 6, Figure 4).

A transformation is a function from a picture to a picture, or to None where it finds nothing. All work on the picture
at 178x218 pixels, as CelebA has it; results are resized and cropped as in `mvae.data.celeba`. A transformation of your
own is one function and one line:

    >>> from PIL import ImageOps
    >>> def negative(picture):
    ...     return ImageOps.invert(picture)
    >>> TRANSFORMATIONS["negative"] = Transformation(negative, channels=3)  # doctest: +SKIP
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from joblib.func_inspect import get_func_code
from PIL import Image, ImageDraw

from mvae.batch import Batch
from mvae.data.celeba import NOTHING, SIDE, find_faces, undamaged
from mvae.data.pictures import as_pixels, fitted
from mvae.data.vision.face_masks import LANDMARKS, box, cascade_mask, landmark_mask, masks_by, predictor_file
from mvae.optional import imported

__all__ = ["CERTAIN", "TRANSFORMATIONS", "Transformation", "load_vision", "masks_by", "transformed"]

SIZE = 178, 218
"""Width and height at which transformations see a picture."""
SIGMA = 2.0
"""Standard deviation of the Gaussian before Canny's edges, in pixels."""
VERSION = 1
"""Raised where pictures are treated differently around the transformations: all rows are made anew."""

Picture = Image.Image


def image(picture: Picture) -> Picture:
    """The picture itself, in colours."""
    return picture


def gray(picture: Picture) -> Picture:
    """Its luma: 0.299 red + 0.587 green + 0.114 blue."""
    return picture.convert("L")


def edge(picture: Picture) -> Picture:
    """Canny's edges of the grey picture (scikit-image, sigma 2 pixels), white on black."""
    canny = imported("skimage.feature", "edges", "vision").canny
    return Image.fromarray(canny(np.asarray(picture.convert("L")) / 255, sigma=SIGMA).astype(np.uint8) * 255)


def obscured(picture: Picture) -> Picture:
    """The left half; the pixels right of the middle column are black."""
    half = np.array(picture)
    half[:, picture.width // 2 + 1 :] = 0
    return Image.fromarray(half)


def watermark(picture: Picture) -> Picture:
    """The whole picture under a half transparent mark: a ring around an M."""
    colour, opacity = _mark(picture.size)
    return Image.composite(colour, picture, opacity)


@dataclass(frozen=True)
class Transformation:
    """A function that makes a modality of a picture."""

    make: Callable[[Picture], Picture | None]
    """From a picture in colours, of 178x218 pixels, to another of that size, or None where it finds nothing."""
    channels: int
    """Channels of the result: 1 or 3."""
    version: int = 1
    """Rows are made anew if this, the function's own code or a variable in its closure changes; raise it where
    something else that the function calls has changed."""


TRANSFORMATIONS = {
    "image": Transformation(image, 3),
    "gray": Transformation(gray, 1),
    "edge": Transformation(edge, 1),
    "mask": Transformation(cascade_mask, 1),
    "obscured": Transformation(obscured, 3),
    "watermark": Transformation(watermark, 3),
}
"""The paper's six; the mask is dlib's where it can be had (`with_finder`)."""


LUMA = (0.299, 0.587, 0.114)
ROUNDS = 20
SURE_COLUMNS = SIDE // 2 - 1
"""Columns, of 64, that `obscured` leaves as they are, but for one at its edge."""


def with_luma(colours: torch.Tensor, grey: torch.Tensor) -> torch.Tensor:
    """Colours made lighter or darker, all three channels by as much, until their luma is the grey given.

    It is the mean of a normal distribution around `colours`, given its luma, whose errors are the same in all three
    channels, as those of a blurred picture nearly are: hues are kept. Values outside [0, 1] are cut off, and the rest
    goes to the other channels, as far as they can take it.

    Args:
        colours: `[..., 3, H, W]` in [0, 1].
        grey: `[..., 1, H, W]` in [0, 1].
    """
    weights = colours.new_tensor(LUMA)[:, None, None]  # of sum 1
    for _ in range(ROUNDS):
        colours = (colours + grey - (weights * colours).sum(-3, keepdim=True)).clamp(0, 1)
    return colours


def with_left_half(picture: torch.Tensor, obscured: torch.Tensor) -> torch.Tensor:
    """A picture `[..., 3, 64, 64]` with the left half of another."""
    left, right = obscured[..., :SURE_COLUMNS], picture[..., SURE_COLUMNS:]
    return torch.cat([left.expand(*right.shape[:-1], -1), right], -1)


CERTAIN = {("gray", "image"): with_luma, ("obscured", "image"): with_left_half}
"""Functions that correct a guess of the second transformation by the pixels that the first one determines."""


def load_vision(
    data_dir: str | Path | None = None,
    names: Sequence[str] | None = None,
    skip_damaged: bool = False,
    landmarks: bool = False,
) -> tuple[Batch, ...]:
    """Training, validation and test rows: for each transformation bytes `[1 or 3, 64, 64]` of CelebA's images.

    They are made once into the user cache, one transformation after the other. A modality is missing in rows where its
    transformation finds nothing.

    Args:
        data_dir: where to look first for the folder `celeba` and dlib's predictor.
        names: transformations; all where None.
        skip_damaged: leave out images that cannot be decoded.
        landmarks: draw masks of dlib's landmarks, not by OpenCV's cascade classifiers.

    Raises:
        ValueError: on an unknown name, or naming the package or file that a transformation needs.
        DataError: as `load_celeba`.
    """
    faces = find_faces(data_dir)
    made = {}
    for name in names or TRANSFORMATIONS:
        known = _known(name, data_dir, landmarks)
        settings = {"transformation": _identity(known.make), "version": [VERSION, known.version]}
        made[name] = faces.pictures(f"vision-{name}", known.channels, partial(_seen, known), settings, skip_damaged)
    batches = []
    for part in faces.parts:
        values = {name: torch.from_numpy(pixels[part]) for name, (pixels, _) in made.items()}
        present = {name: torch.from_numpy(state[part] != NOTHING) for name, (_, state) in made.items()}
        state = next(iter(made.values()))[1][part]
        batches.append(undamaged(Batch(values, present), state))
    return tuple(batches)


def with_own(content: dict[str, Any]) -> dict[str, Any]:
    """A recipe with a modality for each transformation, like its `image` or `gray` where it does not name it."""
    modalities = content["model"]["modalities"]
    like = {name: modalities["image" if known.channels == 3 else "gray"] for name, known in TRANSFORMATIONS.items()}
    more = {name: part for name, part in like.items() if name not in modalities}
    return content | {"model": content["model"] | {"modalities": modalities | more}}


def with_finder(content: dict[str, Any], data_dir: str | Path | None = None, **options: bool | int) -> dict[str, Any]:
    """A spec, as plain data, with its data set's options and whether masks are of dlib's landmarks.

    By default they are if dlib is installed and its predictor is found (first in `data_dir`).
    """
    chosen = {"landmarks": predictor_file(data_dir) is not None} | options
    return content | {"data": content["data"] | {"options": chosen}}


def transformed(
    picture: Picture, name: str, data_dir: str | Path | None = None, landmarks: bool = False
) -> torch.Tensor | None:
    """One transformation of a picture of any size: float32 `[1 or 3, 64, 64]` in [0, 1], or None if it finds nothing.

    The picture is resized to cover 178x218 pixels and cropped to the middle. Other arguments and errors are those of
    `load_vision`.
    """
    seen = _seen(_known(name, data_dir, landmarks), picture.convert("RGB"))
    return None if seen is None else torch.tensor(seen) / 255


def _known(name: str, data_dir: str | Path | None, landmarks: bool) -> Transformation:
    if name not in TRANSFORMATIONS:
        raise ValueError(f"unknown transformation '{name}'; there are {', '.join(TRANSFORMATIONS)}")
    known = TRANSFORMATIONS[name]
    if not landmarks or known.make is not cascade_mask:
        return known
    predictor = predictor_file(data_dir)
    if predictor is None:
        needed = f"dlib (pip install 'mvae[landmarks]') and its file {LANDMARKS} beside celeba/"
        raise ValueError(f"landmarks: masks are of dlib's landmarks, which need {needed}")
    return replace(known, make=partial(landmark_mask, predictor=predictor))


def _identity(make: Any) -> str:
    """The code of a function, and the values that it closes over or is given."""
    if isinstance(make, partial):
        return f"{_identity(make.func)} {make.args} {sorted(make.keywords.items())}"
    closed = [cell.cell_contents for cell in getattr(make, "__closure__", None) or ()]
    if not hasattr(make, "__code__"):  # an object that is called
        return f"{get_func_code(type(make).__call__)[0]} {sorted(vars(make).items())}"
    return f"{get_func_code(make)[0]} {make.__defaults__} {closed}"


def _seen(known: Transformation, picture: Picture) -> np.ndarray | None:
    made = known.make(fitted(picture, *SIZE))
    return None if made is None else as_pixels(made, (known.channels, SIDE, SIDE))


@cache
def _mark(size: tuple[int, int]) -> tuple[Picture, Picture]:
    """The watermark's colours and its opacity."""
    width, height = size
    colour, opacity = Image.new("RGB", size, (235, 235, 235)), Image.new("L", size)
    middle, radius = (width / 2, height / 2), 0.42 * width
    pen = ImageDraw.Draw(opacity)
    pen.ellipse(box(*middle, radius, radius), outline=150, width=max(1, width // 20))
    strokes = ((-0.55, 0.5), (-0.55, -0.45), (0, 0.2), (0.55, -0.45), (0.55, 0.5))
    corners = [(middle[0] + radius * x, middle[1] + radius * y) for x, y in strokes]
    pen.line(corners, fill=150, width=max(1, width // 14), joint="curve")
    return colour, opacity
