"""What an autoencoder, a VAE and a restricted Boltzmann machine make of an image, for logistic regression on it.

Each learns from all images, paired or not, and is then a function from rows to numbers, as
`PairedLogisticRegression` takes it.
"""

from __future__ import annotations

import numpy as np
import torch
from sklearn.neural_network import BernoulliRBM

from mvae.batch import Batch
from mvae.evaluation.translation import posterior_means
from mvae.models import MultimodalVAE
from paper.baselines.logistic import pixels

__all__ = ["BoltzmannLatents", "NetworkLatents"]


class NetworkLatents:
    """The mean of q(z | image) of a trained model, `[B, D]`; of an autoencoder its code.

    Args:
        model: a trained model.
        rows: numbers are divided by their standard deviation over these rows, all by the same.
        name: the modality that is read.
    """

    def __init__(self, model: MultimodalVAE, rows: Batch, name: str = "image") -> None:
        self.model, self.name, self.scale = model, name, 1.0
        self.scale = float(self(rows).std())

    @torch.inference_mode()
    def __call__(self, rows: Batch) -> np.ndarray:
        """The numbers of rows that have the modality."""
        means = posterior_means(self.model, rows.only([self.name]))
        return torch.cat(means).cpu().numpy() / self.scale


class BoltzmannLatents:
    """The probabilities of the hidden units of scikit-learn's BernoulliRBM, `[B, units]`.

    Args:
        units: how many.
        epochs: passes over the rows.
        learning_rate: of persistent contrastive divergence.
        seed: of its draws.
        name: the modality that is read.
    """

    def __init__(
        self,
        units: int = 500,
        epochs: int = 5,
        learning_rate: float = 0.05,
        seed: int = 0,
        name: str = "image",
    ) -> None:
        self.name = name
        self.machine = BernoulliRBM(
            units, learning_rate=learning_rate, batch_size=100, n_iter=epochs, random_state=seed
        )

    def fit(self, rows: Batch) -> BoltzmannLatents:
        """Train on all rows, which have the modality."""
        self.machine.fit(pixels(rows, self.name))
        return self

    def __call__(self, rows: Batch) -> np.ndarray:
        """The numbers of rows that have the modality."""
        return self.machine.transform(pixels(rows, self.name))
