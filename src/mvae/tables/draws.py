"""Importance-weighted draws of z from p(z | observed); class probabilities and new rows from them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from tqdm import tqdm

from mvae.batch import Batch
from mvae.config.table_spec import TableSpec
from mvae.evaluation.refining import STEPS, refined
from mvae.models import MultimodalVAE
from mvae.posteriors import log_prior
from mvae.seeds import seeded
from mvae.tables.kinds import kind_of
from mvae.tables.learn import as_rows
from mvae.tables.read import Table

__all__ = ["IMPUTE_DRAWS", "category_shares", "draw_rows", "weighted_draws"]

IMPUTE_DRAWS = 100
"""Draws of z a row."""
DRAWN_AT_ONCE = 2**15
LARGEST_WHOLE = 2**53


class _Drawn(NamedTuple):
    """Draws of z for some rows of a table."""

    rows: Tensor
    """Row numbers `[B]`."""
    z: Tensor
    """`[S, B, D]`."""
    weights: Tensor
    """`[S, B]`, summing to 1 over the draws."""

    def chosen(self, count: int) -> Tensor:
        """`[count, B, D]` of the draws, each as often as its weight says."""
        numbers = torch.multinomial(self.weights.T, count, replacement=True).T
        return self.z.gather(0, numbers.unsqueeze(-1).expand(-1, -1, self.z.shape[-1]))


def weighted_draws(
    model: MultimodalVAE,
    rows: Batch,
    wanted: Tensor,
    num_samples: int,
    progress: bool = False,
    alike: bool = False,
    refine: int = STEPS,
) -> Iterator[_Drawn]:
    r"""Draws of z from q(z | observed), refined, and weighted so that they represent the posterior.

    Weights are self-normalised: :math:`w_s \propto p(x_o \mid z_s)\, p(z_s) / q(z_s \mid x_o)`, x_o as observed.

    Args:
        model: any model without conditions.
        rows: B rows as `model.checked` gives them.
        wanted: row numbers to draw for.
        num_samples: S.
        progress: show a bar.
        alike: the same noise for each row, so that the draws of a row do not depend on the others.
        refine: steps in which q is fitted to each row (`mvae.evaluation.refining`).
    """

    def noise(count: int) -> Tensor:
        return torch.randn(num_samples, count, model.latent_dim, device=model.device, dtype=model.dtype)

    same = (noise(1), torch.zeros(1, device=model.device)) if alike else None
    everything = torch.ones(num_samples, len(model.names), dtype=torch.bool)
    size = max(1, DRAWN_AT_ONCE // num_samples)
    for part in tqdm(wanted.split(size), desc="filling in", unit_scale=size, unit="row", disable=not progress):
        batch = rows[part]
        z, log_q = refined(model, batch, refine).draws(*(same or (noise(len(batch)),)))
        scores = (log_prior(z.double()) - log_q).to(z.dtype)
        for _, _, values in model.log_likelihoods(batch, z, everything):
            scores = scores + values
        yield _Drawn(part, z, scores.softmax(0))


@torch.no_grad()
def category_shares(
    model: MultimodalVAE, spec: TableSpec, table: Table, name: str, num_samples: int = IMPUTE_DRAWS, seed: int = 0
) -> np.ndarray:
    """p(category | the rest of each row), float64 `[R, C]`; the column's own cells are not read.

    `name` is a column of categories that is a modality of its own. The `num_samples` draws of z have the same noise in
    each row.
    """
    rows = as_rows(spec, table)
    rows = model.checked(rows.only([other for other in rows.values if other != name]))
    parts = []
    with seeded(seed):
        for drawn in weighted_draws(model.eval(), rows, torch.arange(len(rows)), num_samples, alike=True):
            distribution = model.modalities[name].decoder(drawn.z)
            parts.append((drawn.weights.unsqueeze(-1) * distribution.probabilities(0)).sum(0))
    return torch.cat(parts).double().numpy()


@torch.no_grad()
def draw_rows(
    model: MultimodalVAE, spec: TableSpec, given: Mapping[str, Any], count: int, seed: int = 0
) -> pd.DataFrame:
    """New rows of numbers, categories and texts, drawn from p(the others | given cells).

    Raises:
        ValueError: on an unknown column; `DataError` on a value that is not of its kind.
    """
    kinds = {name: kind_of(column) for name, column in spec.columns.items()}
    others = [name for name in spec.others if kinds[name].is_filled]
    names = [name for members in spec.records.values() for name in members] + others
    unknown = [name for name in given if name not in names]
    if unknown:
        raise ValueError(f"unknown column '{unknown[0]}'; there are {', '.join(names)}")
    frame = pd.DataFrame({name: pd.Series([given.get(name)], dtype=object) for name in spec.columns})
    table = Table(frame, "given", {"given": tuple(frame.columns)})
    with seeded(seed):
        (drawn,) = weighted_draws(
            model.eval(), model.checked(as_rows(spec, table)), torch.tensor([0]), max(IMPUTE_DRAWS, count)
        )
        z = drawn.chosen(count)[:, 0]
        made: dict[str, Any] = {}
        for group, members in spec.records.items():
            samples = model.modalities[group].decoder(z).sample().double().numpy()
            for number, name in enumerate(members):
                kind = kinds[name]
                values = kind.rounded(kind.restored(samples[:, number]))
                if name in given:
                    values = kind.values(table.cells(name)).repeat(count)
                made[name] = _as_integers(kind.shown(values))
        for name in others:
            made[name] = [given[name]] * count if name in given else kinds[name].drawn(model, name, z)
    return pd.DataFrame({name: made[name] for name in spec.columns if name in made})


def _as_integers(values: np.ndarray) -> np.ndarray:
    """Numbers as integers where all are whole."""
    if values.dtype != object and (values % 1 == 0).all() and (np.abs(values) < LARGEST_WHOLE).all():
        return values.astype(np.int64)
    return values
