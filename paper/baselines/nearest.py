"""The nearest training pair: a translation without a model, and the one to beat."""

from __future__ import annotations

from collections.abc import Sequence

from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.metrics import pairwise_distances_argmin

__all__ = ["NearestPair"]


class NearestPair:
    """Translates a text as the training text most like it: the cosine of words weighted by how rare they are."""

    def fit(self, texts: Sequence[str], translations: Sequence[str]) -> NearestPair:
        """Remember pairs of texts, words parted by spaces."""
        self._words = _weighted_words()
        self._known, self._translations = self._words.fit_transform(texts), list(translations)
        return self

    def predict(self, texts: Sequence[str]) -> list[str]:
        """The translation of the nearest training text, the first of several."""
        nearest = pairwise_distances_argmin(self._words.transform(texts), self._known, metric="cosine")
        return [self._translations[best] for best in nearest]

    def retrieval(self, texts: Sequence[str], translations: Sequence[str]) -> float:
        """The share of texts whose prediction is nearest, by words, to their own translation among all translations.

        Of several nearest ones each counts its part; one that shares no word does not count.
        """
        words = _weighted_words()
        candidates = words.fit_transform([*translations, *self._translations])[: len(translations)]
        nearness = (words.transform(self.predict(texts)) @ candidates.T).toarray()
        best = nearness.max(1, keepdims=True)
        nearest = (nearness >= best) & (best > 0)
        return float((nearest.diagonal() / nearest.sum(1).clip(1)).mean())


def _weighted_words() -> TfidfVectorizer:
    """Counts of words, weighted by how rare they are and normalised."""
    return TfidfVectorizer(tokenizer=str.split, token_pattern=None, lowercase=True)
