"""Modalities: what they refuse, and that trying their networks leaves no trace."""

import copy
import math

import pytest
import torch
from torch import nn
from torch.distributions import Independent, MultivariateNormal, OneHotCategorical, Poisson

from mvae import likelihoods
from mvae.batch import Batch
from mvae.config.build import build_model
from mvae.config.folder import load, read_spec, save_weights
from mvae.config.specs import ModelSpec, RunSpec, SpecError
from mvae.evaluation.likelihood import log_likelihood
from mvae.files import write_json
from mvae.modality import Condition, Decoder, Modality
from mvae.models import CVAE
from mvae.networks.conv import ConvDecoder, ConvEncoder
from mvae.networks.mlp import EmbeddingEncoder, FeaturesEncoder, MLPDecoder, MLPEncoder
from mvae.networks.recurrent import RecurrentFeatures

LATENT = 2


class Function(nn.Module):
    """A module that calls a function."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def encoder(shape=(3,)):
    return MLPEncoder(shape, LATENT, (4,))


def decoder(likelihood):
    return Decoder(MLPDecoder(LATENT, likelihood.num_parameters, (4,)), likelihood)


def modality(likelihood):
    return Modality(encoder(likelihood.shape), decoder(likelihood), LATENT)


def label_modality(num_classes=5):
    return Modality(EmbeddingEncoder(num_classes, LATENT, (4,)), decoder(likelihoods.Categorical(num_classes)), LATENT)


GOOD = [
    (likelihoods.Bernoulli((3,)), [[0.0, 1.0, 1.0], [0.0, 0.0, 0.0]]),
    (likelihoods.PixelCrossEntropy((3,)), [[0.0, 1.0, 0.3], [0.5, 0.0, 1e-9]]),
    (likelihoods.Normal((3,)), [[-1e30, 0.0, 1e30]]),
    (likelihoods.Laplace((3,), None), [[-1e30, 0.0, 1e30]]),
    (likelihoods.Normal(()), [0.3, -7.0]),
]


@pytest.mark.parametrize(("likelihood", "values"), GOOD)
def test_values_in_the_support_pass(likelihood, values):
    modality(likelihood).check("x", torch.tensor(values))


@pytest.mark.parametrize("dtype", [torch.long, torch.int32, torch.uint8, torch.float32])
def test_all_labels_pass(dtype):
    label_modality(5).check("label", torch.arange(5).to(dtype))


@pytest.mark.parametrize(("likelihood", "values"), GOOD)
def test_no_rows_pass(likelihood, values):
    # A batch in which a modality is absent everywhere.
    modality(likelihood).check("x", torch.tensor(values)[:0])


OUTSIDE = [
    (likelihoods.Bernoulli, [0.5, 2.0, -1.0, math.inf, math.nan], r"\{0, 1\}"),
    (likelihoods.PixelCrossEntropy, [1.5, -0.25, math.inf, -math.inf, math.nan], r"\[0, 1\]"),
    (likelihoods.Normal, [math.inf, -math.inf, math.nan], "finite real numbers"),
    (likelihoods.Laplace, [math.inf, -math.inf, math.nan], "finite real numbers"),
]


@pytest.mark.parametrize(
    ("likelihood", "value", "support"),
    [(likelihood, value, support) for likelihood, values, support in OUTSIDE for value in values],
)
def test_a_value_outside_the_support_is_named_with_modality_row_and_support(likelihood, value, support):
    values = torch.ones(4, 2, 3)
    values[2, 1, 0] = value
    with pytest.raises(ValueError, match=rf"modality 'photo', row 2: {value:g} is outside .*{support}; 1 of 4 rows"):
        modality(likelihood((2, 3))).check("photo", values)


@pytest.mark.parametrize("value", [5, 1000, -1])
def test_a_label_that_is_none_of_the_classes_is_refused(value):
    with pytest.raises(ValueError, match=rf"modality 'label', row 1: {value} is outside .*integers from 0 to 4"):
        label_modality(5).check("label", torch.tensor([4, value, 0]))


def test_a_label_between_two_classes_is_refused():
    with pytest.raises(ValueError, match=r"modality 'label', row 0: 2\.5 "):
        label_modality(5).check("label", torch.tensor([2.5]))


def test_the_first_wrong_row_is_reported_and_all_are_counted():
    values = torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.0, math.inf], [math.inf, math.inf, 0.0], [0.0, 1.0, 2.0]])
    with pytest.raises(ValueError, match=r"row 1: inf .*; 2 of 4 rows"):
        modality(likelihoods.Normal((3,))).check("x", values)


@pytest.mark.parametrize("likelihood", [likelihoods.Normal((3,)), likelihoods.Normal(())])
def test_the_row_numbers_given_are_the_ones_reported(likelihood):
    values = torch.zeros(3, *likelihood.shape)
    values[1] = math.inf
    with pytest.raises(ValueError, match="row 17:"):
        modality(likelihood).check("x", values, torch.tensor([4, 17, 40]))


@pytest.mark.parametrize("shape", [(), (4,), (3, 1), (1, 3)])
def test_rows_of_another_shape_are_refused(shape):
    with pytest.raises(ValueError, match=r"modality 'x': expected rows of shape \(3,\), got rows of shape"):
        modality(likelihoods.Normal((3,))).check("x", torch.zeros(5, *shape))


def test_labels_with_a_dimension_too_many_are_refused():
    with pytest.raises(ValueError, match=r"modality 'label': expected rows of shape \(\), got rows of shape \(1,\)"):
        label_modality().check("label", torch.zeros(5, 1, dtype=torch.long))


def test_counts_have_a_support_of_their_own():
    counts = Modality(encoder(), Function(lambda z: Independent(Poisson(z.repeat(1, 2)[:, :3].exp()), 1)), LATENT)
    counts.check("words", torch.tensor([[0.0, 3.0, 100.0]]))
    with pytest.raises(ValueError, match="modality 'words', row 0: -1 is outside"):
        counts.check("words", torch.tensor([[0.0, -1.0, 2.0]]))


def vector_normal(z):
    return MultivariateNormal(z.repeat(1, 2)[:, :3], torch.eye(3))


@pytest.mark.parametrize("rows", [3, 5])
def test_a_distribution_whose_support_is_one_of_vectors_can_be_checked(rows):
    vectors = Modality(encoder(), Function(vector_normal), LATENT)
    values = torch.zeros(rows, 3)
    vectors.check("vector", values)
    values[1] = math.nan
    with pytest.raises(ValueError, match="modality 'vector', row 1: nan"):
        vectors.check("vector", values)


def test_a_one_hot_vector_is_checked_as_a_whole():
    one_hot = Modality(encoder(), Function(lambda z: OneHotCategorical(logits=z.repeat(1, 2)[:, :3])), LATENT)
    one_hot.check("choice", torch.eye(3)[[0, 2, 1, 1]])
    with pytest.raises(ValueError, match="modality 'choice', row 1"):
        one_hot.check("choice", torch.tensor([[1.0, 0.0, 0.0], [1.0, 1.0, 0.0]]))


def test_shape_and_classes_are_the_decoder_s():
    assert modality(likelihoods.Normal((2, 3))).shape == (2, 3)
    assert modality(likelihoods.Normal((2, 3))).num_classes is None
    assert label_modality(7).shape == ()
    assert label_modality(7).num_classes == 7


def test_a_decoder_is_its_network_then_its_likelihood():
    head = likelihoods.Normal((2, 3), 0.5)
    network = nn.Linear(LATENT, 6)
    z = torch.randn(4, 5, LATENT, generator=torch.Generator().manual_seed(0))
    distribution = Decoder(network, head)(z)
    assert distribution.batch_shape == (4, 5)
    torch.testing.assert_close(distribution.mean, network(z).reshape(4, 5, 2, 3))


def test_a_decoder_that_returns_a_tensor_is_refused():
    with pytest.raises(ValueError, match=r"must return a torch\.distributions\.Distribution, got Tensor"):
        Modality(encoder(), nn.Linear(LATENT, 3), LATENT)


def test_a_decoder_whose_event_is_not_one_observation_is_refused():
    # The elements of a row left in the batch shape: the likeliest mistake.
    with pytest.raises(ValueError, match=r"expected batch shape \(1,\), got \(1, 3\) with event shape \(\)"):
        Modality(encoder(), Function(lambda z: torch.distributions.Normal(z.repeat(1, 2)[:, :3], 1.0)), LATENT)


def test_a_decoder_that_sums_over_rows_is_refused():
    with pytest.raises(ValueError, match=r"expected batch shape \(1,\), got \(\)"):
        Modality(encoder(), Function(lambda z: Independent(torch.distributions.Normal(z, 1.0), 2)), LATENT)


@pytest.mark.parametrize(
    "wrong",
    [
        MLPEncoder((3,), LATENT + 1, (4,)),
        nn.Linear(3, 2 * LATENT),
        Function(lambda x: (x[:, :LATENT], x[:, :1])),
        Function(lambda x: (x[:, :LATENT],) * 3),
        Function(lambda x: (x[0, :LATENT],) * 2),
    ],
)
def test_an_encoder_that_gives_something_else_than_two_tensors_of_the_latent_size_is_refused(wrong):
    with pytest.raises(ValueError, match=r"encoder must give \(mean, log_variance\), each of shape \(rows, 2\)"):
        Modality(wrong, decoder(likelihoods.Normal((3,))), LATENT)


def test_an_encoder_that_gives_a_distribution_is_refused():
    # Decoders return distributions, so that somebody will write an encoder that does.
    wrong = Function(lambda x: torch.distributions.Normal(x[:, :LATENT], 1.0))
    with pytest.raises(ValueError, match=r"encoder must give \(mean, log_variance\)"):
        Modality(wrong, decoder(likelihoods.Normal((3,))), LATENT)


@pytest.mark.parametrize("weight", [-1.0, -1e-9, math.nan])
def test_a_negative_weight_is_refused(weight):
    with pytest.raises(ValueError, match=r"^weight: expected a number of at least 0"):
        Modality(encoder(), decoder(likelihoods.Normal((3,))), LATENT, weight)


def test_a_weight_of_zero_is_allowed():
    assert Modality(encoder(), decoder(likelihoods.Normal((3,))), LATENT, 0).weight == 0


def image_networks():
    layers = ((2, 3, 1, 1), (3, 3, 1, 1))
    head = likelihoods.Bernoulli((1, 4, 4))
    return (
        ConvEncoder((1, 4, 4), LATENT, layers, 5, batch_norm=True, dropout=0.5),
        Decoder(ConvDecoder((1, 4, 4), LATENT, layers, 5, batch_norm=True), head),
    )


def test_trying_the_networks_changes_no_parameter_and_no_statistic():
    parts = image_networks()
    before = [copy.deepcopy(part.state_dict()) for part in parts]
    tried = Modality(*parts, LATENT)
    tried.check("image", torch.zeros(3, 1, 4, 4))
    for part, state in zip(parts, before, strict=True):
        assert all(torch.equal(value, state[name]) for name, value in part.state_dict().items())
    assert all(parameter.grad is None for parameter in tried.parameters())


def test_trying_the_networks_leaves_each_part_in_its_mode():
    parts = image_networks()
    frozen = next(module for module in parts[0].modules() if isinstance(module, nn.BatchNorm2d))
    frozen.eval()
    parts[1].eval()
    Modality(*parts, LATENT).check("image", torch.zeros(3, 1, 4, 4))
    assert parts[0].training
    assert [module for module in parts[0].modules() if not module.training] == [frozen]
    assert not any(module.training for module in parts[1].modules())


def test_trying_the_networks_draws_nothing_from_the_global_generator():
    parts = image_networks()
    before = torch.get_rng_state()
    Modality(*parts, LATENT).check("image", torch.zeros(3, 1, 4, 4))
    assert torch.equal(torch.get_rng_state(), before)


def test_networks_that_fail_leave_their_mode_too():
    broken = Function(lambda x: x @ torch.zeros(7, 7))
    with pytest.raises(RuntimeError):
        Modality(broken, decoder(likelihoods.Normal((3,))), LATENT)
    assert broken.training


# Conditions


@pytest.mark.parametrize(
    ("likelihood", "shape", "num_classes", "binary", "width"),
    [
        (likelihoods.Categorical(5), (), 5, False, 5),
        (likelihoods.Bernoulli((2, 3)), (2, 3), None, True, 6),
        (likelihoods.Normal(()), (), None, False, 1),
        (likelihoods.Normal((4,), None), (4,), None, False, 4),
        (likelihoods.PixelCrossEntropy((1, 2, 2)), (1, 2, 2), None, False, 4),
    ],
)
def test_a_condition_is_what_its_likelihood_says(likelihood, shape, num_classes, binary, width):
    condition = Condition(likelihood)
    assert (condition.shape, condition.num_classes, condition.width) == (shape, num_classes, width)
    assert condition.binary is binary
    assert not any(part.requires_grad for part in condition.parameters())


def test_a_category_becomes_one_hot_and_other_values_flat():
    features = Condition(likelihoods.Categorical(4)).features(torch.tensor([2, 0]))
    assert torch.equal(features, torch.tensor([[0.0, 0, 1, 0], [1, 0, 0, 0]]))
    values = torch.arange(12.0).reshape(2, 3, 2)
    assert torch.equal(Condition(likelihoods.Normal((3, 2))).features(values), values.reshape(2, 6))
    assert torch.equal(Condition(likelihoods.Normal(())).features(torch.tensor([3.0, -1])), torch.tensor([[3.0], [-1]]))


def test_features_of_no_rows():
    for likelihood, values in [
        (likelihoods.Categorical(4), torch.zeros(0, dtype=torch.long)),
        (likelihoods.Normal((3, 2)), torch.zeros(0, 3, 2)),
        (likelihoods.Normal(()), torch.zeros(0)),
    ]:
        condition = Condition(likelihood)
        assert condition.features(values).shape == (0, condition.width)


def test_a_condition_refuses_what_its_likelihood_cannot_have_produced():
    labels = Condition(likelihoods.Categorical(5))
    labels.check("label", torch.tensor([4, 0]))
    with pytest.raises(ValueError, match=r"modality 'label', row 17: 5 is outside .*integers from 0 to 4"):
        labels.check("label", torch.tensor([4, 5]), torch.tensor([3, 17]))
    with pytest.raises(ValueError, match=r"modality 'label': expected rows of shape \(\), got rows of shape \(1,\)"):
        labels.check("label", torch.zeros(3, 1))
    with pytest.raises(ValueError, match=r"modality 'pixels', row 1: 0\.5 is outside .*\{0, 1\}"):
        Condition(likelihoods.Bernoulli((2,))).check("pixels", torch.tensor([[0.0, 1], [1, 0.5]]))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.float32, torch.float64])
def test_a_condition_s_classes_are_read_as_whole_numbers(dtype):
    condition = Condition(likelihoods.Categorical(5))
    read = condition.as_read(torch.tensor([4, 0]).to(dtype))
    assert read.dtype == torch.long
    assert condition.features(read).argmax(1).tolist() == [4, 0]


@pytest.mark.parametrize("dtype", [torch.uint8, torch.long, torch.float64])
def test_a_condition_s_numbers_reach_the_networks_in_their_type(dtype):
    torch.manual_seed(0)
    condition = Condition(likelihoods.Normal(()))
    target = Modality(
        MLPEncoder((3,), LATENT, (4,), condition_width=1),
        Decoder(MLPDecoder(LATENT + 1, 3, (4,)), likelihoods.Normal((3,))),
        LATENT,
        condition_width=1,
    )
    model = CVAE({"x": target, "age": condition}, LATENT)
    x = torch.randn(2, 3)
    expected = model.posterior({"x": x, "age": torch.tensor([31.0, 2.0])}).mean
    assert torch.equal(model.posterior({"x": x, "age": torch.tensor([31, 2]).to(dtype)}).mean, expected)
    assert model.generate({"age": torch.tensor([31, 2]).to(dtype)})["x"].dtype == torch.float32


# Networks that take conditions


def test_an_encoder_that_takes_conditions_is_tried_with_them():
    likelihood = likelihoods.Normal((3,))
    decoder = Decoder(MLPDecoder(LATENT + 2, 3, (4,)), likelihood)
    given = MLPEncoder((3,), LATENT, (4,), condition_width=2)
    assert Modality(given, decoder, LATENT, condition_width=2).shape == (3,)
    for encoder, width in [(MLPEncoder((3,), LATENT, (4,)), 2), (given, 0), (given, 3)]:
        fitting = Decoder(MLPDecoder(LATENT + width, 3, (4,)), likelihood)
        with pytest.raises((RuntimeError, ValueError), match="shape"):
            Modality(encoder, fitting, LATENT, condition_width=width)


@pytest.mark.parametrize("rows", [1, 5])
def test_conditions_stand_beside_the_observation(rows):
    generator = torch.Generator().manual_seed(0)
    condition = torch.randn(rows, 2, generator=generator)
    x, image = torch.randn(rows, 3, generator=generator), torch.rand(rows, 1, 4, 4, generator=generator)
    dense = MLPEncoder((3,), LATENT, (4,), condition_width=2)
    beside = MLPEncoder((5,), LATENT, (4,))
    beside.load_state_dict(dense.state_dict())
    for got, expected in zip(dense(x, condition), beside(torch.cat([x, condition], 1)), strict=True):
        assert torch.equal(got, expected)
    convolutional = ConvEncoder((1, 4, 4), LATENT, ((2, 3, 1, 1),), 5, condition_width=2)
    features = torch.cat([convolutional.features(image), condition], 1)
    expected = convolutional.head(convolutional.layers(features))
    torch.testing.assert_close(torch.cat(convolutional(image, condition), 1), expected)


# Strings: several classes an observation


def string_modality(length=4, num_symbols=5):
    likelihood = likelihoods.Categorical(num_symbols, (length,))
    return Modality(FeaturesEncoder(RecurrentFeatures(num_symbols, 3, 6), 6, LATENT), decoder(likelihood), LATENT)


def test_a_string_has_symbols_and_no_class():
    text = string_modality()
    assert text.shape == (4,)
    assert text.num_symbols == 5
    assert text.num_classes is None


@pytest.mark.parametrize("dtype", [torch.long, torch.uint8, torch.float32])
def test_strings_of_any_number_type_are_read_as_whole_numbers(dtype):
    text, values = string_modality(), torch.tensor([[0, 4, 2, 2], [1, 1, 1, 3]])
    text.check("text", values.to(dtype))
    assert text.as_read(values.to(dtype)).dtype == torch.long
    assert torch.equal(text.as_read(values.to(dtype)), values)


@pytest.mark.parametrize("value", [5.0, -1.0, 1.5, math.nan])
def test_a_symbol_that_is_none_of_them_is_named_with_its_row(value):
    values = torch.ones(3, 4)
    values[2, 3] = value
    with pytest.raises(ValueError, match=rf"modality 'text', row 2: {value:g} is outside .*integers from 0 to 4; 1 of"):
        string_modality().check("text", values)


@pytest.mark.parametrize("shape", [(), (3,), (4, 1)])
def test_strings_of_another_length_are_refused(shape):
    with pytest.raises(ValueError, match=r"modality 'text': expected rows of shape \(4,\), got rows of shape"):
        string_modality().check("text", torch.zeros(2, *shape, dtype=torch.long))


def test_a_string_as_a_condition_is_one_hot_symbol_by_symbol():
    condition = Condition(likelihoods.Categorical(5, (3,)))
    values = torch.tensor([[0, 4, 2], [1, 1, 3]])
    assert (condition.shape, condition.num_symbols, condition.num_classes) == ((3,), 5, None)
    assert condition.width == 15
    features = condition.features(condition.as_read(values.float()))
    expected = torch.zeros(2, 15)
    for row in range(2):
        for place in range(3):
            expected[row, 5 * place + values[row, place]] = 1
    assert torch.equal(features, expected)
    with pytest.raises(ValueError, match=r"modality 'text', row 0: 7 is outside"):
        condition.check("text", torch.tensor([[0, 1, 7]]))


DENSE = {"kind": "mlp", "hidden": [8]}
STRINGS = {
    "image": {"shape": [1, 4, 4], "likelihood": {"kind": "bernoulli"}, "encoder": DENSE, "decoder": DENSE},
    "text": {
        "shape": [4],
        "likelihood": {"kind": "categorical", "num_classes": 5},
        "encoder": {"kind": "gru", "embedding": 3, "hidden": 6},
        "decoder": DENSE,
    },
}


def string_model(method):
    torch.manual_seed(0)
    return build_model(ModelSpec.model_validate({"method": method, "latent_dim": 2, "modalities": STRINGS}))


def images_and_strings(count=6):
    torch.manual_seed(1)
    return Batch({"image": torch.rand(count, 1, 4, 4).round(), "text": torch.randint(0, 5, (count, 4))})


@pytest.mark.parametrize("method", ["mvae", "mvae-q", "jmvae", "bivcca", "telbo", "cvae"])
def test_every_method_learns_from_images_and_strings(method):
    model = string_model(method)
    optimiser = torch.optim.Adam(model.parameters(), lr=0.01)
    batch = model.checked(images_and_strings())
    losses = []
    for _ in range(60):
        optimiser.zero_grad()
        torch.manual_seed(2)  # the same draws, so that the losses compare
        loss = model.loss(batch).loss
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 1


@pytest.mark.parametrize("mean", [False, True])
def test_generated_strings_are_whole_numbers_of_symbols(mean):
    model = string_model("mvae").eval()
    for given in (None, {"image": torch.ones(1, 4, 4)}, {"text": torch.tensor([4, 0, 1, 1])}):
        drawn = model.generate(given, ["text"], 50, mean=mean)["text"]
        assert drawn.shape == (50, 1, 4)
        assert drawn.dtype == torch.long
        assert 0 <= drawn.min() <= drawn.max() <= 4


def test_a_model_of_strings_survives_its_folder(tmp_path):
    spec = RunSpec.model_validate({"model": {"latent_dim": 2, "modalities": STRINGS}, "training": {"epochs": 1}})
    torch.manual_seed(0)
    model = build_model(spec.model).eval()
    write_json(tmp_path / "config.json", spec.model_dump(mode="json"))
    save_weights(model, tmp_path)
    again, batch = load(tmp_path), images_and_strings()
    for one, other in zip(model.encode(batch)[:2], again.encode(batch)[:2], strict=True):
        assert torch.equal(one, other)
    assert read_spec(tmp_path) == spec


def test_the_likelihood_of_strings_that_ignore_the_latent_is_a_product_of_tables():
    model = string_model("mvae").eval()
    head = model.modalities["text"].decoder.network.head
    head.weight.data.zero_()
    batch = images_and_strings()
    table = head.bias.detach().double().reshape(4, 5).log_softmax(1)
    expected = torch.stack([table[torch.arange(4), row].sum() for row in batch.values["text"]])
    estimate = log_likelihood(model, batch, "text", proposal=(), num_samples=3)
    torch.testing.assert_close(estimate.value, expected, atol=1e-5, rtol=1e-6)


@pytest.mark.parametrize("kind", ["mlp", "embedding", "conv"])
def test_an_encoder_that_cannot_read_strings_is_refused(kind):
    encoder = {"kind": kind} | ({} if kind == "conv" else {"hidden": [8]})
    with pytest.raises(SpecError, match=r"^model\.modalities\.text: "):
        build_model(
            ModelSpec.model_validate({"latent_dim": 2, "modalities": {"text": STRINGS["text"] | {"encoder": encoder}}})
        )


def test_a_string_encoder_of_a_single_class_is_refused():
    label = STRINGS["text"] | {"shape": []}
    with pytest.raises(SpecError, match=r"^model\.modalities\.text: "):
        build_model(ModelSpec.model_validate({"latent_dim": 2, "modalities": {"text": label}}))


@pytest.mark.parametrize("shape", [(1, 2, 3), (3, 4, 4)])
def test_bytes_of_an_image_are_levels_and_bytes_of_anything_else_are_numbers(shape):
    values = torch.randint(0, 256, (5, *shape), dtype=torch.uint8)
    image = Modality(
        MLPEncoder(shape, 2, ()), Decoder(MLPDecoder(2, values[0].numel(), ()), likelihoods.Bernoulli(shape)), 2
    )
    assert torch.equal(image.as_read(values), values / 255)
    with pytest.raises(ValueError, match="outside the support"):
        image.check("image", values)  # grey where only 0 and 255 are
    image.check("image", values // 128 * 255)
    flat = Modality(MLPEncoder((4,), 2, ()), Decoder(MLPDecoder(2, 4, ()), likelihoods.Normal((4,))), 2)
    numbers = torch.tensor([[0, 1, 200, 255]], dtype=torch.uint8)
    assert flat.as_read(numbers).tolist() == [[0.0, 1.0, 200.0, 255.0]]
    flat.check("numbers", numbers)
