"""What holds of every method: absent values are never read, rows do not mix, float64 and bfloat16 work."""

import copy
import inspect
import math

import pytest
import torch

from mvae.batch import Batch
from mvae.likelihoods import Categorical
from mvae.modality import Condition
from mvae.models import CVAE, JMVAE, METHODS, MMVAE, MVAE, MVAEQ, TELBO, VAE, BiVCCA, MultimodalVAE, Objective
from mvae.models.joint import JointEncoderVAE
from small_models import LATENT, build, complete_rows, gradients, label, rows_with_holes, vector

ALL = list(METHODS.values())


def step(model, batch):
    """Objective, gradients and batch-norm statistics of a training step."""
    torch.manual_seed(1)
    objective = model.train().loss(batch, 0.7)
    return objective, gradients(model, objective.loss), dict(model.named_buffers())


@pytest.mark.parametrize("method", ALL)
@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize(("number", "integer"), [(math.nan, -1), (math.inf, 10**9), (-1e300, -(10**9))])
def test_what_stands_where_a_value_is_absent_poisons_neither_loss_nor_gradient(method, batch_norm, number, integer):
    model = build(method, batch_norm)
    expected = step(copy.deepcopy(model), rows_with_holes(model, number=0.0, integer=0))
    objective, found, statistics = step(model, rows_with_holes(model, number=number, integer=integer))
    assert objective.loss.isfinite()
    for part in ("loss", "terms", "kl", "elbo"):
        assert torch.equal(getattr(objective, part), getattr(expected[0], part))
    for name, values in expected[0].log_likelihood.items():
        assert torch.equal(objective.log_likelihood[name], values)
    assert all(torch.equal(found[name], value) and value.isfinite().all() for name, value in expected[1].items())
    assert all(torch.equal(statistics[name], value) for name, value in expected[2].items())


@pytest.mark.parametrize("method", ALL)
def test_the_elbo_and_posterior_of_absent_values_are_never_poisoned(method):
    model = build(method).eval()
    found = []
    for number, integer in [(0.0, 0), (math.nan, -7)]:
        batch = rows_with_holes(model, number=number, integer=integer)
        torch.manual_seed(1)
        posterior = model.posterior(batch)
        found.append((model.elbo(batch), posterior.mean, posterior.stddev))
    assert all(torch.equal(one, other) and one.isfinite().all() for one, other in zip(*found, strict=True))


@pytest.mark.parametrize(
    ("method", "given"),
    [
        (method, given)
        for method in ALL
        for given in ("everything", "vector", "label", "nothing")
        if given != "label" or method is not VAE
    ],
)
def test_each_row_of_a_mixed_batch_has_the_posterior_it_has_alone(method, given):
    model = build(method).float()
    names = {"everything": model.names, "nothing": ()}.get(given, (given,))
    batch = model.checked(rows_with_holes(model))
    together = model.posterior(batch, names)
    assert (together.batch_shape, together.event_shape) == ((len(batch),), (LATENT,))
    for row in range(len(batch)):
        alone = model.posterior(batch[[row]], names)
        torch.testing.assert_close(together.mean[[row]], alone.mean)
        torch.testing.assert_close(together.stddev[[row]], alone.stddev)
        z = torch.randn(5, 1, LATENT)
        torch.testing.assert_close(together[[row]].log_prob(z), alone.log_prob(z))


@pytest.mark.parametrize("method", ALL)
def test_the_terms_of_complete_rows_do_not_depend_on_the_others(method, monkeypatch):
    monkeypatch.setattr(torch, "randn_like", torch.zeros_like)
    model = build(method)
    batch = complete_rows(model)
    whole = model.loss(batch).terms
    order = torch.tensor([3, 0, 6, 1, 5, 2, 4])
    torch.testing.assert_close(model.loss(batch[order]).terms, whole[:, order])
    torch.testing.assert_close(model.loss(batch[2:3]).terms, whole[:, 2:3])


@pytest.mark.parametrize("method", ALL)
def test_presence_written_out_changes_nothing(method):
    model = build(method)
    batch = complete_rows(model)
    written = Batch(batch.values, {name: torch.ones(len(batch), dtype=torch.bool) for name in model.names})
    assert torch.equal(step(model, batch)[0].terms, step(model, written)[0].terms)


@pytest.mark.parametrize("method", ALL)
def test_rows_that_are_not_usable_do_not_teach(method):
    # what `fit` leaves out of the training rows must be what the loss would have left out
    model = build(method)
    batch = rows_with_holes(model)
    usable = model.usable(batch)
    assert usable.any()
    assert not usable.all()
    assert usable.dtype == torch.bool
    before = step(model, batch)[1]
    spoilt = rows_with_holes(model, number=5.0, integer=3)
    values = {name: torch.where(usable.reshape(-1, *(1,) * (x.dim() - 1)), x, 0) for name, x in spoilt.values.items()}
    after = step(model, Batch(values, spoilt.present))[1]
    assert all(torch.equal(before[name], value) for name, value in after.items())


