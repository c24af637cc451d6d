"""Reading the digits off a MultiMNIST canvas: a judge of what was drawn that has seen real canvases only."""

from typing import Self

import numpy as np
from sklearn.svm import SVC
from torch import Tensor

from mvae.batch import Batch
from mvae.data.multimnist import CORNERS, DIGIT, DIGITS, FILL, LENGTH
from mvae.modality import levels


class Reader:
    """A support vector machine that reads each of the four places: a digit, or nothing.

    It works on canvases with fixed places only. Trained on `places` places of real canvases, seen in [0, 1].
    Reading takes the longer the more places it has learned from.
    """

    def __init__(self, places: int = 40_000) -> None:
        self.places = places

    def fit(self, rows: Batch) -> Self:
        """Learn from rows with `image` and `text`; those of the first canvases, as many as are needed."""
        count = -(-self.places // LENGTH)
        corners = _corners(rows.values["image"][:count])
        self.model_ = SVC(C=10.0).fit(corners, rows.values["text"][:count].flatten().numpy())
        return self

    def read(self, images: Tensor) -> list[str]:
        """The text of each image `[B, 1, 50, 50]`, bytes or numbers in [0, 1].

        A place that is empty before one that is not stays out of the text, as no real canvas has such.
        """
        found = self.model_.predict(_corners(images)).reshape(-1, LENGTH)
        return ["".join(DIGITS.characters[symbol] for symbol in row if symbol != FILL) for row in found]


def _corners(images: Tensor) -> np.ndarray:
    """The four places of each image, `[4 B, pixels]`, in reading order."""
    pixels = levels(images.cpu()).numpy().squeeze(1)
    parts = [pixels[:, top : top + DIGIT, left : left + DIGIT] for top, left in CORNERS]
    return np.stack(parts, 1).reshape(LENGTH * len(pixels), -1).astype(np.float32)
