"""The VAE against Eq. 1 written with torch.distributions."""

import pytest
import torch

from mvae.batch import Batch
from mvae.models import VAE
from small_models import assert_same_objective, bound, build, complete_rows, gaussian, label, rows_with_holes, vector


@pytest.mark.parametrize("beta", [0.0, 0.3, 1.0])
def test_the_objective_is_eq_1(noise, beta):
    model = build(VAE)
    batch = complete_rows(model)
    objective = model.loss(batch, beta)
    posterior = gaussian(model.modalities["vector"].encoder(batch.values["vector"]))
    term = bound(model, posterior, noise[0][0], batch, ("vector",), beta)
    elbo = bound(model, posterior, noise[0][0], batch, ("vector",), weighted=False)
    assert_same_objective(model, objective, term.unsqueeze(0), elbo)


def test_rows_without_the_modality_add_nothing_but_their_number(noise):
    model = build(VAE)
    batch = rows_with_holes(model)
    here = batch.present["vector"]
    objective = model.loss(batch, 0.7)
    posterior = gaussian(model.modalities["vector"].encoder(batch.values["vector"][here]))
    terms, elbo = torch.zeros(len(batch), dtype=torch.float64), torch.zeros(len(batch), dtype=torch.float64)
    terms[here] = bound(model, posterior, noise[0][0, here], batch[here], ("vector",), 0.7)
    elbo[here] = bound(model, posterior, noise[0][0, here], batch[here], ("vector",), weighted=False)
    assert_same_objective(model, objective, terms.unsqueeze(0), elbo)
    assert torch.equal(model.usable(batch), here)


def test_no_prior_expert_is_multiplied_in():
    model = build(VAE)
    batch = complete_rows(model)
    mean, log_variance = model.modalities["vector"].encoder(batch.values["vector"])
    posterior = model.posterior(batch)
    torch.testing.assert_close(posterior.mean, mean)
    torch.testing.assert_close(posterior.variance, log_variance.exp())


def test_given_nothing_z_has_the_prior():
    model = build(VAE)
    for posterior in (model.posterior(complete_rows(model), ()), model.posterior(rows_with_holes(model)[[0, 2]])):
        assert not posterior.mean.any()
        assert torch.equal(posterior.stddev, torch.ones_like(posterior.stddev))


def test_the_elbo_is_that_of_the_loss_at_beta_1():
    model = build(VAE)
    batch = rows_with_holes(model)
    torch.manual_seed(1)
    elbo = model.elbo(batch)
    torch.manual_seed(1)
    assert torch.equal(elbo, model.loss(batch, 0.2).elbo)


@pytest.mark.parametrize("batch_norm", [False, True])
def test_absent_rows_reach_no_batch_norm_statistic(batch_norm):
    model, other = build(VAE, batch_norm), build(VAE, batch_norm)
    batch = rows_with_holes(model)
    model.loss(batch)
    other.loss(batch[batch.present["vector"]])
    for name, value in model.named_buffers():
        assert torch.equal(value, dict(other.named_buffers())[name])


def test_several_modalities_are_refused():
    with pytest.raises(ValueError, match="a VAE has one modality, got vector, label"):
        VAE({"vector": vector(), "label": label()}, 3)


def test_a_modality_it_does_not_have_is_refused():
    with pytest.raises(ValueError, match="unknown modality 'label'; this model has vector"):
        build(VAE).posterior(Batch({"label": torch.tensor([1])}))
