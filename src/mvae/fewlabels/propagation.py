"""Propagation: rows without a category are trained on with the one that rows near them in z have.

Not in the paper. Before each epoch, labels spread over the nearest neighbours of the codes of all rows (Zhou, Bousquet,
Lal, Weston & Schoelkopf 2004); the surest of what is found is trained on (Iscen, Tolias, Avrithis & Chum 2019). The
latent space, learned from all rows, says which rows belong together; a handful of labelled ones says what they are.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from mvae.batch import Batch
from mvae.models import MultimodalVAE

__all__ = ["guess_loss", "propagated", "spread_classes", "surest"]

UNKNOWN = -1
CLAMPING = 0.99
"""How much of its label a row takes from its neighbours; alpha of Zhou et al."""
SPREADING_STEPS = 100
MOST_ROWS = 30_000
"""Rows without a category whose neighbours are sought, drawn from more: the time grows with their square."""
ROWS_AT_ONCE = 1000


@torch.no_grad()
def propagated(
    model: MultimodalVAE,
    rows: Batch,
    target: str,
    neighbours: int,
    share: float,
    as_seen: Callable[[Batch], Batch] | None = None,
) -> Tensor:
    """A class for each row without one whose neighbours are sure of it, and -1 for all others, `[R]`.

    Args:
        model: any model, in evaluation mode.
        rows: R rows, of which 30,000 without the category are used at most, drawn by torch's global generator.
        target: the category.
        neighbours: as `spread_classes`.
        share: as `surest`.
        as_seen: is applied to rows before the model reads them, e.g. to binarise.
    """
    names = [name for name in model.names if name != target and name in rows.values]
    guesses = torch.full((len(rows),), UNKNOWN)
    if not names or target not in rows.values:
        return guesses
    known, somewhere = rows.presence([target]).all(1), rows.presence(names).any(1)
    others = (somewhere & ~known).nonzero().flatten()
    others = others[torch.randperm(len(others))[:MOST_ROWS].sort().values]
    used = torch.cat([(somewhere & known).nonzero().flatten(), others])
    classes = torch.where(known, rows.values[target], UNKNOWN)[used].cpu()
    if not len(others) or not (classes >= 0).any():
        return guesses
    codes = []
    for part in used.split(ROWS_AT_ONCE):
        batch = model.read(rows[part].only(names).to(model.device))
        batch = batch if as_seen is None else as_seen(batch)
        codes.append(model.q(batch, names).mean.float().cpu())
    count = int(model.modalities[target].num_classes or 0)
    frequency = rows.values[target][known].cpu().bincount(minlength=count)  # also of rows that have nothing else
    shares = spread_classes(torch.cat(codes), classes, frequency, neighbours)
    guesses[used] = surest(shares, classes, share)
    return guesses


def spread_classes(codes: Tensor, classes: Tensor, frequency: Tensor, neighbours: int) -> Tensor:
    """Spread the classes of rows that have one over a graph of nearest neighbours.

    Args:
        codes: `[R, D]`, where each row is.
        classes: `[R]`, the class of each row, -1 where unknown; at least one is known.
        frequency: `[C]`, the expected frequency of each class, on any scale.
        neighbours: rows that each row is joined to; fewer where there are fewer rows.

    Returns:
        `[R, C]` float32: shares of what arrives from each class, the total of which is scaled to the class's frequency
        (class mass normalisation; Zhu, Ghahramani & Lafferty 2003). They sum to 1, or to 0 where nothing arrives.
    """
    found, present = torch.zeros(len(codes), len(frequency)), classes[classes >= 0].unique()
    if len(present) == 1:
        found[:, present] = 1.0
        return found
    from sklearn.exceptions import ConvergenceWarning  # takes a second, which only this should cost
    from sklearn.neighbors import kneighbors_graph
    from sklearn.semi_supervised import LabelSpreading

    count = min(neighbours, len(codes) - 1)

    def graph(x: np.ndarray, _: object = None) -> object:
        nearest = kneighbors_graph(x, count)
        return nearest.maximum(nearest.T)  # neighbours of each other where one is the other's

    spreading = LabelSpreading(kernel=graph, alpha=CLAMPING, max_iter=SPREADING_STEPS)
    with warnings.catch_warnings(), np.errstate(invalid="ignore"):
        warnings.simplefilter("ignore", ConvergenceWarning)
        spreading.fit(codes.numpy(), classes.numpy())
    mass = torch.from_numpy(np.nan_to_num(spreading.label_distributions_)).float()
    mass = mass / mass.sum(0) * frequency[present]
    found[:, present] = mass / mass.sum(1, keepdim=True).clamp_min(1e-30)
    return found


def surest(shares: Tensor, classes: Tensor, share: float) -> Tensor:
    """The likeliest class of the rows without one whose shares have the least entropy.

    Args:
        shares: `[R, C]`, rows summing to 1, or to 0 where nothing is known.
        classes: `[R]`, -1 where unknown.
        share: of the rows without a class, but with shares, to keep, from 0 to 1.

    Returns:
        `[R]`, -1 for all other rows.
    """
    unknown = (classes < 0) & (shares.sum(1) > 0)
    if not unknown.any():
        return torch.full_like(classes, UNKNOWN)
    entropy = torch.special.entr(shares).sum(1)
    kept = unknown & (entropy <= entropy[unknown].quantile(share))
    return torch.where(kept, shares.argmax(1), UNKNOWN)


def guess_loss(model: MultimodalVAE, batch: Batch, target: str, guesses: Tensor) -> Tensor | None:
    """Cross-entropy of guessed classes `[B]` (-1 without), by the decoder at a draw from q(z | the rest), in nats.

    Returns:
        A scalar: the sum over rows that have a guess over all B, times the modality's lambda; None where fewer than two
        have one, which is too few for batch normalisation.
    """
    guessed = (guesses >= 0).to(model.device)
    if guessed.sum() < 2:
        return None
    names = [name for name in model.names if name != target and name in batch.values]
    rows = batch.only(names)[guessed]
    noise = torch.randn(1, len(rows), model.latent_dim, device=model.device, dtype=model.dtype)
    (z,) = model.q(rows, names).placed(noise)
    losses = cross_entropy(model.class_logits(target, z), guesses.to(model.device)[guessed], reduction="sum")
    return model.modalities[target].weight * losses / len(batch)
