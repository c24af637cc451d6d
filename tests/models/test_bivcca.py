"""BiVCCA against its two bounds written with torch.distributions."""

import pytest
import torch

from mvae.models import BiVCCA
from small_models import assert_same_objective, bound, build, complete_rows, gaussian, label, rows_with_holes, vector

BOTH = ("vector", "label")


@pytest.mark.parametrize("mu", [0.0, 0.3, 0.5, 1.0])
@pytest.mark.parametrize("beta", [0.0, 0.6, 1.0])
def test_the_objective_is_the_weighted_sum_of_two_bounds_on_the_joint(noise, mu, beta):
    model = build(BiVCCA, mu=mu)
    batch = complete_rows(model)
    objective = model.loss(batch, beta)
    posteriors = [gaussian(model.modalities[name].encoder(batch.values[name])) for name in BOTH]
    bounds = [bound(model, q, draw, batch, BOTH, beta) for q, draw in zip(posteriors, noise[0], strict=True)]
    elbo = bound(model, posteriors[0], noise[0][0], batch, BOTH, weighted=False)
    terms = torch.stack([mu * bounds[0], (1 - mu) * bounds[1]])
    assert_same_objective(model, objective, terms, elbo)


@pytest.mark.parametrize("mu", [0.0, 0.3, 1.0])
def test_a_row_with_one_modality_trains_its_own_bound_on_it_at_weight_1(noise, mu):
    model = build(BiVCCA, mu=mu)
    batch = rows_with_holes(model)
    objective = model.loss(batch, 0.7)
    terms, elbo = torch.zeros(2, len(batch), dtype=torch.float64), torch.zeros(len(batch), dtype=torch.float64)
    for row in range(len(batch)):
        one = batch[row : row + 1]
        names = tuple(name for name in BOTH if one.present[name])
        for index, name in enumerate(BOTH):
            if name not in names:
                continue
            posterior, draw = gaussian(model.modalities[name].encoder(one.values[name])), noise[0][index, row]
            weight = (mu, 1 - mu)[index] if len(names) == 2 else 1.0
            terms[index, row] = weight * bound(model, posterior, draw, one, names, 0.7)
            if index == 0:  # the first term, a bound on what it reconstructs
                elbo[row] = bound(model, posterior, draw, one, names, weighted=False)
    assert_same_objective(model, objective, terms, elbo)


def test_each_posterior_is_an_encoder_s_and_given_both_the_first_s():
    model = build(BiVCCA)
    batch = complete_rows(model)
    for given, name in [(None, "vector"), (("label", "vector"), "vector"), ("vector", "vector"), ("label", "label")]:
        mean, log_variance = model.modalities[name].encoder(batch.values[name])
        torch.testing.assert_close(model.posterior(batch, given).mean, mean)
        torch.testing.assert_close(model.posterior(batch, given).variance, log_variance.exp())


def test_a_row_that_lacks_the_first_uses_the_second():
    model = build(BiVCCA)
    batch = rows_with_holes(model)
    posterior = model.posterior(batch)
    for row, name in [(1, "vector"), (2, "label"), (3, "vector")]:
        mean, _ = model.modalities[name].encoder(batch.values[name][row : row + 1])
        torch.testing.assert_close(posterior.mean[row : row + 1], mean)
    assert not posterior.mean[0].any()
    assert torch.equal(posterior.stddev[0], torch.ones_like(posterior.stddev[0]))


def test_rows_with_anything_are_learned_from():
    model = build(BiVCCA)
    assert model.usable(rows_with_holes(model)).tolist() == [row % 4 != 0 for row in range(11)]


def test_a_batch_with_one_modality_trains_that_encoder_alone():
    model = build(BiVCCA)
    model.loss(complete_rows(model).only(["label"])).loss.backward()
    assert all(part.grad is None or not part.grad.any() for part in model.modalities["vector"].parameters())
    assert all(part.grad.any() for part in model.modalities["label"].encoder.parameters())


@pytest.mark.parametrize("mu", [-0.1, 1.5, float("nan")])
def test_another_mu_is_refused(mu):
    with pytest.raises(ValueError, match="mu: expected a number from 0 to 1"):
        build(BiVCCA, mu=mu)


@pytest.mark.parametrize("count", [1, 3])
def test_another_number_of_modalities_is_refused(count):
    modalities = dict(list({"vector": vector(), "label": label(), "more": vector()}.items())[:count])
    with pytest.raises(ValueError, match=f"BiVCCA has two modalities, got {', '.join(modalities)}"):
        BiVCCA(modalities, 3)
