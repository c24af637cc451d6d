"""Strings of symbols given z, whose probability is a product over their symbols, in order.

A string has at most T symbols. With an end symbol it ends at its first one, and symbols after it are not read; one
without any is cut off at T. Without an end symbol every string has T symbols. All probabilities sum to 1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Size, Tensor, nn
from torch.distributions import Categorical, Distribution, constraints
from torch.nn.functional import pad

from mvae.vocabularies import Alphabet, Vocabulary

__all__ = ["SequenceDecoder", "Strings", "SymbolNetwork", "counted", "ended", "lengths"]


def ended(symbols: Tensor, end: int | None) -> Tensor:
    """Strings `[..., T]` with the end symbol in all places after the first one.

    Example:
        >>> ended(torch.tensor([[1, 2, 9, 4], [1, 2, 3, 4]]), end=9)
        tensor([[1, 2, 9, 9],
                [1, 2, 3, 4]])
    """
    return symbols if end is None else torch.where((symbols == end).cumsum(-1) > 0, end, symbols)


def counted(symbols: Tensor, end: int | None) -> Tensor:
    """A mask of the symbols of strings `[..., T]` up to the first end symbol, and it.

    Example:
        >>> counted(torch.tensor([[1, 2, 9, 9], [1, 2, 3, 4]]), end=9)
        tensor([[ True,  True,  True, False],
                [ True,  True,  True,  True]])
    """
    if end is None:
        return torch.ones_like(symbols, dtype=torch.bool)
    ends = symbols == end
    return ends.cumsum(-1) - ends.long() == 0


def lengths(symbols: Tensor, end: int | None) -> Tensor:
    """The number of symbols of each string `[..., T]`, with the end symbol."""
    return counted(symbols, end).sum(-1)


class SymbolNetwork(Protocol):
    """A network for strings of V symbols. Symbol V is the start, and is in place of hidden symbols."""

    def __call__(self, previous: Tensor, z: Tensor) -> Tensor:
        """Logits `[R, T, V]` of each symbol given those before it, `previous` `[R, T]`, and z `[R, D]`."""

    def start(self, z: Tensor) -> Tensor:
        """The state before the first symbol, `[R, ...]`."""

    def step(self, previous: Tensor, z: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Logits `[R, V]` of the next symbol given the last one `[R]`, and the state after it."""


