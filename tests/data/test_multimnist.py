"""Canvases of none to four digits, and their strings."""

import numpy as np
import pytest
from PIL import Image

from mvae.data.multimnist import DIGITS as ALPHABET
from mvae.data.multimnist import FILL, LENGTH, Rules, make_rows
from mvae.files import DataError

GENERATOR = np.random.default_rng(0)
DIGITS = np.zeros((40, 28, 28), np.uint8)
DIGITS[:, 5:23, 5:23] = GENERATOR.integers(60, 255, (40, 18, 18))
LABELS = np.arange(40) % 10
PLACES = [(4, 4), (4, 23), (23, 4), (23, 23)]


def small(digit: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(digit).resize((21, 21), Image.Resampling.BILINEAR))


def test_the_canvas_holds_the_digits_of_the_string_at_their_places():
    made = make_rows(DIGITS, LABELS, Rules(), 0, range(60))
    for image, string in zip(made["image"][:, 0], made["text"], strict=True):
        text = ALPHABET.text(string)
        assert string[len(text) :].tolist() == [FILL] * (LENGTH - len(text))
        rest = image.astype(int)
        for (top, left), symbol in zip(PLACES, text, strict=False):
            corner = image[top : top + 19, left : left + 19]  # without the two pixels that neighbours share
            like = [digit for digit in DIGITS[int(symbol) == LABELS] if (corner >= small(digit)[:19, :19]).all()]
            assert like
            rest[top : top + 21, left : left + 21] = 0
        assert not rest.any()


def test_each_number_of_digits_is_as_frequent():
    made = make_rows(DIGITS, LABELS, Rules(fewest=1, most=3), 0, range(3000))
    counts = np.bincount((made["text"] != FILL).sum(1), minlength=5)
    assert counts[[0, 4]].tolist() == [0, 0]
    assert abs(counts[1:4] - 1000).max() < 5 * np.sqrt(3000 * 2 / 9)  # five standard deviations


def test_a_row_is_the_same_whichever_others_it_is_made_with_and_parts_and_seeds_differ():
    many, few = make_rows(DIGITS, LABELS, Rules(), 0, range(20)), make_rows(DIGITS, LABELS, Rules(), 0, range(7, 9))
    np.testing.assert_array_equal(many["image"][7:9], few["image"])
    np.testing.assert_array_equal(many["text"][7:9], few["text"])
    for rules, part in ((Rules(), 1), (Rules(seed=1), 0)):
        assert (make_rows(DIGITS, LABELS, rules, part, range(20))["text"] != many["text"]).any()


def test_digits_that_never_fit_together_are_an_error(monkeypatch):
    monkeypatch.setattr("mvae.data.multimnist.TRIES", 1000)
    bright = np.full((40, 28, 28), 200, np.uint8)
    with pytest.raises(DataError, match=r"row \d+: 1,000 choices of \d digits were all brighter than white together"):
        make_rows(bright, LABELS, Rules(fewest=2), 0, range(3))


def test_without_repeats_no_digit_comes_twice():
    made = make_rows(DIGITS, LABELS, Rules(fewest=4, repeats=False), 0, range(100))
    assert all(len(set(string.tolist())) == 4 for string in made["text"])
    assert any(len(set(s.tolist())) < 4 for s in make_rows(DIGITS, LABELS, Rules(fewest=4), 0, range(100))["text"])


def test_digits_anywhere_keep_to_the_canvas_and_below_white():
    made = make_rows(DIGITS, LABELS, Rules(fewest=2, most=2, anywhere=True), 0, range(50))
    centres = {tuple(np.argwhere(image[0] > 0).mean(0).round()) for image in made["image"]}
    assert len(centres) > 30
    assert made["image"].max() > 200
    drawn = GENERATOR.integers(0, 255, (40, 28, 28)).astype(np.uint8) // 2  # no two of these are too bright together
    whole = make_rows(drawn, LABELS, Rules(fewest=2, most=2, anywhere=True), 0, range(20))["image"].astype(int)
    alone = make_rows(drawn, LABELS, Rules(fewest=1, most=1, anywhere=True), 0, range(20))["image"].astype(int)
    assert whole.sum() > 1.5 * alone.sum()  # nothing of a digit wraps around or is lost


@pytest.mark.parametrize(
    "rules", [{"fewest": 3, "most": 2}, {"fewest": 5, "most": 5}, {"most": 5}, {"fewest": -1}, {"seed": -1}]
)
def test_impossible_rules_are_refused(rules):
    with pytest.raises(ValueError, match=r"expected (0 <= fewest <= most <= 4|a number of at least 0)"):
        Rules(**rules)


@pytest.mark.parametrize(("symbols", "text"), [([1, 7, 7, 11], "177"), ([11] * 4, ""), ([3, 0, 9, 5], "3095")])
def test_text(symbols, text):
    assert ALPHABET.text(np.array(symbols)) == text
