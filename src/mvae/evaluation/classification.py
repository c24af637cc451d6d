"""Predicting one modality from others: a category by p(y | x), or a string."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Literal

import torch
from torch import Tensor

from mvae.batch import Batch
from mvae.evaluation.likelihood import GIBIBYTE, importance_draws
from mvae.models import MultimodalVAE, as_names
from mvae.seeds import seeded

__all__ = ["alike", "classify", "guess", "proportion_interval", "write"]

STRINGS_AT_ONCE = 200


@torch.inference_mode()
def classify(
    model: MultimodalVAE,
    batch: Batch,
    target: str,
    given: str | Iterable[str] | None = None,
    *,
    estimator: Literal["importance", "decoder"] = "decoder",
    num_samples: int = 100,
    memory: int = GIBIBYTE,
    seed: int = 0,
    progress: bool = False,
) -> Tensor:
    r"""The probability of each class of one modality given others.

    With :math:`z_k \sim q(z \mid x)`:

    - `"decoder"`, the decoder on posterior draws: :math:`p(y \mid x) \approx \tfrac 1 K \sum_k p(y \mid z_k)`;
    - `"importance"`, the importance-weighted joint over the marginal:
      :math:`p(y \mid x) \approx \sum_k w_k\, p(y \mid z_k) / \sum_k w_k` with
      :math:`w_k = p(x \mid z_k)^{\lambda}\, p(z_k) / q(z_k \mid x)`. At lambda = 1 this is the model's own p(y | x) as
      K grows; another weight lambda enters as it does in training (Eq. 2), where q(z | x) is fitted to that product.

    Args:
        model: any model.
        batch: B rows; the target's own values are not read.
        target: a categorical modality.
        given: names to condition on, where present; all others where None.
        estimator: `"decoder"` or `"importance"`. With few labels the former was well ahead on BinaryMNIST and
            FashionMNIST, the latter slightly on digits and a table (`results/benchmarks/classifiers.json`).
        num_samples: K, at least 2.
        memory: bytes that the samples may take.
        seed: of the draws.
        progress: show a bar.

    Returns:
        `[B, C]`, float64, rows summing to 1. A row without any of `given` gets p(y).

    Raises:
        ValueError: if the target is not categorical or among `given`, on unknown names, or as `importance_draws` does.
    """
    modalities = model.modalities
    modality = modalities.get(target)
    if modality is None or modality.num_classes is None:
        known = ", ".join(n for n, m in modalities.items() if m.num_classes) or "none"
        raise ValueError(f"target: expected a categorical modality of this model ({known}), got '{target}'")
    if estimator not in ("decoder", "importance"):
        raise ValueError(f"estimator: expected 'importance' or 'decoder', got '{estimator}'")
    names, there = _given(model, batch, target, given)
    batch = model.checked(batch.only(there))
    scored = names if estimator == "importance" else ()
    mean = torch.zeros(len(batch), modality.num_classes, dtype=torch.float64)
    total = torch.full((len(batch),), -math.inf, dtype=torch.float64)  # log of the weights so far
    tempering = {name: part.weight for name, part in modalities.items()}
    for draws in importance_draws(model, batch, scored, names, num_samples, seed, memory, progress):
        rows, classes = draws.rows, modality.decoder(draws.z).probs.double().cpu()  # [k, b, C]
        weights = (draws.log_weights(scored, tempering) if scored else torch.zeros_like(draws.log_ratio)).cpu()
        new = total[rows].logaddexp(weights.logsumexp(0))
        mean[rows] *= (total[rows] - new).exp().unsqueeze(-1)
        mean[rows] += torch.einsum("kb,kbc->bc", (weights - new).exp(), classes)
        total[rows] = new
    return mean


@torch.inference_mode()
def guess(
    model: MultimodalVAE,
    batch: Batch,
    target: str,
    given: str | Iterable[str] | None = None,
    *,
    num_samples: int = 100,
    seed: int = 0,
) -> Tensor:
    """The likeliest class, `[B]`, or string, `[B, T]`, int64, by its decoder at draws from q(z | given).

    A class is the likeliest one of `classify`; a string is written symbol by symbol (`Strings.mixture_mode`).

    Raises:
        ValueError: as `classify`.
    """
    modality = model.modalities.get(target)
    if modality is None or not modality.is_string:
        return classify(model, batch, target, given, estimator="decoder", num_samples=num_samples, seed=seed).argmax(1)
    _, there = _given(model, batch, target, given)
    return write(model, model.checked(batch.only(there)), target, num_samples, seed)


@torch.inference_mode()
def write(model: MultimodalVAE, rows: Batch, target: str, num_samples: int = 100, seed: int = 0) -> Tensor:
    """`guess` of a string from all that rows have; they are as `model.checked` gives them."""
    modality, written = model.modalities[target], []
    with seeded(seed, model.device):
        for start in range(0, len(rows), STRINGS_AT_ONCE):
            z = model.draw_given(rows[start : start + STRINGS_AT_ONCE], num_samples)
            written.append(modality.decoder(z).mixture_mode().cpu())
    return torch.cat(written)


def _given(
    model: MultimodalVAE, batch: Batch, target: str, given: str | Iterable[str] | None
) -> tuple[tuple[str, ...], list[str]]:
    """The names that a target is predicted from, and those of them that the batch has."""
    names = tuple(n for n in model.names if n != target) if given is None else as_names(given)
    if target in names:
        raise ValueError(f"'{target}' cannot be both predicted and given")
    there = [name for name in names if name in batch.values]
    if not there:
        raise ValueError(f"the batch has none of {', '.join(names)} to predict '{target}' from")
    return names, there


def alike(guesses: Tensor, truth: Tensor) -> Tensor:
    """Whether each row's guess is the truth, for strings in all symbols: `[B]`."""
    return (guesses == truth).reshape(len(truth), -1).all(1)


def proportion_interval(successes: int, trials: int, z: float = 1.96) -> tuple[float, float]:
    """Wilson's interval for a proportion (Wilson 1927); 95 % by default.

    Example:
        >>> [round(x, 3) for x in proportion_interval(9, 10)]
        [0.596, 0.982]
    """
    share, excess = successes / trials, z * z / trials
    centre = (share + excess / 2) / (1 + excess)
    half = z * math.sqrt(share * (1 - share) / trials + excess / (4 * trials)) / (1 + excess)
    return centre - half, centre + half
