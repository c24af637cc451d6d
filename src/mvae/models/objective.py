"""The objective of a training step."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

__all__ = ["Objective"]


class Objective(NamedTuple):
    """The loss of a training step and its parts, in nats."""

    loss: Tensor
    """Scalar: minus the mean over the batch of each row's summed terms."""
    terms: Tensor
    """`[S, B]`, the weighted terms; 0 where a row does not train a term."""
    log_likelihood: dict[str, Tensor]
    """For each modality, the unweighted log p(x_i | z) in the terms that reconstruct it, `[S_i, B]`, 0 if missing."""
    kl: Tensor
    """`[S', B]`, the divergence from the prior of each posterior that z was drawn from, in the order of the terms."""
    elbo: Tensor
    """`[B]`: the first term with beta = 1 and every lambda = 1, a lower bound on the log-likelihood of what it
    reconstructs."""
