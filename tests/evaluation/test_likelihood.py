import itertools
import math
import textwrap

import pytest
import torch
from torch import nn

import mvae
from forked import run_python
from linear_gaussian import conditional_linear_gaussian, conditional_rows, exact_conditional, linear_gaussian_of
from mvae.batch import Batch
from mvae.evaluation.likelihood import conditional, importance_draws, marginal_likelihoods
from mvae.likelihoods import Categorical
from mvae.linear_gaussian import draws, exact_log_likelihood, linear_gaussian
from mvae.modality import Condition, Decoder, Modality
from mvae.models import CVAE, JMVAE, METHODS, MMVAE, MVAEQ, TELBO, VAE, BiVCCA
from mvae.networks.mlp import EmbeddingEncoder, MLPDecoder
from mvae.seeds import seed_of
from small_models import build, complete_rows

SUBSETS = [("a",), ("b",), ("a", "c"), ("a", "b", "c")]
QUESTIONS = [
    (targets, given)
    for targets, given in itertools.product(SUBSETS, [(), ("b",), ("c",), ("b", "c")])
    if not set(targets) & set(given)
]


@pytest.mark.parametrize(("targets", "given"), QUESTIONS)
def test_exact_posterior_gives_exact_likelihood_without_variance(targets, given):
    model, parameters = linear_gaussian()
    batch = draws(parameters, 20)
    estimate = mvae.log_likelihood(model, batch, targets, given, num_samples=10, prior_share=0)
    truth = exact_log_likelihood(parameters, batch, targets + given) - exact_log_likelihood(parameters, batch, given)
    torch.testing.assert_close(estimate.value, truth, atol=2e-4, rtol=1e-5)
    assert estimate.log_weight_variance.max() < 1e-6
    torch.testing.assert_close(estimate.effective_sample_size, torch.full((20,), 10.0).double(), atol=1e-3, rtol=0)


@pytest.mark.parametrize("proposal", [("a",), ("c",), ("a", "b"), ("a", "b", "c")])
@pytest.mark.parametrize(("targets", "given"), QUESTIONS)
def test_wrong_posterior_is_right_within_its_standard_error(targets, given, proposal):
    model, parameters = linear_gaussian(latent_dim=2, error=0.2)
    batch = draws(parameters, 40)
    estimate = mvae.log_likelihood(model, batch, targets, given, proposal=proposal, num_samples=4000)
    truth = exact_log_likelihood(parameters, batch, targets + given) - exact_log_likelihood(parameters, batch, given)
    errors = (estimate.value - truth) / estimate.standard_error
    assert errors.abs().max() < 5
    assert 0.5 < errors.square().mean().sqrt() < 1.6


@pytest.mark.parametrize("prior_share", [0.1, 0.25, 0.6])
def test_draws_from_the_prior_reach_what_a_narrow_posterior_misses(prior_share):
    model, parameters = linear_gaussian(latent_dim=2, error=-4.0)  # too narrow by exp(-2), and far off
    batch = draws(parameters, 300)
    truth = exact_log_likelihood(parameters, batch, ("a",))
    alone = mvae.log_likelihood(model, batch, "a", num_samples=1000, prior_share=0)
    assert ((truth - alone.value) / alone.standard_error).mean() > 3  # what its error does not tell
    both = mvae.log_likelihood(model, batch, "a", num_samples=1000, prior_share=prior_share)
    assert both.from_prior == 1000 * prior_share
    errors = (both.value - truth) / both.standard_error
    assert 0.7 < errors.square().mean().sqrt() < 1.4
    assert errors.abs().max() < 5
    # the variance of the log weights is that of q, whatever else is drawn
    ratio = both.log_weight_variance.mean() / alone.log_weight_variance.mean()
    assert 0.9 < ratio < 1.1


def test_draws_from_the_prior_are_spread_over_all_draws():
    model, parameters = linear_gaussian()
    batch = model.checked(draws(parameters, 3))
    pieces = list(importance_draws(model, batch, ("a",), ("a",), 2500, memory=1, prior_share=0.25))
    chosen = torch.cat([piece.from_prior for piece in pieces if piece.rows.start == 0])
    assert len(chosen) == 2500
    assert chosen.reshape(-1, 4).sum(1).tolist() == [1] * 625
    z = torch.cat([piece.z for piece in pieces])[torch.cat([piece.from_prior for piece in pieces])]
    assert abs(z.mean()) < 0.1
    assert 0.9 < z.std() < 1.1


