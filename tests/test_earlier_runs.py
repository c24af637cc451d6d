"""Runs written by an earlier commit load, and give the likelihoods that it gave (`earlier_runs/README.md`)."""

import json
import math
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import mvae
from mvae.files import RunError

RUNS = Path(__file__).parent / "earlier_runs"
ANSWERS = json.loads((RUNS / "answers.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def rows():
    tensors = load_file(RUNS / "rows.safetensors")
    parts = ("values", "present")
    return mvae.Batch(*({n.removeprefix(f"{p}."): t for n, t in tensors.items() if n.startswith(p)} for p in parts))


def as_numbers(values):
    return torch.tensor([math.nan if value is None else value for value in values], dtype=torch.float64)


@pytest.mark.parametrize("name", [name for name in ANSWERS if name != "people"])
def test_an_earlier_run_gives_the_same_likelihoods(name, rows):
    model = mvae.load(RUNS / name)
    targets = [one for one in model.names if one not in model.conditions]
    options = {"num_samples": 50, "prior_share": 0}  # q alone, as it was then
    found = mvae.log_likelihood(model, rows.only(list(model.names)), targets, model.conditions, **options)
    for what, expected in ANSWERS[name].items():
        torch.testing.assert_close(getattr(found, what), as_numbers(expected), rtol=0, atol=1e-6, equal_nan=True)


def test_an_earlier_training_that_did_not_end_is_refused_in_one_line(tmp_path):
    run = shutil.copytree(RUNS / "people", tmp_path / "people")
    with pytest.raises(RunError, match=r"last\.ckpt: written by an earlier version of mvae, whose trainings cannot be"):
        mvae.fit("people.csv", out=run, resume=True)


def test_an_earlier_table_run_gives_the_same_scores_and_fills_the_same_cells():
    table = RUNS / "people.csv"
    scores = mvae.score(RUNS / "people", table).sort_values("row")["nats"]
    torch.testing.assert_close(
        torch.tensor(scores.to_numpy()), as_numbers(ANSWERS["people"]["value"]), rtol=0, atol=1e-6
    )
    filled = mvae.impute(RUNS / "people", table).cells["value"]
    for value, expected in zip(filled, ANSWERS["people"]["filled"], strict=True):
        if isinstance(value, str):
            assert value == expected
        else:  # a hundred steps of Adam lie between
            assert value == pytest.approx(float(expected), rel=1e-4, abs=1e-4)
