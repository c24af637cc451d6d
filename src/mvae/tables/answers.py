"""Answers of a run that was trained on a table: filled cells, an embedding, scores."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from mvae.config.folder import load, read_spec
from mvae.config.table_spec import TableSpec
from mvae.evaluation.likelihood import log_likelihood
from mvae.evaluation.refining import STEPS
from mvae.files import RunError
from mvae.models import MultimodalVAE
from mvae.tables.draws import IMPUTE_DRAWS
from mvae.tables.fill import Filled, impute_table
from mvae.tables.kinds import kind_of
from mvae.tables.learn import as_rows
from mvae.tables.read import Table, read_table

__all__ = ["embed", "impute", "open_run", "read_like", "score"]

AT_ONCE = 4096
SCORE_SAMPLES = 200
"""Importance samples a row of a score."""


def open_run(run: str | Path) -> tuple[MultimodalVAE, TableSpec]:
    """The model of a run that was trained on a table, and the spec of its columns; a `RunError` if it was not."""
    spec = read_spec(run).data.table
    if spec is None:
        raise RunError(f"{run} was not trained on a table; 'mvae fit people.csv' makes a run that is")
    return load(run), spec


def read_like(spec: TableSpec, data: Any, join: Sequence[str | Path] = ()) -> Table:
    """Read a table as the run's own was: joined by the same column, where more files are named."""
    return read_table(data, join, spec.on if join else None)


def impute(
    run: str | Path,
    data: Any,
    *,
    draws: int = 0,
    num_samples: int = IMPUTE_DRAWS,
    refine: int = STEPS,
    seed: int = 0,
    join: Sequence[str | Path] = (),
    progress: bool = False,
) -> Filled:
    """Fill the missing cells of a table with what a model expects there, given the rest of each row.

    Observed cells are unchanged; so are columns that the model leaves out, and pictures.

    Args:
        run: folder of a run trained on such a table.
        data: a path, a data frame, or anything else that `mvae.fit` takes as a table.
        draws: number of multiple imputations: complete tables whose filled cells vary as they are uncertain.
        num_samples: draws of z a row, of which a filled cell is the mean.
        refine: steps in which q(z | observed) is fitted to each row; 0 takes it as the encoders give it.
        seed: seed of the draws.
        join: paths of more tables, joined as in training.
        progress: show a bar.

    Raises:
        RunError: if the run is not usable; `DataError` if the table does not fit it, naming row and column.
    """
    model, spec = open_run(run)
    return impute_table(model, spec, read_like(spec, data, join), draws, num_samples, seed, progress, refine=refine)


@torch.inference_mode()
def embed(run: str | Path, data: Any, *, join: Sequence[str | Path] = ()) -> pd.DataFrame:
    """Where each row lies in the latent space, whatever is missing: mean and standard deviation of q(z | row).

    Arguments and errors are those of `impute`.

    Returns:
        A frame `[R, 2 D]` with the table's index: `z0`, `z1`, ... and their standard deviations `z0_sd`, `z1_sd`, ...
    """
    model, spec = open_run(run)
    table = read_like(spec, data, join)
    rows = model.checked(as_rows(spec, table))
    parts = [model.q(rows[start : start + AT_ONCE]) for start in range(0, len(rows), AT_ONCE)]
    means, deviations = (torch.cat([getattr(part, name) for part in parts]).numpy() for name in ("mean", "stddev"))
    names = [f"z{number}" for number in range(model.latent_dim)]
    frame = pd.DataFrame(np.hstack([means, deviations]), table.frame.index, [*names, *(f"{n}_sd" for n in names)])
    return _identified(frame, spec, table)


def score(
    run: str | Path,
    data: Any,
    *,
    num_samples: int = SCORE_SAMPLES,
    seed: int = 0,
    join: Sequence[str | Path] = (),
    progress: bool = False,
) -> pd.DataFrame:
    """The log-likelihood of each row under the model, the least likely first: where to look for errors and outliers.

    Arguments and errors are those of `impute`, with `num_samples` importance samples a row.

    Returns:
        A frame with `row` (from 0), `nats`, how many `cells` were scored, and `nats_per_cell`, by which it is sorted.
        Numbers are scored standardised. A row of missing cells has NaN and comes last.
    """
    model, spec = open_run(run)
    table = read_like(spec, data, join)
    rows = as_rows(spec, table)
    found = log_likelihood(
        model, rows, model.names, prior_share=0, num_samples=num_samples, seed=seed, progress=progress
    ).value
    read = [name for name in spec.columns if name not in spec.left_out]
    cells = sum((~kind_of(spec.columns[name]).missing(table.cells(name))).astype(int) for name in read)
    frame = pd.DataFrame({"row": np.arange(len(table)), "nats": found.numpy(), "cells": cells}, table.frame.index)
    frame["nats_per_cell"] = frame["nats"] / frame["cells"].where(frame["cells"] > 0)
    return _identified(frame, spec, table).sort_values("nats_per_cell", kind="stable", na_position="last")


def _identified(frame: pd.DataFrame, spec: TableSpec, table: Table) -> pd.DataFrame:
    """The frame with the columns that identify rows before the others."""
    here = [name for name in spec.identifiers if name in table.names and name not in frame.columns]
    return pd.concat([table.frame[here], frame], axis=1) if here else frame
