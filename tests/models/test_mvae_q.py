"""MVAE-Q against Eq. 3 and the terms of the MVAE written with torch.distributions; that its family is the MVAE's."""

import itertools

import pytest
import torch
from torch.distributions import Normal
from torch.nn.functional import logsigmoid

from mvae.experts import product_of_experts
from mvae.models import MVAE, MVAEQ
from small_models import assert_same_objective, bound, build, complete_rows, label, rows_with_holes, vector

BOTH = ("vector", "label")


def posterior_of_eq_3(model, batch, names):
    """Product of the q(z | x_i), each of variance sigmoid(v_i), over the prior to the power of their number less 1."""
    precision, weighted = torch.ones((), dtype=torch.float64) * (1 - len(names)), 0.0
    for name in names:
        mean, raw = model.modalities[name].encoder(batch.values[name])
        variance = 1 / (1 + (-raw).exp())
        precision = precision + 1 / variance
        weighted = weighted + mean / variance
    return Normal(weighted / precision, precision.rsqrt())


def test_posteriors_are_those_of_eq_3():
    model = build(MVAEQ)
    batch = complete_rows(model)
    for names in [("vector",), ("label",), BOTH]:
        expected, got = posterior_of_eq_3(model, batch, names), model.posterior(batch, names)
        torch.testing.assert_close(got.mean, expected.mean)
        torch.testing.assert_close(got.stddev, expected.stddev)
        assert (got.stddev < 1).all()
    assert torch.equal(model.posterior(batch, ()).stddev, torch.ones_like(got.stddev))


def test_one_modality_alone_has_its_own_posterior():
    model = build(MVAEQ)
    batch = rows_with_holes(model)
    mean, raw = model.modalities["label"].encoder(batch.values["label"][[2]])
    posterior = model.posterior(batch)
    torch.testing.assert_close(posterior.mean[2:3], mean)
    torch.testing.assert_close(posterior.variance[2:3], raw.sigmoid())


@pytest.mark.parametrize("reconstruct", ["given", "present", ["label"]])
@pytest.mark.parametrize("beta", [0.3, 1.0])
@pytest.mark.parametrize("holes", [False, True])
def test_the_objective_has_the_terms_of_the_mvae_under_those_posteriors(noise, reconstruct, beta, holes):
    model = build(MVAEQ, reconstruct=reconstruct)
    batch = rows_with_holes(model) if holes else complete_rows(model)
    objective = model.loss(batch, beta)
    always = {"given": (), "present": BOTH}[reconstruct] if isinstance(reconstruct, str) else reconstruct
    terms, elbo = torch.zeros(3, len(batch), dtype=torch.float64), torch.zeros(len(batch), dtype=torch.float64)
    for row, (index, subset) in itertools.product(range(len(batch)), enumerate([BOTH, ("vector",), ("label",)])):
        one = batch[row : row + 1]
        has = [name for name in BOTH if one.present[name]]
        given = [name for name in subset if name in has]
        if not given or (index and len(has) == 1):  # what is left of the joint comes first
            continue
        names = tuple(name for name in has if name in given or name in always)
        posterior, draw = posterior_of_eq_3(model, one, given), noise[0][index, row]
        terms[index, row] = bound(model, posterior, draw, one, names, beta)
        if index == 0:
            elbo[row] = bound(model, posterior, draw, one, names, weighted=False)
    assert_same_objective(model, objective, terms, elbo)


def test_its_family_is_that_of_the_mvae():
    # the docstring's claim: with m the mean of an MVAE expert, mu = m / (1 + e^v) gives the same posteriors
    torch.manual_seed(0)
    modalities = {name: vector() for name in "abc"}
    mean, raw = 3 * torch.randn(3, 5, 3, dtype=torch.float64), 4 * torch.randn(3, 5, 3, dtype=torch.float64)
    present = torch.rand(5, 3) < 0.7
    subsets = torch.tensor(list(itertools.product([False, True], repeat=3)))
    model = MVAEQ(modalities, 3)
    model._experts = lambda *_: (mean / (1 + raw.exp()), logsigmoid(raw), subsets, present)
    found = model.posteriors(None, subsets)
    expected = product_of_experts(mean, raw, subsets, present)
    for got, wanted in zip((found.mean, found.log_variance), expected, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("subsets", [0, 2])
def test_more_than_two_modalities(subsets):
    torch.manual_seed(0)
    model = MVAEQ({"a": vector(), "label": label(), "b": vector(), "c": vector()}, 3, random_subsets=subsets)
    batch = {name: torch.randn(6, 3) for name in "abc"} | {"label": torch.arange(6) % 4}
    objective = model.loss(model.checked(batch))
    assert objective.terms.shape == (5 + subsets, 6)
    assert objective.loss.isfinite()


def test_the_parameters_are_those_of_the_mvae():
    model, other = build(MVAEQ), build(MVAE)
    assert {name: value.shape for name, value in model.state_dict().items()} == {
        name: value.shape for name, value in other.state_dict().items()
    }
    assert (model.random_subsets, model.reconstruct) == (0, "given")


@pytest.mark.parametrize("raw", [-200.0, -30.0, 30.0, 200.0])
def test_extreme_outputs_of_an_encoder_stay_finite(raw):
    model = build(MVAEQ).float()
    encoders = [modality.encoder for modality in model.modalities.values()]
    for encoder in encoders:
        encoder.register_forward_hook(lambda _, inputs, out: (out[0], torch.full_like(out[1], raw) + 0 * out[1]))
    batch = model.checked(complete_rows(model))
    objective = model.loss(batch)
    objective.loss.backward()
    assert objective.loss.isfinite()
    assert all(part.grad.isfinite().all() for encoder in encoders for part in encoder.parameters())
