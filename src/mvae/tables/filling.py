"""What a model says of a table's empty cells: p(empty | there), by importance-weighted draws of z."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.distributions import Normal
from tqdm import tqdm

from mvae.data.batch import Batch
from mvae.evaluation.classification import guess
from mvae.models import MultimodalVAE
from mvae.records import RecordDistribution
from mvae.tables.columns import SECONDS_A_DAY, CategoryColumn, DateColumn, PositiveColumn, RecordColumn, TextColumn
from mvae.tables.modelling import as_rows
from mvae.tables.reading import Cells, Table
from mvae.tables.specs import TableSpec

__all__ = ["Filled", "category_shares", "draw_rows", "impute_table", "weighted_draws"]

DRAWS = 100
"""Draws of z a row."""
DRAWN_AT_ONCE = 2**15
INTERVAL = (0.05, 0.95)
LARGEST_WHOLE = 2**53


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
) -> Iterator[_Drawn]:
    r"""Draws of z from q(z | what a row has), weighted so that they stand for the posterior itself.

    Weights are self-normalised: :math:`w_s \propto p(x_o \mid z_s)\, p(z_s) / q(z_s \mid x_o)`, x_o what is there.

    Args:
        model: any model without conditions.
        rows: B rows.
        wanted: row numbers to draw for.
        num_samples: S.
        progress: show a bar.
        alike: the same noise for each row, so that what is found for a row does not depend on the others.
    """
    noise = torch.randn(num_samples, 1, model.latent_dim, device=model.device, dtype=model.dtype) if alike else None
    size = max(1, DRAWN_AT_ONCE // num_samples)
    for part in tqdm(wanted.split(size), desc="filling in", unit_scale=size, unit="row", disable=not progress):
        batch = model.checked(rows[part])
        posterior = model.posterior(batch)
        z = posterior.sample((num_samples,)) if noise is None else posterior.mean + posterior.stddev * noise
        scores = Normal(torch.zeros_like(z), 1.0).log_prob(z).sum(-1) - posterior.log_prob(z).sum(-1)
        for name, distribution in model.decode(z).items():
            here = batch.rows(name)
            if here is None:
                scores = scores + distribution.log_prob(batch.values[name])
            elif len(here):
                known = model.modalities[name].decoder(z[:, here]).log_prob(batch.values[name][here])
                scores = scores.index_add(1, here, known)
        yield _Drawn(part, z, scores.softmax(0))


@torch.inference_mode()
def impute_table(
    model: MultimodalVAE,
    spec: TableSpec,
    table: Table,
    draws: int = 0,
    num_samples: int = DRAWS,
    seed: int = 0,
    progress: bool = False,
    alike: bool = False,
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
    """
    torch.manual_seed(seed)
    rows, model = as_rows(spec, table), model.eval()
    records = {name: members for name, members in spec.records.items() if name in model.modalities}
    holes = {name: spec.columns[name].holes(table.cells(name)) for names in records.values() for name in names}
    for name, column in spec.others.items():
        if isinstance(column, TextColumn) and name in model.modalities:
            holes[name] = column.holes(table.cells(name))
    found: dict[str, list[_Answers]] = {name: [] for name in holes}
    some = np.logical_or.reduce([holes[name] for names in records.values() for name in names], initial=False)
    wanted = torch.from_numpy(np.flatnonzero(some))
    for drawn in weighted_draws(model, rows, wanted, max(num_samples, draws), progress, alike):
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
                    found[name].append(answers.at(drawn.rows[here].numpy(), draws))
    for name in spec.others:
        if name in holes and holes[name].any():
            found[name].append(_texts(model, rows, name, np.flatnonzero(holes[name]), max(1, draws)))
    return _written(table, spec, {name: _Answers.joined(parts) for name, parts in found.items() if parts}, draws)


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

    def at(self, rows: np.ndarray, draws: int) -> _Answers:
        """Of these rows, with no more draws than are wanted: all of a large table's would fill the memory."""
        return _Answers(self.value, self.spread, self.low, self.high, self.samples[:draws].copy(), rows)

    @staticmethod
    def joined(parts: Sequence[_Answers]) -> _Answers:
        names = ("value", "spread", "low", "high", "samples", "rows")
        return _Answers(*(np.concatenate([getattr(part, name) for part in parts], -1) for name in names))


def _answers(column: Any, weights: Tensor, moments: Sequence[Tensor], samples: Tensor) -> _Answers:
    drawn = column.restored(samples.double().numpy())
    nothing = np.zeros(0, dtype=int)
    if isinstance(column, CategoryColumn):
        code, share = (part.double().numpy() for part in moments)
        value = column.restored(code)
        return _Answers(value, 1 - share, value, value, drawn, nothing)
    w, (mean, variance) = weights.double().numpy(), (part.double().numpy() for part in moments)
    mean, variance = _in_units(column, mean, variance)
    value = (w * mean).sum(0)
    spread = np.sqrt(np.maximum((w * (variance + mean**2)).sum(0) - value**2, 0))
    low, high = np.quantile(drawn, INTERVAL, axis=0)
    return _Answers(value, spread, low, high, drawn, nothing)


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


def _texts(model: MultimodalVAE, rows: Batch, name: str, where: np.ndarray, count: int) -> _Answers:
    """The likeliest text of each row that lacks one."""
    part = rows[torch.from_numpy(where)].only([other for other in model.names if other != name])
    alphabet = model.modalities[name].alphabet
    assert alphabet is not None
    texts = np.array([alphabet.text(symbols) for symbols in guess(model, part, name)], dtype=object)
    drawn = model.generate(part, [name], count)[name]
    samples = np.array([[alphabet.text(symbols) for symbols in one] for one in drawn], dtype=object)
    nothing = np.full(len(texts), np.nan)
    return _Answers(texts, nothing, texts, texts, samples.reshape(count, len(texts)), where)


