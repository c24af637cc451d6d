"""Pictures: grids of images, and images from files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

__all__ = ["fitted", "image_grid", "open_picture", "read_image"]

SMALLEST_CELL = 56
"""Images are enlarged, pixel by whole pixel, to at least this many pixels, so that an 8x8 digit can be seen."""
GAP = 4


def image_grid(images: Tensor) -> Image.Image:
    """Lay images out in rows and columns on white.

    Args:
        images: `[rows, columns, channels, height, width]`, values in [0, 1] (others are clipped); NaN leaves a gap.
    """
    images = images.detach().cpu().float()
    num_rows, num_columns, channels, height, width = images.shape
    scale = max(1, -(-SMALLEST_CELL // min(height, width)))
    images = images.clamp(0, 1).nan_to_num(1.0)
    images = images.expand(-1, -1, 3, -1, -1) if channels == 1 else images
    images = images.repeat_interleave(scale, -2).repeat_interleave(scale, -1)
    tall, wide = height * scale + GAP, width * scale + GAP
    canvas = torch.ones(3, num_rows * tall + GAP, num_columns * wide + GAP)
    for row in range(num_rows):
        for column in range(num_columns):
            top, left = row * tall + GAP, column * wide + GAP
            canvas[:, top : top + height * scale, left : left + width * scale] = images[row, column]
    return Image.fromarray((canvas * 255).round().byte().permute(1, 2, 0).numpy())


def read_image(path: str | Path, shape: tuple[int, ...]) -> Tensor:
    """Read a picture as an observation, converted to grey or colour and `fitted` as the shape asks.

    Args:
        path: of any format Pillow reads.
        shape: `(1 or 3, height, width)`.

    Returns:
        float32 of that shape, in [0, 1].

    Raises:
        ValueError: if the file is missing or is no picture.
    """
    channels, height, width = shape
    picture = fitted(open_picture(path).convert("L" if channels == 1 else "RGB"), width, height)
    pixels = torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8)
    return pixels.reshape(height, width, channels).permute(2, 0, 1).float() / 255


def open_picture(path: str | Path) -> Image.Image:
    """A picture file, upright, with 8 bits a channel.

    Raises:
        ValueError: if the file is missing or is no picture.
    """
    try:
        with Image.open(path) as file:
            return ImageOps.exif_transpose(_eight_bits(file))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:  # what Pillow raises on damage
        raise ValueError(f"{path}: not readable as a picture: {error}") from error


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