def test_prior_estimator_of_the_denominator_agrees():
    model, parameters = linear_gaussian(latent_dim=2, error=0.2)
    batch = draws(parameters, 30)
    truth = exact_log_likelihood(parameters, batch, ("a", "b")) - exact_log_likelihood(parameters, batch, ("b",))
    estimate = mvae.log_likelihood(model, batch, ["a"], ["b"], denominator="prior", denominator_samples=5000)
    assert ((estimate.value - truth) / estimate.standard_error).abs().max() < 5


def test_joint_is_marginal_plus_conditional():
    model, parameters = linear_gaussian(latent_dim=2, error=0.2)
    batch = draws(parameters, 30)
    joint = mvae.log_likelihood(model, batch, ["a", "b"], num_samples=2000)
    marginal = mvae.log_likelihood(model, batch, ["b"], num_samples=2000, seed=1)
    conditional = mvae.log_likelihood(model, batch, ["a"], ["b"], num_samples=2000, seed=2)
    error = torch.stack([part.standard_error for part in (joint, marginal, conditional)]).square().sum(0).sqrt()
    assert ((joint.value - marginal.value - conditional.value) / error).abs().max() < 5


def test_bound_rises_with_the_number_of_samples():
    model, parameters = linear_gaussian(latent_dim=2, error=-1.0)  # too narrow, and always at 0
    batch = draws(parameters, 1000)
    means = [mvae.log_likelihood(model, batch, ["a", "b", "c"], num_samples=k).mean() for k in (2, 8, 32, 256)]
    truth = exact_log_likelihood(parameters, batch, ("a", "b", "c")).mean().item()
    assert means == sorted(means)
    assert means[0] < truth - 0.1
    assert truth - 0.1 < means[-1] < truth + 0.02


def test_incomplete_rows_are_scored_on_what_they_have():
    model, parameters = linear_gaussian()
    batch = draws(parameters, 4)
    present = torch.tensor([[1, 1, 1], [1, 0, 0], [0, 1, 1], [0, 0, 1]], dtype=torch.bool)
    for index, name in enumerate("abc"):
        batch.values[name][~present[:, index]] = math.nan
    holes = Batch(batch.values, dict(zip("abc", present.T, strict=True)))
    value = mvae.log_likelihood(model, holes, ["a", "b"], num_samples=5).value
    for row, names in enumerate([("a", "b"), ("a",), ("b",)]):
        truth = exact_log_likelihood(parameters, batch[row : row + 1], names)
        torch.testing.assert_close(value[row : row + 1], truth, atol=2e-4, rtol=1e-5)
    assert value[3].isnan()
    given_absent = mvae.log_likelihood(model, holes[1:2], ["a"], ["b"], num_samples=5).value
    torch.testing.assert_close(given_absent, exact_log_likelihood(parameters, batch[1:2], ("a",)), atol=2e-4, rtol=1e-5)


def test_latent_free_categories_by_enumeration():
    # Decoders that ignore z: p(x, y) is a product of two tables.
    logits = {"x": torch.tensor([0.3, -1.0, 2.0]), "y": torch.tensor([1.0, 0.0])}
    modalities = {}
    for name, values in logits.items():
        network = MLPDecoder(2, len(values), hidden=[3])
        nn.init.zeros_(network.head.weight)
        network.head.bias.data = values
        modalities[name] = Modality(
            EmbeddingEncoder(len(values), 2, [4]), Decoder(network, Categorical(len(values))), 2
        )
    model = mvae.MVAE(modalities, 2).eval()
    pairs = torch.cartesian_prod(torch.arange(3), torch.arange(2))
    batch = Batch({"x": pairs[:, 0], "y": pairs[:, 1]})
    log_x, log_y = (logits[name].double().log_softmax(0)[batch.values[name]] for name in "xy")
    # From the prior the weights are exact; the sum over all pairs is then 1.
    joint = mvae.log_likelihood(model, batch, ["x", "y"], proposal=(), num_samples=4).value
    torch.testing.assert_close(joint, log_x + log_y, atol=1e-6, rtol=1e-6)
    assert joint.exp().sum().item() == pytest.approx(1, abs=1e-6)
    conditional = mvae.log_likelihood(model, batch, ["x"], ["y"], num_samples=50_000)
    assert ((conditional.value - log_x) / conditional.standard_error).abs().max() < 5


