"""The CVAE against its bound written with torch.distributions; what it must be given, and when it says so."""

import math

import pytest
import torch
from torch.nn.functional import one_hot

from mvae.batch import Batch
from mvae.likelihoods import Bernoulli, Categorical, Normal
from mvae.modality import Condition, Decoder, Modality
from mvae.models import CVAE
from mvae.networks.mlp import MLPDecoder, MLPEncoder
from small_models import (
    CLASSES,
    LATENT,
    assert_same_objective,
    bound,
    build,
    complete_rows,
    gaussian,
    rows_with_holes,
    vector,
)


def term_and_elbo(model, batch, draws, beta):
    condition = one_hot(batch.values["label"], CLASSES).double()
    posterior = gaussian(model.modalities["vector"].encoder(batch.values["vector"], condition))
    term = bound(model, posterior, draws, batch, ("vector",), beta, condition=condition)
    elbo = bound(model, posterior, draws, batch, ("vector",), weighted=False, condition=condition)
    return term.unsqueeze(0), elbo


@pytest.mark.parametrize("beta", [0.0, 0.3, 1.0])
def test_the_objective_is_the_conditional_bound(noise, beta):
    model = build(CVAE)
    batch = complete_rows(model)
    objective = model.loss(batch, beta)
    assert_same_objective(model, objective, *term_and_elbo(model, batch, noise[0][0], beta))


def test_it_learns_from_complete_rows_only(noise):
    model = build(CVAE)
    batch = rows_with_holes(model)
    whole = batch.present["vector"] & batch.present["label"]
    assert torch.equal(model.usable(batch), whole)
    objective = model.loss(batch)
    assert_same_objective(model, objective, *term_and_elbo(model, batch[whole], noise[0][0], 1.0))


def test_a_batch_without_a_complete_row_is_refused():
    model = build(CVAE)
    for rows in (rows_with_holes(model)[[0, 1, 2]], complete_rows(model).only(["vector"])):
        with pytest.raises(ValueError, match="CVAE learns from rows with vector, label; the batch has none"):
            model.loss(rows)


def test_the_elbo_of_complete_rows_is_that_of_the_loss_and_0_elsewhere():
    model = build(CVAE)
    batch = rows_with_holes(model)
    whole = model.usable(batch)
    torch.manual_seed(1)
    elbo = model.elbo(batch)
    torch.manual_seed(1)
    draws = torch.randn(1, len(batch), LATENT, dtype=torch.float64)[0, whole]
    torch.testing.assert_close(elbo[whole], term_and_elbo(model, batch[whole], draws, 1.0)[1])
    assert not elbo[~whole].any()


# Posteriors


def test_the_posterior_is_the_encoder_s_where_all_is_given_and_present_and_the_prior_elsewhere():
    model = build(CVAE)
    batch = rows_with_holes(model)
    subsets = torch.tensor([[True, False], [True, True], [False, False], [False, True], [True, True]])
    found = model.posteriors(batch, subsets)
    mean, log_variance = found.mean, found.log_variance
    assert mean.shape == log_variance.shape == (5, len(batch), LATENT)
    for index, everything in enumerate(subsets.all(1)):
        for row in range(len(batch)):
            expected = torch.zeros(2, 1, LATENT, dtype=torch.float64)
            if everything and row % 4 == 3:
                condition = one_hot(batch.values["label"][row : row + 1], CLASSES).double()
                expected = model.modalities["vector"].encoder(batch.values["vector"][row : row + 1], condition)
            torch.testing.assert_close(mean[index, row], expected[0][0])
            torch.testing.assert_close(log_variance[index, row], expected[1][0])


def test_a_condition_is_given_and_not_modelled():
    model = build(CVAE)
    assert model.names == ("vector", "label")
    assert (tuple(model.modalities), model.conditions, model.target) == (("vector",), ("label",), "vector")
    assert model.inference_networks == [model.modalities["vector"].encoder]


# Conditions of other kinds


def with_conditions(conditions):
    """A CVAE of two numbers given these, in float64."""
    torch.manual_seed(0)
    width = sum(condition.width for condition in conditions.values())
    head = Normal((2,))
    target = Modality(
        MLPEncoder((2,), LATENT, (6,), condition_width=width),
        Decoder(MLPDecoder(LATENT + width, 2, (6,)), head),
        LATENT,
        condition_width=width,
    )
    first, *others = conditions
    return CVAE({first: conditions[first], "x": target} | {name: conditions[name] for name in others}, LATENT).double()


def test_several_conditions_stand_beside_z_in_the_model_s_order(noise):
    model = with_conditions(
        {"day": Condition(Categorical(7)), "place": Condition(Normal((2, 1))), "on": Condition(Bernoulli(()))}
    )
    assert model.conditions == ("day", "place", "on")
    batch = model.checked(
        {"x": torch.randn(5, 2), "on": [0.0, 1, 1, 0, 1], "place": torch.randn(5, 2, 1), "day": [0, 6, 3, 3, 1]}
    )
    objective = model.loss(batch)
    values = batch.values
    condition = torch.cat(
        [one_hot(values["day"], 7).double(), values["place"].reshape(5, 2).double(), values["on"].double()[:, None]], 1
    )
    modality = model.modalities["x"]
    posterior = gaussian(modality.encoder(values["x"], condition))
    z = posterior.mean + posterior.stddev * noise[0][0]
    log_prob = torch.distributions.Normal(modality.decoder.network(torch.cat([z, condition], 1)), 1.0).log_prob
    torch.testing.assert_close(objective.log_likelihood["x"][0], log_prob(values["x"]).sum(1))


