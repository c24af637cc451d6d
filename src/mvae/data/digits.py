"""`digits`: 1,797 real 8x8 scans of handwritten digits with their labels, inside scikit-learn; nothing to download."""

from __future__ import annotations

import torch

from mvae.batch import Batch
from mvae.data.dataset import hold_out

__all__ = ["load_digits"]

TEST_ROWS = 450
TEST_SEED = 0  # the test rows are the same whatever seed a run has


def load_digits() -> tuple[Batch, Batch]:
    """Training and test rows: `image` `[1, 8, 8]`, grey in [0, 1] in steps of 1/16, and `label`, 0 to 9.

    The set has no split of its own; 450 test rows are drawn once and for all.
    """
    from sklearn import datasets

    images, labels = datasets.load_digits(return_X_y=True)
    everything = Batch(
        {
            "image": torch.tensor(images / 16, dtype=torch.float32).reshape(-1, 1, 8, 8),
            "label": torch.tensor(labels, dtype=torch.long),
        }
    )
    train, test = hold_out(len(everything), TEST_ROWS, TEST_SEED)
    return everything[train], everything[test]
