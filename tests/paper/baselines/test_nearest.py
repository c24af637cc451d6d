"""Translations by the nearest training pair, where the answer is known."""

import pytest

from paper.baselines.nearest import NearestPair


def test_the_nearest_pair_shares_rare_words():
    pairs = NearestPair().fit(["the cat sat", "the dog sat", "the the the"], ["mèo", "chó", "gì"])
    # The cat finds its own, the dog one of two alike, and what is like nothing there none.
    assert pairs.retrieval(["a cat", "a dog", "the the"], ["mèo", "chó", "chó"]) == pytest.approx((1 + 0.5 + 0) / 3)
    assert pairs.predict(["a dog", "The CAT", "the the"]) == ["chó", "mèo", "gì"]
    assert pairs.predict(["something else"]) == ["mèo"]  # like none of them
