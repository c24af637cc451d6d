import copy
import pickle

import pytest
import torch
from torch import nn

from mvae.batch import Batch
from mvae.config.build import build_model
from mvae.config.specs import parse
from mvae.fewlabels.propagation import guess_loss
from mvae.fewlabels.smoothness import roughness
from mvae.likelihoods import Normal
from mvae.modality import Decoder, Modality
from mvae.models import base
from mvae.networks.bank import Bank, Stack, architecture, banks_of
from mvae.networks.mlp import MLPDecoder, MLPEncoder

SCALAR = {"shape": [], "likelihood": {"kind": "normal"}, "encoder": {"kind": "mlp", "hidden": [5]}}
SCALAR |= {"decoder": {"kind": "mlp", "hidden": [6]}}
VECTOR = SCALAR | {"shape": [3], "likelihood": {"kind": "laplace", "scale": None}}
CATEGORY = {"shape": [], "likelihood": {"kind": "categorical", "num_classes": 4}}
CATEGORY |= {"encoder": {"kind": "embedding", "hidden": [5]}, "decoder": {"kind": "mlp", "hidden": [6]}}
PARTS = {"a": SCALAR, "u": VECTOR, "k": CATEGORY, "b": SCALAR | {"weight": 3}, "l": CATEGORY, "v": VECTOR, "c": SCALAR}
PARTS |= {"alone": SCALAR | {"encoder": {"kind": "mlp", "hidden": [7]}}}


def models(monkeypatch, method="mvae", **options):
    """The same model with its networks stacked and without, float64."""
    content = {"model": {"method": method, "latent_dim": 2, "modalities": PARTS, **options}, "training": {"epochs": 1}}
    spec = parse(content, "test").model
    built = []
    for stacked in (True, False):
        with monkeypatch.context() as patch:
            if not stacked:
                patch.setattr(base, "banks_of", lambda modules: [Bank({name: m}) for name, m in modules.items()])
            torch.manual_seed(0)
            built.append(build_model(spec).double())
    assert [len(bank.modules) for bank in built[0]._encoders] == [3, 2, 2, 1]
    assert [len(bank.modules) for bank in built[1]._encoders] == [1] * 8
    return built


