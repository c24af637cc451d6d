"""Products of experts against numerical integration and float64 formulas."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch.distributions import Normal, kl_divergence

from mvae.experts import first_expert, kl_between, kl_to_prior, product_of_experts, quotient_of_experts


def reference(mean, log_variance, subsets, present):
    """Eq. 4 as it is written, in float64; `subsets` is [S, B, N]."""
    member = (subsets & present).unsqueeze(-1)
    precision = torch.where(member, (-log_variance.double()).exp().transpose(0, 1), 0.0)
    weighted = torch.where(member, precision * mean.double().transpose(0, 1), 0.0)
    total = 1 + precision.sum(2)
    return weighted.sum(2) / total, -total.log()


def random_experts(num_modalities, rows, dim, dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    mean = torch.randn(num_modalities, rows, dim, generator=generator, dtype=dtype)
    return mean, 2 * torch.randn(num_modalities, rows, dim, generator=generator, dtype=dtype)


def all_subsets(num_modalities):
    return torch.tensor(list(itertools.product([False, True], repeat=num_modalities)))


@st.composite
def experts_and_tables(draw):
    n, b, d, s = (draw(st.integers(1, top)) for top in (5, 3, 2, 4))
    mean = draw(arrays(np.float32, (n, b, d), elements=st.floats(-1000, 1000, width=32)))
    log_variance = draw(arrays(np.float32, (n, b, d), elements=st.floats(-30, 30, width=32)))
    subsets = draw(arrays(np.bool_, (s, n)))
    present = draw(arrays(np.bool_, (b, n)))
    return tuple(map(torch.from_numpy, (mean, log_variance, subsets, present)))


@pytest.mark.parametrize(
    "experts",
    [
        [],
        [(1.5, 0.3)],
        [(2.0, 0.0), (-1.0, 0.0)],
        [(-2.0, -3.0), (1.0, 1.0), (0.5, 2.0)],
        [(1.0, -1.0), (1.2, -2.0), (-0.7, 0.5), (3.0, 4.0)],
    ],
)
def test_product_has_the_moments_of_the_multiplied_densities(experts):
    z = np.linspace(-12, 12, 200_001)
    log_density = -0.5 * z**2  # the prior, once
    for mu, log_variance in experts:
        log_density = log_density - 0.5 * (z - mu) ** 2 / math.exp(log_variance)
    weight = np.exp(log_density - log_density.max())
    weight /= weight.sum()
    expected_mean = (weight * z).sum()
    expected_variance = (weight * (z - expected_mean) ** 2).sum()

    # One unused expert more, so that the list may be empty.
    table = torch.tensor([[True] * len(experts) + [False]])
    mu, log_variance = torch.tensor([*experts, (9.0, -9.0)], dtype=torch.float64).T
    mean, log_variance = product_of_experts(mu[:, None, None], log_variance[:, None, None], table)

    assert mean.item() == pytest.approx(expected_mean, abs=1e-9)
    assert log_variance.exp().item() == pytest.approx(expected_variance, rel=1e-7)


@given(experts_and_tables())
@settings(max_examples=150, deadline=None)
def test_float32_agrees_with_a_float64_reference(drawn):
    mean, log_variance, subsets, present = drawn
    table = subsets[:, None].expand(-1, len(present), -1)
    expected_mean, expected_log_variance = reference(mean, log_variance, table, present)
    sizes = torch.where((table & present).unsqueeze(-1), mean.abs().transpose(0, 1), 0.0).amax(2).double()

    got_mean, got_log_variance = product_of_experts(mean, log_variance, subsets, present)

    assert got_mean.dtype == got_log_variance.dtype == torch.float32
    assert ((got_log_variance - expected_log_variance).abs() <= 1e-5).all()
    assert ((got_mean - expected_mean).abs() <= 1e-5 * sizes + 1e-30).all()


@given(experts_and_tables())
@settings(max_examples=50, deadline=None)
def test_presence_leaves_experts_out_of_each_rows_subsets(drawn):
    mean, log_variance, subsets, present = drawn
    mean, log_variance = mean.double(), log_variance.double()
    product = product_of_experts(mean, log_variance, subsets, present)
    for row, has in enumerate(present):
        alone = product_of_experts(mean[:, [row]], log_variance[:, [row]], subsets & has)
        for got, expected in zip(product, alone, strict=True):
            torch.testing.assert_close(got[:, [row]], expected, rtol=1e-9, atol=1e-9)


def test_gradients_are_those_of_the_function():
    mean, log_variance = random_experts(3, 4, 2, torch.float64)
    present = torch.tensor([[1, 1, 1], [1, 0, 1], [0, 0, 1], [0, 0, 0]]).bool()

    def product(mean, log_variance):
        return product_of_experts(mean, log_variance, all_subsets(3), present)

    assert torch.autograd.gradcheck(product, (mean.requires_grad_(), log_variance.requires_grad_()))


@pytest.mark.parametrize("placeholder", [math.nan, math.inf, -math.inf, 1e38])
def test_absent_experts_change_neither_values_nor_gradients(placeholder):
    present = torch.tensor([[1, 1, 1], [1, 0, 1], [0, 1, 0], [0, 0, 0]]).bool()
    subsets = all_subsets(3)

    def value_and_gradients(filler):
        experts = [torch.where(present.T[..., None], x, filler) for x in random_experts(3, 4, 2)]
        experts = [x.requires_grad_() for x in experts]
        product = product_of_experts(*experts, subsets, present)
        return [*product, *torch.autograd.grad(sum(x.square().sum() for x in product), experts)]

    for got, expected in zip(value_and_gradients(placeholder), value_and_gradients(0.0), strict=True):
        assert torch.equal(got, expected)


@pytest.mark.parametrize("num_modalities", [1, 2, 3, 10, 100])
def test_the_prior_is_in_the_product_exactly_once(num_modalities):
    # N unit experts at 1 and one prior at 0: precision N + 1, mean N / (N + 1).
    ones = torch.ones(num_modalities, 1, 1, dtype=torch.float64)
    everything = torch.ones(1, num_modalities, dtype=torch.bool)
    mean, log_variance = product_of_experts(ones, torch.zeros_like(ones), everything)
    assert mean.item() == pytest.approx(num_modalities / (num_modalities + 1), rel=1e-12)
    assert log_variance.item() == pytest.approx(-math.log(num_modalities + 1), rel=1e-12)


@pytest.mark.parametrize("num_modalities", [1, 5, 50])
def test_experts_that_say_nothing_leave_the_prior(num_modalities):
    mean = torch.full((num_modalities, 2, 3), 5.0)
    everything = torch.ones(1, num_modalities, dtype=torch.bool)
    mean, log_variance = product_of_experts(mean, torch.full_like(mean, 60.0), everything)
    torch.testing.assert_close(mean, torch.zeros(1, 2, 3), rtol=0, atol=1e-20)
    torch.testing.assert_close(log_variance, torch.zeros(1, 2, 3), rtol=0, atol=1e-20)


def test_the_empty_subset_is_the_prior():
    mean, log_variance = product_of_experts(*random_experts(3, 4, 2), torch.zeros(1, 3, dtype=torch.bool))
    assert torch.equal(mean, torch.zeros(1, 4, 2))
    torch.testing.assert_close(log_variance, torch.zeros(1, 4, 2), rtol=0, atol=1e-6)


def test_a_row_with_nothing_present_gets_the_prior_in_each_subset():
    present = torch.tensor([[False, False], [True, True]])
    mean, log_variance = product_of_experts(*random_experts(2, 2, 3), all_subsets(2), present)
    assert torch.equal(mean[:, 0], torch.zeros(4, 3))
    assert torch.equal(log_variance[:, 0], torch.zeros(4, 3))


@given(st.permutations(range(4)))
@settings(max_examples=24, deadline=None)
def test_the_order_of_experts_does_not_matter(order):
    mean, log_variance = random_experts(4, 2, 3, torch.float64)
    subsets = all_subsets(4)
    for got, expected in zip(
        product_of_experts(mean[order], log_variance[order], subsets[:, order]),
        product_of_experts(mean, log_variance, subsets),
        strict=True,
    ):
        torch.testing.assert_close(got, expected)


@given(st.permutations(range(8)))
@settings(max_examples=20, deadline=None)
def test_each_subset_keeps_its_place(order):
    # Subsets of one modality take a path of their own; the results must come back in the table's order.
    experts = random_experts(3, 2, 2, torch.float64)
    for got, expected in zip(
        product_of_experts(*experts, all_subsets(3)[order]), product_of_experts(*experts, all_subsets(3)), strict=True
    ):
        torch.testing.assert_close(got, expected[order])


def test_extreme_log_variances_stay_finite():
    extremes = list(itertools.product([-100.0, -90.0, 0.0, 90.0, 100.0], repeat=3))
    log_variance = torch.tensor(extremes).T.unsqueeze(-1).requires_grad_()
    mean = torch.tensor([3.0, -2.0, 1.0])[:, None, None].expand_as(log_variance).clone().requires_grad_()
    product = product_of_experts(mean, log_variance, all_subsets(3))
    gradients = torch.autograd.grad(sum(x.sum() for x in product), (mean, log_variance))

    assert all(x.isfinite().all() for x in (*product, *gradients))
    assert (product[0].abs() <= 3 + 1e-5).all()


def test_exact_down_to_the_bound_that_the_docstring_states():
    log_variance = torch.tensor(list(itertools.product([-79.0, -40.0, 0.0, 79.0], repeat=3))).T.unsqueeze(-1)
    mean = torch.tensor([3.0, -2.0, 1.0])[:, None, None].expand_as(log_variance)
    table = all_subsets(3)[:, None].expand(-1, log_variance.shape[1], -1)
    expected = reference(mean, log_variance, table, torch.ones_like(table[0]))
    for got, value in zip(product_of_experts(mean, log_variance, all_subsets(3)), expected, strict=True):
        torch.testing.assert_close(got.double(), value, rtol=1e-5, atol=3e-5)


@pytest.mark.parametrize("log_variance", [-100.0, 100.0])
def test_an_extreme_expert_alone_is_exact(log_variance):
    mean, got = product_of_experts(
        torch.full((1, 1, 1), 3.0), torch.full((1, 1, 1), log_variance), torch.ones(1, 1, dtype=torch.bool)
    )
    assert got.item() == pytest.approx(min(log_variance, 0.0), abs=1e-5)
    assert mean.item() == pytest.approx(3.0 if log_variance < 0 else 0.0, abs=1e-5)


def test_autocast_does_not_change_the_result():
    experts = random_experts(3, 4, 5)
    subsets = all_subsets(3)
    expected = product_of_experts(*experts, subsets)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = product_of_experts(*experts, subsets)
    for a, b in zip(got, expected, strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_narrow_floats_are_computed_in_float32(dtype):
    experts = [x.to(dtype) for x in random_experts(2, 4, 5)]
    got = product_of_experts(*experts, all_subsets(2))
    expected = product_of_experts(*(x.float() for x in experts), all_subsets(2))
    for a, b in zip(got, expected, strict=True):
        assert torch.equal(a, b)


@given(
    arrays(np.float64, (3, 2), elements=st.floats(-100, 100)), arrays(np.float64, (3, 2), elements=st.floats(-30, 30))
)
@settings(max_examples=100, deadline=None)
def test_kl_to_prior_is_torch_s_kl_and_not_negative(mean, log_variance):
    mean, log_variance = torch.from_numpy(mean), torch.from_numpy(log_variance)
    posterior = Normal(mean, (0.5 * log_variance).exp())
    expected = kl_divergence(posterior, Normal(torch.zeros_like(mean), torch.ones_like(mean))).sum(-1)
    got = kl_to_prior(mean, log_variance)
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)
    assert (got >= -1e-15).all()
    assert (kl_to_prior(mean.float(), log_variance.float()) >= -1e-7).all()


def test_kl_to_prior_is_zero_and_flat_at_the_prior():
    mean, log_variance = (torch.zeros(4, 3).requires_grad_() for _ in range(2))
    kl = kl_to_prior(mean, log_variance)
    kl.sum().backward()
    assert torch.equal(kl, torch.zeros(4))
    assert torch.equal(mean.grad, torch.zeros(4, 3))
    assert torch.equal(log_variance.grad, torch.zeros(4, 3))


def test_kl_to_prior_keeps_small_divergences_in_float32():
    # exp(v) - 1 - v by subtraction would leave only rounding error here.
    log_variance = torch.tensor([[1e-3]])
    expected = 0.5 * (math.expm1(1e-3) - 1e-3)
    assert kl_to_prior(torch.zeros(1, 1), log_variance).item() == pytest.approx(expected, rel=1e-3)


# The quotient


def quotient_reference(mean, log_variance, subsets, present):
    """Eq. 3 as it is written, in float64: all precisions of a subset, less the prior's for each but one."""
    member = (subsets[:, None] & present).unsqueeze(-1)  # [S, B, N, 1]
    precision = torch.where(member, (-log_variance.double()).exp().transpose(0, 1), 0.0)
    weighted = torch.where(member, precision * mean.double().transpose(0, 1), 0.0).sum(2)
    # sum(T_i - 1) + 1, each difference by expm1, since next to the prior T_i - 1 is lost in T_i
    excess = torch.where(member, (-log_variance.double()).expm1().transpose(0, 1), 0.0).sum(2)
    return weighted / (1 + excess), -excess.log1p()


