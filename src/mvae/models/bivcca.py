"""BiVCCA: two VAEs, each decoding both modalities (Wang, Yan, Lee & Livescu 2016, "Deep variational CCA")."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch

from mvae.batch import Batch
from mvae.experts import first_expert
from mvae.modality import Modality
from mvae.models.base import MultimodalVAE, Objective
from mvae.option import Option

__all__ = ["BiVCCA"]


class BiVCCA(MultimodalVAE):
    r"""Bi-VCCA, which maximises

    .. math:: \mu\, \mathcal L_1 + (1 - \mu)\, \mathcal L_2, \qquad
              \mathcal L_i = \mathbb E_{q(z \mid x_i)}\Big[\sum_j \lambda_j \log p(x_j \mid z)\Big]
              - \beta\, \mathrm{KL}\big[q(z \mid x_i), p(z)\big] .

    Both are bounds on log p(x_1, x_2). There is no q(z | x_1, x_2): given both, q(z | x_1) is used. A row with one
    modality trains its own term, at weight 1, on what it has.

    Args:
        mu: weight of the first term, from 0 to 1.
    """

    combine = staticmethod(first_expert)
    options: ClassVar = {"mu": Option("weight of the first modality's bound", float, least=0, most=1, said="mu {}")}

    def __init__(self, modalities: Mapping[str, Modality], latent_dim: int, mu: float = 0.5) -> None:
        super().__init__(modalities, latent_dim)
        self._expect_two()
        if not 0 <= mu <= 1:
            raise ValueError(f"mu: expected a number from 0 to 1, got {mu}")
        self.mu = mu

    def loss(self, batch: Batch, beta: float = 1.0) -> Objective:
        singles, both = torch.eye(2, dtype=torch.bool), torch.ones(2, 2, dtype=torch.bool)
        has = batch.presence(self.names)
        bounds = self.evidence(batch, self.posteriors(batch, singles), both, has.T, beta)
        weights = bounds.kl.new_tensor([self.mu, 1 - self.mu]).unsqueeze(1).where(has.all(1), 1.0)
        terms = weights * bounds.terms
        return bounds._replace(loss=-terms.sum(0).mean(), terms=terms)
