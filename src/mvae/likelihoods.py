"""Likelihood heads, from a network's output to a torch Distribution over one observation.

A head is a module with `num_parameters`, and a `forward` from `[..., num_parameters]` to a distribution of batch shape
`[...]` whose event is one observation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, distributions, nn
from torch.distributions import Distribution, Independent, constraints

__all__ = ["Bernoulli", "Categorical", "Laplace", "Normal", "PixelCrossEntropy", "PixelCrossEntropyDistribution"]


class _Shaped(nn.Module):
    """A head over observations of a given shape, with one network output an element."""

    def __init__(self, shape: Sequence[int] = ()) -> None:
        super().__init__()
        self.shape = tuple(shape)
        self.num_parameters = math.prod(self.shape)

    def extra_repr(self) -> str:
        return f"shape={self.shape}"

    def _independent(self, elementwise: Distribution) -> Distribution:
        return Independent(elementwise, len(self.shape), validate_args=False)

    def _elements(self, parameters: Tensor) -> Tensor:
        return parameters.reshape(parameters.shape[:-1] + self.shape)


class Bernoulli(_Shaped):
    """Independent Bernoulli distributions over binary values in {0, 1}, from logits; `shape` of one observation."""

    def forward(self, parameters: Tensor) -> Distribution:
        return self._independent(distributions.Bernoulli(logits=self._elements(parameters), validate_args=False))


class PixelCrossEntropyDistribution(distributions.Bernoulli):
    r"""The paper's objective for grey pixels: :math:`\log p(x) = x \log \pi + (1 - x) \log(1 - \pi)`, x in [0, 1].

    For binary x this is the Bernoulli distribution. For grey x it is NOT a normalised density over [0, 1] (its
    integral is at most 1), so that its values compare with one another but not with those of a true density. `sample`
    draws binary pixels; `mean` is the grey image :math:`\pi`.

    Args:
        logits: logits of :math:`\pi`, of any shape.
    """

    support = constraints.unit_interval  # type: ignore[assignment]
    has_enumerate_support = False

    def __init__(self, logits: Tensor, validate_args: bool | None = None) -> None:
        super().__init__(logits=logits, validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> PixelCrossEntropyDistribution:
        return PixelCrossEntropyDistribution(self.logits.expand(batch_shape), validate_args=False)

    @property
    def mode(self) -> Tensor:
        return (self.logits > 0).to(self.logits.dtype)


class PixelCrossEntropy(_Shaped):
    """The paper's cross-entropy on grey pixels in [0, 1]: `PixelCrossEntropyDistribution`, not a normalised density."""

    def forward(self, parameters: Tensor) -> Distribution:
        return self._independent(PixelCrossEntropyDistribution(self._elements(parameters), validate_args=False))


class Categorical(nn.Module):
    """One of `num_classes` classes, the integers from 0 on, from logits; or several, independent given z.

    Args:
        num_classes: number of classes.
        shape: shape of one observation, `()` for one class, `(4,)` for a string of 4 symbols.
    """

    def __init__(self, num_classes: int, shape: Sequence[int] = ()) -> None:
        super().__init__()
        self.shape = tuple(shape)
        self.num_classes = num_classes
        self.num_parameters = num_classes * math.prod(self.shape)

    def extra_repr(self) -> str:
        return f"num_classes={self.num_classes}" + (f", shape={self.shape}" if self.shape else "")

    def forward(self, parameters: Tensor) -> Distribution:
        logits = parameters.reshape(*parameters.shape[:-1], *self.shape, self.num_classes)
        each = distributions.Categorical(logits=logits, validate_args=False)
        return distributions.Independent(each, len(self.shape), validate_args=False) if self.shape else each


class _LocationScale(_Shaped):
    """Independent elements with a location from the network.

    Args:
        shape: shape of one observation.
        scale: above 0, in the data's units; None learns one an element, the same for every z.
    """

    family: type[distributions.Normal] | type[distributions.Laplace]

    def __init__(self, shape: Sequence[int] = (), scale: float | None = 1.0) -> None:
        super().__init__(shape)
        if scale is not None and not scale > 0:
            raise ValueError(f"scale: expected a number above 0, or None to learn it, got {scale}")
        start = torch.full(self.shape, math.log(1.0 if scale is None else scale))
        if scale is None:
            self.log_scale = nn.Parameter(start)
        else:
            self.register_buffer("log_scale", start, persistent=False)

    def forward(self, parameters: Tensor) -> Distribution:
        location = self._elements(parameters)
        scale = self.log_scale.exp().expand_as(location)
        return self._independent(self.family(location, scale, validate_args=False))


class Normal(_LocationScale):
    """Independent normal distributions over real values of a `shape`.

    `scale` is the standard deviation, in the data's units; None learns one an element, the same for every z.
    """

    family = distributions.Normal


class Laplace(_LocationScale):
    """Independent Laplace distributions over real values of a `shape`.

    `scale` is in the data's units; None learns one an element, the same for every z.
    """

    family = distributions.Laplace
