"""TELBO: the triplet ELBO in two stages (Vedantam, Fischer, Huang & Murphy, ICLR 2018)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mvae.batch import Batch
from mvae.modality import Modality
from mvae.models.base import Objective
from mvae.models.joint import JointEncoderVAE

__all__ = ["TELBO"]


class TELBO(JointEncoderVAE):
    r"""The triplet ELBO,

    .. math:: \mathcal L(x_1, x_2) + \mathcal L(x_1) + \mathcal L(x_2), \qquad
              \mathcal L(X) = \mathbb E_{q(z \mid X)}\Big[\sum_{x_i \in X} \lambda_i \log p(x_i \mid z)\Big]
              - \beta\, \mathrm{KL}\big[q(z \mid X), p(z)\big],

    maximised in two stages of equally many epochs: first the joint term fits q(z | x_1, x_2) and the decoders; then,
    these frozen, the other two fit q(z | x_1) and q(z | x_2).
    """

    num_stages = 2

    def __init__(self, modalities: Mapping[str, Modality], latent_dim: int, joint_encoder: nn.Module) -> None:
        super().__init__(modalities, latent_dim, joint_encoder)
        self.stage = 0

    def loss(self, batch: Batch, beta: float = 1.0) -> Objective:
        batch = self._complete(batch)
        subsets = torch.eye(2, dtype=torch.bool) if self.stage else torch.ones(1, 2, dtype=torch.bool)
        return self.evidence(batch, self.posteriors(batch, subsets), subsets, beta=beta)

    def elbo(self, batch: Batch) -> Tensor:
        """One-sample estimate of the triplet ELBO, beta and every lambda 1: all three terms count, `[B]`, in nats."""
        subsets = torch.tensor([[True, True], [True, False], [False, True]])
        bounds = self.evidence(batch, self.posteriors(batch, subsets), subsets)
        return sum((values.sum(0) for values in bounds.log_likelihood.values()), start=-bounds.kl.sum(0))

    def enter_stage(self, stage: int) -> None:
        self.stage = stage
        for module in self._first_stage():
            module.requires_grad_(stage == 0)
        self.train(self.training)

    def train(self, mode: bool = True) -> TELBO:
        super().train(mode)
        for module in self._first_stage() if self.stage else ():
            module.eval()  # what is frozen gathers no statistics either
        return self

    def _first_stage(self) -> list[nn.Module]:
        return [self.joint_encoder, *(modality.decoder for modality in self.modalities.values())]
