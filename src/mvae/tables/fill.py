"""What a model says of a table's empty cells: p(empty | there), by importance-weighted draws of z."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from tqdm import tqdm

from mvae.batch import Batch
from mvae.config.table_spec import TableSpec
from mvae.evaluation.classification import write
from mvae.evaluation.refining import STEPS, refined
from mvae.models import MultimodalVAE
from mvae.posteriors import log_prior
from mvae.records import RecordDistribution
from mvae.tables.columns import SECONDS_A_DAY, CategoryColumn, DateColumn, PositiveColumn, TextColumn
from mvae.tables.learn import as_rows
from mvae.tables.read import Table
from mvae.tables.restore import as_dates, as_whole, like_of, put, shown

__all__ = ["Filled", "category_shares", "draw_rows", "impute_table", "weighted_draws"]

DRAWS = 100
"""Draws of z a row."""
DRAWN_AT_ONCE = 2**15
INTERVAL = (0.05, 0.95)


@dataclass(frozen=True)
class Filled:
    """A table without holes, and how sure each filled cell is."""

    frame: pd.DataFrame
    """The table; cells that were there are as they were."""
    cells: pd.DataFrame
    """A line for each filled cell: its row (from 0) and column, the value, its spread, and the ends of the interval
    that holds the true value with a probability of 90 %.

    The value is the mean, of a category or text the likeliest; the spread is the standard deviation, in the column's
    units (of a date in days), of a category the probability of all others."""
    draws: list[pd.DataFrame]
    """Tables with a joint draw of all empty cells of each row in place of the means: multiple imputations."""


@dataclass(frozen=True)
class _Drawn:
    """Draws of z for some rows of a table."""

    rows: Tensor
    """Which, `[B]`."""
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
    r"""Draws of z from q(z | what a row has), refined, and weighted so that they stand for the posterior itself.

    Weights are self-normalised: :math:`w_s \propto p(x_o \mid z_s)\, p(z_s) / q(z_s \mid x_o)`, x_o what is there.

    Args:
        model: any model without conditions.
        rows: B rows as `model.checked` gives them.
        wanted: row numbers to draw for.
        num_samples: S.
        progress: show a bar.
        alike: the same noise for each row, so that what is found for a row does not depend on the others.
        refine: steps in which q is fitted to each row (`mvae.evaluation.refining`).
    """

    def noise(count: int) -> Tensor:
        return torch.randn(num_samples, count, model.latent_dim, device=model.device, dtype=model.dtype)

    same = (noise(1), torch.zeros(1, device=model.device)) if alike else None
    size = max(1, DRAWN_AT_ONCE // num_samples)
    for part in tqdm(wanted.split(size), desc="filling in", unit_scale=size, unit="row", disable=not progress):
        batch = rows[part]
        z, log_q = refined(model, batch, refine).draws(*(same or (noise(len(batch)),)))
        scores = (log_prior(z.double()) - log_q).to(z.dtype)
        for name, distribution in model.decode(z).items():
            here = batch.rows(name)
            if here is None:
                scores = scores + distribution.log_prob(batch.values[name])
            elif len(here):
                known = model.modalities[name].decoder(z[:, here]).log_prob(batch.values[name][here])
                scores = scores.index_add(1, here, known)
        yield _Drawn(part, z, scores.softmax(0))


@contextmanager
def _drawing(seed: int) -> Iterator[None]:
    """Draw from a seed, and leave the caller's generator as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


@torch.no_grad()
def impute_table(
    model: MultimodalVAE,
    spec: TableSpec,
    table: Table,
    draws: int = 0,
    num_samples: int = DRAWS,
    seed: int = 0,
    progress: bool = False,
    alike: bool = False,
    refine: int = STEPS,
) -> Filled:
    """Fill the empty cells of a table, as `mvae.impute`.

    Args:
        model: trained on such a table.
        spec: of its columns.
        table: with the same columns.
        draws: how many multiple imputations.
        num_samples: draws of z a row.
        seed: of the draws.
        progress: show a bar.
        alike: the same noise for each row, as `weighted_draws`.
        refine: steps in which q(z | what a row has) is fitted to each row.
    """
    with _drawing(seed):
        return _filled(model.eval(), spec, table, draws, num_samples, progress, alike, refine)