class Strings(Distribution):
    """Strings of up to T symbols, each row's given its z `[..., D]`, whose leading dimensions are the batch shape.

    Arguments are those of `SequenceDecoder`. In training, `log_prob` hides symbols from those after them with the
    probability `word_dropout` (Bowman et al. 2016), anew at each call, and adds `bag(z)` `[R, V]` at each symbol; the
    result is then no log-probability.
    """

    arg_constraints: dict[str, constraints.Constraint] = {}  # noqa: RUF012
    has_enumerate_support = False

    def __init__(
        self,
        network: SymbolNetwork,
        z: Tensor,
        length: int,
        num_symbols: int,
        end: int | None = None,
        word_dropout: float = 0.0,
        bag: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        super().__init__(z.shape[:-1], Size([length]), validate_args=False)
        self.network, self.z, self.length, self.num_symbols = network, z, length, num_symbols
        self.end, self.word_dropout, self.bag = end, word_dropout, bag

    @property
    def support(self) -> constraints.Constraint:
        """The integers from 0 to V - 1."""
        return constraints.independent(constraints.integer_interval(0, self.num_symbols - 1), 1)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Strings:
        z = self.z.expand(*batch_shape, self.z.shape[-1])
        return Strings(self.network, z, self.length, self.num_symbols, self.end, self.word_dropout, self.bag)

    def log_prob(self, value: Tensor) -> Tensor:
        """The log-probability of strings `[..., T']`, in nats; T' is at most T, and less only where all have ended."""
        shape = torch.broadcast_shapes(value.shape[:-1], self.batch_shape)
        if value.numel():  # no step where every string is over
            value = value[..., : int(lengths(value, self.end).max())]
        symbols = value.expand(*shape, -1).reshape(-1, value.shape[-1])
        z = self.z.expand(*shape, -1).reshape(-1, self.z.shape[-1])
        previous = torch.cat([symbols.new_full((len(symbols), 1), self.num_symbols), symbols[:, :-1]], 1)
        if self.word_dropout:
            hidden = torch.rand(previous.shape, device=previous.device) < self.word_dropout
            previous = torch.where(hidden, self.num_symbols, previous)
        each = self.network(previous, z).float().log_softmax(-1).gather(-1, symbols.unsqueeze(-1)).squeeze(-1)
        if self.bag is not None:
            each = each + self.bag(z).gather(-1, symbols)
        return torch.where(counted(symbols, self.end), each, 0.0).sum(1).reshape(shape)

    @torch.no_grad()
    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Strings `[*sample_shape, *batch, T]`, filled up with the end symbol."""
        z = self.z.expand(*sample_shape, *self.z.shape)
        drawn = self._written(z.reshape(1, -1, z.shape[-1]), lambda logits: Categorical(logits=logits).sample())
        return drawn.reshape(*z.shape[:-1], self.length)

    @property
    def mode(self) -> Tensor:
        """The likeliest next symbol each time, `[*batch, T]`; not always the likeliest string (see `beam`)."""
        return Strings.mixture_mode(self.expand(Size([1]) + self.batch_shape))

    @torch.no_grad()
    def beam(self, width: int) -> Tensor:
        """The best of `width` strings that are grown side by side, `[*batch, T]`; `mode` at a width of 1."""
        if width < 1:
            raise ValueError(f"width: expected at least 1, got {width}")
        z = self.z.reshape(-1, self.z.shape[-1])
        rows, count = len(z), self.num_symbols
        z = z.repeat_interleave(width, 0)  # [rows * width, D]
        state = self.network.start(z)
        previous = torch.full((rows * width,), count, device=z.device)
        strings = previous.new_zeros(rows * width, 0)
        scores = z.new_full((rows, width), -torch.inf, dtype=torch.float32)
        scores[:, 0] = 0.0  # all start alike: count one
        over = torch.zeros(rows * width, dtype=torch.bool, device=z.device)
        for _ in range(self.length):
            logits, state = self.network.step(previous, z, state)
            each = logits.float().log_softmax(-1)
            if self.end is not None:  # a string that is over goes on with the end symbol, at no cost
                each[over] = -torch.inf
                each[over, self.end] = 0.0
            total = (scores.reshape(-1, 1) + each).reshape(rows, width * count)
            scores, best = total.topk(width, 1)
            origin = (best // count + width * torch.arange(rows, device=z.device).unsqueeze(1)).flatten()
            previous = (best % count).flatten()
            strings = torch.cat([strings[origin], previous.unsqueeze(1)], 1)
            state, over = state[origin], over[origin]
            if self.end is not None:
                over = over | (previous == self.end)
                if over[::width].all():  # what goes on can only get less probable
                    break
        return self._filled(strings[::width]).reshape(*self.batch_shape, self.length)  # topk puts the best first

    @torch.no_grad()
    def mixture_mode(self) -> Tensor:
        """The likeliest next symbol each time under the equal mixture over the first batch dimension, `[*rest, T]`.

        With z drawn from q(z | x) along it, this writes by p(text | x) in place of p(text | z).
        """
        z = self.z.reshape(self.batch_shape[0], -1, self.z.shape[-1])
        return self._written(z, lambda scores: scores.argmax(-1)).reshape(*self.batch_shape[1:], self.length)

    @torch.no_grad()
    def _written(self, z: Tensor, choose: Callable[[Tensor], Tensor]) -> Tensor:
        """Strings `[R, T]`, each next symbol chosen from its log-probabilities under the equal mixture over K z.

        Args:
            z: `[K, R, D]`.
            choose: from log-probabilities `[R, V]`, up to a constant, to symbols `[R]`.
        """
        count, rows = z.shape[:2]
        z = z.reshape(count * rows, -1)
        state, previous = self.network.start(z), torch.full((len(z),), self.num_symbols, device=z.device)
        weights = z.new_zeros(count, rows, dtype=torch.float32)  # log-probability of what is written
        over = torch.zeros(rows, dtype=torch.bool, device=z.device)
        symbols = []
        for _ in range(self.length):
            logits, state = self.network.step(previous, z, state)
            each = logits.float().log_softmax(-1).reshape(count, rows, -1)
            symbol = choose((weights.unsqueeze(-1) + each).logsumexp(0))
            if self.end is not None:
                symbol = torch.where(over, self.end, symbol)
                over = over | (symbol == self.end)
            symbols.append(symbol)
            if self.end is not None and over.all():
                break
            weights = weights + each.gather(-1, symbol.expand(count, rows).unsqueeze(-1)).squeeze(-1)
            previous = symbol.repeat(count)
        return self._filled(torch.stack(symbols, 1))

    def _filled(self, strings: Tensor) -> Tensor:
        """Strings `[R, T']` filled up with the end symbol to `[R, T]`."""
        rest = self.length - strings.shape[1]
        return strings if self.end is None else pad(strings, (0, rest), value=self.end)


class SequenceDecoder(nn.Module):
    """The decoder of a modality of strings: z `[..., D]` to `Strings`.

    Args:
        network: a `SymbolNetwork`.
        length: T, the longest string.
        num_symbols: V.
        end: the symbol that ends a string; None where all have T symbols.
        word_dropout: in training, the probability that a symbol is hidden from those after it; below 1.
        alphabet: the characters or words of the symbols.
        bag: a network from z to logits of the V symbols, for the bag-of-words loss (Zhao et al. 2017): in training each
            symbol is predicted from z alone too. None for no such loss.
        bag_weight: weight of that loss.

    Raises:
        ValueError: on an option out of range, or an alphabet that does not fit.
    """

    def __init__(
        self,
        network: nn.Module,
        length: int,
        num_symbols: int,
        end: int | None = None,
        word_dropout: float = 0.0,
        alphabet: Alphabet | Vocabulary | None = None,
        bag: nn.Module | None = None,
        bag_weight: float = 1.0,
    ) -> None:
        super().__init__()
        if end is not None and not 0 <= end < num_symbols:
            raise ValueError(f"end: expected a symbol from 0 to {num_symbols - 1}, got {end}")
        if not 0 <= word_dropout < 1:
            raise ValueError(f"word_dropout: expected a number from 0 to below 1, got {word_dropout}")
        if not bag_weight >= 0:
            raise ValueError(f"bag_weight: expected a number of at least 0, got {bag_weight}")
        _check_alphabet(alphabet, num_symbols, end)
        self.network, self.length, self.num_symbols = network, length, num_symbols
        self.end, self.word_dropout, self.alphabet = end, word_dropout, alphabet
        self.bag, self.bag_weight = bag, bag_weight

    def forward(self, z: Tensor) -> Strings:
        hidden = self.word_dropout if self.training else 0.0
        bag = self._of_bag if self.training and self.bag is not None else None
        return Strings(self.network, z, self.length, self.num_symbols, self.end, hidden, bag)  # type: ignore[arg-type]

    def _of_bag(self, z: Tensor) -> Tensor:
        return self.bag_weight * self.bag(z).float().log_softmax(-1)  # type: ignore[misc]


def _check_alphabet(alphabet: Alphabet | Vocabulary | None, num_symbols: int, end: int | None) -> None:
    if isinstance(alphabet, Alphabet):
        characters, most = alphabet.characters, num_symbols if end is None else end
        if len(set(characters)) != len(characters):
            raise ValueError(f"characters: expected each once, got '{characters}'")
        if len(characters) > most:
            raise ValueError(f"characters: expected at most {most}, for the symbols before the end, got '{characters}'")
    if isinstance(alphabet, Vocabulary):
        if len(set(alphabet.words)) != len(alphabet.words):
            raise ValueError("words: expected each once")
        if (alphabet.num_symbols, alphabet.end) != (num_symbols, end):
            raise ValueError(
                f"words: {len(alphabet.words)} of them, an unknown and the end are {alphabet.num_symbols} symbols,"
                f" the last of which is the end; got {num_symbols} and {end}"
            )
