"""Gaussians and mixtures of them, against torch's distributions and numerical integration."""

import math

import pytest
import torch
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal, kl_divergence

from mvae.posteriors import Gaussian, Mixture, kl, log_prior

BATCH, D, K = (2, 3), 4, 3


def random_numbers(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def gaussian(*batch, seed=0):
    return Gaussian(random_numbers(*batch, D, seed=seed), random_numbers(*batch, D, seed=seed + 1))


def as_torchs(posterior):
    return Independent(Normal(posterior.mean, (0.5 * posterior.log_variance).exp()), 1)


def mixture(*batch, seed=0):
    """One whose last component is not part of the first row."""
    weights = random_numbers(K, *batch, seed=seed + 2)
    weights[(-1, *(0,) * len(batch))] = -math.inf
    return Mixture(gaussian(K, *batch, seed=seed), weights)


def mixture_as_torchs(posterior):
    parts = posterior.components
    components = Independent(Normal(parts.mean.movedim(0, -2), parts.stddev.movedim(0, -2)), 1)
    return MixtureSameFamily(Categorical(logits=posterior.log_weights.movedim(0, -1)), components)


def assert_has_torchs_density_and_moments(found, expected, batch):
    assert (found.batch_shape, found.event_shape) == (expected.batch_shape, expected.event_shape)
    z = random_numbers(7, *batch, D, seed=5)
    torch.testing.assert_close(found.log_prob(z), expected.log_prob(z))
    for part in ("mean", "variance", "stddev"):
        torch.testing.assert_close(getattr(found, part), getattr(expected, part))
    return z


@pytest.mark.parametrize("batch", [(), (5,), BATCH])
def test_a_gaussian_has_the_density_and_moments_of_torchs(batch):
    found = gaussian(*batch)
    expected = as_torchs(found)
    z = assert_has_torchs_density_and_moments(found, expected, batch)
    torch.testing.assert_close(log_prior(z), Independent(Normal(torch.zeros(D), torch.ones(D)), 1).log_prob(z))


@pytest.mark.parametrize("batch", [(), (5,), BATCH])
def test_a_mixture_has_the_density_and_moments_of_torchs(batch):
    found = mixture(*batch)
    expected = mixture_as_torchs(found)
    assert_has_torchs_density_and_moments(found, expected, batch)
    torch.testing.assert_close(found.log_variance, expected.variance.log())


def test_a_gaussian_is_drawn_with_the_numbers_of_torchs():
    found = gaussian(*BATCH)
    for draw in ("sample", "rsample"):
        drawn = []
        for distribution in (found, as_torchs(found)):
            torch.manual_seed(3)
            drawn.append(getattr(distribution, draw)((5, 2)))
        assert torch.equal(*drawn)


def test_where_noise_is_placed_has_the_density_that_is_said():
    for posterior, offset in ((gaussian(5), None), (mixture(5), torch.linspace(0, 0.9, 5))):
        z, density = posterior.draws(random_numbers(40, 5, D, seed=9), offset)
        torch.testing.assert_close(density, posterior.log_prob(z))
        assert torch.equal(posterior.placed(random_numbers(40, 5, D, seed=9), offset), z)


def test_the_density_of_a_narrow_gaussian_is_that_of_its_noise():
    # z is rounded to float32, from which the noise could not be had again
    narrow = Gaussian(torch.full((1, D), 100.0), torch.full((1, D), -30.0))
    noise = torch.randn(20, 1, D, generator=torch.Generator().manual_seed(0))
    _, density = narrow.draws(noise)
    torch.testing.assert_close(density, log_prior(noise.double()) + 15.0 * D, atol=1e-4, rtol=0)


@pytest.mark.parametrize("count", [1, 2, 10, 1000])
def test_a_mixture_is_drawn_stratified(count):
    # components far apart: which one a draw is of shows
    weights = torch.tensor([0.5, 0.0, 0.3, 0.2]).log().unsqueeze(1).expand(-1, 6)
    mean = 1000 * torch.arange(4.0).reshape(4, 1, 1).expand(-1, 6, 1)
    posterior = Mixture(Gaussian(mean, torch.zeros(4, 6, 1)), weights)
    torch.manual_seed(0)
    number = (posterior.sample((count,)) / 1000).round().squeeze(-1)
    assert number.shape == (count, 6)
    for component, weight in enumerate([0.5, 0.0, 0.3, 0.2]):
        numbers = (number == component).sum(0)
        assert (numbers - weight * count).abs().max() < 2.1 if weight else not numbers.any()


def test_each_draw_of_a_mixture_has_its_distribution():
    # one draw from each of many rows: nothing is stratified, and moments and components are the mixture's
    one = mixture(1, seed=4)
    posterior = one[torch.zeros(40_000, dtype=torch.long)]
    torch.manual_seed(0)
    z = posterior.sample()
    error = (one.variance / 40_000).sqrt()
    assert ((z.mean(0) - one.mean) / error).abs().max() < 5
    assert (z.var(0) / one.variance - 1).abs().max() < 0.05


def test_draws_of_a_row_depend_on_its_own_noise_and_offset_only():
    posterior, noise, offset = mixture(5), random_numbers(30, 5, D, seed=9), torch.rand(5)
    z = posterior.placed(noise, offset)
    for row in range(5):
        torch.testing.assert_close(posterior[[row]].placed(noise[:, [row]], offset[[row]]), z[:, [row]])
    torch.testing.assert_close(posterior.placed(noise[:, :1], offset[:1])[:, 0], z[:, 0])  # the same for all rows


def test_an_index_takes_those_of_the_batch():
    for posterior in (gaussian(*BATCH), mixture(*BATCH)):
        z = random_numbers(*BATCH, D, seed=9)
        assert torch.equal(posterior[1].log_prob(z[1]), posterior.log_prob(z)[1])
        torch.testing.assert_close(posterior[:, [2, 0]].mean, posterior.mean[:, [2, 0]])


def test_divergences_of_gaussians_are_exact():
    p, q = gaussian(*BATCH), gaussian(*BATCH, seed=7)
    torch.testing.assert_close(kl(p, q), kl_divergence(as_torchs(p), as_torchs(q)))
    prior = Gaussian(torch.zeros_like(p.mean), torch.zeros_like(p.mean))
    torch.testing.assert_close(kl(p), kl_divergence(as_torchs(p), as_torchs(prior)))
    assert torch.equal(kl(p), p.divergences(p.mean))


def integrated(p, q):
    """KL[p, q] in one dimension by the trapezoidal rule."""
    z = torch.linspace(-40, 40, 200_001, dtype=torch.float64).reshape(-1, 1, 1)
    log_p = p.log_prob(z)
    log_q = log_prior(z) if q is None else q.log_prob(z)
    return torch.trapezoid(log_p.exp() * (log_p - log_q), z.reshape(-1, 1), dim=0)


def line(seed, count=1):
    """A mixture on a line, of batch shape `[1]`."""
    means = random_numbers(count, 1, 1, seed=seed) * 2
    return Mixture(Gaussian(means, random_numbers(count, 1, 1, seed=seed + 1)), random_numbers(count, 1, seed=seed + 2))


@pytest.mark.parametrize("other", ["prior", "gaussian", "mixture"])
@pytest.mark.parametrize("one", ["gaussian", "mixture"])
def test_estimated_divergences_are_right_on_average(one, other):
    p = line(0, 3) if one == "mixture" else line(0).components[0]
    q = {"prior": None, "gaussian": line(5).components[0], "mixture": line(5, 2)}[other]
    torch.manual_seed(0)
    many = p[torch.zeros(20_000, dtype=torch.long)]
    found = kl(many, q)
    error = found.std() / math.sqrt(len(found))
    assert (found.mean() - integrated(p, q)).abs() < 5 * error + 1e-9


def test_strata_give_the_divergence_from_the_prior_term_by_term():
    p = line(0, 3)
    many = p[torch.zeros(1, 20_000, dtype=torch.long)]  # [S, B]
    strata, share = many.strata()
    assert strata.batch_shape == share.shape == (3, 20_000)
    torch.manual_seed(0)
    values = (share * many.divergences(strata.rsample())).sum(0)
    assert (values.mean() - integrated(p, None)).abs() < 5 * values.std() / math.sqrt(20_000)


def test_gradients_of_strata_skip_what_is_not_part_of_it():
    mean, log_variance = (random_numbers(K, 1, 2, D, seed=s).requires_grad_() for s in (0, 1))
    weights = torch.zeros(K, 1, 2, dtype=torch.float64)
    weights[0, 0, 1] = -math.inf
    posterior = Mixture(Gaussian(mean, log_variance), weights)
    strata, share = posterior.strata()
    (share * posterior.divergences(strata.rsample())).sum().backward()
    for part in (mean, log_variance):
        assert part.grad.isfinite().all()
        assert part.grad[1:].all()
        assert not part.grad[0, 0, 1].any()