# Of 5 rows with 21 draws each, of 150 to 210 bytes: one draw at a time, parts of a row, and two rows at a time.
MEMORY = [1, 2000, 10_000]


@pytest.mark.parametrize("memory", [*MEMORY, 2**30])
def test_same_answer_whatever_the_memory(memory):
    model, parameters = linear_gaussian(latent_dim=2, error=0.2)
    batch = draws(parameters, 5)
    reference = mvae.log_likelihood(model, batch, ["a", "b"], ["c"], num_samples=21)
    estimate = mvae.log_likelihood(model, batch, ["a", "b"], ["c"], num_samples=21, memory=memory)
    torch.testing.assert_close(estimate.value, reference.value, atol=1e-5, rtol=1e-6)
    torch.testing.assert_close(estimate.log_weight_variance, reference.log_weight_variance, atol=1e-5, rtol=1e-5)


def test_seed_decides():
    model, parameters = linear_gaussian(latent_dim=2, error=0.2)
    batch = draws(parameters, 5)
    one, same, other = (mvae.log_likelihood(model, batch, ["a"], num_samples=20, seed=s).value for s in (0, 0, 1))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_memory_stays_within_the_budget():
    # A process of its own: its peak memory, less that before the call, is what the samples took.
    script = """
        import resource, sys, torch
        torch.set_num_threads(1)
        import mvae
        from mvae.batch import Batch
        from mvae.config.recipes import resolve
        from mvae.config.build import build_model
        torch.manual_seed(0)
        model = build_model(resolve("mnist", None, {}).model).eval()
        batch = Batch({"image": torch.rand(4, 1, 28, 28), "label": torch.arange(4)})
        mvae.log_likelihood(model, batch, ["image", "label"], num_samples=2)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        mvae.log_likelihood(model, batch, ["image", "label"], num_samples=3000, memory=2**26)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    """
    result = run_python(textwrap.dedent(script))
    assert result.returncode == 0, result.stderr
    assert int(result.stdout) * 1024 < 1.1 * 2**26


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"targets": []}, "name each modality at most once"),
        ({"targets": ["a"], "given": ["a"]}, "name each modality at most once"),
        ({"targets": ["d"]}, "unknown modality 'd'"),
        ({"targets": ["a"], "proposal": ["d"]}, "unknown modality 'd'"),
        ({"targets": ["a"], "num_samples": 1}, "at least 2"),
        ({"targets": ["a"], "prior_share": 1.0}, "from 0 to below 1, got 1.0"),
        ({"targets": ["a"], "given": ["b"], "denominator": "guess"}, "'importance' or 'prior'"),
    ],
)
def test_bad_questions_are_refused(options, message):
    model, parameters = linear_gaussian()
    with pytest.raises(ValueError, match=message):
        mvae.log_likelihood(model, draws(parameters, 2), **options)


def test_bad_values_are_refused():
    model, parameters = linear_gaussian()
    batch = draws(parameters, 3)
    batch.values["b"][1, 0] = math.inf
    with pytest.raises(ValueError, match=r"modality 'b', row 1: inf is outside the support"):
        mvae.log_likelihood(model, batch, ["a", "b"])


# Other methods


SINGLES = [(("a",), ()), (("b",), ())]
OF_TWO = [*SINGLES, (("a", "b"), ()), (("a",), ("b",)), (("b",), ("a",))]
EXACT = [
    (method, *question)
    for method, questions in [
        (VAE, SINGLES[:1]),
        (BiVCCA, SINGLES),
        (JMVAE, OF_TWO),
        (TELBO, OF_TWO),
        (MVAEQ, QUESTIONS),
        (MMVAE, SINGLES),
    ]
    for question in questions
]


@pytest.mark.parametrize("latent_dim", [1, 2])
@pytest.mark.parametrize(("method", "targets", "given"), EXACT)
def test_exact_posteriors_of_each_method_give_the_exact_likelihood(method, targets, given, latent_dim):
    model, parameters = linear_gaussian_of(method, latent_dim)
    batch = draws(parameters, 20).only(model.names)
    estimate = mvae.log_likelihood(model, batch, targets, given, num_samples=10, prior_share=0)
    truth = exact_log_likelihood(parameters, batch, targets + given) - exact_log_likelihood(parameters, batch, given)
    torch.testing.assert_close(estimate.value, truth, atol=2e-4, rtol=1e-5)
    assert estimate.log_weight_variance.max() < 1e-6


