"""`python -m benchmarks.proposals`: what `prior_share` of `mvae.log_likelihood` gives on models of four kinds.

Every value is a lower bound on average, from the same number of draws: the larger, the nearer. For the linear-Gaussian
model the exact value is known.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any, NamedTuple

import pandas as pd
import torch

import mvae
from benchmarks.classifiers import SETTINGS, begun
from mvae.batch import Batch
from mvae.data.sources import load_dataset
from mvae.evaluation.likelihood import log_likelihood
from mvae.export import markdown_table
from mvae.files import write_json
from mvae.linear_gaussian import draws, exact_log_likelihood, linear_gaussian
from mvae.models import MultimodalVAE

SHARES = (0.0, 0.1, 0.25, 0.5)
ROWS, SAMPLES = 100, 1000


class Case(NamedTuple):
    """A model, rows to score, and the names of two modalities."""

    title: str
    model: MultimodalVAE
    rows: Batch
    names: tuple[str, str]
    exact: dict[str, torch.Tensor] | None = None
    """Parameters of the linear-Gaussian model."""


def cases() -> Iterator[Case]:
    """A posterior that is nearly right, one that is too narrow, and trained models of pictures and of a table."""
    for title, error in (("linear-Gaussian, q nearly right", 0.2), ("linear-Gaussian, q too narrow", -4.0)):
        model, parameters = linear_gaussian(latent_dim=2, error=error)
        yield Case(title, model, draws(parameters, ROWS), ("a", "b"), parameters)
    digits = mvae.fit("digits", paired_fraction=0.1, progress=False)
    yield Case("digits, 10 % pairs", digits, load_dataset("digits").test[:ROWS], ("image", "label"))
    for setting in ("breast cancer table, 20 labels", "BinaryMNIST, 100 pairs, short"):
        trained, rows, target = SETTINGS[setting](0)
        (other,) = (name for name in trained.names if name != target)
        yield Case(setting, trained, rows[:ROWS], (other, target))


def scores(case: Case, share: float) -> Iterator[dict[str, Any]]:
    """Each quantity of the two modalities by that share of draws from the prior."""
    one, other = case.names
    for targets, given in (((one,), ()), ((other,), ()), ((one, other), ()), ((one,), (other,)), ((other,), (one,))):
        found = log_likelihood(case.model, case.rows, targets, given, prior_share=share, num_samples=SAMPLES)
        about = {"case": case.title, "share": share, "targets": list(targets), "given": list(given)}
        if case.exact is not None:
            exact = [exact_log_likelihood(case.exact, case.rows, names) for names in (targets + given, given)]
            about["exact"] = (exact[0] - exact[1]).mean().item()
        yield about | {
            "nats": found.mean(),
            "monte_carlo_error": found.standard_error.square().sum().sqrt().item() / len(found.value),
            "effective_sample_size": found.effective_sample_size.mean().item(),
        }


def summary(cells: list[dict[str, Any]]) -> str:
    """Nats and their Monte Carlo errors by share, as a table in Markdown."""
    frame = pd.DataFrame(cells)
    frame["quantity"] = [
        ", ".join(t) + (f" given {', '.join(g)}" if g else "") for t, g in frame[["targets", "given"]].values
    ]
    rows = []
    for (case, quantity), part in frame.groupby(["case", "quantity"], sort=False):
        told = [f"{nats:.3f} ± {error:.3f}" for nats, error in part[["nats", "monte_carlo_error"]].values]
        exact = part["exact"].iloc[0] if "exact" in part else float("nan")
        rows.append([str(case), str(quantity), *told, "" if pd.isna(exact) else f"{exact:.3f}"])
    return markdown_table(["", "log p of", *(f"{100 * share:.0f} % prior" for share in SHARES), "exact"], rows)


def main() -> None:
    """Score each case by each share, and write what was found."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.proposals", description=__doc__)
    options, made_by = begun(parser)
    cells: list[dict[str, Any]] = []
    for case in cases():
        cells += [cell for share in SHARES for cell in scores(case, share)]
        content = {"provenance": made_by, "rows": ROWS, "samples": SAMPLES, "seed": 0, "cells": cells}
        write_json(options.out / "proposals.json", content)
        print(summary(cells[-5 * len(SHARES) :]), flush=True)


if __name__ == "__main__":
    main()