@pytest.mark.parametrize("method", ALL)
def test_kl_and_log_likelihood_and_elbo_have_the_shapes_that_are_documented(method):
    model = build(method)
    batch = complete_rows(model)
    objective = model.loss(batch, 0.5)
    assert isinstance(objective, Objective)
    assert objective.loss.shape == ()
    assert objective.terms.shape[1:] == objective.kl.shape[1:] == objective.elbo.shape == (len(batch),)
    assert set(objective.log_likelihood) == set(model.modalities)
    assert (objective.kl >= 0).all() or method is MMVAE  # whose divergence is estimated
    torch.testing.assert_close(objective.loss, -objective.terms.sum(0).mean())


@pytest.mark.parametrize("method", ALL)
@pytest.mark.parametrize("holes", [False, True])
def test_mixed_precision_trains_on_nearly_the_same_loss(method, holes, monkeypatch):
    monkeypatch.setattr(torch, "randn_like", torch.zeros_like)
    model = build(method).float()
    batch = model.checked(rows_with_holes(model) if holes else complete_rows(model))
    expected = model.loss(batch).loss
    with torch.autocast("cpu", dtype=torch.bfloat16):
        objective = model.loss(batch)
        objective.loss.backward()
    assert objective.loss.dtype == objective.kl.dtype == objective.elbo.dtype == torch.float32
    assert objective.loss.item() == pytest.approx(expected.item(), rel=0.03)


@pytest.mark.parametrize("method", ALL)
def test_a_model_in_float64_stays_in_it(method):
    model = build(method).eval()
    batch = rows_with_holes(model)
    given = {name: batch.values[name][3] for name in model.conditions} or None
    assert model.loss(batch).loss.dtype == torch.float64
    assert model.elbo(batch).dtype == torch.float64
    assert model.posterior(batch, ()).mean.dtype == torch.float64
    assert model.generate(given)["vector"].dtype == torch.float64
    assert model.generate(batch[[3, 7]])["vector"].dtype == torch.float64


@pytest.mark.parametrize("method", ALL)
def test_generating_given_every_pattern_of_absence(method):
    model = build(method).float().eval()
    batch = rows_with_holes(model)
    batch = batch[batch.present["label"]] if method is CVAE else batch
    drawn = model.generate(batch, num_samples=4)
    assert {name: tuple(values.shape) for name, values in drawn.items()} == {
        name: (4, len(batch), *modality.shape) for name, modality in model.modalities.items()
    }
    assert all(values.isfinite().all() for values in drawn.values())


@pytest.mark.parametrize("method", ALL)
def test_every_parameter_but_a_condition_s_learns_in_some_stage(method):
    model = build(method)
    learned = set()
    for stage in range(model.num_stages):
        model.enter_stage(stage)
        learned |= {
            name
            for name, gradient in gradients(model, model.loss(complete_rows(model, 20)).loss).items()
            if gradient.any()
        }
    assert learned == {name for name, _ in model.named_parameters()}


@pytest.mark.parametrize("method", ALL)
def test_training_lowers_the_loss(method):
    model = build(method)
    batch = complete_rows(model, 30)
    optimiser = torch.optim.Adam(model.parameters(), 1e-2)
    losses = []
    for _ in range(60):
        optimiser.zero_grad()
        loss = model.loss(batch).loss
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert sum(losses[-10:]) < 0.97 * sum(losses[:10])


@pytest.mark.parametrize("method", ALL)
def test_an_unknown_name_is_refused_and_the_known_are_listed(method):
    model = build(method).float()
    with pytest.raises(ValueError, match=f"unknown modality 'sound'; this model has {', '.join(model.names)}"):
        model.posterior(complete_rows(model), "sound")


@pytest.mark.parametrize("method", ALL)
def test_the_state_of_a_model_goes_to_another(method):
    model, other = build(method), build(method)
    for part in other.parameters():
        part.data.zero_()
    other.load_state_dict(model.state_dict())
    batch = complete_rows(model)
    assert torch.equal(other.posterior(batch).mean, model.posterior(batch).mean)


@pytest.mark.parametrize("method", [MVAE, MVAEQ, BiVCCA, JMVAE, TELBO, VAE, MMVAE])
def test_conditions_are_refused_by_methods_that_are_given_none(method):
    # MVAE-Q would train on them: a sum over two experts of which there is one counts that one twice
    condition = Condition(Categorical(4))
    variables = {"label": condition} if method is VAE else {"vector": vector(), "label": condition}
    joint = [torch.nn.Module()] if issubclass(method, JointEncoderVAE) else []
    with pytest.raises(ValueError, match="label"):
        method(variables, LATENT, *joint)


@pytest.mark.parametrize("method", [MVAE, MVAEQ, BiVCCA, MMVAE])
def test_networks_that_take_conditions_are_refused_by_methods_that_are_given_none(method):
    with pytest.raises(ValueError, match="vector"):
        method({"vector": vector(False, 4), "label": label()}, LATENT)


def test_the_registry_holds_every_method_under_its_name():
    assert all(issubclass(method, MultimodalVAE) and not inspect.isabstract(method) for method in ALL)
    assert [name.replace("-", "") for name in METHODS] == [method.__name__.lower() for method in ALL]