@st.composite
def posteriors_and_tables(draw):
    n, b, d = (draw(st.integers(1, top)) for top in (4, 3, 2))
    mean = draw(arrays(np.float32, (n, b, d), elements=st.floats(-1000, 1000, width=32)))
    near = st.sampled_from([-1e-5, -1e-3, -1e-7, 0.0]).map(np.float32).map(float)
    log_variance = draw(arrays(np.float32, (n, b, d), elements=st.one_of(st.floats(-30, 0, width=32), near)))
    present = draw(arrays(np.bool_, (b, n)))
    return torch.from_numpy(mean), torch.from_numpy(log_variance), all_subsets(n), torch.from_numpy(present)


@given(posteriors_and_tables())
@settings(max_examples=150, deadline=None)
def test_the_quotient_agrees_with_a_float64_reference(drawn):
    mean, log_variance, subsets, present = drawn
    expected_mean, expected_log_variance = quotient_reference(mean, log_variance, subsets, present)
    # a precise expert far off pulls with its precision times its mean; no sum of float32 is better than its summands
    member = (subsets[:, None] & present).unsqueeze(-1)
    precision = torch.where(member, (-log_variance.double()).exp().transpose(0, 1), 0.0)
    pulls = (precision * mean.double().abs().transpose(0, 1)).sum(2) * expected_log_variance.exp()

    got_mean, got_log_variance = quotient_of_experts(mean, log_variance, subsets, present)

    assert got_mean.dtype == got_log_variance.dtype == torch.float32
    assert ((got_log_variance - expected_log_variance).abs() <= 2e-5).all()
    assert ((got_mean - expected_mean).abs() <= 2e-5 * pulls + 1e-30).all()