def _filled(
    model: MultimodalVAE,
    spec: TableSpec,
    table: Table,
    draws: int,
    num_samples: int,
    progress: bool,
    alike: bool,
    refine: int,
) -> Filled:
    rows = model.checked(as_rows(spec, table))
    records = {name: members for name, members in spec.records.items() if name in model.modalities}
    holes = {name: spec.columns[name].holes(table.cells(name)) for names in records.values() for name in names}
    for name, column in spec.others.items():
        if isinstance(column, TextColumn) and name in model.modalities:
            holes[name] = column.holes(table.cells(name))
    found = {
        name: _Answers.of(np.flatnonzero(empty), draws, isinstance(spec.columns[name], CategoryColumn | TextColumn))
        for name, empty in holes.items()
        if empty.any()
    }
    some = np.logical_or.reduce([holes[name] for names in records.values() for name in names], initial=False)
    wanted = torch.from_numpy(np.flatnonzero(some))
    for drawn in weighted_draws(model, rows, wanted, max(num_samples, draws), progress, alike, refine):
        chosen = drawn.chosen(max(num_samples, draws))
        for group, members in records.items():
            distribution = model.modalities[group].decoder(drawn.z)
            assert isinstance(distribution, RecordDistribution)
            # Anew for each chosen z, which may be the same one many times where its weight is all of a row's.
            samples = model.modalities[group].decoder(chosen).sample()
            means, variances = distribution.mean, distribution.variance
            for number, name in enumerate(members):
                local = holes[name][drawn.rows.numpy()]
                if local.any():
                    here = torch.from_numpy(np.flatnonzero(local))
                    moments = means[:, here, number], variances[:, here, number]
                    if isinstance(spec.columns[name], CategoryColumn):
                        shares = distribution.probabilities(number)[:, here]
                        moments = (drawn.weights[:, here].unsqueeze(-1) * shares).sum(0).max(-1)[::-1]
                    answers = _answers(spec.columns[name], drawn.weights[:, here], moments, samples[:, here, number])
                    found[name].take(drawn.rows[here].numpy(), *answers)
    for name in spec.others:
        if name in found:
            found[name].take(found[name].rows, *_texts(model, rows, name, found[name].rows, draws))
    return _written(table, spec, found, draws)


@dataclass(frozen=True)
class _Answers:
    """What is said of R empty cells of a column, in its own units."""

    value: np.ndarray
    spread: np.ndarray
    low: np.ndarray
    high: np.ndarray
    samples: np.ndarray
    """Draws, `[S, R]`."""
    rows: np.ndarray

    @classmethod
    def of(cls, rows: np.ndarray, draws: int, objects: bool) -> _Answers:
        """With room for these rows, and for as many draws as are wanted.

        All of it at once: small arrays that stay, made between large ones that go, would leave the memory in pieces.
        """
        shape, kind = len(rows), object if objects else np.float64
        value, low, high = (np.empty(shape, kind) for _ in range(3))
        return cls(value, np.empty(shape), low, high, np.empty((draws, shape), kind), rows)

    def take(self, rows: np.ndarray, *said: np.ndarray) -> None:
        """Put in what is said of some of the rows: value, spread, low, high and draws."""
        places = np.searchsorted(self.rows, rows)
        *ends, samples = said
        for own, part in zip((self.value, self.spread, self.low, self.high), ends, strict=True):
            own[places] = part
        self.samples[:, places] = samples[: len(self.samples)]


def _answers(column: Any, weights: Tensor, moments: Sequence[Tensor], samples: Tensor) -> tuple[np.ndarray, ...]:
    """Value, spread, low, high and draws of some empty cells of a column."""
    drawn = column.restored(samples.double().numpy())
    if isinstance(column, CategoryColumn):
        code, share = (part.double().numpy() for part in moments)
        value = column.restored(code)
        return value, 1 - share, value, value, drawn
    w, (mean, variance) = weights.double().numpy(), (part.double().numpy() for part in moments)
    mean, variance = _in_units(column, mean, variance)
    value = (w * mean).sum(0)
    spread = np.sqrt(np.maximum((w * (variance + mean**2)).sum(0) - value**2, 0))
    low, high = np.quantile(drawn, INTERVAL, axis=0)
    return value, spread, low, high, drawn


