"""What a training step minimises."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

__all__ = ["Objective"]


class Objective(NamedTuple):
    """What a training step minimises, and what it is made of. All in nats."""

    loss: Tensor
    """Scalar: minus the mean over the batch of each row's summed terms."""
    terms: Tensor
    """`[S, B]`, the weighted terms of the objective; those that a row does not train are 0."""
    log_likelihood: dict[str, Tensor]
    """For each modality, the unweighted log p(x_i | z) of the terms that reconstruct it, `[S_i, B]`, 0 where absent;
    the terms in their order."""
    kl: Tensor
    """`[S', B]`, the divergence from the prior of each posterior that z was drawn from, in the order of the terms."""
    elbo: Tensor
    """`[B]`: the first term with beta = 1 and every lambda = 1, a lower bound on the log-likelihood of what it
    reconstructs."""
