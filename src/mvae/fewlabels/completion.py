"""Completing rows: a missing category is filled in with the model's own guess, and the row trained on as complete.

Not in the paper. A row with only x1 says nothing about p(x2 | z) by itself; completed, it asks for a boundary between
classes that passes where there are few rows. With guesses sharpened this is the classification EM algorithm (Celeux &
Govaert 1992) with one draw a step, and close to entropy minimisation (Grandvalet & Bengio 2004).
"""

from __future__ import annotations

import torch

from mvae.batch import Batch
from mvae.models import MultimodalVAE

__all__ = ["complete"]

DRAWS = 8


@torch.no_grad()
def complete(model: MultimodalVAE, batch: Batch, sharpness: float = 2.0) -> Batch | None:
    r"""The rows that have something but not every category, with the missing ones drawn; None where there are none.

    The class is drawn from :math:`\propto \big(\tfrac 1 K \sum_k p(y \mid z_k)\big)^{s}`, with z_k from
    q(z | what the row has), K = 8, by torch's global generator.

    Args:
        model: any model.
        batch: B rows.
        sharpness: s; 1 draws from the model's p(y | x), larger values lean to the most likely class.
    """
    modalities = model.modalities
    values, present = dict(batch.values), dict(batch.present)
    has_something = batch.presence(model.names).any(1)
    changed = torch.zeros_like(has_something)
    z = None
    for name in [n for n, modality in modalities.items() if modality.num_classes]:
        here = present.get(name, torch.zeros_like(has_something))
        missing = has_something & ~here
        if not missing.any():
            continue
        if z is None:
            z = model.q(batch).sample((DRAWS,))
        guess = modalities[name].decoder(z[:, missing]).probs.mean(0)
        drawn = torch.multinomial((guess / guess.amax(-1, keepdim=True)) ** sharpness, 1).squeeze(-1)
        old = values.get(name, torch.zeros(len(batch), dtype=torch.long, device=z.device))
        values[name], present[name] = old.masked_scatter(missing, drawn), missing | here
        changed |= missing
    return Batch(values, present)[changed] if changed.any() else None
