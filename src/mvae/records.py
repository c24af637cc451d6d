"""Records: several numbers, counts and categories in one observation, any of which may be missing (NaN).

A group of a table's columns is such a modality. The likelihood of a record is that of its observed elements.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.distributions import Categorical, Distribution, Laplace, NegativeBinomial, Normal, Poisson, constraints

__all__ = ["Element", "RecordDistribution", "Records"]

LARGEST_LOG_MEAN = 30.0
SMALLEST_LOG_SCALE = -5.0
"""Bounds the scale of a standardised column: that of one which others determine exactly would fall to 0."""

Family = Literal["normal", "laplace", "categorical", "poisson", "negative-binomial"]


@dataclass(frozen=True)
class Element:
    """One element of a record."""

    family: Family
    num_classes: int | None = None
    """Number of classes of a categorical element, whose values are the integers from 0 on."""
    centre: float = 0.0
    """For a count the mean of log(1 + x), by which networks read and give it standardised."""
    spread: float = 1.0
    """For a count the standard deviation of log(1 + x)."""

    @property
    def num_parameters(self) -> int:
        """The number of a network's outputs for this element."""
        return self.num_classes or 1


class RecordDistribution(Distribution):
    """Independent elements of several families. Elements that are NaN in a value are left out of its `log_prob`.

    Args:
        families: numbers of the elements of each family, and their distribution, of batch shape `[..., m]`.
        num_elements: n; events have the shape `(n,)`.
        support: of the elements.
    """

    arg_constraints = {}  # noqa: RUF012
    has_rsample = False

    def __init__(
        self, families: Sequence[tuple[Tensor, Distribution]], num_elements: int, support: constraints.Constraint
    ) -> None:
        self.families, self._support = families, support
        super().__init__(families[0][1].batch_shape[:-1], torch.Size([num_elements]), validate_args=False)

    @property
    def support(self) -> constraints.Constraint:
        return self._support

    def log_prob(self, value: Tensor) -> Tensor:
        total = None
        for places, distribution in self.families:
            part = value[..., places]
            missing = part.isnan()
            scores = torch.where(missing, 0.0, distribution.log_prob(torch.where(missing, 0.0, part))).sum(-1)
            total = scores if total is None else total + scores
        assert total is not None
        return total

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        return self._gathered([part.sample(torch.Size(sample_shape)) for _, part in self.families])

    @property
    def mean(self) -> Tensor:
        """`[..., n]`; the likeliest class of a category."""
        return self._gathered([d.mode if isinstance(d, Categorical) else d.mean for _, d in self.families])

    @property
    def variance(self) -> Tensor:
        """`[..., n]`; for a category the probability of all classes but the likeliest."""
        return self._gathered(
            [1 - d.probs.amax(-1) if isinstance(d, Categorical) else d.variance for _, d in self.families]
        )

    def probabilities(self, element: int) -> Tensor:
        """The probabilities `[..., C]` of the classes of a categorical element."""
        for places, distribution in self.families:
            found = (places == element).nonzero().flatten()
            if len(found) and isinstance(distribution, Categorical):
                return distribution.probs[..., int(found), :]
        raise ValueError(f"element {element} is not categorical")

    def _gathered(self, parts: Sequence[Tensor]) -> Tensor:
        order = torch.cat([places for places, _ in self.families]).argsort()
        dtype = next((part.dtype for part in parts if part.is_floating_point()), torch.get_default_dtype())
        return torch.cat([part.to(dtype) for part in parts], -1)[..., order]


class _Supports(constraints.Constraint):
    """The support of each element; NaN is a missing one."""

    def __init__(self, elements: Sequence[Element]) -> None:
        self.elements = tuple(elements)

    def check(self, value: Tensor) -> Tensor:
        inside = torch.ones_like(value, dtype=torch.bool)
        for number, element in enumerate(self.elements):
            part = value[..., number]
            if element.family not in ("normal", "laplace"):
                inside[..., number] = (part >= 0) & (part == part.floor()) & (part < (element.num_classes or torch.inf))
        return inside | value.isnan()

    def __repr__(self) -> str:
        return "that of each element: a number, a count, or one of its classes"


