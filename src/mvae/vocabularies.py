"""The characters, words or pieces of words that the symbols of a string are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import takewhile
from typing import Any

import torch
from torch import Tensor

from mvae.optional import imported

__all__ = ["GOES_ON", "UNKNOWN", "Alphabet", "Vocabulary", "learned_pieces"]

UNKNOWN = "<unk>"
GOES_ON = "\ue000"
"""The start of a piece inside a word: a character for private use, which no text should hold."""
LONGEST_WORD = 1000
"""Characters; a longer word is unknown."""


@dataclass(frozen=True)
class Alphabet:
    """The character of each symbol of a string.

    Example:
        >>> digits = Alphabet("0123456789", end=11)
        >>> digits.symbols("177", 4)
        tensor([ 1,  7,  7, 11])
        >>> digits.text(digits.symbols("177", 4))
        '177'
    """

    characters: str
    """Symbol i is the character at i."""
    end: int | None = None
    """The symbol that ends a string, which is no character."""

    def symbols(self, text: str, length: int) -> Tensor:
        """The symbols `[length]` of a text, int64, filled up with the end; a ValueError if it does not fit."""
        fits = len(text) <= length if self.end is not None else len(text) == length
        strange = next((character for character in text if character not in self.characters), None)
        if strange is not None or not fits:
            most = "up to " if self.end is not None else ""
            raise ValueError(f"expected {most}{length} characters of '{self.characters}', got '{text}'")
        symbols = [self.characters.index(character) for character in text]
        return torch.tensor(symbols + [self.end or 0] * (length - len(text)))

    def text(self, symbols: Tensor) -> str:
        """The text of symbols `[T]` up to the end symbol; a symbol without a character is U+FFFD."""
        known = dict(enumerate(self.characters))
        return "".join(known.get(symbol, "\N{REPLACEMENT CHARACTER}") for symbol in _before(symbols, self.end))


@dataclass(frozen=True)
class Vocabulary:
    """The word, or piece of a word, of each symbol of a sentence of words parted by spaces.

    Example:
        >>> english = Vocabulary(("the", "cat"))
        >>> english.symbols("the dog", 4)
        tensor([0, 2, 3, 3])
        >>> english.text(english.symbols("the dog", 4))
        'the <unk>'
    """

    words: tuple[str, ...]
    """Symbol i is the word at i."""
    pieces: bool = False
    """Whether words are made of these, the longest first (WordPiece, by the package `tokenizers`): a piece that begins
    with `GOES_ON` goes on with a word."""

    @property
    def unknown(self) -> int:
        """The symbol of all other words."""
        return len(self.words)

    @property
    def end(self) -> int:
        """The symbol that ends a sentence."""
        return len(self.words) + 1

    @property
    def num_symbols(self) -> int:
        return len(self.words) + 2

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {word: number for number, word in enumerate(self.words)}

    def symbols(self, text: str, length: int) -> Tensor:
        """The symbols `[length]` of a text, int64, filled up with the end symbol; a ValueError if it is longer."""
        parts = self._parts(text)
        if len(parts) > length:
            of = "pieces of words" if self.pieces else "words"
            raise ValueError(f"expected up to {length} {of}, got {len(parts)}: '{' '.join(parts[:5])} ...'")
        numbers = [self._numbers.get(part, self.unknown) for part in parts]
        return torch.tensor(numbers + [self.end] * (length - len(parts)))

    def cut(self, text: str, length: int) -> tuple[str, int]:
        """The start of a text that fits into `length` symbols, and the number of symbols cut off."""
        if self.pieces:
            places = self._tokenizer.encode(text).offsets
            return (text if len(places) <= length else text[: places[length - 1][1]]), max(0, len(places) - length)
        words = text.split()
        return " ".join(words[:length]), max(0, len(words) - length)

    def strange(self, text: str) -> list[str]:
        """The words of a text that are neither in it nor made of its pieces."""
        return [word for word in text.split() if any(part not in self._numbers for part in self._parts(word))]

    def text(self, symbols: Tensor) -> str:
        """The text of symbols `[T]` up to the end symbol, words parted by spaces."""
        parts = [self.words[symbol] if symbol < len(self.words) else UNKNOWN for symbol in _before(symbols, self.end)]
        text = " ".join(parts)
        return text.replace(f" {GOES_ON}", "").removeprefix(GOES_ON) if self.pieces else text

    def _parts(self, text: str) -> list[str]:
        """The words of a text, or their pieces, with `UNKNOWN` for a word that cannot be made of pieces."""
        if not self.pieces:
            return text.split()
        return [self.words[number] if number < self.unknown else UNKNOWN for number in self._tokenizer.encode(text).ids]

    @cached_property
    def _tokenizer(self) -> Any:
        return _tokenizer({**self._numbers, UNKNOWN: self.unknown})


def _before(symbols: Tensor, end: int | None) -> Iterator[int]:
    """The symbols before the first end symbol."""
    return takewhile(lambda symbol: symbol != end, symbols.tolist())


def _tokenizer(known: Mapping[str, int]) -> Any:
    tokenizers = imported("tokenizers", "pieces of words", "translation")
    model = tokenizers.models.WordPiece(
        known, unk_token=UNKNOWN, continuing_subword_prefix=GOES_ON, max_input_chars_per_word=LONGEST_WORD
    )
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    return tokenizer


def learned_pieces(texts: Sequence[str], count: int) -> tuple[str, ...]:
    """Pieces of words for a `Vocabulary`: all characters of the texts, and what often comes together.

    Args:
        texts: words parted by spaces.
        count: number of pieces; more where there are more characters, each at the start of a word and in it.
    """
    characters = sorted(character for character in set().union(*texts) if not character.isspace())
    # Named first, so that their numbers, by which the library decides between what is as frequent, are always the same.
    first = [UNKNOWN, *characters, *(GOES_ON + character for character in characters)]
    tokenizer, trainers = _tokenizer({}), imported("tokenizers.trainers", "pieces of words", "translation")
    trainer = trainers.WordPieceTrainer(
        vocab_size=count + 1, special_tokens=first, continuing_subword_prefix=GOES_ON, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    numbers = tokenizer.get_vocab()
    return tuple(piece for piece in sorted(numbers, key=numbers.__getitem__) if piece != UNKNOWN)
