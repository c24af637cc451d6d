"""Grids of images, and images from files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.nn.functional import pad

__all__ = ["as_pixels", "fitted", "image_grid", "open_picture", "read_image"]

SMALLEST_CELL = 56
"""Images are enlarged, pixel by whole pixel, to at least this many pixels, so that an 8x8 digit can be seen."""
GAP = 4


def image_grid(images: Tensor) -> Image.Image:
    """Lay images `[rows, columns, 1 or 3, height, width]` out on white, values clipped to [0, 1]; NaN leaves a gap."""
    images = images.detach().cpu().float().clamp(0, 1).nan_to_num(1.0)
    images = images.expand(-1, -1, 3, -1, -1)
    scale = max(1, -(-SMALLEST_CELL // min(images.shape[-2:])))
    cells = images.repeat_interleave(scale, -2).repeat_interleave(scale, -1)
    cells = pad(cells, (0, GAP, 0, GAP), value=1.0)
    canvas = pad(torch.cat([torch.cat([*row], -1) for row in cells], -2), (GAP, 0, GAP, 0), value=1.0)
    return Image.fromarray((canvas * 255).round().byte().permute(1, 2, 0).numpy())


def read_image(path: str | Path, shape: tuple[int, ...]) -> Tensor:
    """Read a picture of any format that Pillow reads as an observation, grey or in colours and `fitted`.

    Float32 of the shape `(1 or 3, height, width)`, in [0, 1]; a `ValueError` if the file is missing or is no picture.
    """
    return torch.tensor(as_pixels(open_picture(path), shape)).float() / 255


def open_picture(path: str | Path) -> Image.Image:
    """A picture file, upright, with 8 bits a channel; a `ValueError` if it is missing or is no picture."""
    try:
        with Image.open(path) as file:
            return ImageOps.exif_transpose(_eight_bits(file))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:  # what Pillow raises on damage
        raise ValueError(f"{path}: not readable as a picture: {error}") from error


def as_pixels(picture: Image.Image, shape: tuple[int, ...]) -> np.ndarray:
    """Bytes of the shape `(1 or 3, height, width)` of a picture, grey or in colours and `fitted`."""
    channels, height, width = shape
    picture = fitted(picture.convert("L" if channels == 1 else "RGB"), width, height)
    return np.asarray(picture).reshape(height, width, channels).transpose(2, 0, 1)


def fitted(picture: Image.Image, width: int, height: int) -> Image.Image:
    """A picture resized until it just covers `width` by `height` pixels, and cropped to the middle."""
    scale = max(width / picture.width, height / picture.height)
    size = max(width, int(picture.width * scale)), max(height, int(picture.height * scale))
    if picture.size != size:
        picture = picture.resize(size, Image.Resampling.BILINEAR)
    left, top = round((size[0] - width) / 2), round((size[1] - height) / 2)
    return picture.crop((left, top, left + width, top + height))


def _eight_bits(picture: Image.Image) -> Image.Image:
    """Pillow's own conversion cuts 16 bits a pixel off at 255."""
    if not picture.mode.startswith("I"):
        return picture
    return Image.fromarray((np.asarray(picture) / 257).round().clip(0, 255).astype(np.uint8))
