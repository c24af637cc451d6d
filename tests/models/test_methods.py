"""Every method keeps the contract, learns from usable rows only, works in bfloat16, refuses conditions."""

import inspect

import pytest
import torch

from mvae.batch import Batch
from mvae.likelihoods import Categorical
from mvae.modality import Condition
from mvae.models import CVAE, JMVAE, METHODS, MMVAE, MVAE, MVAEQ, TELBO, VAE, BiVCCA, MultimodalVAE, Objective
from mvae.models.joint import JointEncoderVAE
from mvae.posteriors import Mixture
from mvae.testing import check_method
from small_models import LATENT, build, complete_rows, gradients, label, rows_with_holes, vector

ALL = list(METHODS.values())


def step(model, batch):
    """Objective and gradients of a training step."""
    torch.manual_seed(1)
    objective = model.train().loss(batch, 0.7)
    return objective, gradients(model, objective.loss)


@pytest.mark.parametrize("method", ALL)
@pytest.mark.parametrize("batch_norm", [False, True])
def test_every_method_keeps_the_contract(method, batch_norm):
    check_method(lambda: build(method, batch_norm), complete_rows(build(method)))


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
    assert (objective.kl >= 0).all() or isinstance(model.q(batch), Mixture)  # whose divergence is estimated
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
    model = build(method)
    batch = complete_rows(model)
    misspelt = Batch({**batch.values, "sound": torch.zeros(len(batch))})
    for call in (lambda: model.posterior(batch, "sound"), lambda: model.loss(misspelt), lambda: model.elbo(misspelt)):
        with pytest.raises(ValueError, match=f"unknown modality 'sound'; this model has {', '.join(model.names)}"):
            call()


@pytest.mark.parametrize("method", ALL)
def test_values_of_another_shape_are_refused(method):
    # one number broadcasts against the three of a likelihood, without a word of torch's
    model = build(method)
    batch = complete_rows(model)
    wrong = Batch({**batch.values, "vector": batch.values["vector"][:, :1]})
    everything = torch.ones(1, len(model.names), dtype=torch.bool)
    posterior = model.posteriors(batch, everything)
    calls = [lambda: model.loss(wrong), lambda: model.evidence(wrong, posterior, everything)]
    for call in calls if method is CVAE else [*calls, lambda: model.encode(wrong)]:
        with pytest.raises(
            ValueError, match=r"modality 'vector': expected rows of shape \(3,\), got rows of shape \(1,"
        ):
            call()


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