def rows(count=12, absent=0.4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    values, present = {}, {}
    for name, part in PARTS.items():
        present[name] = torch.rand(count, generator=generator) >= absent
        if part is CATEGORY:
            values[name] = torch.randint(4, (count,), generator=generator)
        else:
            drawn = torch.randn(count, *part["shape"], generator=generator, dtype=torch.float64)
            drawn[~present[name]] = torch.nan
            values[name] = drawn
    return Batch(values, present)


@pytest.mark.parametrize("absent", [0.0, 0.4, 0.9])
@pytest.mark.parametrize(
    "options", [{}, {"random_subsets": 3}, {"random_subsets": 2, "reconstruct": ["k", "b"]}, {"reconstruct": "present"}]
)
def test_stacked_and_looped_models_have_the_same_loss_terms_and_gradients(monkeypatch, options, absent):
    stacked, looped = models(monkeypatch, **options)
    batch = rows(absent=absent)
    found = []
    for model in (stacked, looped):
        torch.manual_seed(1)
        objective = model.loss(batch, beta=0.7)
        objective.loss.backward()
        found.append(objective)
    one, other = found
    torch.testing.assert_close(one.loss, other.loss)
    torch.testing.assert_close(one.terms, other.terms)
    torch.testing.assert_close(one.elbo, other.elbo)
    expected = {name: parameter.grad for name, parameter in looped.named_parameters()}
    for stack in (*stacked._encoders, *stacked._decoders):
        for name, parameter in stack.parameters.items():
            part = "encoder" if stack in stacked._encoders else "decoder"
            for member, gradient in zip(stack.modules, _gradient(parameter), strict=True):
                own = expected.pop(f"_modalities.{member}.{part}.{name}")
                torch.testing.assert_close(gradient, gradient * 0 if own is None else own)
    rest = dict(stacked.named_parameters())
    assert expected.keys() < rest.keys()  # networks of an architecture of their own
    for name, gradient in expected.items():
        torch.testing.assert_close(rest[name].grad, gradient)


def _gradient(parameter):
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad


@pytest.mark.parametrize("given", [["a"], ["a", "c"], ["a", "b", "c", "u"], ["alone", "k", "l"]])
def test_posteriors_and_scores_given_some_are_the_same(monkeypatch, given):
    stacked, looped = models(monkeypatch)
    batch = rows()
    for model in (stacked, looped):
        model.eval()
    torch.testing.assert_close(stacked.posterior(batch, given).mean, looped.posterior(batch, given).mean)
    torch.testing.assert_close(stacked.posterior(batch, given).stddev, looped.posterior(batch, given).stddev)
    z, table = torch.randn(5, 12, 2, dtype=torch.float64), torch.rand(5, len(PARTS)) < 0.5
    checked = stacked.checked(batch)
    expected = {name: (terms, values) for name, terms, values in looped.log_likelihoods(checked, z, table)}
    found = {name: (terms, values) for name, terms, values in stacked.log_likelihoods(checked, z, table)}
    assert found.keys() == expected.keys()
    for name, (terms, values) in expected.items():
        assert torch.equal(found[name][0], terms)
        torch.testing.assert_close(found[name][1], values)


def test_state_dicts_have_the_same_names_and_go_both_ways(monkeypatch):
    stacked, looped = models(monkeypatch)
    assert list(stacked.state_dict()) == list(looped.state_dict())
    with torch.no_grad():
        for parameter in looped.parameters():
            parameter.add_(1.0)
    stacked.load_state_dict(looped.state_dict())
    batch = rows(absent=0.0)
    torch.testing.assert_close(stacked.posterior(batch).mean, looped.posterior(batch).mean)
    looped.load_state_dict(stacked.state_dict())
    torch.testing.assert_close(stacked.posterior(batch).mean, looped.posterior(batch).mean)


def moved(model):
    return model.float().double()


@pytest.mark.parametrize("change", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model)), moved])
def test_what_an_optimiser_changes_is_what_each_modality_has(monkeypatch, change):
    model = change(models(monkeypatch)[0])
    optimiser = torch.optim.SGD(model.parameters(), 0.1)
    before = model.modalities["b"].encoder.head.weight.clone()
    model.loss(rows(absent=0.0)).loss.backward()
    optimiser.step()
    after = model.modalities["b"].encoder.head.weight
    assert not torch.equal(after, before)
    assert torch.equal(after, model.state_dict()["_modalities.b.encoder.head.weight"])
    stack = model._encoders[0]
    assert list(stack.modules) == ["a", "b", "c"]
    assert torch.equal(after, stack.parameters["head.weight"][1])


def test_every_parameter_is_learned_once(monkeypatch):
    stacked, looped = models(monkeypatch)
    assert sum(p.numel() for p in stacked.parameters()) == sum(p.numel() for p in looped.parameters())
    assert len(list(stacked.parameters())) < len(list(looped.parameters()))


def test_a_frozen_modality_stays_as_it_is(monkeypatch):
    model, _ = models(monkeypatch)
    model.modalities["b"].requires_grad_(False)
    before = copy.deepcopy(model.state_dict())
    optimiser = torch.optim.Adam(model.parameters(), 0.1)
    for _ in range(3):
        optimiser.zero_grad()
        model.loss(rows(absent=0.0)).loss.backward()
        optimiser.step()
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert not any(name.startswith("_modalities.b.") for name in changed)
    assert any(name.startswith("_modalities.a.encoder") for name in changed)


def test_only_what_is_known_to_be_alike_has_an_architecture():
    class Own(nn.Module):
        def forward(self, x):
            return x

    assert architecture(MLPEncoder((2,), 3, [4])) == architecture(MLPEncoder((2,), 3, [4]))
    assert architecture(MLPEncoder((2,), 3, [4])) != architecture(MLPEncoder((2,), 3, [5]))
    assert architecture(MLPEncoder((2,), 3, [4])) != architecture(MLPEncoder((2,), 3, [4]).double())
    for unlike in (Own(), nn.Sequential(nn.Linear(2, 2), Own()), nn.BatchNorm1d(3), MLPEncoder((2,), 3, [4], True)):
        assert architecture(unlike) is None
    assert architecture(MLPEncoder((2,), 3, [4], dropout=0.1)) is None


