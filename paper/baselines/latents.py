"""What an autoencoder, a VAE and a restricted Boltzmann machine make of an image, for logistic regression on it.

Each learns from all images, paired or not, and is then a function from rows to numbers `[B, numbers]`, as
`PairedLogisticRegression` takes it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from sklearn.neural_network import BernoulliRBM

from mvae.batch import Batch
from mvae.evaluation.translation import posterior_means
from mvae.models import MultimodalVAE
from paper.baselines.logistic import pixels

__all__ = ["boltzmann_latents", "network_latents"]


def network_latents(model: MultimodalVAE, rows: Batch, name: str = "image") -> Callable[[Batch], np.ndarray]:
    """The mean of q(z | image) of a trained model; of an autoencoder its code.

    All numbers are divided by one standard deviation, that over `rows`. `name` is the modality that is read.
    """

    @torch.inference_mode()
    def means(rows: Batch) -> np.ndarray:
        return torch.cat(posterior_means(model, rows.only([name]))).cpu().numpy()

    scale = float(means(rows).std())
    return lambda rows: means(rows) / scale


def boltzmann_latents(rows: Batch, epochs: int = 5, units: int = 500) -> Callable[[Batch], np.ndarray]:
    """The probabilities of the hidden units of scikit-learn's BernoulliRBM, trained on the images of `rows`."""
    machine = BernoulliRBM(units, learning_rate=0.05, batch_size=100, n_iter=epochs, random_state=0).fit(pixels(rows))
    return lambda rows: machine.transform(pixels(rows))