def test_a_category_and_its_one_hot_vector_are_the_same_condition():
    model, other = with_conditions({"c": Condition(Categorical(3))}), with_conditions({"c": Condition(Normal((3,)))})
    x, labels = torch.randn(4, 2), torch.tensor([2, 0, 1, 1])
    torch.manual_seed(1)
    expected = model.elbo(model.checked({"x": x, "c": labels}))
    torch.manual_seed(1)
    torch.testing.assert_close(other.elbo(other.checked({"x": x, "c": one_hot(labels, 3).float()})), expected)


@pytest.mark.parametrize("condition", [Condition(Normal(())), Condition(Normal((2,))), Condition(Categorical(3))])
@pytest.mark.parametrize("filler", [math.nan, 7e300])
def test_what_stands_where_a_condition_is_absent_is_never_read(condition, filler):
    model = with_conditions({"c": condition})
    some = torch.randn(4, *condition.shape, dtype=torch.float64)
    values = torch.tensor([2, 0, 1, 1]) if condition.num_classes else some
    spoilt = values.clone()
    spoilt[1] = -5 if condition.num_classes else filler
    x, present = torch.randn(4, 2, dtype=torch.float64), torch.tensor([True, False, True, True])
    found = []
    for rows in (values, spoilt):
        torch.manual_seed(1)
        found.append(model.elbo(Batch({"x": x, "c": rows}, {"c": present})))
    assert torch.equal(*found)
    assert found[0].isfinite().all()


# Generation


def test_generating_given_a_label_is_decoding_the_prior_beside_it():
    model = build(CVAE).float()
    torch.manual_seed(1)
    drawn = model.generate({"label": 2}, num_samples=5, mean=True)["vector"]
    torch.manual_seed(1)
    z = torch.randn(5, 1, LATENT)
    beside = torch.cat([z, one_hot(torch.tensor([[2]] * 5), CLASSES).float()], -1)
    torch.testing.assert_close(drawn, model.modalities["vector"].decoder.network(beside))


def test_each_row_is_generated_given_its_own_label():
    model = build(CVAE).float()
    z = model.draw_latent({"label": [3, 0, 1]}, num_samples=2)
    assert z.shape == (2, 3, LATENT + CLASSES)
    assert torch.equal(z[..., LATENT:].argmax(-1), torch.tensor([[3, 0, 1]] * 2))
    assert torch.equal(z[..., LATENT:].sum(-1), torch.ones(2, 3))
    assert model.generate({"label": [3, 0, 1]})["vector"].shape == (1, 3, 3)


def test_given_all_z_is_drawn_from_the_posterior():
    model = build(CVAE).float()
    x = torch.tensor([0.3, -1.0, 2.0])
    torch.manual_seed(1)
    z = model.draw_latent({"vector": x, "label": 1}, 20_000)[:, 0, :LATENT]
    condition = one_hot(torch.tensor([1]), CLASSES).float()
    mean, log_variance = model.modalities["vector"].encoder(x.unsqueeze(0), condition)
    torch.testing.assert_close(z.mean(0), mean[0], atol=0.05, rtol=0)
    torch.testing.assert_close(z.std(0), (0.5 * log_variance[0]).exp(), rtol=0.05, atol=0)


@pytest.mark.parametrize("given", [None, {"vector": torch.zeros(3)}])
def test_generating_without_the_condition_says_what_is_needed(given):
    with pytest.raises(ValueError, match="generates 'vector' given label; give a value of each"):
        build(CVAE).float().generate(given)


def test_generating_for_a_row_that_lacks_its_condition_is_refused():
    # a row without its label has no distribution; all zeros beside z is no category
    with pytest.raises(ValueError, match="label"):
        build(CVAE).float().generate({"label": [2, None]})


def test_generating_the_condition_is_refused():
    with pytest.raises(
        ValueError, match="cannot generate 'label': it is a condition of this model, which models vector"
    ):
        build(CVAE).float().generate({"label": 2}, ["label"])


@pytest.mark.parametrize("label", [4, -1])
def test_a_label_that_is_none_of_the_classes_is_refused(label):
    with pytest.raises(ValueError, match=f"modality 'label', row 0: {label} is outside"):
        build(CVAE).float().generate({"label": label})


def test_encoding_gives_no_expert_of_a_condition():
    # `encode` is public; what it says of q(z | x_1, x_2) must be what `posteriors` says, or be refused in words
    model = build(CVAE)
    batch = complete_rows(model)
    try:
        experts = model.encode(batch)
    except (ValueError, TypeError) as error:
        assert "CVAE" in str(error)  # noqa: PT017
    else:
        torch.testing.assert_close(experts.mean[0], model.posterior(batch).mean)


# What is refused


def test_parts_that_are_no_conditional_model_are_refused():
    condition = Condition(Categorical(CLASSES))
    for variables in (
        {"vector": vector()},
        {"label": condition},
        {"a": vector(False, CLASSES), "b": vector(False, CLASSES), "label": condition},
    ):
        with pytest.raises(ValueError, match="a CVAE has one modality and at least one condition, got"):
            CVAE(variables, LATENT)


@pytest.mark.parametrize("width", [0, 3, 5])
def test_networks_for_conditions_of_another_width_are_refused(width):
    with pytest.raises(ValueError, match=f"modality 'vector' takes conditions of {width} numbers, got {CLASSES}"):
        CVAE({"vector": vector(False, width), "label": Condition(Categorical(CLASSES))}, LATENT)
