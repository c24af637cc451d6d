"""MMVAE: a mixture-of-experts posterior (Shi, Siddharth, Paige & Torr, NeurIPS 2019)."""

from __future__ import annotations

import torch
from torch import Tensor

from mvae.batch import Batch
from mvae.experts import at_least_float32
from mvae.models.base import MultimodalVAE, Objective
from mvae.posteriors import Gaussian, Mixture

__all__ = ["MMVAE"]


class MMVAE(MultimodalVAE):
    r"""The MMVAE, whose posterior is the equal mixture of the q(z | x_i) of the modalities X that a row has.

    It maximises the stratified bound, in which each of them is drawn from and reconstructs everything,

    .. math:: \frac{1}{|X|} \sum_{m \in X} \mathbb E_{q(z \mid x_m)}\Big[\sum_{i \in X} \lambda_i \log p(x_i \mid z)
              - \beta \log \frac{q(z \mid X)}{p(z)}\Big],
              \qquad q(z \mid X) = \frac{1}{|X|} \sum_{m \in X} q(z \mid x_m) .

    An encoder gives q(z | x_i) itself: no prior expert is multiplied in. Here all are Gaussian and the prior is
    N(0, I), where the paper has Laplace distributions and learns the prior's scale.
    """

    def loss(self, batch: Batch, beta: float = 1.0) -> Objective:
        counts = None if batch.has_all(self.names) else self.usable(batch).unsqueeze(0)
        return self._joint_bound(batch, beta, counts)

    def posteriors(self, batch: Batch, subsets: Tensor) -> Mixture:
        """Mixtures of the experts of a subset that a row has; the prior where it has none."""
        mean, log_variance, subsets, present = self._experts(batch, subsets)
        member = subsets.T.unsqueeze(-1).to(mean.device).expand(-1, -1, len(batch))  # [N, S, B]
        member = member if present is None else member & present.T.unsqueeze(1)
        mean, log_variance = (
            torch.where(member.unsqueeze(-1), at_least_float32(part).unsqueeze(1), 0.0) for part in (mean, log_variance)
        )
        inside = member | ~member.any(0)
        weights = torch.zeros(inside.shape, dtype=mean.dtype, device=mean.device).masked_fill(~inside, -torch.inf)
        return Mixture(Gaussian(mean, log_variance), weights)
