"""Diagonal Gaussian experts: their product with the prior (Eq. 4), their quotient by it (Eq. 3), divergences."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

__all__ = ["Experts", "first_expert", "kl_between", "kl_to_prior", "product_of_experts", "quotient_of_experts"]

SMALLEST_LOG_VARIANCE = -120.0
"""The least log variance of an expert: below it float32 has no numbers for the product's sums."""


class Experts(NamedTuple):
    """The encoders' results for a batch: a diagonal Gaussian for each modality and row.

    Numbers where `present` is false mean nothing and are never read.
    """

    mean: Tensor
    """`[N, B, D]`"""
    log_variance: Tensor
    """`[N, B, D]`"""
    present: Tensor
    """`[B, N]`, boolean"""


def product_of_experts(
    mean: Tensor, log_variance: Tensor, subsets: Tensor, present: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    r"""The posteriors of all subsets of modalities at once, prior expert included (paper, Eq. 4).

    With precisions :math:`T_i = 1 / \sigma_i^2` and the prior's :math:`T_0 = 1, \mu_0 = 0`,

    .. math:: q(z \mid X_s) \propto p(z) \prod_{i \in s} \tilde q(z \mid x_i)
              = \mathcal N\Big(\tfrac{\sum_{i \in s} T_i \mu_i}{T}, \tfrac 1 T\Big),
              \qquad T = 1 + \sum_{i \in s} T_i .

    The prior enters each product exactly once; the empty subset gives the prior. The sums over experts are one matrix
    product under the subset table, on precisions scaled by the largest so that nothing overflows. Subsets of one
    modality, of which a step has N, need no sum and are taken alone: the cost stays linear in N.

    Args:
        mean: `[N, B, D]`, the experts' means.
        log_variance: `[N, B, D]`, the logarithms of their variances. Results are exact to rounding while these stay
            above -120; a smaller one counts as -120.
        subsets: boolean `[S, N]`.
        present: boolean `[B, N]`, which modalities each row has; all where None. A missing expert is in no product,
            and its numbers are not read (they may be NaN).

    Returns:
        Mean and log variance of each posterior, each `[S, B, D]`; float32 or wider.

    Example:
        >>> mean, log_variance = torch.tensor([[[2.0]], [[-1.0]]]), torch.zeros(2, 1, 1)
        >>> both = torch.tensor([[True, True]])
        >>> [x.item() for x in product_of_experts(mean, log_variance, both)]  # doctest: +ELLIPSIS
        [0.333..., -1.098...]
    """
    mean, log_precision = at_least_float32(mean), -at_least_float32(log_variance).clamp_min(SMALLEST_LOG_VARIANCE)
    if present is not None:
        here = present.T.unsqueeze(-1)
        mean = torch.where(here, mean, 0.0)
        log_precision = torch.where(here, log_precision, -torch.inf)
    with torch.autocast(mean.device.type, enabled=False):
        alone = subsets.sum(1) == 1
        singles, others = alone.nonzero().flatten(), (~alone).nonzero().flatten()
        if len(singles) == len(mean) and subsets[singles].diagonal().all():  # each modality alone, in their order
            single = _product_of_one(mean, log_precision)
        else:
            members = subsets[singles].int().argmax(1).to(mean.device)
            single = _product_of_one(mean[members], log_precision[members])
        if not len(others):
            return single
        dense = _dense_product(mean, log_precision, subsets[others].to(mean.device))
        first, last = (int(singles[0]), int(singles[-1]) + 1) if len(singles) else (0, 0)
        if last - first == len(singles):  # side by side
            return tuple(torch.cat([d[:first], s, d[first:]]) for d, s in zip(dense, single, strict=True))  # type: ignore[return-value]
        order = torch.cat([others, singles]).argsort().to(mean.device)
        return (torch.cat([dense[0], single[0]])[order], torch.cat([dense[1], single[1]])[order])


def quotient_of_experts(
    mean: Tensor, log_variance: Tensor, subsets: Tensor, present: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    r"""The posteriors of all subsets of modalities at once, where each expert is itself a posterior (paper, Eq. 3).

    .. math:: q(z \mid X_s) \propto \frac{\prod_{i \in s} q(z \mid x_i)}{p(z)^{|s| - 1}}
              = \mathcal N\Big(\tfrac{\sum_{i \in s} T_i \mu_i}{T}, \tfrac 1 T\Big),
              \qquad T = 1 + \sum_{i \in s} (T_i - 1) .

    With every variance below the prior's 1, each summand is positive and T at least 1, however many experts there are:
    nothing is subtracted from their sum. One expert gives itself; the empty subset gives the prior.

    Args:
        mean: `[N, B, D]`, the experts' means.
        log_variance: `[N, B, D]`, the logarithms of their variances, at most 0; those below -120 count as -120.
        subsets: boolean, `[S, N]`.
        present: boolean `[B, N]`, as `product_of_experts` takes it.

    Returns:
        Mean and log variance of each posterior, each `[S, B, D]`; float32 or wider.
    """
    mean, log_variance = at_least_float32(mean), at_least_float32(log_variance).clamp_min(SMALLEST_LOG_VARIANCE)
    if present is not None:
        here = present.T.unsqueeze(-1)
        mean, log_variance = torch.where(here, mean, 0.0), torch.where(here, log_variance, 0.0)  # the prior itself
    with torch.autocast(mean.device.type, enabled=False):
        return _dense_product(mean, -log_variance, subsets.to(mean.device), -log_variance.expm1())


def first_expert(
    mean: Tensor, log_variance: Tensor, subsets: Tensor, present: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The first expert of each subset that a row has, the prior where it has none; else as `product_of_experts`."""
    mean, log_variance = at_least_float32(mean), at_least_float32(log_variance)
    member = subsets.to(mean.device).unsqueeze(1).expand(-1, mean.shape[1], -1)
    member = member if present is None else member & present
    first, row = member.int().argmax(-1), torch.arange(mean.shape[1], device=mean.device)
    some = member.any(-1, keepdim=True)
    return torch.where(some, mean[first, row], 0.0), torch.where(some, log_variance[first, row], 0.0)


def kl_between(mean: Tensor, log_variance: Tensor, other_mean: Tensor, other_log_variance: Tensor) -> Tensor:
    r"""KL divergence of one diagonal Gaussian from another in nats, summed over the last dimension.

    .. math:: \tfrac 1 2 \sum_d \Big(\frac{\sigma_d^2 + (\mu_d - \nu_d)^2}{\tau_d^2} - 1
              - \log \frac{\sigma_d^2}{\tau_d^2}\Big)

    All arguments are `[..., D]`, the others :math:`\nu` and :math:`\log \tau^2`; the result `[...]` is at least 0, to
    rounding.
    """
    mean, log_variance, other_mean, other_log_variance = map(
        at_least_float32, (mean, log_variance, other_mean, other_log_variance)
    )
    ratio = log_variance - other_log_variance
    distance = (mean - other_mean).square() * (-other_log_variance).exp()
    return 0.5 * (ratio.expm1() + distance - ratio).sum(-1)


def kl_to_prior(mean: Tensor, log_variance: Tensor) -> Tensor:
    r"""KL[N(mean, exp(log_variance)) || N(0, I)] in nats, summed over the last dimension (paper, Eqs. 1 and 2).

    .. math:: \tfrac 1 2 \sum_d \big(\sigma_d^2 + \mu_d^2 - 1 - \log \sigma_d^2\big)

    Both arguments are `[..., D]`; the result `[...]` is at least 0, to rounding.
    """
    return 0.5 * (log_variance.expm1() + mean.square() - log_variance).sum(-1)


def _product_of_one(mean: Tensor, log_precision: Tensor) -> tuple[Tensor, Tensor]:
    # T = 1 + T_i: the log variance is log sigmoid(-log T_i), the mean mu_i sigmoid(log T_i).
    return mean * torch.sigmoid(log_precision), logsigmoid(-log_precision)


def _dense_product(
    mean: Tensor, log_precision: Tensor, subsets: Tensor, excess: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    # `excess` is the part of its precision that an expert adds to the product's, all where None.
    # At most 40: exp(-40), the prior's, is no denormal, nor is exp(80), that of the sharpest expert, infinite.
    largest = log_precision.detach().amax(0).clamp(0.0, 40.0)  # the prior's log precision is 0
    precision = (log_precision - largest).exp()
    table = subsets.to(precision.dtype)
    added = precision if excess is None else excess * precision
    total = torch.einsum("sn,nbd->sbd", table, added) + (-largest).exp()  # the prior's
    return torch.einsum("sn,nbd->sbd", table, precision * mean) / total, -(total.log() + largest)


def at_least_float32(x: Tensor) -> Tensor:
    return x if x.dtype in (torch.float32, torch.float64) else x.float()