def _of_family(elements: Sequence[Element]) -> Iterator[tuple[Family, list[int]]]:
    """Each family among the elements, with the numbers of its elements."""
    for family in get_args(Family):
        places = [number for number, element in enumerate(elements) if element.family == family]
        if places:
            yield family, places


class Records(nn.Module):
    """The likelihood of records: a head like those of `mvae.likelihoods`, of at least one element.

    Normal and Laplace elements have a learned scale each, negative binomial ones a learned dispersion, the same for
    every z.

    Example:
        >>> head = Records([Element("normal"), Element("categorical", 3)])
        >>> head(torch.zeros(2, head.num_parameters)).log_prob(torch.tensor([[0.0, 2.0], [float("nan"), 2.0]]))
        tensor([-2.0176, -1.0986], grad_fn=<AddBackward0>)
    """

    lacking: Tensor

    def __init__(self, elements: Sequence[Element]) -> None:
        super().__init__()
        self.elements = tuple(elements)
        self.num_parameters = sum(element.num_parameters for element in elements)
        self.families = [family for family, _ in _of_family(elements)]
        starts = torch.tensor([0, *(element.num_parameters for element in elements)]).cumsum(0)
        most = max(element.num_parameters for element in elements)
        for family, places in _of_family(elements):
            self.register_buffer(f"places_{family}", torch.tensor(places), persistent=False)
            index = starts[places].unsqueeze(1)
            if family == "categorical":  # classes beyond an element's are its first one again, then masked
                sizes = torch.tensor([[elements[place].num_parameters] for place in places])
                classes = torch.arange(most).expand(len(places), -1)
                self.register_buffer("lacking", classes >= sizes, persistent=False)
                index = index + torch.where(classes < sizes, classes, 0)
            self.register_buffer(f"index_{family}", index, persistent=False)
            if family in ("normal", "laplace", "negative-binomial"):
                setattr(self, _own(family), nn.Parameter(torch.zeros(len(places))))
            if family in ("poisson", "negative-binomial"):
                for name in ("centre", "spread"):
                    numbers = torch.tensor([getattr(elements[place], name) for place in places])
                    self.register_buffer(f"{name}_{family}", numbers, persistent=False)
        self._support = _Supports(elements)

    def extra_repr(self) -> str:
        return f"elements={self.elements}"

    def forward(self, parameters: Tensor) -> Distribution:
        families = []
        for family in self.families:
            taken = parameters[..., getattr(self, f"index_{family}")]
            families.append((getattr(self, f"places_{family}"), self._distribution(family, taken)))
        return RecordDistribution(families, len(self.elements), self._support)

    def _distribution(self, family: Family, taken: Tensor) -> Distribution:
        if family == "categorical":
            logits = taken.masked_fill(self.lacking, torch.finfo(taken.dtype).min)
            return Categorical(logits=logits, validate_args=False)
        values = taken.squeeze(-1)
        if family in ("normal", "laplace"):
            scale = getattr(self, _own(family)).clamp_min(SMALLEST_LOG_SCALE).exp().expand_as(values)
            return (Normal if family == "normal" else Laplace)(values, scale, validate_args=False)
        centre, spread = (getattr(self, f"{name}_{family}") for name in ("centre", "spread"))
        log_mean = (centre + spread * values).clamp(-LARGEST_LOG_MEAN, LARGEST_LOG_MEAN)
        if family == "poisson":
            return Poisson(log_mean.exp(), validate_args=False)
        log_count = getattr(self, _own(family)).clamp(-LARGEST_LOG_MEAN, LARGEST_LOG_MEAN).expand_as(values)
        return NegativeBinomial(log_count.exp(), logits=log_mean - log_count, validate_args=False)


def _own(family: str) -> str:
    """The name of a family's learned parameter."""
    return "log_count" if family == "negative-binomial" else f"log_scale_{family}"
