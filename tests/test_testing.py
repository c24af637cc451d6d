"""Each contract check passes what keeps the contract and says what broke it."""

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.distributions import Exponential, Geometric, Independent
from torch.distributions import Normal as Gaussian

from linear_gaussian import LinearJointEncoder
from mvae.batch import Batch
from mvae.likelihoods import Categorical, PixelCrossEntropy
from mvae.modality import Decoder
from mvae.models import METHODS, MVAE
from mvae.models.joint import JointEncoderVAE
from mvae.networks.mlp import BatchNorm
from mvae.testing import check_decoder, check_encoder, check_exact, check_likelihood, check_method
from small_models import build, complete_rows

ROWS = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))


class Function(nn.Module):
    """A module that calls a function of its own."""

    def __init__(self, function: Callable, **attributes: object) -> None:
        super().__init__()
        self.function = function
        for name, value in attributes.items():
            setattr(self, name, value)

    def forward(self, *arguments: torch.Tensor) -> object:
        return self.function(*arguments)


def twice(x):
    return x[:, :2], x[:, :2]


ENCODERS = {
    "depends on the other rows": lambda x: twice(x - x.mean(0)),
    "shapes of .* expected": lambda x: twice(x)[0],
    "mean of row 0 is not finite": lambda x: twice(x / 0),
}


@pytest.mark.parametrize("message", ENCODERS)
def test_a_broken_encoder(message):
    with pytest.raises(AssertionError, match=f"^encoder: .*{message}"):
        check_encoder(Function(ENCODERS[message]), ROWS, 2)
    check_encoder(Function(twice), ROWS, 2)


class Unsteady(nn.Linear):
    """Its gradient at 0 is infinite."""

    def forward(self, x):
        return twice((super().forward(x) * 0).abs().sqrt())


def test_an_encoder_whose_gradients_are_not_finite():
    with pytest.raises(AssertionError, match="encoder: the gradient of weight is not finite"):
        check_encoder(Unsteady(3, 3), ROWS, 2)


def test_an_encoder_is_tried_in_evaluation_mode_and_left_as_it_was():
    layer = BatchNorm(3)
    encoder = nn.Sequential(layer, Function(twice))
    check_encoder(encoder, ROWS, 2)
    assert layer.training
    assert not layer.running_mean.any()


class Scored(Gaussian):
    """A normal distribution with another log_prob or sample."""

    change = staticmethod(lambda x: x)
    drawn = staticmethod(lambda x: x)

    def log_prob(self, value):
        return self.change(super().log_prob(value))

    def sample(self, sample_shape=()):
        return self.drawn(super().sample(sample_shape))


def normal(**changes):
    kind = type("Changed", (Scored,), {name: staticmethod(change) for name, change in changes.items()})
    return lambda z: Independent(kind(z, 1.0, validate_args=False), 1)


DECODERS = {
    "expected a Distribution": lambda z: z,
    "batch shape for z": lambda z: Independent(Gaussian(z.reshape(-1, 3), 1.0), 1),
    "event shape": lambda z: Independent(Gaussian(z[..., :2], 1.0), 1),
    "log_prob of a sample is not finite": normal(change=lambda x: x / 0),
    "a sample is outside its support": normal(drawn=lambda x: x * torch.nan),
    "log_prob of row 0 depends on the other rows": normal(change=lambda x: x + x.mean()),
    "shape of a sample": normal(drawn=lambda x: x[..., :2]),
}


@pytest.mark.parametrize("message", DECODERS)
def test_a_broken_decoder(message):
    with pytest.raises(AssertionError, match=f"^decoder: {message}"):
        check_decoder(Function(DECODERS[message]), 3, ROWS)
    check_decoder(Function(normal()), 3, ROWS)


def test_rows_outside_the_support_of_a_decoder():
    with pytest.raises(AssertionError, match="decoder: a row is outside its support"):
        check_decoder(Decoder(nn.Linear(2, 3), Categorical(3)), 2, torch.tensor([0, 3]))


class Louder(Gaussian):
    def __init__(self, location):
        super().__init__(location, 1.0)

    def log_prob(self, value):
        return super().log_prob(value) + 0.01


class Improper(Geometric):
    def log_prob(self, value):
        return super().log_prob(value) - 0.01


def head(distribution, count=1):
    return Function(lambda p: distribution(p.squeeze(-1)), num_parameters=count)


@pytest.mark.parametrize(
    ("likelihood", "rows"),
    [
        (head(lambda p: Exponential(p.exp())), torch.tensor([0.1, 2.0])),
        (head(lambda p: Geometric(logits=p)), torch.tensor([0.0, 2.0])),
        (head(lambda p: torch.distributions.StudentT(1.0, p)), torch.tensor([0.0, 2.0])),
        (head(lambda p: torch.distributions.Uniform(0 * p, 2 + 0 * p)), torch.tensor([0.0, 1.5])),
        (head(lambda p: torch.distributions.Beta(p.exp(), 2.0)), torch.tensor([0.2, 0.9])),
    ],
)
def test_other_people_s_likelihoods_pass(likelihood, rows):
    check_likelihood(likelihood, rows)


