"""How good translations are: BLEU and chrF, retrieval in the latent space, and the nearest pair to compare with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from mvae.batch import Batch
from mvae.models import MultimodalVAE
from mvae.optional import imported

__all__ = ["NearestPair", "posterior_means", "quality_of_texts", "retrieval"]

TEXTS_AT_ONCE = 200
"""Texts that are compared with all training texts at a time."""


def posterior_means(model: MultimodalVAE, rows: Batch) -> list[Tensor]:
    """The mean of q(z | what the rows have), `[B, D]`, in parts of 1,000 rows, where the model is."""
    return [model.posterior(rows[start : start + 1000]).mean for start in range(0, len(rows), 1000)]


@torch.no_grad()
def retrieval(model: MultimodalVAE, rows: Batch, source: str, target: str) -> float:
    """The share of rows whose z from one modality is nearest, among all rows, to that from the other modality.

    Nearness is the cosine between the means of q(z | source) and q(z | target). Chance is one over the number of rows.

    Raises:
        ValueError: if one of them is missing in a row.
    """
    if not rows.presence([source, target]).all():
        raise ValueError(f"retrieval needs rows that have both '{source}' and '{target}'")
    first, second = (
        normalize(torch.cat(posterior_means(model, rows.only([name]))).double().cpu(), dim=1)
        for name in (source, target)
    )
    return float(((first @ second.T).argmax(1) == torch.arange(len(rows))).double().mean())


class NearestPair:
    """Translates a text as the training text most like it, by the cosine of tf-idf: a baseline without a model."""

    def fit(self, texts: Sequence[str], translations: Sequence[str]) -> NearestPair:
        """Remember pairs of texts, words parted by spaces."""
        self._words = _weighted_words()
        self._known, self._translations = self._words.fit_transform(texts), list(translations)
        return self

    def predict(self, texts: Sequence[str]) -> list[str]:
        """The translation of the nearest training text, the first of several."""
        found: list[str] = []
        for start in range(0, len(texts), TEXTS_AT_ONCE):
            nearness = self._words.transform(texts[start : start + TEXTS_AT_ONCE]) @ self._known.T
            found += [self._translations[int(best)] for best in nearness.toarray().argmax(1)]
        return found

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


def _weighted_words() -> Any:
    """Counts of words, weighted by how rare they are and normalised."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    return TfidfVectorizer(tokenizer=str.split, token_pattern=None, lowercase=True)


def quality_of_texts(found: Sequence[str], truth: Sequence[str]) -> dict[str, float]:
    """BLEU (Papineni et al. 2002) and chrF (Popović 2015) of translations against one reference each, from 0 to 100.

    Both are written as people do, and scored by sacrebleu's default settings.

    Raises:
        ValueError: without sacrebleu, saying how to get it.
    """
    sacrebleu = imported("sacrebleu", "BLEU and chrF", "translation")
    return {
        "bleu": float(sacrebleu.corpus_bleu(list(found), [list(truth)]).score),
        "chrf": float(sacrebleu.corpus_chrf(list(found), [list(truth)]).score),
    }