WRONG = [
    (method, *question, proposal)
    for method in (BiVCCA, JMVAE, TELBO, MVAEQ, MMVAE)
    for question in OF_TWO
    for proposal in [None, (), ("a",), ("b",), ("a", "b")]
]


def assert_right_within_the_standard_error(estimate, truth):
    errors = (estimate.value - truth) / estimate.standard_error
    assert errors.abs().max() < 5
    assert 0.5 < errors.square().mean().sqrt() < 1.7


@pytest.mark.parametrize(("method", "targets", "given", "proposal"), [(VAE, ("a",), (), None), *WRONG])
def test_wrong_posteriors_of_each_method_are_right_within_the_standard_error(method, targets, given, proposal):
    model, parameters = linear_gaussian_of(method, latent_dim=2, error=0.2)
    batch = draws(parameters, 30).only(model.names)
    estimate = mvae.log_likelihood(model, batch, targets, given, proposal=proposal, num_samples=2000)
    truth = exact_log_likelihood(parameters, batch, targets + given) - exact_log_likelihood(parameters, batch, given)
    assert_right_within_the_standard_error(estimate, truth)


@pytest.mark.parametrize("method", [VAE, BiVCCA, JMVAE, TELBO, MVAEQ, MMVAE])
def test_incomplete_rows_of_each_method_are_scored_on_what_they_have(method):
    model, parameters = linear_gaussian_of(method)
    batch = draws(parameters, 8).only(model.names)
    present = {}
    for bit, name in enumerate(model.names):
        present[name] = (torch.arange(8) >> bit & 1).bool()
        batch.values[name][~present[name]] = math.nan
    holes = Batch(batch.values, present)
    estimate = mvae.log_likelihood(model, holes, model.names, num_samples=50, prior_share=0)
    for row in range(8):
        names = tuple(name for name in model.names if present[name][row])
        if not names:
            assert estimate.value[row].isnan()
            continue
        truth = exact_log_likelihood(parameters, batch[row : row + 1], names).item()
        # given several, BiVCCA proposes from q(z | x_1) and the MMVAE from a mixture, which are not exact
        loose = method in (BiVCCA, MMVAE) and len(names) > 1
        error = 5 * estimate.standard_error[row].item() if loose else 0.0
        assert estimate.value[row].item() == pytest.approx(truth, abs=2e-4 + error)


@pytest.mark.parametrize("method", [BiVCCA, JMVAE, TELBO, MMVAE])
def test_what_is_given_and_absent_conditions_nothing(method):
    model, parameters = linear_gaussian_of(method)
    batch = draws(parameters, 4).only("a")
    alone = exact_log_likelihood(parameters, batch, ("a",))
    for rows_of_a in (batch, Batch({**batch.values, "b": torch.zeros(4, 2)}, {"b": torch.zeros(4, dtype=torch.bool)})):
        value = mvae.log_likelihood(model, rows_of_a, "a", "b", num_samples=5).value
        torch.testing.assert_close(value, alone, atol=2e-4, rtol=1e-5)


# Models of p(x | c)


CONDITIONED = [("class",), ("numbers",), ("class", "numbers")]


@pytest.mark.parametrize("names", CONDITIONED)
@pytest.mark.parametrize("latent_dim", [1, 2])
def test_an_exact_cvae_gives_the_exact_conditional_likelihood(names, latent_dim):
    model, parameters = conditional_linear_gaussian(names, latent_dim)
    batch = conditional_rows(20).only(["a", *names])
    estimate = mvae.log_likelihood(model, batch, "a", names, num_samples=10, prior_share=0)
    truth = exact_conditional(parameters, conditional_rows(20), names)
    torch.testing.assert_close(estimate.value, truth, atol=2e-4, rtol=1e-5)
    assert estimate.log_weight_variance.max() < 1e-6
    assert estimate.proposal == ("a", *names)


