"""Smoothness: small changes of its input should not change the guess of a category.

Not in the paper. Virtual adversarial training (Miyato, Maeda, Koyama & Ishii 2018): for each row, labelled or not, the
small change of the input that changes the model's guess most is found, and the change of the guess is penalised.
A boundary between classes then passes where there are few rows.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mvae.batch import Batch, per_row
from mvae.modality import evaluating
from mvae.models import MultimodalVAE

__all__ = ["roughness"]

TRIAL = 0.1
"""The length of the trial step that finds the direction, in radii."""


def roughness(model: MultimodalVAE, batch: Batch, radius: float) -> Tensor | None:
    r"""How much the model's guess changes under the worst small change of its input, in nats.

    With p(y | x) the decoder of y at a draw from q(z | x), the same noise for both, x all that a row has and that is
    not a category: :math:`\mathrm{KL}[p(y \mid x), p(y \mid x + r)]`, r of Euclidean length `radius` (in the units
    of the data) in each modality, along the direction that one power iteration finds (Miyato et al. 2018, Eqs. 5 to
    11). p(y | x) itself is held fixed. Draws come from torch's global generator.

    Returns:
        A scalar: the sum over categorical modalities, the mean over the rows of the batch; rows without anything to
        guess from count as 0. None where no row has.
    """
    modalities = model.modalities
    targets = [name for name, modality in modalities.items() if modality.num_classes]
    sources = [n for n, modality in modalities.items() if modality.num_symbols is None and n in batch.values]
    some = batch.presence(sources).any(1) if targets and sources else torch.zeros(1, dtype=torch.bool)
    if not some.any():
        return None
    rows = batch.only(sources) if some.all() else batch.only(sources)[some]
    present = {name: rows.present[name] for name in sources}
    x = {name: rows.filled(name) for name in sources}

    def guesses(shift: dict[str, Tensor] | None = None) -> list[Tensor]:
        values = x if shift is None else {name: x[name] + shift[name] for name in sources}
        (z,) = model.q(Batch(values, present)).placed(noise, offset)
        return [model.class_logits(name, z).log_softmax(-1) for name in targets]

    noise = torch.randn(1, len(rows), model.latent_dim, device=model.device, dtype=model.dtype)
    with evaluating(model):  # no dropout, which would change the guess too, and nothing for batch normalisation to keep
        with torch.autocast(model.device.type, enabled=False):  # a trial step is lost in bfloat16
            direction = {name: _scaled(torch.randn_like(v), TRIAL * radius).requires_grad_() for name, v in x.items()}
            offset = torch.rand(len(rows), device=model.device)
            with torch.no_grad():
                fixed = guesses()
            with torch.enable_grad():
                change = _divergence(fixed, guesses(direction))
                slopes = torch.autograd.grad(change, list(direction.values()))
        worst = {name: _scaled(slope, radius) for name, slope in zip(sources, slopes, strict=True)}
        return _divergence(fixed, guesses(worst)) / len(batch)


def _divergence(fixed: list[Tensor], changed: list[Tensor]) -> Tensor:
    parts = [(old.exp() * (old - new)).sum() for old, new in zip(fixed, changed, strict=True)]
    return torch.stack(parts).sum()


def _scaled(change: Tensor, length: float) -> Tensor:
    """Each row of a change, made that long."""
    norm = change.reshape(len(change), -1).norm(dim=1).clamp_min(1e-20)
    return change * per_row(length / norm, change)
