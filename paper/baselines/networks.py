"""Networks of the MVAE's parts without the stochastic layer: a classifier and an autoencoder (paper, section 5.1)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from mvae.batch import Batch
from mvae.modality import Modality
from mvae.models import MultimodalVAE, Objective
from mvae.posteriors import Gaussian

__all__ = ["Deterministic"]

LOG_VARIANCE = -60.0
"""Of a z that is a point, to what reads a posterior."""


class Deterministic(MultimodalVAE):
    """From one modality to another, or to itself, through the mean of the encoder's head: z is a point.

    With another target it is the supervised network of the paper, with the same an autoencoder. It is trained by what
    trains the models, and is none: it has no distribution of z to draw from.

    Args:
        modalities: name to `Modality`; the encoder of `source` and the decoder of `target` are used.
        latent_dim: D.
        source: what is read.
        target: what is predicted: log p(target | z) is maximised.
    """

    needs_complete_rows = True

    def __init__(self, modalities: Mapping[str, Modality], latent_dim: int, source: str, target: str) -> None:
        super().__init__({name: modalities[name] for name in dict.fromkeys((source, target))}, latent_dim)
        self.source, self.target = source, target
        for name, modality in self.modalities.items():
            modality.encoder.requires_grad_(name == source)
            modality.decoder.requires_grad_(name == target)

    def posteriors(self, batch: Batch, subsets: Tensor) -> Gaussian:
        mean = self.encode(batch, self.source).mean[self.names.index(self.source)].expand(len(subsets), -1, -1)
        return Gaussian(mean, torch.full_like(mean, LOG_VARIANCE))

    def loss(self, batch: Batch, beta: float = 1.0) -> Objective:
        values = self.elbo(batch)
        return Objective(
            -values.mean(), values[None], {self.target: values[None]}, torch.zeros_like(values)[None], values
        )

    def elbo(self, batch: Batch) -> Tensor:
        """log p(target | z), `[B]`, of complete rows; it stands where the models have their ELBO."""
        return self.modalities[self.target].decoder(self.q(batch).mean).log_prob(batch.values[self.target])
