"""Logistic regression from one modality to a category or string, trained on the rows that have both (section 5.1)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold, StratifiedShuffleSplit
from torch.nn.functional import adaptive_avg_pool2d

from mvae.batch import Batch
from mvae.modality import levels

__all__ = ["PairedLogisticRegression", "pixels", "thumbnails"]

STRENGTHS = [0.01, 0.1, 1.0, 10.0, 100.0]
FOLDS = 5
PART = 5000
"""Images that are made small at a time."""
MANY = 2000
"""Rows from which on one split is enough to choose by."""


def pixels(rows: Batch, name: str = "image") -> np.ndarray:
    """The numbers of a modality, `[B, numbers]`, bytes as numbers in [0, 1]."""
    return levels(rows.values[name]).flatten(1).numpy()


def thumbnails(rows: Batch, name: str = "image") -> np.ndarray:
    """The pixels of images averaged to 16 x 16, `[B, numbers]`, in [0, 1]: faces have too many for their number."""
    parts = rows.values[name].split(PART)
    return torch.cat([adaptive_avg_pool2d(levels(part), 16).flatten(1) for part in parts]).numpy()


class PairedLogisticRegression:
    """Multinomial logistic regression from the numbers of a row to a category, or to each symbol of a string.

    The regularisation is chosen on the paired rows themselves by log loss, in stratified cross-validation, from 2,000
    rows on in one split; then all of them are trained on. With a class seen once, scikit-learn's default is taken.

    Args:
        numbers: from rows to `[B, numbers]`; the pixels where it is left out.
        features: the modality that is read; rows without it are left out.
        target: the modality to predict: whole numbers, one a row or one a symbol.
    """

    def __init__(
        self, numbers: Callable[[Batch], np.ndarray] = pixels, features: str = "image", target: str = "label"
    ) -> None:
        self.numbers, self.features, self.target = numbers, features, target

    def fit(self, rows: Batch) -> PairedLogisticRegression:
        """Train on the rows that have both modalities.

        Raises:
            ValueError: if there are none, or all have one class; of a string's symbols, all at a place may be one.
        """
        paired = rows.presence([self.features, self.target]).all(1)
        if not paired.any():
            raise ValueError(f"no row has both '{self.features}' and '{self.target}'")
        rows = rows[paired]
        x, y = self.numbers(rows), rows.values[self.target].numpy()
        self.is_string_ = y.ndim == 2
        self.models_ = [
            DummyClassifier().fit(x, place) if self.is_string_ and len(np.unique(place)) == 1 else _fitted(x, place)
            for place in y.reshape(len(y), -1).T
        ]
        return self

    def predict(self, rows: Batch) -> np.ndarray:
        """The most likely class of each row, `[B]`, or of each of its symbols, `[B, T]`."""
        x = self.numbers(rows)
        found = np.stack([model.predict(x) for model in self.models_], 1)
        return found if self.is_string_ else found[:, 0]

    def probabilities(self, rows: Batch) -> np.ndarray:
        """The probability of each class seen in training, in order, `[B, classes]`; of one whole number a row."""
        return self.models_[0].predict_proba(self.numbers(rows))


def _fitted(x: np.ndarray, y: np.ndarray) -> Any:
    """A regression of the strength that does best in cross-validation."""
    fewest = int(np.unique(y, return_counts=True)[1].min())
    model: Any = LogisticRegression(max_iter=1000)
    if fewest >= 2:
        splits = (
            StratifiedKFold(min(FOLDS, fewest), shuffle=True, random_state=0)
            if len(y) < MANY
            else StratifiedShuffleSplit(1, test_size=1 / FOLDS, random_state=0)
        )
        model = GridSearchCV(model, {"C": STRENGTHS}, cv=splits, scoring="neg_log_loss")
    return model.fit(x, y)
