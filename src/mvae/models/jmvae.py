"""JMVAE: a joint encoder, and encoders of one modality drawn towards it (Suzuki, Nakayama & Matsuo 2016)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import nn

from mvae.batch import Batch
from mvae.modality import Modality
from mvae.models.base import Objective
from mvae.models.joint import JointEncoderVAE
from mvae.option import Option
from mvae.posteriors import Gaussian, kl

__all__ = ["JMVAE"]


class JMVAE(JointEncoderVAE):
    r"""JMVAE-kl, which maximises

    .. math:: \mathbb E_{q(z \mid x_1, x_2)}\Big[\sum_i \lambda_i \log p(x_i \mid z)\Big]
              - \beta\, \mathrm{KL}\big[q(z \mid x_1, x_2), p(z)\big]
              - \alpha \sum_i \mathrm{KL}\big[q(z \mid x_1, x_2), q(z \mid x_i)\big] .

    Args:
        alpha: weight of the two divergences, at least 0; the paper takes 0.01 (section 5.1).
    """

    options: ClassVar = {
        "alpha": Option("weight of the divergences between posteriors", float, least=0, said="alpha {}")
    }

    def __init__(
        self, modalities: Mapping[str, Modality], latent_dim: int, joint_encoder: nn.Module, alpha: float = 0.01
    ) -> None:
        super().__init__(modalities, latent_dim, joint_encoder)
        if not alpha >= 0:
            raise ValueError(f"alpha: expected a number of at least 0, got {alpha}")
        self.alpha = alpha

    def loss(self, batch: Batch, beta: float = 1.0) -> Objective:
        batch = self._complete(batch)
        both = torch.ones(1, 2, dtype=torch.bool)
        joint = self.posteriors(batch, both)  # q(z | x_1, x_2)
        bound = self.evidence(batch, joint, both, beta=beta)
        single = self.encode(batch)  # q(z | x_i)
        divergence = kl(joint, Gaussian(single.mean, single.log_variance))
        terms = torch.cat([bound.terms, -self.alpha * divergence])
        return bound._replace(loss=-terms.sum(0).mean(), terms=terms)
