"""What all models share: encoding, posteriors, decoding, generation, refusals, saving."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.distributions import Distribution

from mvae.batch import Batch
from mvae.experts import product_of_experts
from mvae.likelihoods import Categorical, Normal, PixelCrossEntropy
from mvae.modality import Decoder, Modality
from mvae.models import MVAE, MultimodalVAE
from mvae.networks.mlp import EmbeddingEncoder, MLPDecoder, MLPEncoder

LATENT = 3
NAMES = ("image", "label", "numbers")


def dense(likelihood, weight=1.0, dropout=0.0):
    decoder = Decoder(MLPDecoder(LATENT, likelihood.num_parameters, (6,)), likelihood)
    return Modality(MLPEncoder(likelihood.shape, LATENT, (6,), dropout=dropout), decoder, LATENT, weight)


def label(num_classes=10, weight=1.0):
    decoder = Decoder(MLPDecoder(LATENT, num_classes, (6,)), Categorical(num_classes))
    return Modality(EmbeddingEncoder(num_classes, LATENT, (6,)), decoder, LATENT, weight)


def build(**options):
    torch.manual_seed(0)
    modalities = {
        "image": dense(PixelCrossEntropy((1, 2, 2))),
        "label": label(weight=5.0),
        "numbers": dense(Normal((3,))),
    }
    return MVAE(modalities, LATENT, **options)


def random_batch(rows=8, seed=0, complete=False):
    """Random presence; row 0 has nothing, row 1 everything."""
    generator = torch.Generator().manual_seed(seed)
    values = {
        "image": torch.rand(rows, 1, 2, 2, generator=generator),
        "label": torch.randint(10, (rows,), generator=generator),
        "numbers": torch.randn(rows, 3, generator=generator),
    }
    present = torch.rand(rows, 3, generator=generator) < 0.5
    present[0], present[1] = False, True
    if complete:
        present[:] = True
    return Batch(values, {name: present[:, index] for index, name in enumerate(NAMES)})


def by_formula(model, batch, row, names):
    """Mean and variance of q(z | the named modalities that a row has), from the encoders run on that row alone."""
    precision, weighted = torch.ones(LATENT, dtype=torch.float64), torch.zeros(LATENT, dtype=torch.float64)
    for name in names:
        if name in batch.present and batch.present[name][row]:
            mean, log_variance = model.modalities[name].encoder(batch.values[name][row : row + 1])
            precision = precision + 1 / log_variance[0].double().exp()
            weighted = weighted + mean[0].double() / log_variance[0].double().exp()
    return weighted / precision, 1 / precision


def assert_posterior(model, batch, names, posterior):
    assert (posterior.batch_shape, posterior.event_shape) == ((len(batch),), (LATENT,))
    for row in range(len(batch)):
        mean, variance = by_formula(model, batch, row, names)
        torch.testing.assert_close(posterior.mean[row].double(), mean, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(posterior.variance[row].double(), variance, rtol=1e-5, atol=1e-6)


# Encoding


@pytest.mark.parametrize("complete", [False, True])
def test_experts_are_the_encoders_on_the_present_rows(complete):
    model, batch = build(), random_batch(complete=complete)
    experts = model.encode(batch)
    assert experts.mean.shape == experts.log_variance.shape == (3, 8, LATENT)
    assert torch.equal(experts.present, batch.presence(NAMES))
    for index, name in enumerate(NAMES):
        rows = batch.present[name]
        mean, log_variance = model.modalities[name].encoder(batch.values[name][rows])
        torch.testing.assert_close(experts.mean[index, rows], mean)
        torch.testing.assert_close(experts.log_variance[index, rows], log_variance)


def test_experts_of_modalities_left_out_are_absent_and_not_computed():
    model, batch = build(), random_batch()
    model.modalities["image"].encoder.register_forward_pre_hook(lambda *_: pytest.fail("called"))
    present = model.encode(batch, ["numbers", "label"]).present
    assert not present[:, 0].any()
    assert torch.equal(present[:, 1:], batch.presence(NAMES)[:, 1:])


def test_an_encoder_of_an_absent_modality_is_not_called():
    model, batch = build(), random_batch()
    model.modalities["image"].encoder.register_forward_pre_hook(lambda *_: pytest.fail("called"))
    nowhere = torch.zeros(len(batch), dtype=torch.bool)
    assert not model.encode(Batch(batch.values, {**batch.present, "image": nowhere})).present[:, 0].any()


# Posteriors


@pytest.mark.parametrize("names", [(), ("image",), ("label",), ("numbers", "image"), NAMES])
def test_posterior_is_the_product_by_formula(names):
    model, batch = build(), random_batch()
    assert_posterior(model, batch, names, model.posterior(batch, names))


def test_posterior_is_given_all_that_is_present_unless_told_otherwise():
    model, batch = build(), random_batch()
    assert_posterior(model, batch, NAMES, model.posterior(batch))


@given(st.sets(st.sampled_from(NAMES)), st.integers(0, 1000))
@settings(max_examples=25, deadline=None)
def test_posterior_under_any_presence(names, seed):
    model, batch = build(), random_batch(4, seed)
    assert_posterior(model, batch, names, model.posterior(batch, sorted(names)))


def test_a_row_with_nothing_gets_the_prior():
    posterior = build().posterior(random_batch())
    torch.testing.assert_close(posterior.mean[0], torch.zeros(LATENT))
    torch.testing.assert_close(posterior.stddev[0], torch.ones(LATENT))


@pytest.mark.parametrize("placeholder", [math.nan, math.inf, 7.0])
def test_posterior_reads_nothing_that_is_absent(placeholder):
    model, batch = build(), random_batch()
    expected = model.posterior(batch)
    for name, value in batch.values.items():
        value[~batch.present[name]] = placeholder if value.is_floating_point() else -1
    posterior = model.posterior(Batch(batch.values, batch.present))
    assert torch.equal(posterior.mean, expected.mean)
    assert torch.equal(posterior.stddev, expected.stddev)


def test_a_batch_may_lack_modalities():
    model, batch = build(), random_batch(complete=True)
    some = batch.only(["numbers"])
    assert_posterior(model, some, NAMES, model.posterior(some))
    torch.testing.assert_close(model.posterior(some).mean, model.posterior(batch, ["numbers"]).mean)


def test_a_modality_may_be_absent_in_every_row():
    model, batch = build(), random_batch(complete=True)
    values = {**batch.values, "label": torch.full((8,), -1)}
    nowhere = Batch(values, {"label": torch.zeros(8, dtype=torch.bool)})
    assert_posterior(model, nowhere, NAMES, model.posterior(nowhere))
    assert model.generate(nowhere)["label"].shape == (1, 8)


def test_the_order_of_modalities_does_not_matter():
    model, batch = build(), random_batch()
    turned = Batch({name: batch.values[name] for name in reversed(NAMES)}, batch.present)
    assert torch.equal(model.posterior(turned).mean, model.posterior(batch).mean)
    assert torch.equal(model.posterior(batch, ["label", "image"]).mean, model.posterior(batch, ["image", "label"]).mean)


def test_a_mapping_of_values_is_a_batch():
    model, batch = build(), random_batch(complete=True)
    mapping = {"label": batch.values["label"].tolist(), "numbers": batch.values["numbers"].numpy()}
    expected = model.posterior(batch, ["label", "numbers"])
    torch.testing.assert_close(model.posterior(mapping).mean, expected.mean)


def test_a_mapping_may_hold_none_and_nan():
    model = build()
    posterior = model.posterior({"label": [3, None], "numbers": [[math.nan] * 3, [0.0, 1.0, 2.0]]})
    torch.testing.assert_close(posterior.mean[:1], model.posterior({"label": 3}).mean)
    torch.testing.assert_close(posterior.mean[1:], model.posterior({"numbers": torch.tensor([0.0, 1.0, 2.0])}).mean)


# Values in another type than the networks read: what users have


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "int32", "int64"])
def test_labels_of_any_integer_type_are_read(dtype):
    model, labels = build(), [3, 0, 9]
    posterior = model.posterior({"label": np.array(labels, dtype=dtype)})
    torch.testing.assert_close(posterior.mean, model.posterior({"label": labels}).mean)


@pytest.mark.parametrize("labels", [[3, math.nan], np.array([3.0, math.nan]), torch.tensor([3.0, math.nan])])
def test_labels_with_nan_for_missing_are_read(labels):
    # A column of whole numbers with holes is one of floats, in pandas and in NumPy.
    model = build()
    torch.testing.assert_close(model.posterior({"label": labels}).mean, model.posterior({"label": [3, None]}).mean)


@pytest.mark.parametrize(
    "numbers",
    [[[1, 2, 3]], np.array([[1, 2, 3]]), np.float64([[1, 2, 3]]), torch.tensor([[1, 2, 3]], dtype=torch.half)],
)
def test_numbers_of_any_type_are_read(numbers):
    model = build()
    expected = model.posterior({"numbers": torch.tensor([[1.0, 2.0, 3.0]])}).mean
    torch.testing.assert_close(model.posterior({"numbers": numbers}).mean, expected)


# Refusals


@pytest.mark.parametrize(
    "call",
    [
        lambda model: model.posterior({"text": [1]}),
        lambda model: model.posterior(Batch({"text": torch.zeros(2)})),
        lambda model: model.posterior(random_batch(), ["text"]),
        lambda model: model.encode(random_batch(), ["text"]),
        lambda model: model.decode(torch.zeros(2, LATENT), ["image", "text"]),
        lambda model: model.generate({"text": 1}),
        lambda model: model.generate(names=["text"]),
        lambda model: model.check(Batch({"text": torch.zeros(2)})),
    ],
)
def test_unknown_names_are_refused(call):
    with pytest.raises(ValueError, match="unknown modality 'text'; this model has image, label, numbers"):
        call(build())


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"label": 10}, "modality 'label', row 0: 10 is outside .*the integers from 0 to 9"),
        ({"label": [3, None, -1]}, "modality 'label', row 2: -1 is outside"),
        ({"image": torch.full((2, 1, 2, 2), 255.0)}, r"modality 'image', row 0: 255 is outside .*\[0, 1\]"),
        (
            {"image": torch.zeros(2, 2)},
            r"modality 'image': expected rows of shape \(1, 2, 2\), got rows of shape \(2,\)",
        ),
        ({"numbers": [[0.0, 1.0, math.inf]]}, "modality 'numbers', row 0: inf is outside .*finite real numbers"),
        ({"numbers": [[0.0, 1.0, math.nan]]}, "modality 'numbers', row 0, element 2: NaN among other values"),
        ({"label": [1, 2], "numbers": [[0.0] * 3]}, "modality 'numbers': expected 2 rows"),
    ],
)
@pytest.mark.parametrize("method", ["posterior", "generate"])
def test_unsupported_values_are_refused(method, values, message):
    with pytest.raises(ValueError, match=message):
        getattr(build(), method)(values)


def test_the_row_of_the_batch_is_reported_and_absent_rows_are_not_looked_at():
    batch = random_batch(complete=True)
    batch.values["numbers"][[2, 5]] = math.inf
    present = {"numbers": torch.arange(8) != 2}
    with pytest.raises(ValueError, match=r"modality 'numbers', row 5: inf .*; 1 of 7 rows"):
        build().check(Batch(batch.values, present))


def test_a_model_needs_a_modality():
    with pytest.raises(ValueError, match="at least one modality"):
        MVAE({}, LATENT)


def test_a_modality_of_another_latent_size_is_refused():
    with pytest.raises(ValueError, match="modality 'label' has latent_dim 3, the model 4"):
        MVAE({"label": label()}, 4)


def test_a_method_must_say_what_it_minimises():
    with pytest.raises(TypeError, match="abstract"):
        MultimodalVAE({"label": label()}, LATENT)


# Decoding and generation


@pytest.mark.parametrize("leading", [(), (5,), (2, 5), (2, 1, 5)])
def test_decode_gives_a_distribution_a_modality(leading):
    model = build()
    decoded = model.decode(torch.zeros(*leading, LATENT))
    assert list(decoded) == list(NAMES)
    for name, shape in {"image": (1, 2, 2), "label": (), "numbers": (3,)}.items():
        assert isinstance(decoded[name], Distribution)
        assert decoded[name].batch_shape == leading
        assert decoded[name].event_shape == shape


def test_decode_only_runs_what_is_named():
    model = build()
    model.modalities["image"].decoder.register_forward_pre_hook(lambda *_: pytest.fail("called"))
    assert list(model.decode(torch.zeros(LATENT), ["numbers", "label"])) == ["numbers", "label"]


GIVEN = [
    (None, 1),
    ({"label": 7}, 1),
    ({"label": np.int64(7)}, 1),
    ({"label": [1, 2, 3]}, 3),
    ({"label": range(4)}, 4),
    ({"label": torch.tensor(7)}, 1),
    ({"label": torch.tensor([7, 7])}, 2),
    ({"numbers": torch.zeros(3)}, 1),
    ({"numbers": np.zeros((2, 3))}, 2),
    ({"image": torch.zeros(1, 2, 2), "label": 4}, 1),
    ({"label": [1, None]}, 2),
    (random_batch(), 8),
]


@pytest.mark.parametrize(("given", "rows"), GIVEN)
@pytest.mark.parametrize("mean", [False, True])
@pytest.mark.parametrize("num_samples", [1, 5])
def test_shapes_of_what_is_generated(given, rows, mean, num_samples):
    drawn = build().generate(given, num_samples=num_samples, mean=mean)
    shapes = {name: tuple(value.shape) for name, value in drawn.items()}
    leading = (num_samples, rows)
    assert shapes == {"image": (*leading, 1, 2, 2), "label": leading, "numbers": (*leading, 3)}
    assert drawn["label"].dtype == torch.long
    assert not any(value.requires_grad for value in drawn.values())


def test_only_the_named_modalities_are_generated():
    assert list(build().generate({"label": 7}, ["numbers"])) == ["numbers"]


def concentrate(model):
    """Make every posterior so narrow that z is its mean."""
    for modality in model.modalities.values():
        head = modality.encoder.head
        head.weight.data[LATENT:] = 0
        head.bias.data[LATENT:] = -60
    return model


def test_generate_decodes_draws_from_the_posterior():
    model, batch = concentrate(build()), random_batch(complete=True)
    decoded = model.decode(model.posterior(batch).mean)
    got = model.generate(batch, num_samples=2, mean=True)
    torch.testing.assert_close(got["image"][1], decoded["image"].mean)
    torch.testing.assert_close(got["numbers"][1], decoded["numbers"].mean)
    assert torch.equal(got["label"][1], decoded["label"].logits.argmax(-1))


def test_generate_draws_observations_with_the_likelihood_s_spread():
    model = concentrate(build())
    given = {"label": 7}
    torch.manual_seed(1)
    drawn = model.generate(given, num_samples=20_000)
    decoded = model.decode(model.posterior(given).mean)
    # Five standard errors; numbers have variance 1, pixels and class indicators at most 1/4.
    torch.testing.assert_close(drawn["numbers"].mean(0), decoded["numbers"].mean, rtol=0, atol=0.036)
    torch.testing.assert_close(drawn["image"].mean(0), decoded["image"].mean, rtol=0, atol=0.018)
    shares = torch.bincount(drawn["label"].flatten(), minlength=10) / 20_000
    torch.testing.assert_close(shares, decoded["label"].probs[0], rtol=0, atol=0.018)


def test_generate_given_nothing_draws_from_the_prior():
    # A linear decoder: x = W z + b has mean b and covariance W W'.
    torch.manual_seed(0)
    network = nn.Linear(LATENT, 2)
    model = MVAE({"x": Modality(MLPEncoder((2,), LATENT, (4,)), Decoder(network, Normal((2,))), LATENT)}, LATENT)
    drawn = model.generate(num_samples=40_000, mean=True)["x"][:, 0]
    torch.testing.assert_close(drawn.mean(0), network.bias.data, rtol=0, atol=0.03)
    torch.testing.assert_close(drawn.T.cov(), network.weight.data @ network.weight.data.T, rtol=0, atol=0.03)


def test_rows_with_nothing_are_generated_from_the_prior():
    model = build()
    nothing = Batch({"label": torch.tensor([-1, -1])}, {"label": torch.zeros(2, dtype=torch.bool)})
    torch.manual_seed(3)
    given_nothing = model.generate(nothing, num_samples=4, mean=True)
    torch.manual_seed(3)
    z = torch.randn(4, 2, LATENT)
    torch.testing.assert_close(given_nothing["numbers"], model.decode(z)["numbers"].mean)


# The ELBO


def test_elbo_is_the_joint_term():
    # Narrow posteriors make both estimates exact, whatever they draw.
    model, batch = concentrate(build(random_subsets=1)).double(), random_batch()
    batch = Batch({n: v.double() if v.is_floating_point() else v for n, v in batch.values.items()}, batch.present)
    torch.testing.assert_close(model.elbo(batch), model.loss(batch).elbo)
    torch.testing.assert_close(model.loss(batch, beta=0.2).elbo, model.loss(batch).elbo)
    for modality in model.modalities.values():
        modality.weight = 1.0
    torch.testing.assert_close(model.elbo(batch), model.loss(batch).terms[0])


def test_elbo_of_a_row_with_nothing_is_0():
    torch.testing.assert_close(build().elbo(random_batch())[0], torch.tensor(0.0), rtol=0, atol=1e-6)


def test_elbo_bounds_the_log_likelihood_of_a_label():
    # p(label) by averaging over many draws of the prior.
    model = build().double()
    torch.manual_seed(0)
    with torch.no_grad():
        z = torch.randn(20_000, LATENT, dtype=torch.float64)
        log_likelihood = model.decode(z)["label"].probs.mean(0).log()
        elbo = torch.stack([model.elbo(Batch({"label": torch.arange(10)})) for _ in range(500)]).mean(0)
    assert (elbo < log_likelihood + 0.02).all()


def test_log_likelihoods_are_those_of_each_term_and_row():
    model, batch = build(), random_batch()
    z = torch.randn(4, len(batch), LATENT)
    reconstruct = torch.tensor([[1, 1, 0], [0, 1, 0], [1, 0, 0], [0, 0, 0]]).bool()
    counts = torch.rand(4, len(batch)) < 0.7
    found = {name: (terms, values) for name, terms, values in model.log_likelihoods(batch, z, reconstruct, counts)}
    assert list(found) == ["image", "label"]  # no term reconstructs the numbers
    for index, (name, (terms, values)) in enumerate(found.items()):
        assert terms.tolist() == reconstruct[:, index].nonzero().flatten().tolist()
        log_prob = model.decode(z[terms])[name].log_prob(batch.values[name])
        expected = torch.where(counts[terms] & batch.present[name], log_prob, 0.0)
        torch.testing.assert_close(values, expected)


# Names and saving


AWKWARD = [
    ["a.b", "a b", "a%2Eb", "a/b"],
    ["type", "type%", "keys", "forward", "T_destination", "items"],
    ["Größe", "画像", "🎲", "été.1"],
    ["", " ", "0", "-"],
    ["training"],
    ["_modules", "_parameters", "_buffers", "_forward_hooks"],
]


@pytest.mark.parametrize("names", AWKWARD)
def test_modalities_may_have_any_name(names):
    torch.manual_seed(0)
    model = MVAE({name: label(4 + index) for index, name in enumerate(names)}, LATENT)
    assert model.names == tuple(names)
    assert {name: modality.num_classes for name, modality in model.modalities.items()} == {
        name: 4 + index for index, name in enumerate(names)
    }
    assert list(model.generate({names[-1]: 3})) == names
    assert model.loss(Batch({name: torch.tensor([0, 3]) for name in names})).loss.isfinite()


@pytest.mark.parametrize("names", AWKWARD)
def test_the_state_of_a_model_with_any_names_goes_to_another(names):
    torch.manual_seed(0)
    saved, loaded = (MVAE({name: label(4) for name in names}, LATENT) for _ in range(2))
    loaded.load_state_dict(saved.state_dict())
    batch = Batch({name: torch.tensor([0, 3, 2]) for name in names})
    assert torch.equal(loaded.posterior(batch).mean, saved.posterior(batch).mean)
    assert sum(value.numel() for value in saved.state_dict().values()) == sum(p.numel() for p in saved.parameters())


def test_modes_and_parameters_reach_every_modality():
    model = build().eval()
    assert not any(modality.training for modality in model.modalities.values())
    by_modality = sum(p.numel() for modality in model.modalities.values() for p in modality.parameters())
    assert sum(p.numel() for p in model.parameters()) == by_modality


def test_many_modalities_share_one_product():
    # Forty modalities have 2^40 subsets; the posterior must not know.
    torch.manual_seed(0)
    model = MVAE({f"m{index}": label(3) for index in range(40)}, LATENT)
    batch = Batch({name: torch.tensor([index % 3]) for index, name in enumerate(model.names)})
    mean, log_variance, present = model.encode(batch)
    expected, _ = product_of_experts(mean, log_variance, torch.ones(1, 40, dtype=torch.bool), present)
    torch.testing.assert_close(model.posterior(batch).mean, expected[0])
