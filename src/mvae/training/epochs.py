"""The record of an epoch: its names in `metrics.json`, and the order of epochs from worse to better."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mvae.config.results import ELBO

__all__ = ["ACCURACY", "ELBO", "HELD", "held", "patience_is_over", "rank"]

ACCURACY = "validation/accuracy"
HELD = "validation/kl/"
"""Before a modality's name: the nats z holds of a string alone, KL[q(z | x_i) || p(z)], the mean over rows."""


def rank(record: Mapping[str, float]) -> tuple[float, float]:
    """The better epoch has the higher rank: by stage, then by accuracy where it is asked for, else by the ELBO."""
    return record.get("stage", 0), record.get(ACCURACY, record[ELBO])


def held(record: Mapping[str, Any]) -> dict[str, float]:
    """The nats that z holds of each string, by its name."""
    return {name.removeprefix(HELD): float(nats) for name, nats in record.items() if name.startswith(HELD)}


def patience_is_over(history: Sequence[Mapping[str, float]], patience: int, stages: int = 1) -> bool:
    """True if the last `patience` epochs of the last stage are no better than one before them in it.

    Example:
        >>> [patience_is_over([{ELBO: elbo} for elbo in elbos], 2) for elbos in ((1, 3, 2), (1, 3, 2, 3), (1, 2, 3))]
        [False, True, False]
    """
    ranks = [rank(record) for record in history if ELBO in record and record.get("stage", 0) == stages - 1]
    return bool(ranks) and len(ranks) - 1 - ranks.index(max(ranks)) >= patience
