"""The MMVAE against its bound written with torch.distributions, and exact likelihoods of linear-Gaussian models."""

import math

import pandas as pd
import pytest
import torch
from torch import nn
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

import mvae
from linear_gaussian import linear_gaussian_of
from mvae import likelihoods
from mvae.batch import Batch
from mvae.fewlabels.completion import complete
from mvae.fewlabels.propagation import guess_loss, propagated
from mvae.fewlabels.smoothness import roughness
from mvae.linear_gaussian import draws, exact_log_likelihood
from mvae.modality import Decoder, Modality
from mvae.models import MMVAE
from small_models import WEIGHTS, assert_same_objective, build, complete_rows, gradients, log_prob, rows_with_holes

BOTH = ("vector", "label")
PRIOR = Independent(Normal(torch.zeros(3).double(), torch.ones(3).double()), 1)


def experts(model, row, names):
    """q(z | x_i) of one row, stacked."""
    encoded = [model.modalities[name].encoder(row.values[name]) for name in names]
    mean, log_variance = (torch.cat(parts) for parts in zip(*encoded, strict=True))
    return Independent(Normal(mean, log_variance.exp().sqrt()), 1)


def mixture(model, row, names):
    """q(z | X) of one row."""
    return MixtureSameFamily(Categorical(torch.ones(len(names)).double()), experts(model, row, names))


@pytest.mark.parametrize("beta", [0.0, 0.6, 1.0])
@pytest.mark.parametrize("holes", [False, True])
def test_the_objective_is_the_stratified_bound(noise, beta, holes):
    model = build(MMVAE)
    batch = rows_with_holes(model) if holes else complete_rows(model)
    objective = model.loss(batch, beta)
    terms, elbo = torch.zeros(2, len(batch), dtype=torch.float64), torch.zeros(len(batch), dtype=torch.float64)
    for row in range(len(batch)):
        one = batch[row : row + 1]
        names = tuple(name for name in BOTH if one.present[name])
        for number, name in enumerate(names):
            own, index = experts(model, one, names), BOTH.index(name)
            z = own.mean[number] + own.stddev[number] * noise[0][index, row]
            divergence = mixture(model, one, names).log_prob(z) - PRIOR.log_prob(z)
            scores = {n: log_prob(model, n, z[None], one.values[n]).squeeze(0) for n in names}
            weighted = sum(WEIGHTS[n] * score for n, score in scores.items())
            terms[index, row] = (weighted - beta * divergence) / len(names)
            elbo[row] += (sum(scores.values()) - divergence) / len(names)
    assert_same_objective(model, objective, terms, elbo)


def test_the_posterior_is_the_equal_mixture_of_what_a_row_has():
    model = build(MMVAE)
    batch = rows_with_holes(model)
    z = torch.randn(5, 3, dtype=torch.float64)
    for given in [BOTH, ("vector",), ("label",), ()]:
        found = model.posterior(batch, given)
        for row in range(len(batch)):
            one = batch[row : row + 1]
            names = tuple(name for name in given if one.present[name])
            expected = mixture(model, one, names) if names else PRIOR
            torch.testing.assert_close(found[row].log_prob(z), expected.log_prob(z))
            torch.testing.assert_close(found.mean[row], expected.mean)
            torch.testing.assert_close(found.variance[row], expected.variance)


def test_every_modality_is_decoded_and_encoded_once():
    model = build(MMVAE)
    calls = []
    for name, modality in model.modalities.items():
        modality.encoder.register_forward_pre_hook(lambda *_, name=name: calls.append(("encoder", name)))
        modality.decoder.register_forward_pre_hook(lambda *_, name=name: calls.append(("decoder", name)))
    model.loss(rows_with_holes(model))
    assert sorted(calls) == sorted((part, name) for part in ("encoder", "decoder") for name in BOTH)


# On linear-Gaussian models


def mean_bound(model, batch, draws=4000):
    """The mean over draws of the bound of each row, and its standard error."""
    torch.manual_seed(0)
    values = model.elbo(batch[torch.arange(len(batch)).repeat(draws)]).detach().reshape(draws, -1).double()
    return values.mean(0), values.std(0) / math.sqrt(draws)


@pytest.mark.parametrize("name", "abc")
def test_with_one_modality_and_its_exact_posterior_the_bound_is_the_likelihood_at_every_draw(name):
    model, parameters = linear_gaussian_of(MMVAE, latent_dim=2)
    batch = draws(parameters, 10).only([name])
    truth = exact_log_likelihood(parameters, batch, (name,))
    for _ in range(3):
        torch.testing.assert_close(model.elbo(batch).detach().double(), truth, atol=2e-4, rtol=1e-5)