class Tempered(MLPDecoder):
    """A decoder with a setting that its `repr` does not show."""

    __module__ = "mvae.tempered"

    def __init__(self, temperature):
        super().__init__(2, 3, [4])
        self.temperature = temperature

    def forward(self, z):
        return super().forward(z) / self.temperature


def test_modules_that_differ_in_a_hidden_setting_are_not_called_together():
    parts = {"a": Tempered(1.0), "b": Tempered(2.0), "c": Tempered(1.0)}
    assert [list(bank.modules) for bank in banks_of(parts)] == [["a", "c"], ["b"]]


def test_likelihoods_that_differ_in_their_scale_share_a_call():
    def modality(scale):
        return Modality(MLPEncoder((2,), 3), Decoder(MLPDecoder(3, 2), Normal((2,), scale)), 3)

    parts = [modality(0.5).decoder, modality(2.0).decoder]
    assert architecture(parts[0]) == architecture(parts[1])
    z, x = torch.randn(2, 7, 3), torch.randn(2, 7, 2)
    stacked = Stack(dict(zip("ab", parts, strict=True)))(lambda decoder, z, x: decoder(z).log_prob(x), z, x)
    for part, own_z, own_x, found in zip(parts, z, x, stacked, strict=True):
        torch.testing.assert_close(found, part(own_z).log_prob(own_x))


def test_what_is_frozen_as_a_whole_has_no_gradient_that_momentum_could_move(monkeypatch):
    # A gradient of zeros would do: Adam goes on in the direction of the steps before.
    stacked, _ = models(monkeypatch)
    optimiser = torch.optim.Adam(stacked.parameters(), lr=0.1)
    decoders = [modality.decoder for modality in stacked.modalities.values()]
    for frozen in (False, True):
        for decoder in decoders:
            decoder.requires_grad_(not frozen)
        before = copy.deepcopy([decoder.state_dict() for decoder in decoders])
        optimiser.zero_grad()
        stacked.loss(rows()).loss.backward()
        optimiser.step()
        moved = [
            not torch.equal(value, old[name])
            for decoder, old in zip(decoders, before, strict=True)
            for name, value in decoder.state_dict().items()
        ]
        assert all(moved) if not frozen else not any(moved)


def test_the_slices_are_what_is_saved_and_not_learned(monkeypatch):
    stacked, looped = models(monkeypatch)
    learned = {name for name, _ in stacked.named_parameters() if not name.startswith("stack ")}
    sliced = dict(looped.named_parameters()).keys() - learned
    assert sliced
    assert sliced <= stacked.state_dict().keys()
    assert learned < dict(looped.named_parameters()).keys()
    assert not any(name.startswith("_modalities.alone.encoder") for name in sliced)


@pytest.mark.parametrize("term", ["smoothness", "propagation", "one encoder"])
def test_a_term_that_calls_one_network_of_a_bank_teaches_it(monkeypatch, term):
    stacked, looped = models(monkeypatch)
    batch = rows(absent=0.0)
    found = []
    for model in (stacked, looped):
        torch.manual_seed(1)
        if term == "smoothness":
            loss = roughness(model, batch.only(["a", "u"]), radius=0.5)
        elif term == "propagation":
            loss = guess_loss(model, batch, "k", torch.arange(12) % 5 - 1)
        else:
            loss = model.q(batch, ["u"]).mean.square().sum()
        loss.backward()
        found.append(loss)
    torch.testing.assert_close(*found)
    taught = 0
    for bank in (*stacked._encoders, *stacked._decoders):
        for name, parameter in bank.parameters.items():
            part = "encoder" if bank in stacked._encoders else "decoder"
            for member, gradient in zip(bank.modules, _gradient(parameter), strict=True):
                own = getattr(looped.modalities[member], part).get_parameter(name)
                torch.testing.assert_close(gradient, _gradient(own))
                taught += bool(gradient.any())
    assert taught
