"""The usual way to write a training step, for comparison: every term runs its encoders and decoders again."""

from __future__ import annotations

import torch
from torch import Tensor

from mvae.batch import Batch
from mvae.models import MVAE
from mvae.subsets import draw_subsets

__all__ = ["reencoding_loss"]


def reencoding_loss(model: MVAE, batch: Batch, beta: float = 1.0, decode_all: bool = False) -> Tensor:
    """Minus the sum of the ELBO terms of Eq. 5 of complete rows, term by term, modality by modality.

    With `decode_all` each term decodes every modality, and uses what it is given, as one `forward` for all terms does.
    """
    modalities = model.modalities
    total = torch.zeros(())
    for subset in draw_subsets(len(model.names), model.random_subsets).tolist():
        names = [name for name, member in zip(model.names, subset, strict=True) if member]
        experts = [modalities[name].encoder(batch.values[name]) for name in names]
        precision = 1 + sum((-log_variance).exp() for _, log_variance in experts)
        mean = sum(mean * (-log_variance).exp() for mean, log_variance in experts) / precision
        z = mean + torch.randn_like(mean) / precision.sqrt()
        kl = 0.5 * (1 / precision + mean.square() - 1 + precision.log()).sum(-1)
        decoded = {name: modalities[name].decoder(z) for name in (model.names if decode_all else names)}
        for name in names:
            likelihood = decoded[name].log_prob(batch.values[name])
            total = total - modalities[name].weight * likelihood.mean()
        total = total + beta * kl.mean()
    return total
