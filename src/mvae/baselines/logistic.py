"""Logistic regression on pixels, trained on the rows that have both image and label (paper, section 5.1)."""

from __future__ import annotations

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold

from mvae.data.batch import Batch

__all__ = ["PixelLogisticRegression"]

STRENGTHS = [0.1, 1.0, 10.0, 100.0]


class PixelLogisticRegression:
    """Multinomial logistic regression from one modality's numbers to a category.

    The regularisation is chosen by stratified cross-validation on the paired rows themselves, which needs no other
    labels; with a class seen once, scikit-learn's default is taken.

    Args:
        features: the modality to read.
        target: the categorical modality to predict.
    """

    def __init__(self, features: str = "image", target: str = "label") -> None:
        self.features, self.target = features, target

    def fit(self, rows: Batch) -> PixelLogisticRegression:
        """Train on the rows that have both modalities.

        Raises:
            ValueError: if there are none.
        """
        paired = rows.presence([self.features, self.target]).all(1)
        if not paired.any():
            raise ValueError(f"no row has both '{self.features}' and '{self.target}'")
        x, y = self._numbers(rows[paired]), rows.values[self.target][paired].numpy()
        folds = min(5, int(np.unique(y, return_counts=True)[1].min()))
        self.model_ = LogisticRegression(max_iter=5000)
        if folds >= 2:
            splits = StratifiedKFold(folds, shuffle=True, random_state=0)
            self.model_ = GridSearchCV(self.model_, {"C": STRENGTHS}, cv=splits, scoring="neg_log_loss")
        self.model_.fit(x, y)
        return self

    def predict(self, rows: Batch) -> np.ndarray:
        """The most likely class of each row, `[B]`."""
        return self.model_.predict(self._numbers(rows))

    def _numbers(self, rows: Batch) -> np.ndarray:
        return rows.values[self.features].flatten(1).numpy()