def _written(table: Table, spec: TableSpec, answers: Mapping[str, _Answers], draws: int) -> Filled:
    frames = [table.frame.copy() for _ in range(1 + draws)]
    lines = []
    for name, found in answers.items():
        column, cells = spec.columns[name], table.cells(name)
        for number, frame in enumerate(frames):
            values = found.value if not number else found.samples[number - 1]
            frame[name] = _put(cells, column, found.rows, values)
        shown = {"value": found.value, "low": found.low, "high": found.high}
        spread = found.spread / SECONDS_A_DAY if isinstance(column, DateColumn) else found.spread
        lines.append(
            pd.DataFrame({"row": found.rows, "column": name, "value": None, "spread": spread})
            .assign(**{what: _shown(column, values) for what, values in shown.items()})
            .astype({"value": object, "low": object, "high": object})
        )
    empty = pd.DataFrame({name: [] for name in ("row", "column", "value", "spread", "low", "high")})
    lines_of_all = pd.concat(lines, ignore_index=True).sort_values(["row"], kind="stable") if lines else empty
    return Filled(frames[0], lines_of_all.reset_index(drop=True), frames[1:])


def _shown(column: Any, values: np.ndarray) -> Any:
    """Values of a column as a list of filled cells has them; a date is a text, whatever the column's type."""
    return _as_dates(values, days=False) if isinstance(column, DateColumn) else values


def _as_dates(seconds: np.ndarray, days: bool) -> list[str]:
    moments = pd.to_datetime(pd.Series(seconds), unit="s", utc=True)
    return moments.dt.strftime("%Y-%m-%d" if days else "%Y-%m-%dT%H:%M:%S").tolist()


def _put(cells: Cells, column: Any, rows: np.ndarray, values: np.ndarray) -> pd.Series[Any]:
    """A column with values put into some rows, of the type it had as far as that can be."""
    series = cells.values.copy()
    known = series[~cells.absent(column.nothing)]
    textual = isinstance(series.dtype, pd.StringDtype) or (
        series.dtype == object and bool(known.map(lambda value: isinstance(value, str)).all())
    )
    if isinstance(column, RecordColumn):
        values = column.rounded(values)
    if isinstance(column, DateColumn):
        if textual:
            return _assigned(series, rows, _as_dates(values, days=bool(known.map(len).eq(10).all())))
        moments = pd.to_datetime(pd.Series(values), unit="s", utc=True)
        zone = getattr(series.dtype, "tz", None)
        moments = moments.dt.tz_convert(zone) if zone is not None else moments.dt.tz_localize(None)
        return _assigned(series, rows, moments.astype(series.dtype).to_numpy() if zone is None else moments.tolist())
    if isinstance(column, RecordColumn) and not isinstance(column, CategoryColumn):
        if textual:
            return _assigned(series, rows, [f"{value:.6g}" if value % 1 else f"{value:.0f}" for value in values])
        if pd.api.types.is_integer_dtype(series.dtype):
            values = np.round(values).astype(np.int64)
        return _assigned(series, rows, values)
    if textual:
        values = np.array([str(value) for value in values], dtype=object)
    elif pd.api.types.is_numeric_dtype(series.dtype) and not pd.api.types.is_bool_dtype(series.dtype):
        values = np.array([float(value) for value in values])
    return _assigned(series, rows, values)


def _whole(values: np.ndarray) -> np.ndarray:
    """Numbers as integers where all are whole."""
    if values.dtype != object and (values % 1 == 0).all() and (np.abs(values) < LARGEST_WHOLE).all():
        return values.astype(np.int64)
    return values


def _assigned(series: pd.Series[Any], rows: np.ndarray, values: Any) -> pd.Series[Any]:
    series.iloc[rows] = values
    return series


@torch.inference_mode()
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
    torch.manual_seed(seed)
    rows = as_rows(spec, table)
    rows = rows.only([other for other in rows.values if other != name])
    parts = []
    for drawn in weighted_draws(model.eval(), rows, torch.arange(len(rows)), num_samples, alike=True):
        distribution = model.modalities[name].decoder(drawn.z)
        parts.append((drawn.weights.unsqueeze(-1) * distribution.probabilities(0)).sum(0))
    return torch.cat(parts).double().numpy()


@torch.inference_mode()
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
    torch.manual_seed(seed)
    (drawn,) = weighted_draws(model.eval(), as_rows(spec, table), torch.tensor([0]), max(DRAWS, count))
    z = drawn.chosen(count)[:, 0]
    made: dict[str, Any] = {}
    for group, members in spec.records.items():
        samples = model.modalities[group].decoder(z).sample().double().numpy()
        for number, name in enumerate(members):
            column = spec.record(name)
            values = column.rounded(column.restored(samples[:, number]))
            if isinstance(column, DateColumn):
                made[name] = _as_dates(values, bool(column.days))
            else:
                made[name] = _whole(values)
    for name in names:
        if name in spec.others:
            alphabet = model.modalities[name].alphabet
            assert alphabet is not None
            made[name] = [alphabet.text(symbols) for symbols in model.modalities[name].decoder(z).sample()]
    for name, value in given.items():
        made[name] = [value] * count
    return pd.DataFrame({name: made[name] for name in spec.columns if name in made})