@pytest.mark.parametrize(
    ("likelihood", "rows"),
    [
        (PixelCrossEntropy(()), torch.tensor([0.0, 0.5])),  # the paper's, which is no density of grey levels
        (head(Louder), torch.tensor([0.0, 2.0])),
        (head(lambda p: Improper(logits=p)), torch.tensor([0.0, 2.0])),
    ],
)
def test_a_likelihood_whose_probabilities_have_another_total(likelihood, rows):
    with pytest.raises(AssertionError, match="likelihood: expected a total of 1, got"):
        check_likelihood(likelihood, rows)


def test_a_likelihood_without_a_number_of_parameters():
    with pytest.raises(AssertionError, match="likelihood: type of num_parameters"):
        check_likelihood(nn.Identity(), ROWS)


class Shown(MVAE):
    """Changes its batch before it learns from it."""

    change: Callable

    def loss(self, batch, beta=1.0):
        return super().loss(type(self).change(self, batch), beta)


def shown(change):
    return type("Changed", (Shown,), {"change": change})


def reading_what_is_missing(model, batch):
    return Batch({name: value + 0 * value.sum() for name, value in batch.values.items()}, batch.present)


class Twice(MVAE):
    def loss(self, batch, beta=1.0):
        self.encode(batch)
        return super().loss(batch, beta)


class Mixing(MVAE):
    def loss(self, batch, beta=1.0):
        objective = super().loss(batch, beta)
        terms = objective.terms + objective.terms.mean(1, keepdim=True)
        return objective._replace(terms=terms)


class Summed(MVAE):
    def loss(self, batch, beta=1.0):
        objective = super().loss(batch, beta)
        return objective._replace(loss=objective.terms.sum(0))


class NoPrior(MVAE):
    def posteriors(self, batch, subsets):
        posterior = super().posteriors(batch, subsets)
        posterior._mean = posterior._mean + 1
        return posterior


class MixingPosterior(MVAE):
    def q(self, batch, given=None):
        posterior = super().q(batch, given)
        posterior._mean = posterior._mean - posterior._mean.mean(0)
        return posterior


class Forgetful(MVAE):
    def load_state_dict(self, state, strict=True, assign=False):
        return super().load_state_dict({name: value + 1 for name, value in state.items()}, strict, assign)


class Single(MVAE):
    def loss(self, batch, beta=1.0):
        objective = super().loss(batch, beta)
        return objective._replace(loss=objective.loss.float())


METHODS_BROKEN = [
    (shown(reading_what_is_missing), "not finite where nan or -1 is in a missing value's place"),
    (Twice, "the encoder of 'vector' ran 2 times"),
    (Mixing, "terms of row 0 depend on the other rows"),
    (Summed, "loss: shape"),
    (NoPrior, "expected the prior given nothing"),
    (MixingPosterior, "the mean of row . depends on other rows"),
    (Forgetful, "state_dict: the posterior changes"),
    (Single, "expected float64"),
]


@pytest.mark.parametrize(("method", "message"), METHODS_BROKEN)
def test_a_broken_method(method, message):
    model = build(method)
    with pytest.raises(AssertionError, match=message):
        check_method(lambda: build(method), complete_rows(model))


def test_a_method_that_reads_missing_labels():
    def change(model, batch):
        count = (batch.values["label"] == 0).double().mean()
        return Batch({**batch.values, "vector": batch.values["vector"] + count}, batch.present)

    model = build(shown(change))
    with pytest.raises(AssertionError, match="depends on missing values"):
        check_method(lambda: build(shown(change)), complete_rows(model))


def test_rows_have_to_be_complete_rows_of_the_model():
    model = build(MVAE)
    with pytest.raises(AssertionError, match="rows: modalities"):
        check_method(lambda: model, complete_rows(model).only(["vector"]))


@pytest.mark.parametrize("name", [name for name in METHODS if name != "cvae"])
def test_every_method_is_right_on_linear_gaussian_models(name):
    method, count = METHODS[name], {"vae": 1, "bivcca": 2, "jmvae": 2, "telbo": 2}.get(name, 3)

    def build(modalities, latent_dim):
        encoders = [modality.encoder for modality in modalities.values()]
        joint = [LinearJointEncoder(encoders, 0.2)] if issubclass(method, JointEncoderVAE) else []
        return method(modalities, latent_dim, *joint)

    check_exact(build, count)


class Doubled(MVAE):
    """Every likelihood counts twice."""

    def _term_likelihoods(self, batch, z, reconstruct, counts):
        for names, owner, terms, values in super()._term_likelihoods(batch, z, reconstruct, counts):
            yield names, owner, terms, values / 2


class Hopeful(MVAE):
    def evidence(self, *arguments, **options):
        objective = super().evidence(*arguments, **options)
        return objective._replace(elbo=objective.elbo + 1)


@pytest.mark.parametrize(("method", "message"), [(Doubled, "(?s)log-likelihoods .* expected"), (Hopeful, "mean ELBOs")])
def test_a_method_that_is_wrong_on_linear_gaussian_models(method, message):
    with pytest.raises(AssertionError, match=message):
        check_exact(method)
