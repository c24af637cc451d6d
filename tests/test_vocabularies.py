"""Characters, words and pieces of words: what comes back is what was put in, and what does not fit is refused."""

import sys

import pytest
import torch

from forked import run_python
from mvae.vocabularies import GOES_ON, Alphabet, Vocabulary, learned_pieces

DIGITS = Alphabet("0123456789", end=11)


@pytest.mark.parametrize("text", ["", "7", "1773", "0000"])
def test_a_text_comes_back_from_its_symbols(text):
    assert DIGITS.text(DIGITS.symbols(text, 4)) == text
    assert DIGITS.symbols(text, 4).tolist() == [*map(int, text), *[11] * (4 - len(text))]


@pytest.mark.parametrize("text", ["17x", "12345", "-1", " 1"])
def test_a_text_that_is_none_is_refused_with_what_there_is(text):
    with pytest.raises(ValueError, match=f"expected up to 4 characters of '0123456789', got '{text}'"):
        DIGITS.symbols(text, 4)


def test_without_an_end_symbol_a_text_has_full_length():
    letters = Alphabet("ab")
    assert letters.text(letters.symbols("abba", 4)) == "abba"
    with pytest.raises(ValueError, match="expected 4 characters of 'ab', got 'ab'"):
        letters.symbols("ab", 4)


def test_a_symbol_that_is_no_character_is_shown_as_such():
    assert DIGITS.text(torch.tensor([1, 10, 2, 11])) == "1\N{REPLACEMENT CHARACTER}2"


def test_words_are_symbols_and_what_is_no_word_of_it_is_unknown():
    english = Vocabulary(("the", "cat", "sat"))
    symbols = english.symbols("the  dog sat", 5)
    assert symbols.tolist() == [0, 3, 2, 4, 4]
    assert english.text(symbols) == "the <unk> sat"
    assert english.strange("the dog sat") == ["dog"]
    assert english.text(english.symbols("", 2)) == ""
    with pytest.raises(ValueError, match="expected up to 2 words, got 3: 'the cat sat"):
        english.symbols("the cat sat", 2)


TEXTS = ["the cats sat", "the cat sits", "a cat and a ##dog", "dogs sit #"]


def pieces(*parts):
    """A vocabulary of pieces, of which those that begin with + go on with a word."""
    return Vocabulary(tuple(part.replace("+", GOES_ON) for part in parts), pieces=True)


def test_words_are_made_of_the_longest_pieces():
    english = pieces("cat", "+s", "s", "+at", "+it", "c", "+a")
    symbols = english.symbols("cats sits cat", 8)
    assert symbols.tolist() == [0, 1, 2, 4, 1, 0, 8, 8]
    assert english.text(symbols) == "cats sits cat"
    assert english.symbols("dog cat", 3).tolist() == [7, 0, 8]  # a word of which a piece is lacking is unknown
    assert english.strange("cats dog sits dot") == ["dog", "dot"]
    assert english.text(torch.tensor([1, 0, 8])) == "s cat"  # drawn: it goes on with nothing
    with pytest.raises(ValueError, match=r"up to 3 pieces of words, got 4: 'cat .s s .at"):
        english.symbols("cats sat", 3)


def test_a_text_is_cut_where_no_more_pieces_fit():
    english = pieces("cat", "+s", "s", "+at", "+it")
    assert english.cut("cats ☃ sits", 9) == ("cats ☃ sits", 0)
    for length, (kept, more) in enumerate([("cat", 5), ("cats", 4), ("cats ☃", 3), ("cats ☃ s", 2)], 1):
        assert english.cut("cats ☃ sits", length) == (kept, more)
        assert english.symbols(kept, length).tolist() == english.symbols("cats ☃ sits", 6)[:length].tolist()
    assert Vocabulary(("cats",)).cut("cats and dogs", 2) == ("cats and", 1)


def test_pieces_learned_of_texts_spell_each_of_them():
    few, more = (learned_pieces(TEXTS, count) for count in (1, 30))
    characters = {character for text in TEXTS for character in text if character != " "}
    assert set(few) == characters | {GOES_ON + character for character in characters}  # no fewer than these
    assert set(few) < set(more)
    assert len(more) == 30
    for found in (few, more):
        language = Vocabulary(found, pieces=True)
        for text in TEXTS:
            assert language.text(language.symbols(text, 20)) == text
            assert language.unknown not in language.symbols(text, 20)


def test_pieces_are_the_same_in_another_process():
    # The library counts in tables whose order changes from process to process.
    program = (
        "from mvae.vocabularies import learned_pieces;"
        "print(*map(ascii, learned_pieces([f'{i:b} {i:x} {i * i:o}' for i in range(300)], 120)))"
    )
    said = {run_python(program).stdout for _ in range(3)}
    assert len(said) == 1
    assert len(said.pop().split()) == 120


def test_without_the_package_pieces_say_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(ValueError, match=r"pip install 'mvae\[translation\]'"):
        pieces("a").symbols("a", 3)