@pytest.mark.parametrize("experts", [[(1.5, 0.3)], [(2.0, 0.9), (-1.0, 0.4)], [(-2.0, 0.1), (1.0, 0.99), (0.5, 0.6)]])
def test_the_quotient_has_the_moments_of_the_divided_densities(experts):
    z = np.linspace(-12, 12, 200_001)
    log_density = 0.5 * (len(experts) - 1) * z**2  # over the prior to the power M - 1
    for mu, variance in experts:
        log_density = log_density - 0.5 * (z - mu) ** 2 / variance
    weight = np.exp(log_density - log_density.max())
    weight /= weight.sum()
    expected_mean = (weight * z).sum()

    mu, variance = torch.tensor(experts, dtype=torch.float64).T
    everything = torch.ones(1, len(experts), dtype=torch.bool)
    mean, log_variance = quotient_of_experts(mu[:, None, None], variance.log()[:, None, None], everything)

    assert mean.item() == pytest.approx(expected_mean, abs=1e-9)
    assert log_variance.exp().item() == pytest.approx((weight * (z - expected_mean) ** 2).sum(), rel=1e-7)


@pytest.mark.parametrize("log_variance", [-100.0, -60.0, -30.0, -1.0, -1e-3, -1e-5, -1e-7, 0.0])
def test_a_posterior_alone_is_its_own_quotient(log_variance):
    mean, got = quotient_of_experts(
        torch.full((1, 1, 1), 3.0), torch.full((1, 1, 1), log_variance), torch.ones(1, 1, dtype=torch.bool)
    )
    assert mean.item() == pytest.approx(3.0, rel=1e-5)
    assert got.item() == pytest.approx(log_variance, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("num_modalities", [1, 2, 30])
def test_posteriors_that_are_the_prior_leave_the_prior(num_modalities):
    zeros = torch.zeros(num_modalities, 2, 3)
    for subsets in (torch.ones(1, num_modalities, dtype=torch.bool), torch.zeros(1, num_modalities, dtype=torch.bool)):
        mean, log_variance = quotient_of_experts(zeros, zeros, subsets)
        assert not mean.any()
        assert not log_variance.any()


def test_the_empty_quotient_and_that_of_an_empty_row_are_the_prior():
    mean, log_variance = random_experts(2, 3, 2)
    present = torch.tensor([[False, False], [True, False], [True, True]])
    mean, log_variance = quotient_of_experts(mean, -log_variance.abs(), all_subsets(2), present)
    for empty in (mean[0], log_variance[0], mean[:, 0], log_variance[:, 0]):
        torch.testing.assert_close(empty, torch.zeros_like(empty), rtol=0, atol=1e-6)


@pytest.mark.parametrize("placeholder", [math.nan, math.inf, -math.inf, 1e38])
def test_absent_posteriors_change_neither_quotient_nor_gradients(placeholder):
    present = torch.tensor([[1, 1, 1], [1, 0, 1], [0, 1, 0], [0, 0, 0]]).bool()

    def value_and_gradients(filler):
        mean, log_variance = random_experts(3, 4, 2)
        experts = [torch.where(present.T[..., None], x, filler) for x in (mean, -log_variance.abs())]
        experts = [x.requires_grad_() for x in experts]
        quotient = quotient_of_experts(*experts, all_subsets(3), present)
        return [*quotient, *torch.autograd.grad(sum(x.square().sum() for x in quotient), experts)]

    for got, expected in zip(value_and_gradients(placeholder), value_and_gradients(0.0), strict=True):
        assert torch.equal(got, expected)
        assert got.isfinite().all()


def test_gradients_of_the_quotient_are_those_of_the_function():
    mean, log_variance = random_experts(3, 4, 2, torch.float64)
    log_variance = -log_variance.abs() - 0.01
    present = torch.tensor([[1, 1, 1], [1, 0, 1], [0, 0, 1], [0, 0, 0]]).bool()

    def quotient(mean, log_variance):
        return quotient_of_experts(mean, log_variance, all_subsets(3), present)

    assert torch.autograd.gradcheck(quotient, (mean.requires_grad_(), log_variance.requires_grad_()))


def test_quotients_of_extreme_posteriors_stay_finite():
    extremes = list(itertools.product([-100.0, -88.0, -40.0, -1e-5, 0.0], repeat=3))
    log_variance = torch.tensor(extremes).T.unsqueeze(-1).requires_grad_()
    mean = torch.tensor([3.0, -2.0, 1.0])[:, None, None].expand_as(log_variance).clone().requires_grad_()
    quotient = quotient_of_experts(mean, log_variance, all_subsets(3))
    gradients = torch.autograd.grad(sum(x.sum() for x in quotient), (mean, log_variance))
    assert all(x.isfinite().all() for x in (*quotient, *gradients))
    assert (quotient[1] <= 1e-6).all()


@given(st.permutations(range(4)))
@settings(max_examples=24, deadline=None)
def test_the_order_of_posteriors_does_not_matter(order):
    mean, log_variance = random_experts(4, 2, 3, torch.float64)
    log_variance, subsets = -log_variance.abs(), all_subsets(4)
    for got, expected in zip(
        quotient_of_experts(mean[order], log_variance[order], subsets[:, order]),
        quotient_of_experts(mean, log_variance, subsets),
        strict=True,
    ):
        torch.testing.assert_close(got, expected)


def test_the_quotient_ignores_autocast_and_computes_narrow_floats_in_float32():
    mean, log_variance = random_experts(3, 4, 5)
    mean, log_variance = mean.bfloat16(), -log_variance.abs().bfloat16()
    expected = quotient_of_experts(mean.float(), log_variance.float(), all_subsets(3))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = quotient_of_experts(mean, log_variance, all_subsets(3))
    assert all(torch.equal(a, b) for a, b in zip(got, expected, strict=True))


# The first expert


@pytest.mark.parametrize("use_presence", [False, True])
def test_the_first_expert_is_the_first_of_the_subset_that_the_row_has(use_presence):
    mean, log_variance = random_experts(3, 8, 2)
    present = all_subsets(3) if use_presence else torch.ones(8, 3, dtype=torch.bool)
    subsets = all_subsets(3)
    got = first_expert(mean, log_variance, subsets, present if use_presence else None)
    for index, row in itertools.product(range(8), range(8)):
        members = (subsets[index] & present[row]).nonzero().flatten().tolist()
        for experts, found in zip((mean, log_variance), got, strict=True):
            assert torch.equal(found[index, row], experts[members[0], row] if members else torch.zeros(2))


@pytest.mark.parametrize("placeholder", [math.nan, math.inf])
def test_an_absent_expert_is_never_the_first_nor_in_the_gradient(placeholder):
    present = torch.tensor([[1, 1], [0, 1], [1, 0], [0, 0]]).bool()
    experts = [torch.where(present.T[..., None], x, placeholder).requires_grad_() for x in random_experts(2, 4, 2)]
    found = first_expert(*experts, all_subsets(2), present)
    gradients = torch.autograd.grad(sum(x.square().sum() for x in found), experts)
    assert all(x.isfinite().all() for x in (*found, *gradients))
    assert not any(x.transpose(0, 1)[~present].any() for x in gradients)


# Divergences between two posteriors


@given(*(arrays(np.float64, (3, 2), elements=st.floats(-low, low)) for low in (100, 20, 100, 20)))
@settings(max_examples=100, deadline=None)
def test_kl_between_is_torch_s_kl_and_not_negative(mean, log_variance, other_mean, other_log_variance):
    numbers = [torch.from_numpy(x) for x in (mean, log_variance, other_mean, other_log_variance)]
    posteriors = [Normal(m, (0.5 * v).exp()) for m, v in (numbers[:2], numbers[2:])]
    got = kl_between(*numbers)
    torch.testing.assert_close(got, kl_divergence(*posteriors).sum(-1), rtol=1e-9, atol=1e-9)
    assert (got >= -1e-12).all()
    assert (kl_between(*(x.float() for x in numbers)) >= -1e-5).all()


def test_kl_between_a_posterior_and_the_prior_is_kl_to_prior():
    mean, log_variance = random_experts(2, 3, 4)
    zeros = torch.zeros_like(mean)
    torch.testing.assert_close(kl_between(mean, log_variance, zeros, zeros), kl_to_prior(mean, log_variance))


def test_kl_between_equal_posteriors_is_zero_and_flat():
    numbers = [x.requires_grad_() for x in (*random_experts(2, 3, 4), *random_experts(2, 3, 4))]
    kl = kl_between(*numbers)
    assert not kl.any()
    assert not any(x.any() for x in torch.autograd.grad(kl.sum(), numbers))


def test_gradients_of_kl_between_are_those_of_torch_s():
    numbers = [x.requires_grad_() for seed in (0, 1) for x in random_experts(2, 3, 4, torch.float64, seed)]
    posteriors = [Normal(m, (0.5 * v).exp()) for m, v in (numbers[:2], numbers[2:])]
    expected = torch.autograd.grad(kl_divergence(*posteriors).sum(), numbers)
    for got, value in zip(torch.autograd.grad(kl_between(*numbers).sum(), numbers), expected, strict=True):
        torch.testing.assert_close(got, value)


def test_kl_between_keeps_small_divergences_in_float32():
    expected = 0.5 * (math.expm1(1e-3) - 1e-3)
    got = kl_between(*(torch.tensor([[x]]) for x in (2.0, -0.499, 2.0, -0.5)))
    assert got.item() == pytest.approx(expected, rel=1e-2)
