"""How good translations are: BLEU and chrF, and retrieval in the latent space."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import normalize

from mvae.batch import Batch
from mvae.models import MultimodalVAE
from mvae.optional import imported

__all__ = ["posterior_means", "quality_of_texts", "retrieval"]


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
