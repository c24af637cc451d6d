"""Each public call looks at each modality's values once."""

from collections import Counter
from pathlib import Path

import pytest
import torch

import mvae
from mvae.batch import Batch
from mvae.config.build import build_model
from mvae.config.specs import ModelSpec
from mvae.evaluation.classification import guess
from mvae.evaluation.likelihood import marginal_likelihoods
from mvae.generation.translate import translate
from mvae.modality import Variable
from mvae.models import CVAE, METHODS
from small_models import build, complete_rows


@pytest.fixture
def checks(monkeypatch):
    """How often each modality has been checked."""
    counted, check = Counter(), Variable.check

    def counting(self, name, *arguments, **options):
        counted[name] += 1
        return check(self, name, *arguments, **options)

    monkeypatch.setattr(Variable, "check", counting)
    return counted


BOTH = {"vector": 1, "label": 1}
CALLS = {
    "posterior": (lambda model, rows: model.posterior(rows), BOTH),
    "posterior given some": (lambda model, rows: model.posterior(rows, "label"), BOTH),
    "generate": (lambda model, rows: model.generate(rows, ["label"], 2), BOTH),
    "draw_latent": (lambda model, rows: model.draw_latent(rows, 2), BOTH),
    "classify": (lambda model, rows: mvae.classify(model, rows, "label", num_samples=20, memory=10_000), {"vector": 1}),
    "importance": (lambda model, rows: mvae.classify(model, rows, "label", estimator="importance"), {"vector": 1}),
    "guess": (lambda model, rows: guess(model, rows, "label"), {"vector": 1}),
    "translate": (lambda model, rows: translate(model, rows, "vector"), BOTH),
    "log_likelihood": (
        lambda model, rows: mvae.log_likelihood(model, rows, ["vector", "label"], num_samples=20, memory=10_000),
        BOTH,
    ),
    "log_likelihood given some": (
        lambda model, rows: mvae.log_likelihood(model, rows, "vector", "label", num_samples=20, memory=10_000),
        BOTH,
    ),
    "marginal_likelihoods": (
        lambda model, rows: marginal_likelihoods(model, rows, [("vector",), ("label",)], ("vector",), 30),
        BOTH,
    ),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("method", ["mvae", "mmvae", "jmvae"])
def test_a_call_checks_each_modality_once(checks, method, call):
    model = build(METHODS[method]).float().eval()
    rows = complete_rows(model, 60)
    checks.clear()
    run, expected = CALLS[call]
    run(model, rows)
    assert checks == expected


@pytest.mark.parametrize("call", ["posterior", "generate", "log_likelihood given some"])
def test_a_model_with_conditions_checks_each_modality_once(checks, call):
    model = build(CVAE).float().eval()
    rows = complete_rows(model, 20)
    run, expected = CALLS[call]
    run(model, rows) if call != "generate" else model.generate(rows)
    assert checks == expected


def test_strings_are_written_from_rows_checked_once(checks):
    string = {"shape": [4], "likelihood": {"kind": "string", "num_symbols": 4, "end": 3}}
    string |= {"encoder": {"kind": "gru", "hidden": 4}, "decoder": {"kind": "gru", "hidden": 4}}
    number = {"shape": [2], "likelihood": {"kind": "normal"}, "encoder": {"kind": "mlp"}, "decoder": {"kind": "mlp"}}
    model = build_model(ModelSpec.model_validate({"latent_dim": 2, "modalities": {"text": string, "x": number}})).eval()
    guess(model, Batch({"x": torch.randn(450, 2)}), "text", num_samples=2)
    assert checks == {"x": 1}


RUNS = Path(__file__).parent.parent / "earlier_runs"


@pytest.mark.parametrize("call", [mvae.impute, mvae.score, mvae.embed])
def test_a_table_is_checked_once(checks, call):
    call(RUNS / "people", RUNS / "people.csv")
    assert checks
    assert set(checks.values()) == {1}