def _in_units(column: Any, mean: np.ndarray, variance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The moments given z, in the column's own units."""
    deviation = column.deviation
    if isinstance(column, PositiveColumn):  # of a log-normal
        log_variance = np.minimum(variance * deviation**2, 50.0)
        middle = column.restored(mean) * np.exp(log_variance / 2)
        return middle, middle**2 * np.expm1(log_variance)
    if column.kind == "count":
        return mean, variance
    return column.restored(mean), variance * deviation**2


def _texts(model: MultimodalVAE, rows: Batch, name: str, where: np.ndarray, count: int) -> tuple[np.ndarray, ...]:
    """As `_answers`, of a column of texts: the value is the likeliest."""
    part = rows[torch.from_numpy(where)].only([other for other in model.names if other != name])
    alphabet = model.modalities[name].alphabet
    assert alphabet is not None
    texts = np.array([alphabet.text(symbols) for symbols in write(model, part, name)], dtype=object)
    drawn = model.decode(model.draw_given(part, max(1, count)), name)[name].sample()
    samples = np.array([[alphabet.text(symbols) for symbols in one] for one in drawn], dtype=object)
    nothing = np.full(len(texts), np.nan)
    return texts, nothing, texts, texts, samples.reshape(len(drawn), len(texts))


def _written(table: Table, spec: TableSpec, answers: Mapping[str, _Answers], draws: int) -> Filled:
    frames = [table.frame.copy() for _ in range(1 + draws)]
    lines = []
    for name, found in answers.items():
        column, cells = spec.columns[name], table.cells(name)
        for number, frame in enumerate(frames):
            values = found.value if not number else found.samples[number - 1]
            frame[name] = put(cells, column, found.rows, values)
        parts = {"value": found.value, "low": found.low, "high": found.high}
        spread = found.spread / SECONDS_A_DAY if isinstance(column, DateColumn) else found.spread
        lines.append(
            pd.DataFrame({"row": found.rows, "column": name, "value": None, "spread": spread})
            .assign(**{what: shown(column, values) for what, values in parts.items()})
            .astype({"value": object, "low": object, "high": object})
        )
    empty = pd.DataFrame({name: [] for name in ("row", "column", "value", "spread", "low", "high")})
    lines_of_all = pd.concat(lines, ignore_index=True).sort_values(["row"], kind="stable") if lines else empty
    return Filled(frames[0], lines_of_all.reset_index(drop=True), frames[1:])


@torch.no_grad()
def category_shares(
    model: MultimodalVAE, spec: TableSpec, table: Table, name: str, num_samples: int = DRAWS, seed: int = 0
) -> np.ndarray:
    """p(category | the rest of each row), float64 `[R, C]`; what a row says of it itself is not looked at.

    Args:
        model: trained on such a table.
        spec: of its columns.
        table: with the same columns.
        name: a column of categories that is a modality of its own.
        num_samples: draws of z a row, with the same noise for each.
        seed: of the draws.
    """
    rows = as_rows(spec, table)
    rows = model.checked(rows.only([other for other in rows.values if other != name]))
    parts = []
    with _drawing(seed):
        for drawn in weighted_draws(model.eval(), rows, torch.arange(len(rows)), num_samples, alike=True):
            distribution = model.modalities[name].decoder(drawn.z)
            parts.append((drawn.weights.unsqueeze(-1) * distribution.probabilities(0)).sum(0))
    return torch.cat(parts).double().numpy()


@torch.no_grad()
def draw_rows(
    model: MultimodalVAE, spec: TableSpec, given: Mapping[str, Any], count: int, seed: int = 0
) -> pd.DataFrame:
    """New rows, drawn from the model; given some columns, from what it says of the others.

    Args:
        model: trained on such a table.
        spec: of its columns.
        given: column to value, as a cell would hold it.
        count: how many rows.
        seed: of the draws.

    Returns:
        A frame with the columns of numbers, categories and texts.

    Raises:
        DataError: on an unknown column or a value that is not of its kind.
    """
    names = [n for members in spec.records.values() for n in members]
    names += [name for name, column in spec.others.items() if isinstance(column, TextColumn)]
    frame = pd.DataFrame({name: pd.Series([given.get(name)], dtype=object) for name in spec.columns})
    unknown = [name for name in given if name not in names]
    if unknown:
        raise ValueError(f"unknown column '{unknown[0]}'; there are {', '.join(names)}")
    table = Table(frame, "given", {"given": tuple(frame.columns)})
    rows = model.checked(as_rows(spec, table))
    with _drawing(seed):
        (drawn,) = weighted_draws(model.eval(), rows, torch.tensor([0]), max(DRAWS, count))
        z = drawn.chosen(count)[:, 0]
        made: dict[str, Any] = {}
        for group, members in spec.records.items():
            samples = model.modalities[group].decoder(z).sample().double().numpy()
            for number, name in enumerate(members):
                column = spec.record(name)
                values = column.rounded(column.restored(samples[:, number]))
                if isinstance(column, DateColumn):
                    made[name] = as_dates(values, like_of(column))
                else:
                    made[name] = as_whole(values)
        for name in names:
            if name in spec.others:
                alphabet = model.modalities[name].alphabet
                assert alphabet is not None
                made[name] = [alphabet.text(symbols) for symbols in model.modalities[name].decoder(z).sample()]
    for name, value in given.items():
        number = not isinstance(spec.columns[name], CategoryColumn | DateColumn | TextColumn)
        made[name] = as_whole(np.full(count, float(value))) if number else [value] * count
    return pd.DataFrame({name: made[name] for name in spec.columns if name in made})
