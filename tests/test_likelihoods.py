"""Decoder heads against scipy, enumeration and numerical integration."""

import itertools
import math

import numpy as np
import pytest
import scipy.stats
import torch
from torch.distributions import Independent

from mvae.likelihoods import Bernoulli, Categorical, Laplace, Normal, PixelCrossEntropy, PixelCrossEntropyDistribution
from mvae.records import Element, Records
from mvae.testing import check_likelihood

SHAPED = [Bernoulli, PixelCrossEntropy, Normal, Laplace]
DENSITY = (PixelCrossEntropy, ())  # the one that is not normalised: no density of grey levels


def random(*shape, seed=0, scale=1.0):
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


HEADS = [head(shape) for head in SHAPED for shape in [(), (3,), (2, 3), (1, 2, 2)] if (head, shape) != DENSITY]
HEADS += [Categorical(7), *(Categorical(3, shape) for shape in [(4,), (1,), (2, 3)])]
HEADS += [Normal((), 0.01), Laplace((2,), None), Records([Element("normal"), Element("poisson"), Element("normal")])]


@pytest.mark.parametrize("head", HEADS, ids=str)
def test_every_likelihood_keeps_the_contract(head):
    shape = getattr(head, "shape", (3,))
    check_likelihood(head, torch.randint(0, 2, (4, *shape)).float())


@pytest.mark.parametrize("head", HEADS, ids=str)
@pytest.mark.parametrize("batch", [(), (5,), (0,)])
def test_means_and_modes_have_the_shape_of_observations(head, batch):
    distribution = head(torch.zeros(*batch, head.num_parameters))
    classes = isinstance(head, Categorical)
    if isinstance(head, (*SHAPED, Categorical, Records)):
        assert head.num_parameters == math.prod(distribution.event_shape) * (head.num_classes if classes else 1)
    assert (distribution.mode if classes else distribution.mean).shape == distribution.sample().shape
    assert (distribution.sample().dtype == torch.long) == classes
    assert distribution.batch_shape == batch


@pytest.mark.parametrize("head", [Bernoulli, PixelCrossEntropy])
def test_large_logits_stay_finite(head):
    logits = torch.tensor([[200.0], [-200.0]])
    distribution = head((1,))(logits)
    torch.testing.assert_close(distribution.log_prob(torch.tensor([[1.0], [0.0]])), torch.zeros(2))
    torch.testing.assert_close(distribution.log_prob(torch.tensor([[0.0], [1.0]])), torch.full((2,), -200.0))


def test_pixel_cross_entropy_is_the_cross_entropy_of_greys():
    logits, greys = random(5, 4, scale=3.0), torch.rand(5, 4, generator=torch.Generator().manual_seed(1)).double()
    pi = 1 / (1 + np.exp(-logits.numpy()))
    expected = (greys.numpy() * np.log(pi) + (1 - greys.numpy()) * np.log(1 - pi)).sum(-1)
    np.testing.assert_allclose(PixelCrossEntropy((4,))(logits).log_prob(greys).numpy(), expected, rtol=1e-10)


def test_pixel_cross_entropy_is_bernoulli_on_binary_pixels():
    logits, values = random(7, 12, scale=3.0), (random(7, 3, 4, seed=1) > 0).double()
    torch.testing.assert_close(
        PixelCrossEntropy((3, 4))(logits).log_prob(values), Bernoulli((3, 4))(logits).log_prob(values)
    )


@pytest.mark.parametrize("logit", [-8.0, -1.0, 1e-6, 0.5, 8.0])
def test_pixel_cross_entropy_is_no_density_over_greys(logit):
    # The integral over [0, 1] has the closed form tanh(logit / 2) / logit, at most 1/2.
    greys = torch.linspace(0, 1, 100_001, dtype=torch.float64)
    density = PixelCrossEntropyDistribution(torch.tensor(logit, dtype=torch.float64)).log_prob(greys).exp()
    integral = torch.trapezoid(density, greys).item()
    assert integral == pytest.approx(math.tanh(logit / 2) / logit, rel=1e-6)
    assert integral < 1


def test_pixel_cross_entropy_expands_under_independent():
    distribution = PixelCrossEntropy((2, 3))(random(5, 6))
    expanded = distribution.expand((4, 5))
    greys = torch.rand(5, 2, 3, generator=torch.Generator().manual_seed(1)).double()
    assert isinstance(expanded, Independent)
    assert expanded.batch_shape == (4, 5)
    assert expanded.event_shape == (2, 3)
    assert expanded.sample((7,)).shape == (7, 4, 5, 2, 3)
    torch.testing.assert_close(expanded.log_prob(greys), distribution.log_prob(greys).expand(4, 5))


def test_pixel_cross_entropy_draws_binary_pixels_around_its_mean():
    torch.manual_seed(0)
    distribution = PixelCrossEntropyDistribution(torch.tensor([-2.0, 0.0, 1.0]))
    drawn = distribution.sample((20_000,))
    assert set(drawn.unique().tolist()) == {0.0, 1.0}
    torch.testing.assert_close(distribution.mean, torch.tensor([1 / (1 + math.e**2), 0.5, 1 / (1 + 1 / math.e)]))
    # Five standard errors of a proportion are at most 0.018 here.
    torch.testing.assert_close(drawn.mean(0), distribution.mean, rtol=0, atol=0.018)


def test_the_mode_of_pixels_is_the_likelier_value():
    mode = PixelCrossEntropyDistribution(torch.tensor([-0.1, 0.1])).mode
    assert torch.equal(mode, torch.tensor([0.0, 1.0]))


