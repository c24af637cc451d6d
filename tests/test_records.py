"""Records: their likelihood against other libraries', holes, and what encoders see."""

import math

import numpy as np
import pytest
import scipy.stats
import torch

from mvae import Batch
from mvae.config.build import build_model
from mvae.config.specs import ModelSpec, SpecError
from mvae.networks.record import RecordEncoder
from mvae.records import Element, Records

ELEMENTS = [
    Element("normal"),
    Element("categorical", 3),
    Element("poisson", centre=0.5, spread=2.0),
    Element("laplace"),
    Element("categorical", 2),
    Element("negative-binomial", centre=1.0, spread=0.5),
]
RECORD = [0.3, 2.0, 4.0, -1.5, 0.0, 2.0]


def parts(head, parameters):
    """log p of each element by scipy, from the same parameters."""
    p = parameters.detach().numpy().astype(float)
    location, classes, rate, laplace, two, mean = p[0], p[1:4], p[4], p[5], p[6:8], p[8]
    scale = {name: math.exp(value.item()) for name, value in head.named_parameters()}
    count = scale["log_count"]
    expected = math.exp(1.0 + 0.5 * mean)
    return [
        scipy.stats.norm(location, scale["log_scale_normal"]).logpdf(RECORD[0]),
        scipy.special.log_softmax(classes)[2],
        scipy.stats.poisson(math.exp(0.5 + 2 * rate)).logpmf(RECORD[2]),
        scipy.stats.laplace(laplace, scale["log_scale_laplace"]).logpdf(RECORD[3]),
        scipy.special.log_softmax(two)[0],
        scipy.stats.nbinom(count, count / (count + expected)).logpmf(RECORD[5]),
    ]


@pytest.fixture
def head():
    torch.manual_seed(0)
    head = Records(ELEMENTS)
    for parameter in head.parameters():
        parameter.data.normal_(0, 0.3)
    return head.double()


@pytest.mark.parametrize("absent", [(), (0,), (1, 2), (0, 3, 5), (0, 1, 2, 3, 4)])
def test_the_likelihood_of_a_record_is_that_of_the_elements_it_has(head, absent):
    parameters = torch.randn(head.num_parameters, dtype=torch.float64)
    value = torch.tensor(RECORD, dtype=torch.float64)
    value[list(absent)] = math.nan
    expected = sum(part for number, part in enumerate(parts(head, parameters)) if number not in absent)
    assert head(parameters).log_prob(value).item() == pytest.approx(expected, abs=1e-10)


def test_holes_give_no_gradient_and_no_nan(head):
    parameters = torch.randn(4, head.num_parameters, dtype=torch.float64, requires_grad=True)
    value = torch.tensor([RECORD] * 4, dtype=torch.float64)
    value[:, [0, 1]] = math.nan
    head(parameters).log_prob(value).sum().backward()
    assert parameters.grad.isfinite().all()
    assert (parameters.grad[:, :4] == 0).all()
    assert (parameters.grad[:, 4:] != 0).any()


def test_moments_and_draws_agree(head):
    parameters = torch.randn(head.num_parameters, dtype=torch.float64).mul(0.5)
    distribution = head(parameters)
    torch.manual_seed(1)
    draws = distribution.sample((200_000,))
    counted = [0, 2, 3, 5]
    error = (distribution.variance[counted] / len(draws)).sqrt()
    assert ((draws.mean(0) - distribution.mean)[counted].abs() < 5 * error).all()
    assert torch.allclose(draws.var(0)[counted], distribution.variance[counted], rtol=0.1)
    for place, size in ((1, 3), (4, 2)):
        shares = torch.stack([(draws[:, place] == code).double().mean() for code in range(size)])
        assert torch.allclose(shares, distribution.probabilities(place)[:size], atol=0.01)
        assert distribution.mean[place] == shares.argmax()
        assert distribution.variance[place].item() == pytest.approx(1 - shares.max().item(), abs=0.01)
    assert draws[:, 4].max() == 1  # classes that an element has not are never drawn


