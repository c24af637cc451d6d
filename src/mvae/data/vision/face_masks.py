"""Masks of the parts of a face, found by OpenCV's cascade classifiers or by dlib's landmarks."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from mvae.data.download import data_places
from mvae.files import DataError
from mvae.optional import imported

__all__ = ["LANDMARKS", "box", "cascade_mask", "landmark_mask", "mask_from_points", "masks_by", "predictor_file"]

LANDMARKS = "shape_predictor_68_face_landmarks.dat"
WITH_DLIB, WITH_CASCADES = "dlib's 68 landmarks", "OpenCV's cascade classifiers"

Picture = Image.Image


def cascade_mask(picture: Picture) -> Picture | None:
    """A face's oval as a line, eyes and mouth as ellipses, white on black, found by OpenCV's cascade classifiers.

    Coarser than a mask of landmarks: it has neither brows nor a nose, and no shapes. None where no face is found; eyes
    or a mouth that are not found are left out.
    """
    pixels = np.asarray(picture.convert("L"))
    face = _detected("frontalface_alt2", pixels, (60, 60), 1)
    if not face:
        return None
    ((left, top, width, height),) = face
    mask = Image.new("L", picture.size)
    pen = ImageDraw.Draw(mask)
    pen.ellipse(box(left + width / 2, top + 0.55 * height, 0.4 * width, 0.5 * height), outline=255, width=2)
    upper = pixels[top : top + int(0.6 * height), left : left + width]
    for x, y, wide, high in _detected("eye", upper, (width // 8, width // 8), 2, scale=2):
        pen.ellipse(box(left + x + wide / 2, top + y + high / 2, 0.35 * wide, 0.2 * high), fill=255)
    start = top + int(0.6 * height)
    lower = pixels[start : top + int(1.1 * height), left : left + width]
    for x, y, wide, high in _detected("smile", lower, (width // 4, width // 8), 1, scale=2):
        pen.ellipse(box(left + x + wide / 2, start + y + high / 2, 0.45 * wide, 0.4 * high), fill=255)
    return mask


def landmark_mask(picture: Picture, predictor: str | Path) -> Picture | None:
    """`mask_from_points` of the first face that dlib finds with a file of its 68-point predictor; None without one."""
    detect, predict = _dlib(str(predictor))
    pixels = np.asarray(picture)
    faces = detect(pixels, 1)
    if not len(faces):
        return None
    found = predict(pixels, faces[0])
    return mask_from_points([(found.part(number).x, found.part(number).y) for number in range(68)], picture.size)


POLYGONS = ((48, 68), (17, 22), (22, 27), (36, 42), (42, 48), (27, 35))
"""Mouth, right and left brow, right and left eye, nose: their first of the 68 points, and the first after them."""
JAW = 17
"""Points of the jaw, which come first."""


def mask_from_points(points: Sequence[tuple[float, float]], size: tuple[int, int]) -> Picture:
    """The 68 landmarks of a face drawn as the paper's authors do: convex hulls filled, the jaw a line of 2 pixels.

    Args:
        points: x and y of the 68 points, in pixels.
        size: width and height of the mask, which is white on black.
    """
    from scipy.spatial import ConvexHull

    mask = Image.new("L", size)
    pen = ImageDraw.Draw(mask)
    for first, end in POLYGONS:
        corners = np.array(points[first:end], dtype=float)
        hull = corners[ConvexHull(corners, qhull_options="QJ").vertices]  # QJ: points may be in one line
        pen.polygon([tuple(corner) for corner in hull.tolist()], fill=255)
    pen.line([tuple(point) for point in points[:JAW]], fill=255, width=2)
    return mask


def masks_by(data_dir: str | Path | None = None, landmarks: bool = False) -> str:
    """The name of the finder of parts of faces; also, if one of dlib and its file is missing, which one."""
    if landmarks:
        return WITH_DLIB
    has_dlib, has_file = _has_dlib(), _landmarks(data_dir) is not None
    if has_dlib and not has_file:
        return f"{WITH_CASCADES} (dlib is there, its file {LANDMARKS} is not: put it beside celeba/)"
    if has_file and not has_dlib:
        return f"{WITH_CASCADES} ({LANDMARKS} is there, dlib is not: pip install 'mvae[landmarks]')"
    return WITH_CASCADES


def predictor_file(data_dir: str | Path | None) -> Path | None:
    """The file of dlib's 68-point predictor, if dlib is installed too."""
    return _landmarks(data_dir) if _has_dlib() else None


def _has_dlib() -> bool:
    return importlib.util.find_spec("dlib") is not None


def _landmarks(data_dir: str | Path | None) -> Path | None:
    files = [place / LANDMARKS for place in data_places(data_dir)]
    return next((file for file in files if file.is_file()), None)


def box(x: float, y: float, wide: float, high: float) -> tuple[float, float, float, float]:
    """The box around a middle, so far to each side."""
    return x - wide, y - high, x + wide, y + high


def _detected(
    cascade: str, pixels: np.ndarray, smallest: tuple[int, int], count: int, scale: int = 1
) -> list[list[int]]:
    """Left, top, width, height of the `count` likeliest finds of a cascade in grey pixels, enlarged by `scale`."""
    enlarged = np.asarray(Image.fromarray(pixels).resize((pixels.shape[1] * scale, pixels.shape[0] * scale)))
    size = smallest[0] * scale, smallest[1] * scale
    boxes, _, sure = _cascade(cascade).detectMultiScale3(
        enlarged, scaleFactor=1.1, minNeighbors=3, minSize=size, outputRejectLevels=True
    )
    best = np.argsort(-np.ravel(sure), kind="stable")[:count]
    return (np.reshape(boxes, (-1, 4))[best] // scale).tolist()


@cache
def _cascade(name: str) -> Any:
    cv2 = imported("cv2", "masks", "vision")
    cv2.setNumThreads(1)  # each of several processes works on pictures of its own
    path = Path(getattr(getattr(cv2, "data", None), "haarcascades", "")) / f"haarcascade_{name}.xml"
    if not hasattr(cv2, "CascadeClassifier") or not path.is_file():
        raise DataError(f"OpenCV {cv2.__version__} comes without cascade classifiers: pip install 'mvae[vision]'")
    return cv2.CascadeClassifier(str(path))


@cache
def _dlib(predictor: str) -> tuple[Any, Any]:
    import dlib

    return dlib.get_frontal_face_detector(), dlib.shape_predictor(predictor)