@pytest.mark.parametrize("value", [-0.1, 1.1, math.nan])
def test_pixel_cross_entropy_validates_when_asked(value):
    distribution = PixelCrossEntropyDistribution(torch.zeros(1), validate_args=True)
    with pytest.raises(ValueError, match="support"):
        distribution.log_prob(torch.tensor([value]))


@pytest.mark.parametrize("head", SHAPED)
def test_gradients_of_log_prob_are_right(head):
    values = (random(3, 4, seed=1) > 0).double()
    assert torch.autograd.gradcheck(lambda p: head((4,))(p).log_prob(values), random(3, 4).requires_grad_())


def test_categorical_is_scipy_s_multinomial_of_one_draw():
    logits = random(3, 5, scale=2.0)
    probabilities = np.exp(logits.numpy()) / np.exp(logits.numpy()).sum(-1, keepdims=True)
    distribution = Categorical(5)(logits)
    for value in range(5):
        expected = scipy.stats.multinomial.logpmf(np.eye(5)[value], 1, probabilities)
        np.testing.assert_allclose(distribution.log_prob(torch.tensor(value)).numpy(), expected, rtol=1e-10)


@pytest.mark.parametrize(("head", "family"), [(Normal, scipy.stats.norm), (Laplace, scipy.stats.laplace)])
@pytest.mark.parametrize("scale", [0.01, 0.7, 30.0])
def test_location_and_scale_are_scipy_s(head, family, scale):
    location, values = random(5, 4), random(5, 4, seed=1)
    expected = family.logpdf(values.numpy(), location.numpy(), scale).sum(-1)
    # The scale is kept in float32.
    np.testing.assert_allclose(head((4,), scale)(location).log_prob(values).numpy(), expected, rtol=2e-6)


@pytest.mark.parametrize(("head", "family"), [(Normal, scipy.stats.norm), (Laplace, scipy.stats.laplace)])
def test_a_learned_scale_is_one_an_element(head, family):
    likelihood = head((2, 2), scale=None).double()
    assert likelihood.log_scale.shape == (2, 2)
    likelihood.log_scale.data = random(2, 2, seed=2)
    location, values = random(3, 4), random(3, 2, 2, seed=1)
    scale = likelihood.log_scale.exp().detach().numpy()
    expected = family.logpdf(values.numpy(), location.reshape(3, 2, 2).numpy(), scale).sum((-1, -2))
    np.testing.assert_allclose(likelihood(location).log_prob(values).detach().numpy(), expected, rtol=1e-10)


def test_a_learned_scale_starts_at_one_and_gets_the_gradient_of_the_formula():
    likelihood = Normal((3,), scale=None).double()
    location, values = random(5, 3), random(5, 3, seed=1)
    likelihood(location).log_prob(values).sum().backward()
    torch.testing.assert_close(likelihood.log_scale.exp().detach(), torch.ones(3, dtype=torch.float64))
    # d/d log s of -log s - r^2 / (2 s^2), at s = 1
    torch.testing.assert_close(likelihood.log_scale.grad, ((values - location).square() - 1).sum(0))


def test_a_learned_scale_finds_the_spread_of_the_residuals():
    likelihood = Laplace((), scale=None).double()
    residuals = random(1000, scale=3.0)
    optimiser = torch.optim.LBFGS(likelihood.parameters(), max_iter=50)

    def loss():
        optimiser.zero_grad()
        value = -likelihood(torch.zeros(1000, 1, dtype=torch.float64)).log_prob(residuals).mean()
        value.backward()
        return value

    optimiser.step(loss)
    # The maximum-likelihood scale of a Laplace is the mean absolute residual.
    assert likelihood.log_scale.exp().item() == pytest.approx(residuals.abs().mean().item(), rel=1e-4)


@pytest.mark.parametrize("head", [Normal, Laplace])
def test_only_a_learned_scale_is_a_parameter_and_is_saved(head):
    assert not list(head((3,), 2.0).parameters())
    assert not head((3,), 2.0).state_dict()
    assert list(head((3,), None).state_dict()) == ["log_scale"]


@pytest.mark.parametrize("head", [Normal, Laplace])
@pytest.mark.parametrize("scale", [0.0, -1.0, math.nan])
def test_a_wrong_scale_is_refused(head, scale):
    with pytest.raises(ValueError, match=rf"^scale: expected a number above 0.*got {scale}"):
        head((3,), scale)


def test_a_string_is_scored_symbol_by_symbol():
    logits, symbols = random(5, 12, scale=2.0), torch.randint(0, 3, (5, 4), generator=torch.Generator().manual_seed(1))
    each = logits.reshape(5, 4, 3).numpy()
    probabilities = np.exp(each) / np.exp(each).sum(-1, keepdims=True)
    expected = [
        sum(math.log(probabilities[row, place, symbol]) for place, symbol in enumerate(symbols[row]))
        for row in range(5)
    ]
    np.testing.assert_allclose(Categorical(3, (4,))(logits).log_prob(symbols).numpy(), expected, rtol=1e-10)


def test_the_mode_of_a_string_is_the_likeliest():
    everything = torch.tensor(list(itertools.product(range(3), repeat=4)))
    distribution = Categorical(3, (4,))(random(12, scale=2.0))
    assert distribution.log_prob(distribution.mode) == distribution.log_prob(everything).max()


def test_drawn_strings_have_the_probabilities_of_the_formula():
    torch.manual_seed(0)
    logits = torch.tensor([0.0, 1.0, 2.0, 0.5, 0.5, -1.0])
    drawn = Categorical(3, (2,))(logits).sample((20_000,))
    for place in range(2):
        shares = torch.bincount(drawn[:, place], minlength=3) / 20_000
        # Five standard errors of a proportion are at most 0.018 here.
        torch.testing.assert_close(shares, logits.reshape(2, 3)[place].softmax(0), rtol=0, atol=0.018)
