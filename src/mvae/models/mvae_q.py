"""MVAE-Q: the product of posteriors divided by the prior (Wu & Goodman, NeurIPS 2018, Eq. 3)."""

from __future__ import annotations

from collections.abc import Iterable

from torch.nn.functional import logsigmoid

from mvae.batch import Batch
from mvae.experts import Experts, quotient_of_experts
from mvae.models.mvae import MVAE

__all__ = ["MVAEQ"]


class MVAEQ(MVAE):
    r"""The variant of the MVAE whose experts are the posteriors q(z | x_i) themselves.

    It trains the terms of the MVAE, with

    .. math:: q(z \mid X_s) \propto \frac{\prod_{i \in s} q(z \mid x_i)}{p(z)^{|s| - 1}}, \qquad
              q(z \mid x_i) = \mathcal N\big(\mu_i, \operatorname{sigmoid}(v_i)\big),

    where :math:`\mu_i, v_i` are the outputs of an encoder. The variance is below the prior's 1 by construction, so that
    the quotient is always a Gaussian; the paper says that such a constraint is needed and not how it was met.

    With it, the family is that of the MVAE: :math:`1 / \operatorname{sigmoid}(v) - 1 = e^{-v}`, so that v is the log
    variance of an MVAE expert, whose mean m gives :math:`\mu = m / (1 + e^{v})`. Only the parametrisation of the mean
    differs, and with it the optimisation.

    It has the options of the MVAE.
    """

    combine = staticmethod(quotient_of_experts)

    def encode(self, batch: Batch, names: str | Iterable[str] | None = None) -> Experts:
        """q(z | x_i) in place of experts."""
        mean, raw, present = super().encode(batch, names)
        return Experts(mean, logsigmoid(raw), present)
