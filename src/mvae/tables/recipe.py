"""The recipe of a table: its modalities, the sizes of their networks, and training to suit."""

from __future__ import annotations

import math
from typing import Any

from mvae.config.table_spec import TableSpec
from mvae.tables.kinds import kind_of

__all__ = ["TABLE_STEPS", "plan", "table_recipe"]

TABLE_STEPS = 10_000
"""Optimiser steps of training, about."""
LEAST_EPOCHS, MOST_EPOCHS, STEPS_AN_EPOCH = 10, 40, 100
MANY_ROWS = 1000
"""From so many on the networks are larger, and more is hidden from them in training."""
LATENT_SHARE, LEAST_LATENT, MOST_LATENT = 0.5, 4, 32
"""Latent dimensions: a share of the numbers that a model reads, within bounds."""


def table_recipe(spec: TableSpec, count: int) -> dict[str, Any]:
    """A `RunSpec`, as plain data, for a table whose spec has learned from `count` training rows."""
    modalities = {name: _record(spec, members, count >= MANY_ROWS) for name, members in spec.records.items()}
    elements = [element for part in modalities.values() for element in part["likelihood"]["elements"]]
    modalities |= {name: kind_of(spec.columns[name]).modality for name in spec.others}
    features = sum(element.get("num_classes") or 1 for element in elements)
    latent_dim = min(MOST_LATENT, max(LEAST_LATENT, math.ceil(LATENT_SHARE * features)))
    return {
        "model": {
            "method": "mvae",
            "latent_dim": latent_dim if not spec.others else MOST_LATENT,
            "random_subsets": 0 if len(modalities) < 3 else 1,
            "reconstruct": "present",
            "modalities": modalities,
        },
        "training": {**plan(count), "learning_rate": 2e-3, "schedule": "cosine"},
    }


def plan(count: int, steps: int = TABLE_STEPS, batch_size: int | None = None) -> dict[str, int]:
    """Epochs, passes and batch size for so many training rows and about so many steps.

    Where rows are few an epoch goes through them several times, so that what is done once an epoch costs little.
    """
    batch = batch_size or min(256, max(16, 2 ** round(math.log2(max(1, count / 8)))))
    once = math.ceil(count / batch)
    epochs = min(MOST_EPOCHS, max(LEAST_EPOCHS, round(steps / once)), max(1, steps // STEPS_AN_EPOCH))
    passes = max(1, round(steps / (epochs * once)))
    return {"epochs": epochs, "passes": passes, "batch_size": batch, "annealing_epochs": max(1, epochs // 5)}


def _record(spec: TableSpec, members: list[str], many_rows: bool) -> dict[str, Any]:
    """Sizes are what filled hidden cells of scikit-learn's tables best (`python -m paper imputation`)."""
    hidden, hide = ([256, 256], 0.3) if many_rows else ([64], 0.2)
    if len(members) == 1:
        hidden, hide = [32], 0.0
    return {
        "shape": [len(members)],
        "likelihood": {"kind": "record", "elements": [kind_of(spec.columns[name]).element for name in members]},
        "encoder": {"kind": "record", "hidden": hidden, "hide": hide},
        "decoder": {"kind": "mlp", "hidden": hidden},
        "elements": members,
    }