def test_with_several_it_is_below_the_likelihood_by_the_divergence_from_the_exact_posterior():
    # log p(x) - bound = KL[q, p(z | x)], integrated over z, with p(z | x) = p(x | z) p(z) / p(x)
    model, parameters = linear_gaussian_of(MMVAE)
    batch = draws(parameters, 6)
    truth = exact_log_likelihood(parameters, batch, ("a", "b", "c"))
    found, error = mean_bound(model, batch)
    z = torch.linspace(-12, 12, 20_001).reshape(-1, 1, 1)
    log_q = model.posterior(batch).log_prob(z).double()
    log_joint = Normal(0.0, 1.0).log_prob(z).sum(-1).double()
    for name, modality in model.modalities.items():
        log_joint = log_joint + modality.decoder(z.expand(-1, 6, -1)).log_prob(batch.values[name]).double()
    gap = torch.trapezoid(log_q.exp() * (log_q - log_joint + truth), z.flatten().double(), dim=0)
    assert (gap > 0.01).all()
    assert (((truth - gap - found) / error.clamp_min(1e-5)).abs() < 5).all()


class Twice(nn.Module):
    """Exact q(z | x, x) of x = z + noise, seen twice, from one x."""

    def forward(self, x):
        return 2 * x / 3, torch.full_like(x, 1 / 3).log()


def test_where_every_expert_is_the_exact_joint_posterior_the_bound_is_tight():
    identity = nn.Linear(1, 1)
    identity.weight.data.fill_(1.0)
    identity.bias.data.zero_()
    modalities = {n: Modality(Twice(), Decoder(identity, likelihoods.Normal((1,))), 1) for n in "ab"}
    model, x = MMVAE(modalities, 1).double(), torch.tensor([[-1.0], [0.3], [2.0]], dtype=torch.float64)
    covariance = torch.tensor([[2.0, 1.0], [1.0, 2.0]], dtype=torch.float64)
    exact = torch.distributions.MultivariateNormal(torch.zeros(2).double(), covariance)
    truth = exact.log_prob(x.expand(-1, 2))
    torch.testing.assert_close(model.elbo(Batch({"a": x, "b": x})).detach(), truth)
    assert (
        mvae.log_likelihood(model, Batch({"a": x, "b": x}), ["a", "b"], num_samples=5).value - truth
    ).abs().max() < 1e-9


@pytest.mark.parametrize("lacking", [(), ("a",), ("b", "c")])
def test_wrong_experts_leave_the_likelihood_right_and_the_bound_below(lacking):
    model, parameters = linear_gaussian_of(MMVAE, latent_dim=2, error=0.2)
    whole = draws(parameters, 20)
    absent = {name: torch.zeros(20, dtype=torch.bool) for name in lacking}
    nan = {name: torch.full_like(whole.values[name], math.nan) for name in lacking}
    batch = Batch({**whole.values, **nan}, absent)
    truth = exact_log_likelihood(parameters, whole, tuple(name for name in "abc" if name not in lacking))
    estimate = mvae.log_likelihood(model, batch, ["a", "b", "c"], num_samples=3000)
    assert ((estimate.value - truth) / estimate.standard_error).abs().max() < 5
    found, error = mean_bound(model, batch, 500)
    assert (found < truth + 5 * error).all()


def test_noise_of_a_row_depends_on_the_seed_and_its_place_only():
    model, parameters = linear_gaussian_of(MMVAE, latent_dim=2, error=0.2)
    batch = draws(parameters, 7)
    options = {"num_samples": 50, "seed": 3}
    together = mvae.log_likelihood(model, batch, ["a", "b"], **options).value
    torch.testing.assert_close(mvae.log_likelihood(model, batch[:3], ["a", "b"], **options).value, together[:3])
    changed = Batch({name: values.clone() for name, values in batch.values.items()})
    changed.values["a"][0] = 5.0
    torch.testing.assert_close(mvae.log_likelihood(model, changed, ["a", "b"], **options).value[1:], together[1:])


def test_terms_for_few_labels_take_a_mixture():
    model = build(MMVAE)
    batch = rows_with_holes(model, 40)
    smooth, guesses = roughness(model, batch, 0.5), torch.arange(40) % 5 - 1
    guessed = guess_loss(model, batch[batch.present["vector"]], "label", guesses[batch.present["vector"]])
    for loss in (smooth, guessed):
        assert loss.isfinite()
        found = gradients(model, loss)
        assert all(value.isfinite().all() for value in found.values())
        assert found["_modalities.vector.encoder.head.weight"].any()
    completed = complete(model, batch)
    assert completed.present["label"].all()
    found = propagated(model.float().eval(), model.checked(batch), "label", 3, 1.0)
    assert ((found >= 0) == (batch.present["vector"] & ~batch.present["label"])).all()


def test_cells_of_a_table_are_filled_and_rows_scored(tmp_path):
    numbers = torch.randn(60, 4, generator=torch.Generator().manual_seed(0))
    table = pd.DataFrame(numbers.double().numpy(), columns=list("abcd"))
    table.loc[::4, "a"] = None
    table.loc[::3, "c"] = None
    run = tmp_path / "run"
    mvae.fit(table, method="mmvae", epochs=2, out=run, progress=False)
    filled = mvae.impute(run, table).frame
    assert not filled.isna().any(axis=None)
    assert mvae.score(run, table)["nats"].notna().all()
    assert mvae.embed(run, table).notna().all(axis=None)
