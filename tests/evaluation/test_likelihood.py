import itertools
import math
import subprocess
import sys
import textwrap

import pytest
import torch
from torch import nn

import mvae
from linear_gaussian import exact_log_likelihood, linear_gaussian, rows
from mvae.data.batch import Batch
from mvae.likelihoods import Categorical
from mvae.modality import Decoder, Modality
from mvae.networks.mlp import EmbeddingEncoder, MLPDecoder

SUBSETS = [("a",), ("b",), ("a", "c"), ("a", "b", "c")]
QUESTIONS = [
    (targets, given)
    for targets, given in itertools.product(SUBSETS, [(), ("b",), ("c",), ("b", "c")])
    if not set(targets) & set(given)
]


@pytest.mark.parametrize(("targets", "given"), QUESTIONS)
def test_exact_posterior_gives_exact_likelihood_without_variance(targets, given):
    model, parameters = linear_gaussian()
    batch = rows(parameters, 20)
    estimate = mvae.log_likelihood(model, batch, targets, given, num_samples=10)
    truth = exact_log_likelihood(parameters, batch, targets + given) - exact_log_likelihood(parameters, batch, given)
    torch.testing.assert_close(estimate.value, truth, atol=2e-4, rtol=1e-5)
    assert estimate.log_weight_variance.max() < 1e-6
    torch.testing.assert_close(estimate.effective_sample_size, torch.full((20,), 10.0).double(), atol=1e-3, rtol=0)


@pytest.mark.parametrize("proposal", [("a",), ("c",), ("a", "b"), ("a", "b", "c")])
@pytest.mark.parametrize(("targets", "given"), QUESTIONS)
def test_wrong_posterior_is_right_within_its_standard_error(targets, given, proposal):
    model, parameters = linear_gaussian(latent_dim=2, error=0.2)
    batch = rows(parameters, 40)
    estimate = mvae.log_likelihood(model, batch, targets, given, proposal=proposal, num_samples=4000)
    truth = exact_log_likelihood(parameters, batch, targets + given) - exact_log_likelihood(parameters, batch, given)
    errors = (estimate.value - truth) / estimate.standard_error
    assert errors.abs().max() < 5
    assert 0.5 < errors.square().mean().sqrt() < 1.6


def test_prior_estimator_of_the_denominator_agrees():
    model, parameters = linear_gaussian(latent_dim=2, error=0.2)
    batch = rows(parameters, 30)
    truth = exact_log_likelihood(parameters, batch, ("a", "b")) - exact_log_likelihood(parameters, batch, ("b",))
    estimate = mvae.log_likelihood(model, batch, ["a"], ["b"], denominator="prior", denominator_samples=5000)
    assert ((estimate.value - truth) / estimate.standard_error).abs().max() < 5


def test_joint_is_marginal_plus_conditional():
    model, parameters = linear_gaussian(latent_dim=2, error=0.2)
    batch = rows(parameters, 30)
    joint = mvae.log_likelihood(model, batch, ["a", "b"], num_samples=2000)
    marginal = mvae.log_likelihood(model, batch, ["b"], num_samples=2000, seed=1)
    conditional = mvae.log_likelihood(model, batch, ["a"], ["b"], num_samples=2000, seed=2)
    error = torch.stack([part.standard_error for part in (joint, marginal, conditional)]).square().sum(0).sqrt()
    assert ((joint.value - marginal.value - conditional.value) / error).abs().max() < 5


def test_bound_rises_with_the_number_of_samples():
    model, parameters = linear_gaussian(latent_dim=2, error=-1.0)  # too narrow, and always at 0
    batch = rows(parameters, 1000)
    means = [mvae.log_likelihood(model, batch, ["a", "b", "c"], num_samples=k).mean() for k in (2, 8, 32, 256)]
    truth = exact_log_likelihood(parameters, batch, ("a", "b", "c")).mean().item()
    assert means == sorted(means)
    assert means[0] < truth - 0.1
    assert truth - 0.1 < means[-1] < truth + 0.02


def test_incomplete_rows_are_scored_on_what_they_have():
    model, parameters = linear_gaussian()
    batch = rows(parameters, 4)
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


@pytest.mark.parametrize("memory", [1, 10_000, 100_000, 2**30])
def test_same_answer_whatever_the_memory(memory):
    model, parameters = linear_gaussian(latent_dim=2, error=0.2)
    batch = rows(parameters, 17)
    reference = mvae.log_likelihood(model, batch, ["a", "b"], ["c"], num_samples=101)
    estimate = mvae.log_likelihood(model, batch, ["a", "b"], ["c"], num_samples=101, memory=memory)
    torch.testing.assert_close(estimate.value, reference.value, atol=1e-5, rtol=1e-6)
    torch.testing.assert_close(estimate.log_weight_variance, reference.log_weight_variance, atol=1e-5, rtol=1e-5)


def test_seed_decides():
    model, parameters = linear_gaussian(latent_dim=2, error=0.2)
    batch = rows(parameters, 5)
    one, same, other = (mvae.log_likelihood(model, batch, ["a"], num_samples=20, seed=s).value for s in (0, 0, 1))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_memory_stays_within_the_budget():
    # A process of its own: its peak memory, less that before the call, is what the samples took.
    script = """
        import resource, sys, torch
        torch.set_num_threads(1)
        import mvae
        from mvae.data.batch import Batch
        from mvae.experiments.recipes import resolve
        from mvae.building import build_model
        torch.manual_seed(0)
        model = build_model(resolve("mnist", None, {}).model).eval()
        batch = Batch({"image": torch.rand(4, 1, 28, 28), "label": torch.arange(4)})
        mvae.log_likelihood(model, batch, ["image", "label"], num_samples=2)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        mvae.log_likelihood(model, batch, ["image", "label"], num_samples=100_000, memory=2**26)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    """
    output = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], check=True, capture_output=True, text=True
    ).stdout
    assert int(output) * 1024 < 1.1 * 2**26


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"targets": []}, "name each modality at most once"),
        ({"targets": ["a"], "given": ["a"]}, "name each modality at most once"),
        ({"targets": ["d"]}, "unknown modality 'd'"),
        ({"targets": ["a"], "proposal": ["d"]}, "unknown modality 'd'"),
        ({"targets": ["a"], "num_samples": 1}, "at least 2"),
        ({"targets": ["a"], "given": ["b"], "denominator": "guess"}, "'importance' or 'prior'"),
    ],
)
def test_bad_questions_are_refused(options, message):
    model, parameters = linear_gaussian()
    with pytest.raises(ValueError, match=message):
        mvae.log_likelihood(model, rows(parameters, 2), **options)


def test_bad_values_are_refused():
    model, parameters = linear_gaussian()
    batch = rows(parameters, 3)
    batch.values["b"][1, 0] = math.inf
    with pytest.raises(ValueError, match=r"modality 'b', row 1: inf is outside the support"):
        mvae.log_likelihood(model, batch, ["a", "b"])