@pytest.mark.parametrize("names", CONDITIONED)
@pytest.mark.parametrize("proposal", ["everything", "conditions", "target", "prior"])
@pytest.mark.parametrize("denominator", ["importance", "prior"])
def test_a_wrong_cvae_is_right_within_its_standard_error(names, proposal, denominator):
    # anything but everything leaves the prior: the CVAE has no other posterior
    proposal = {"everything": None, "conditions": names, "target": ("a",), "prior": ()}[proposal]
    model, parameters = conditional_linear_gaussian(names, latent_dim=2, error=0.2)
    batch = conditional_rows(30).only(["a", *names])
    options = {"proposal": proposal, "num_samples": 2000, "denominator": denominator}
    estimate = mvae.log_likelihood(model, batch, "a", names, **options)
    assert_right_within_the_standard_error(estimate, exact_conditional(parameters, conditional_rows(30), names))


def test_rows_of_a_cvae_that_lack_target_or_condition_have_no_likelihood():
    names = ("class", "numbers")
    model, parameters = conditional_linear_gaussian(names)
    batch = conditional_rows(8)
    present = {name: (torch.arange(8) >> bit & 1).bool() for bit, name in enumerate(model.names)}
    holes = Batch({name: value.clone() for name, value in batch.values.items()}, present)
    for name, value in holes.values.items():
        value[~present[name]] = math.nan if value.is_floating_point() else -1
    estimate = mvae.log_likelihood(model, holes, "a", names, num_samples=5)
    truth = exact_conditional(parameters, batch, names)
    torch.testing.assert_close(estimate.value[7], truth[7], atol=2e-4, rtol=1e-5)
    # log p(a | class) is no number this model has: 0 nats would be a certainty, and would raise the mean
    assert estimate.value[:7].isnan().all()
    assert estimate.mean() == pytest.approx(truth[7].item(), abs=2e-4)


class Zeros(nn.Module):
    """An encoder that has seen nothing, of anything and of any condition."""

    def forward(self, x, condition):
        return torch.zeros(len(x), 2), torch.zeros(len(x), 2)


