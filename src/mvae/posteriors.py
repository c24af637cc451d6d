"""Posteriors: a diagonal Gaussian, or a mixture of them."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints

from mvae.experts import kl_between, kl_to_prior

__all__ = ["Gaussian", "Mixture", "Posterior", "kl", "log_prior"]

GOLDEN = (math.sqrt(5) - 1) / 2
"""Its multiples, modulo 1, fill [0, 1) evenly, however many are taken."""


def log_prior(z: Tensor) -> Tensor:
    """log p(z) of N(0, I) in nats: `[..., D]` to `[...]`."""
    return -0.5 * (z.square() + math.log(2 * math.pi)).sum(-1)


class Gaussian(Distribution):
    """N(mean, diag exp(log_variance)) over z, both `[*batch, D]`."""

    arg_constraints: ClassVar[dict[str, Any]] = {}
    support = constraints.real_vector
    has_rsample = True

    def __init__(self, mean: Tensor, log_variance: Tensor) -> None:
        super().__init__(mean.shape[:-1], mean.shape[-1:], validate_args=False)
        self._mean, self.log_variance = mean, log_variance

    def __getitem__(self, index: Any) -> Gaussian:
        return Gaussian(self._mean[index], self.log_variance[index])

    @property
    def mean(self) -> Tensor:
        return self._mean

    @property
    def variance(self) -> Tensor:
        return self.log_variance.exp()

    @property
    def stddev(self) -> Tensor:
        return (0.5 * self.log_variance).exp()

    def log_prob(self, value: Tensor) -> Tensor:
        """In nats, summed over D."""
        log_variance = self.log_variance.to(value.dtype)
        scaled = (value - self._mean) * (-0.5 * log_variance).exp()
        return log_prior(scaled) - 0.5 * log_variance.sum(-1)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        noise = torch.randn(self._extended_shape(sample_shape), dtype=self._mean.dtype, device=self._mean.device)
        return self.placed(noise)

    def placed(self, noise: Tensor, offset: Tensor | None = None) -> Tensor:
        """Draws of z, `[n, *batch, D]`, from standard normal noise of that shape; `offset` is for mixtures."""
        return self._mean + self.stddev * noise

    def draws(self, noise: Tensor, offset: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Draws as `placed`, and log q(z) in nats, `[n, *batch]`, float64, from the noise, since z is rounded."""
        return self.placed(noise), log_prior(noise.double()) - self.stddev.double().log().sum(-1)

    def strata(self) -> tuple[Gaussian, None]:
        """Gaussians of which an estimate has one draw each, and their weights (None for 1)."""
        return self, None

    def divergences(self, z: Tensor) -> Tensor:
        """KL from N(0, I), `[*batch]`, in nats; exact, whatever z is."""
        return kl_to_prior(self._mean, self.log_variance)


class Mixture(Distribution):
    """K Gaussians with weights, drawn stratified: of n draws each component has its share, to within about one.

    Args:
        components: batch shape `[K, *batch]`.
        log_weights: `[K, *batch]`, up to a constant; -inf for a component left out.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}
    support = constraints.real_vector

    def __init__(self, components: Gaussian, log_weights: Tensor) -> None:
        super().__init__(components.batch_shape[1:], components.event_shape, validate_args=False)
        self.components, self.log_weights = components, log_weights.log_softmax(0)

    def __getitem__(self, index: Any) -> Mixture:
        index = (slice(None), *(index if isinstance(index, tuple) else (index,)))
        return Mixture(self.components[index], self.log_weights[index])

    @property
    def mean(self) -> Tensor:
        return (self.log_weights.exp().unsqueeze(-1) * self.components.mean).sum(0)

    @property
    def variance(self) -> Tensor:
        around = self.components.variance + (self.components.mean - self.mean).square()
        return (self.log_weights.exp().unsqueeze(-1) * around).sum(0)

    @property
    def log_variance(self) -> Tensor:
        """The logarithm of the variance, `[*batch, D]`."""
        return self.variance.log()

    def log_prob(self, value: Tensor) -> Tensor:
        """In nats: the logarithm of the weighted sum of densities."""
        parts = [self.components[k].log_prob(value) + weight for k, weight in enumerate(self.log_weights)]
        return torch.stack(parts).logsumexp(0)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        shape, like = self._extended_shape(sample_shape), self.components.mean
        count = math.prod(sample_shape)
        noise = torch.randn(count, *self.batch_shape, *self.event_shape, dtype=like.dtype, device=like.device)
        return self.placed(noise).reshape(shape)

    def placed(self, noise: Tensor, offset: Tensor | None = None) -> Tensor:
        """Draws of z from standard normal noise, both `[n, *batch, D]`; `offset` `[*batch]` chooses the components.

        It lies in [0, 1), at random where None.
        """
        if offset is None:
            offset = torch.rand(self.batch_shape, device=noise.device)
        steps = GOLDEN * torch.arange(len(noise), dtype=torch.float64, device=noise.device)
        turn = (offset.double() + steps.reshape(-1, *(1,) * len(self.batch_shape))) % 1  # [n, *batch]
        ends = self.log_weights.double().exp().cumsum(0)
        number = (turn.unsqueeze(0) >= (ends / ends[-1]).unsqueeze(1)).sum(0).unsqueeze(-1)
        parts = self.components.mean, self.components.stddev
        mean, deviation = (part.gather(0, number.expand(-1, *part.shape[1:])) for part in parts)
        return mean + deviation * noise

    def draws(self, noise: Tensor, offset: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Draws as `placed`, and log q(z) in nats, `[n, *batch]`, float64."""
        z = self.placed(noise, offset)
        return z, self.log_prob(z.double())

    def strata(self) -> tuple[Gaussian, Tensor]:
        """For a mixture of batch shape `[S, B]` its components as one Gaussian of `[K S, B]`, and their weights."""
        mean, log_variance = self.components.mean, self.components.log_variance
        return Gaussian(mean.flatten(0, 1), log_variance.flatten(0, 1)), self.log_weights.exp().flatten(0, 1)

    def divergences(self, z: Tensor) -> Tensor:
        """log q(z) - log p(z) in nats at a draw of each of the strata, `[K S, B]`; weighted they sum to KL[q, p(z)]."""
        z = z.unflatten(0, (-1, self.batch_shape[0]))
        return (self.log_prob(z) - log_prior(z)).flatten(0, 1)


Posterior = Gaussian | Mixture
"""The type of `MultimodalVAE.posteriors`."""


def kl(p: Posterior, q: Posterior | None = None) -> Tensor:
    """KL[p, q] in nats, `[*batch]`: exact for two Gaussians, else estimated from one draw of each component of p.

    Args:
        p: a posterior.
        q: another; the prior N(0, I) where None.
    """
    if isinstance(p, Gaussian):
        if q is None:
            return kl_to_prior(p.mean, p.log_variance)
        if isinstance(q, Gaussian):
            return kl_between(p.mean, p.log_variance, q.mean, q.log_variance)
        p = Mixture(p[None], torch.zeros_like(p.mean[None, ..., 0]))
    z = p.components.rsample()
    return (p.log_weights.exp() * (p.log_prob(z) - (log_prior(z) if q is None else q.log_prob(z)))).sum(0)
