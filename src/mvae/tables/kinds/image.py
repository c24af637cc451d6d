"""Pictures: names of files, or arrays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from mvae.config.table_spec import ImageColumn
from mvae.tables.cells import Cells
from mvae.tables.kinds.base import ModalityKind, register

__all__ = ["Image"]


@register
class Image(ModalityKind):
    """Pictures, a modality of pixels. Missing ones are not filled."""

    column = ImageColumn

    @property
    def modality(self) -> dict[str, Any]:
        network = {"kind": "conv", "layers": [[32, 4, 2, 1], [64, 4, 2, 1]], "hidden": 128}
        likelihood = {"kind": "pixel-cross-entropy"}
        return {"shape": list(self._shape), "likelihood": likelihood, "encoder": network, "decoder": dict(network)}

    def encoded(self, cells: Cells) -> tuple[np.ndarray, np.ndarray]:
        """Bytes `[R, 1 or 3, height, width]`, and which rows have a picture.

        Raises:
            DataError: on a file that does not exist (unless allowed) or is no picture, naming row and file.
        """
        present = ~self.missing(cells)
        pictures = np.zeros((len(present), *self._shape), dtype=np.uint8)
        for row in present.nonzero()[0]:
            value = cells.values.iloc[row]
            path = cells.folder / value if isinstance(value, str | Path) else None
            if path is not None and not path.is_file():
                if self.spec.missing == "refuse":
                    raise cells.fault(int(row), f"{path}: no such file; 'missing: absent' counts it as missing")
                present[row] = False
                continue
            try:
                pictures[row] = _read(value if path is None else path, self._shape)
            except ValueError as error:
                raise cells.fault(int(row), str(error)) from error
        return pictures, present

    @property
    def _shape(self) -> tuple[int, int, int]:
        return (3 if self.spec.colour else 1, *self.spec.size)


def _read(value: Any, shape: tuple[int, ...]) -> np.ndarray:
    from PIL import Image as Pillow

    from mvae.data.pictures import as_pixels, open_picture

    if isinstance(value, Path):
        return as_pixels(open_picture(value), shape)
    picture = value if isinstance(value, Pillow.Image) else Pillow.fromarray(_as_bytes(np.asarray(value)))
    return as_pixels(picture, shape)


def _as_bytes(values: np.ndarray) -> np.ndarray:
    values = np.moveaxis(values, 0, -1) if values.ndim == 3 and values.shape[0] in (1, 3) else values
    values = values[..., 0] if values.ndim == 3 and values.shape[-1] == 1 else values
    if values.ndim not in (2, 3):
        raise ValueError(f"expected a picture, [height, width] or [height, width, 3], got shape {values.shape}")
    if values.dtype == np.uint8:
        return values
    if not (np.isfinite(values).all() and values.min() >= 0 and values.max() <= 1):
        raise ValueError("expected a picture of bytes, or of numbers from 0 to 1")
    return (values * 255).round().astype(np.uint8)
