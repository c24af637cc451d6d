"""Modalities, with their networks, and conditions: modalities that a model is given and does not model."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.nn.functional import one_hot

from mvae.batch import per_row
from mvae.records import RecordDistribution
from mvae.strings import Strings, ended, lengths
from mvae.vocabularies import Alphabet, Vocabulary

__all__ = ["Condition", "Decoder", "Modality", "Variable", "evaluating", "is_image_shape", "levels"]


LEVELS = 255
"""The byte of the level 1."""


def is_image_shape(shape: tuple[int, ...]) -> bool:
    """Whether observations of this shape are images: `(1 or 3, height, width)`."""
    return len(shape) == 3 and shape[0] in (1, 3)


def levels(values: Tensor) -> Tensor:
    """Bytes as numbers from 0 to 1 in steps of 1/255; anything else as it is."""
    return values / LEVELS if values.dtype == torch.uint8 else values


class Decoder(nn.Module):
    """A network followed by a likelihood head: z `[..., D]` to a Distribution of batch shape `[...]`.

    Args:
        network: module from `[..., D]` to `[..., likelihood.num_parameters]`.
        likelihood: a head of `mvae.likelihoods`.
    """

    def __init__(self, network: nn.Module, likelihood: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.likelihood = likelihood

    def forward(self, z: Tensor) -> Distribution:
        parameters = self.network(z)  # perhaps bfloat16, in which a sum over pixels would mean little
        return self.likelihood(parameters if parameters.dtype == torch.float64 else parameters.float())


class Variable(nn.Module):
    """A modality or a condition: the values that it may have."""

    shape: tuple[int, ...]
    """Shape of one observation."""
    num_symbols: int | None
    """Number of classes of each element; None where elements are no classes."""
    num_classes: int | None
    """The same, for a variable with one element; None for others."""
    binary: bool
    """Whether values are 0 and 1."""
    is_string: bool
    """Whether the likelihood is of strings."""
    is_record: bool
    """Whether elements may be missing: NaN."""
    alphabet: Alphabet | Vocabulary | None = None
    """The characters, or words, of the symbols, where they have any."""
    elements: tuple[str, ...] = ()
    """Names of the elements of a vector, for people."""

    @abstractmethod
    def _distribution(self) -> Distribution:
        """A distribution of this variable, of batch shape `(1,)`, for its shape and support."""

    def _look(self) -> Distribution:
        distribution = self._distribution()
        batch, self.shape = tuple(distribution.batch_shape), tuple(distribution.event_shape)
        if batch != (1,):
            raise ValueError(
                f"the decoder must give one distribution a row: for z of shape (1, D) expected batch shape (1,), got"
                f" {batch} with event shape {self.shape}"
            )
        base = _base(distribution)
        # A support whose bounds are numbers never changes: then checking a batch runs no network.
        support = _support(base)
        self._support = None if any(isinstance(bound, Tensor) for bound in vars(support).values()) else support
        self.binary = support is torch.distributions.constraints.boolean
        self.num_symbols = base.probs.shape[-1] if isinstance(base, torch.distributions.Categorical) else None
        self.is_string = isinstance(base, Strings)
        self.is_record = isinstance(base, RecordDistribution)
        self._end = base.end if isinstance(base, Strings) else None
        if isinstance(base, Strings):
            self.num_symbols = base.num_symbols
        self.num_classes = None if self.shape else self.num_symbols
        return distribution

    def check(
        self, name: str, values: Tensor, rows: Tensor | None = None, place: Callable[[int], str] = "row {}".format
    ) -> None:
        """Refuse values that this modality's likelihood cannot have produced.

        Args:
            name: of the modality, for the message.
            values: `[R, *shape]`, observed values only.
            rows: `[R]`, row numbers, for the message; counted from 0 where None.
            place: from a row number to the words of the message.

        Raises:
            ValueError: on a wrong shape or a value outside the likelihood's support, naming modality and row.
        """
        self.check_shape(name, values.shape[1:])
        if not len(values):
            return
        support = self._support or _support(_base(self._distribution()))
        if self._are_levels(values):
            if support.check(torch.arange(LEVELS + 1) / LEVELS).all():
                return  # without a look at the bytes, which may be gigabytes on disk
            values, name = values / LEVELS, f"{name} (bytes, of an image levels from 0 to 1)"
        inside = support.check(values)  # type: ignore[union-attr]  # one an element, or one a row
        finite = values.isfinite() | values.isnan() if self.is_record else values.isfinite()
        fits = per_row(inside, values) & finite
        good = fits.reshape(len(values), -1).all(1)
        if good.all():
            return
        first = int((~good).nonzero()[0])
        where = place(first if rows is None else int(rows[first]))
        value = values[first][~fits[first]].reshape(-1)[0].item()
        # Anew, since a copied model has copies of torch's constraints, which `_in_words` would not know.
        expected = _in_words(_support(_base(self._distribution())))
        raise ValueError(
            f"modality '{name}', {where}: {value:g} is outside the support of its likelihood, {expected};"
            f" {int((~good).sum())} of {len(values)} rows have such values"
        )

    def check_shape(self, name: str, shape: Sequence[int]) -> None:
        """Refuse observations of another shape with a ValueError."""
        if tuple(shape) != self.shape:
            raise ValueError(
                f"modality '{name}': expected rows of shape {self.shape}, got rows of shape {tuple(shape)}"
            )

    def as_read(self, values: Tensor) -> Tensor:
        """Values in the type that the networks read: whole numbers for classes, floating point for all else.

        Bytes of an image are levels from 0 to 1 in steps of 1/255. Symbols after the end of a string become the end.
        """
        if self.num_symbols is not None:
            return ended(values.long(), self._end)
        kind = next((p.dtype for p in self.parameters() if p.is_floating_point()), values.dtype)
        return values.to(kind) / LEVELS if self._are_levels(values) else values.to(kind)

    def lengths(self, values: Tensor) -> Tensor | None:
        """Lengths `[B]` of strings `[B, T]`; None where all have T symbols, or for other values."""
        return None if self._end is None else lengths(values, self._end)

    def _are_levels(self, values: Tensor) -> bool:
        return values.dtype == torch.uint8 and self.num_symbols is None and is_image_shape(self.shape)


class Condition(Variable):
    """A modality that a model is given and does not model (the CVAE's label).

    Args:
        likelihood: a head of `mvae.likelihoods`, for its support; nothing in it is learned.
    """

    def __init__(self, likelihood: nn.Module) -> None:
        super().__init__()
        self._head = likelihood.requires_grad_(False)
        self._look()
        self.width = (self.num_symbols or 1) * math.prod(self.shape)

    def features(self, values: Tensor) -> Tensor:
        """Values as numbers for a network, `[B, width]`: categories one-hot, anything else flattened."""
        numbers = one_hot(values, self.num_symbols).float() if self.num_symbols else values
        return numbers.reshape(len(values), self.width)

    def _distribution(self) -> Distribution:
        like = next(self._head.buffers(), torch.zeros(()))
        return self._head(like.new_zeros(1, int(self._head.num_parameters)))  # type: ignore[arg-type]


class Modality(Variable):
    """A modality with its networks.

    Args:
        encoder: module from observations `[B, ...]` to `(mean, log_variance)`, each `[B, D]`.
        decoder: module from z `[..., D]` to a `torch.distributions.Distribution` of batch shape `z.shape[:-1]` whose
            event is one observation.
        latent_dim: D.
        weight: lambda of Eq. 2, the weight of this modality's log-likelihood in training.
        condition_width: C, for a model with conditions: the encoder takes observations and `[B, C]`, the decoder
            `[..., D + C]`.

    Raises:
        ValueError: if the networks return something else (both are tried on one row), or the weight is negative.
    """

    def __init__(
        self, encoder: nn.Module, decoder: nn.Module, latent_dim: int, weight: float = 1.0, condition_width: int = 0
    ) -> None:
        super().__init__()
        if not weight >= 0:
            raise ValueError(f"weight: expected a number of at least 0, got {weight}")
        self.encoder, self.decoder, self.latent_dim, self.weight = encoder, decoder, latent_dim, weight
        self.condition_width = condition_width
        self.alphabet = getattr(decoder, "alphabet", None)
        first = next(self.parameters(), None)
        if first is not None and first.is_meta:  # an outline, of which only the parameters' shapes are asked
            self.shape = ()
        else:
            self._probe_encoder(self._look())

    @torch.no_grad()
    def _distribution(self) -> Distribution:
        """The distribution at z = 0, for its shape and support."""
        first = next(iter(self.decoder.parameters()), torch.zeros(()))
        z = torch.zeros(1, self.latent_dim + self.condition_width, device=first.device, dtype=first.dtype)
        with evaluating(self.decoder):
            distribution = self.decoder(z)
        if not isinstance(distribution, Distribution):
            kind = type(distribution).__name__
            raise ValueError(f"the decoder must return a torch.distributions.Distribution, got {kind}")
        return distribution

    @torch.no_grad()
    def _probe_encoder(self, distribution: Distribution) -> None:
        with torch.random.fork_rng(devices=[]), evaluating(self.encoder):
            sample = distribution.sample()
            condition = [sample.new_zeros(1, self.condition_width)] if self.condition_width else []
            expert = self.encoder(sample, *condition)
        shapes = [tuple(part.shape) for part in expert] if isinstance(expert, tuple | list | Tensor) else [type(expert)]
        if shapes != [(1, self.latent_dim)] * 2:
            expected = f"(mean, log_variance), each of shape (rows, {self.latent_dim})"
            raise ValueError(f"the encoder must give {expected}; for one row got {', '.join(map(str, shapes))}")


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Run a module in evaluation mode and leave every part of it as it was."""
    training = [part for part in module.modules() if part.training]
    module.eval()
    try:
        yield
    finally:
        for part in training:
            part.training = True


def _base(distribution: Distribution) -> Distribution:
    while isinstance(distribution, torch.distributions.Independent):
        distribution = distribution.base_dist
    return distribution


def _support(distribution: Distribution) -> torch.distributions.constraints.Constraint:
    """The support of one element of an observation."""
    support = distribution.support
    assert support is not None
    return getattr(support, "base_constraint", support)


def _in_words(support: object) -> str:
    constraints = torch.distributions.constraints
    simple = {
        constraints.boolean: "{0, 1}",
        constraints.unit_interval: "[0, 1]",
        constraints.real: "finite real numbers",
    }
    if support in simple:
        return simple[support]  # type: ignore[index]
    bounds: list[Any] = [getattr(support, f"{end}_bound", None) for end in ("lower", "upper")]
    return f"{support}" if None in bounds else f"the integers from {int(bounds[0])} to {int(bounds[1])}"