def test_a_latent_free_cvae_by_enumeration():
    # A decoder that ignores z: p(x | c) is a table of three columns by two rows.
    network = nn.Linear(2 + 2, 3)
    table = torch.randn(3, 2, generator=torch.Generator().manual_seed(0))
    network.weight.data = torch.cat([torch.zeros(3, 2), table], 1)
    target = Modality(Zeros(), Decoder(network, Categorical(3)), 2, condition_width=2)
    model = CVAE({"x": target, "c": Condition(Categorical(2))}, 2).eval()
    pairs = torch.cartesian_prod(torch.arange(2), torch.arange(3))
    batch = Batch({"x": pairs[:, 1], "c": pairs[:, 0]})
    estimate = mvae.log_likelihood(model, batch, "x", "c", num_samples=4)
    expected = (table.double() + network.bias.double().unsqueeze(1)).log_softmax(0).T.flatten()
    torch.testing.assert_close(estimate.value, expected, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(estimate.value.exp().reshape(2, 3).sum(1), torch.ones(2).double(), atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("targets", "given", "message"),
    [
        ("a", (), "likelihood given class, numbers only; add it to `given`"),
        ("a", "class", "likelihood given class, numbers only; add it to `given`"),
        ("class", ("a", "numbers"), "this model is given 'class' and has no likelihood of it"),
        (("a", "class"), "numbers", "this model is given 'class' and has no likelihood of it"),
        ("b", ("class", "numbers"), "unknown modality 'b'; this model has a, class, numbers"),
    ],
)
def test_what_a_cvae_cannot_score_is_said(targets, given, message):
    model, _ = conditional_linear_gaussian(("class", "numbers"))
    with pytest.raises(ValueError, match=message):
        mvae.log_likelihood(model, conditional_rows(3), targets, given)


def test_a_batch_without_the_condition_is_refused():
    model, _ = conditional_linear_gaussian(("class",))
    with pytest.raises(ValueError, match="given class; give a value of each"):
        mvae.log_likelihood(model, conditional_rows(3).only("a"), "a", "class")


# Several at once


@pytest.mark.parametrize("method", [BiVCCA, JMVAE, TELBO, MVAEQ, MMVAE])
def test_several_sets_of_targets_are_each_scored_as_alone(method):
    model, parameters = linear_gaussian_of(method, latent_dim=2, error=0.2)
    batch = draws(parameters, 7).only(model.names)
    present = torch.arange(7) % 3 > 0
    batch = Batch(batch.values, {"b": present})
    sets = [("a",), ("b",), ("a", "b"), ("b", "a")]
    together = marginal_likelihoods(model, batch, sets, ("a", "b"), 60, seed=3)
    for names, estimate in zip(sets, together, strict=True):
        alone = mvae.log_likelihood(model, batch, names, proposal=("a", "b"), num_samples=60, seed=3, prior_share=0)
        for part in ("value", "standard_error", "log_weight_variance", "effective_sample_size"):
            torch.testing.assert_close(
                getattr(estimate, part), getattr(alone, part), equal_nan=True, rtol=1e-9, atol=1e-9
            )
        assert (estimate.proposal, estimate.num_samples) == (("a", "b"), 60)
    assert torch.equal(together[1].value.isnan(), ~present)
    assert not torch.equal(together[0].value, together[2].value)


def test_each_modality_is_decoded_once_for_several_sets():
    model, parameters = linear_gaussian_of(JMVAE)
    calls = []
    for name, modality in model.modalities.items():
        modality.decoder.register_forward_pre_hook(lambda _, z, name=name: calls.append((name, z[0].shape[:-1])))
    marginal_likelihoods(model, draws(parameters, 4).only(model.names), [("a",), ("a", "b"), ("b",)], ("a", "b"), 30)
    assert calls.count(("a", (30, 4))) == calls.count(("b", (30, 4))) == 1


@pytest.mark.parametrize("method", [BiVCCA, JMVAE, MMVAE])
def test_a_conditional_is_the_difference_of_independent_estimates(method):
    model, parameters = linear_gaussian_of(method, latent_dim=2, error=0.2)
    batch = Batch(draws(parameters, 6).only("ab").values, {"b": torch.arange(6) % 2 > 0})
    options = {"num_samples": 40, "denominator_samples": 70, "seed": 3, "prior_share": 0}
    estimate = mvae.log_likelihood(model, batch, "a", "b", **options)
    (joint,) = marginal_likelihoods(model, batch, [("a", "b")], ("a", "b"), 40, seed=3)
    (marginal,) = marginal_likelihoods(model, batch, [("b",)], ("b",), 70, seed=seed_of(3, 1))
    torch.testing.assert_close(estimate.value, joint.value - marginal.value.nan_to_num(0.0))
    errors = joint.standard_error.square() + marginal.standard_error.nan_to_num(0.0).square()
    torch.testing.assert_close(estimate.standard_error, errors.sqrt())
    assert torch.equal(estimate.log_weight_variance, joint.log_weight_variance)
    assert torch.equal(conditional(joint, marginal).value, estimate.value)
    truth = exact_log_likelihood(parameters, batch, ("a",))  # where b is absent
    lacking = ~batch.present["b"]
    assert ((estimate.value - truth) / estimate.standard_error)[lacking].abs().max() < 5


@pytest.mark.parametrize("memory", MEMORY)
@pytest.mark.parametrize("method", [CVAE, JMVAE, TELBO, BiVCCA, MMVAE])
def test_the_same_answer_of_each_method_whatever_the_memory(method, memory):
    if method is CVAE:
        model, _ = conditional_linear_gaussian(("class", "numbers"), latent_dim=2, error=0.2)
        batch, given = conditional_rows(5), ("class", "numbers")
    else:
        model, parameters = linear_gaussian_of(method, latent_dim=2, error=0.2)
        batch, given = draws(parameters, 5).only(model.names), ("b",)
    holes = Batch(batch.values, {"a": torch.arange(5) % 4 > 0})
    reference = mvae.log_likelihood(model, holes, "a", given, num_samples=21)
    estimate = mvae.log_likelihood(model, holes, "a", given, num_samples=21, memory=memory)
    torch.testing.assert_close(estimate.value, reference.value, atol=1e-5, rtol=1e-6, equal_nan=True)
    assert estimate.value.isnan().sum() == 2


@pytest.mark.parametrize("method", METHODS.values())
def test_models_in_float64_can_be_scored(method):
    model = build(method).eval()
    batch = complete_rows(model)
    estimate = mvae.log_likelihood(model, batch, "vector", model.conditions, num_samples=20)
    narrow = mvae.log_likelihood(build(method).float().eval(), batch, "vector", model.conditions, num_samples=20)
    torch.testing.assert_close(estimate.value, narrow.value, atol=1e-3, rtol=1e-4)
