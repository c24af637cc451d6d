"""JMVAE-kl against its formula written with torch.distributions."""

import pytest
import torch
from torch.distributions import kl_divergence

from mvae.batch import Batch
from mvae.models import JMVAE
from small_models import LATENT, assert_same_objective, bound, build, complete_rows, gaussian, rows_with_holes, vector

BOTH = ("vector", "label")


def terms_and_elbo(model, batch, draws, beta):
    """The bound and minus alpha times the two divergences, of complete rows; and the bound at beta = lambda = 1."""
    joint = gaussian(model.joint_encoder(*(batch.values[name] for name in BOTH)))
    single = [gaussian(model.modalities[name].encoder(batch.values[name])) for name in BOTH]
    divergences = [-model.alpha * kl_divergence(joint, other).sum(-1) for other in single]
    terms = torch.stack([bound(model, joint, draws, batch, BOTH, beta), *divergences])
    return terms, bound(model, joint, draws, batch, BOTH, weighted=False)


@pytest.mark.parametrize("alpha", [0.0, 0.01, 1.7])
@pytest.mark.parametrize("beta", [0.0, 0.4, 1.0])
def test_the_objective_is_the_joint_bound_less_the_divergences_from_it(noise, alpha, beta):
    model = build(JMVAE, alpha=alpha)
    batch = complete_rows(model)
    objective = model.loss(batch, beta)
    assert_same_objective(model, objective, *terms_and_elbo(model, batch, noise[0][0], beta))


def test_alpha_is_the_paper_s_unless_said():
    assert build(JMVAE).alpha == 0.01


def test_it_learns_from_complete_rows_only(noise):
    model = build(JMVAE, alpha=0.5)
    batch = rows_with_holes(model)
    whole = batch.present["vector"] & batch.present["label"]
    assert torch.equal(model.usable(batch), whole)
    objective = model.loss(batch)
    assert_same_objective(model, objective, *terms_and_elbo(model, batch[whole], noise[0][0], 1.0))


def test_a_batch_without_a_complete_row_is_refused():
    model = build(JMVAE)
    batch = rows_with_holes(model)
    for rows in (batch[[0, 1, 2]], complete_rows(model).only(["label"])):
        with pytest.raises(ValueError, match="JMVAE learns from rows with vector, label; the batch has none"):
            model.loss(rows)


def test_both_encoders_of_one_modality_learn_from_the_divergences_only():
    model = build(JMVAE, alpha=0.0)
    model.loss(complete_rows(model)).loss.backward()
    for modality in model.modalities.values():
        assert not any(part.grad.any() for part in modality.encoder.parameters())
        assert all(part.grad.any() for part in modality.decoder.network.head.parameters())


def test_the_joint_encoder_is_used_exactly_where_both_are_given_and_present():
    model = build(JMVAE)
    batch = rows_with_holes(model)
    subsets = torch.tensor([[True, True], [True, False], [False, True], [False, False]])
    found = model.posteriors(batch, subsets)
    mean, log_variance = found.mean, found.log_variance
    for row in range(len(batch)):
        one = {name: batch.values[name][row : row + 1] for name in BOTH if batch.present[name][row]}
        for index, members in enumerate(subsets.tolist()):
            names = [name for name, member in zip(BOTH, members, strict=True) if member and name in one]
            if len(names) == 2:
                expected = model.joint_encoder(*one.values())
            else:
                prior = torch.zeros(2, 1, LATENT, dtype=torch.float64)
                expected = model.modalities[names[0]].encoder(one[names[0]]) if names else prior
            torch.testing.assert_close(mean[index, row], expected[0][0])
            torch.testing.assert_close(log_variance[index, row], expected[1][0])


def test_the_joint_encoder_sees_complete_rows_only():
    model, seen = build(JMVAE), []
    model.joint_encoder.register_forward_pre_hook(lambda _, values: seen.append(values))
    batch = rows_with_holes(model)
    model.posterior(batch)
    whole = model.usable(batch)
    ((points, labels),) = seen
    assert torch.equal(points, batch.values["vector"][whole])
    assert torch.equal(labels, batch.values["label"][whole])


def test_the_order_of_modalities_in_the_batch_does_not_matter():
    model = build(JMVAE)
    batch = complete_rows(model)
    turned = Batch({name: batch.values[name] for name in reversed(BOTH)})
    assert torch.equal(model.posterior(turned).mean, model.posterior(batch).mean)


def test_the_networks_of_inference_are_three():
    model = build(JMVAE)
    encoders = [modality.encoder for modality in model.modalities.values()]
    assert model.inference_networks == [*encoders, model.joint_encoder]


@pytest.mark.parametrize("alpha", [-0.1, float("nan")])
def test_another_alpha_is_refused(alpha):
    with pytest.raises(ValueError, match="alpha: expected a number of at least 0"):
        build(JMVAE, alpha=alpha)


def test_a_third_modality_is_refused():
    modalities = {name: vector() for name in "abc"}
    with pytest.raises(ValueError, match=r"JMVAE has two modalities, got a, b, c; .* \(the MVAE needs none\)"):
        JMVAE(modalities, LATENT, torch.nn.Identity())