def test_an_encoder_reads_nothing_of_what_is_absent():
    torch.manual_seed(0)
    encoder = RecordEncoder(ELEMENTS, 3, hide=0.0)
    value = torch.tensor([RECORD])
    value[:, [1, 2]] = math.nan
    mean, log_variance = encoder(value)
    assert mean.shape == log_variance.shape == (1, 3)
    assert mean.isfinite().all()
    for place in range(6):  # what is there counts, and that it is
        other = value.clone()
        other[:, place] = math.nan
        assert torch.equal(encoder(other)[0], mean) == (place in (1, 2))


def test_some_is_hidden_in_training_only():
    torch.manual_seed(0)
    encoder = RecordEncoder([Element("normal")] * 8, 2, hide=0.5)
    value = torch.randn(1, 8)
    assert len({encoder(value)[0].sum().item() for _ in range(5)}) > 1
    assert len({encoder.eval()(value)[0].sum().item() for _ in range(5)}) == 1


def spec(**more):
    record = {
        "shape": [2],
        "likelihood": {"kind": "record", "elements": [{}, {"family": "categorical", "num_classes": 3}]},
        "encoder": {"kind": "record", "hidden": [4]},
        "decoder": {"kind": "mlp", "hidden": [4]},
    }
    return ModelSpec.model_validate({"latent_dim": 2, "modalities": {"a": record, "b": record}, **more})


def test_a_model_of_records_refuses_what_they_cannot_be():
    model = build_model(spec())
    hole = math.nan
    rows = Batch({"a": torch.tensor([[hole, 2.0]]), "b": torch.tensor([[0.1, hole]])})
    assert model.loss(rows).loss.isfinite()
    for wrong in ([0.0, 3.0], [0.0, 0.5], [math.inf, 1.0], [0.0, -1.0]):
        with pytest.raises(ValueError, match="'a', row 0"):
            model.check(Batch({"a": torch.tensor([wrong]), "b": torch.tensor([[0.1, hole]])}))


def test_what_is_hidden_in_a_hole_changes_nothing():
    torch.manual_seed(0)
    model = build_model(spec()).eval()
    rows = Batch({"a": torch.tensor([[math.nan, 2.0]]), "b": torch.tensor([[0.1, 1.0]])})
    other = Batch({"a": torch.tensor([[math.nan, 2.0]]), "b": torch.tensor([[9.0, 2.0]])}, {"b": torch.tensor([False])})
    alone = Batch({"a": torch.tensor([[math.nan, 2.0]])})
    assert torch.equal(model.posterior(other).mean, model.posterior(alone).mean)
    assert not torch.equal(model.posterior(rows).mean, model.posterior(alone).mean)


def test_joint_encoders_say_that_they_read_no_records():
    with pytest.raises(SpecError, match="reads no records"):
        build_model(spec(method="jmvae"))


def test_many_single_columns_are_computed_together_and_alike():
    element = {"kind": "record", "elements": [{}]}
    one = {
        "shape": [1],
        "likelihood": element,
        "encoder": {"kind": "record", "hidden": [4], "hide": 0.0},
        "decoder": {"kind": "mlp", "hidden": [4]},
    }
    names = [f"c{number}" for number in range(20)]
    torch.manual_seed(0)
    model = build_model(ModelSpec.model_validate({"latent_dim": 2, "modalities": dict.fromkeys(names, one)}))
    assert [len(bank.modules) for bank in model._encoders] == [20]
    values = torch.randn(5, 20)
    rows = Batch({name: values[:, [n]] for n, name in enumerate(names)})
    experts = model.encode(rows)
    for number, name in enumerate(names):
        mean, _ = model.modalities[name].encoder(rows.values[name])
        assert torch.allclose(experts.mean[number], mean, atol=1e-6)
    assert np.isfinite(model.loss(rows).loss.item())
