"""Transformers of strings: what they look at, and what they do not."""

from itertools import product

import pytest
import torch

from mvae.config.build import build_model
from mvae.config.specs import SpecError, parse
from mvae.networks.transformer import TransformerDecoder, TransformerFeatures
from mvae.strings import Strings

V, T, D = 3, 4, 2


def features(end=None):
    torch.manual_seed(0)
    return TransformerFeatures(5, 6, width=8, heads=2, end=end).double().eval()


def decoder():
    torch.manual_seed(0)
    network = TransformerDecoder(D, V, T, width=8, heads=2).double().eval()
    for parameter in network.parameters():
        parameter.data *= 2  # so that symbols depend on one another
    return network


def test_after_the_end_nothing_is_read():
    network = features(end=4)
    long = torch.tensor([[0, 1, 4, 4, 4, 4], [4, 4, 4, 4, 4, 4], [3, 2, 1, 0, 1, 2]])
    found = network(long)
    for row, length in enumerate([3, 1, 6]):
        torch.testing.assert_close(network(long[row : row + 1, :length])[0], found[row])
    other = long.clone()
    other[0, 4] = 2
    torch.testing.assert_close(network(other)[0], found[0])
    assert not torch.allclose(features()(other)[0], features()(long)[0])


@pytest.mark.parametrize("position", range(6))
def test_every_symbol_and_its_place_counts(position):
    network, x = features(), torch.arange(6).remainder(5).unsqueeze(0)
    changed = x.clone()
    changed[:, position] = (x[:, position] + 2) % 5
    assert (network(changed) - network(x)).abs().max() > 1e-4
    assert (network(x.flip(1)) - network(x)).abs().max() > 1e-4


def test_a_decoder_looks_at_nothing_to_come():
    network, z = decoder(), torch.randn(1, D, dtype=torch.float64)
    previous = torch.tensor([[V, 0, 1, 2]])
    logits = network(previous, z)
    for place in range(1, T):
        changed = previous.clone()
        changed[0, place] = (previous[0, place] + 1) % V
        apart = (network(changed, z) - logits).abs().amax(-1)[0]
        assert (apart[:place] < 1e-12).all()
        assert apart[place] > 1e-4


def test_step_by_step_it_says_what_it_says_at_once():
    network, z = decoder(), torch.randn(5, D, dtype=torch.float64)
    previous = torch.randint(0, V, (5, T))
    state, found = network.start(z), []
    for symbol in previous.unbind(1):
        logits, state = network.step(symbol, z, state)
        found.append(logits)
    torch.testing.assert_close(torch.stack(found, 1), network(previous, z))


@pytest.mark.parametrize("end", [None, 2])
def test_all_strings_together_have_probability_one(end):
    z = torch.randn(5, D, dtype=torch.float64)
    every = [s for s in product(range(V), repeat=T) if end is None or end not in s or set(s[s.index(end) :]) == {end}]
    distribution = Strings(decoder(), z, T, V, end)
    total = distribution.log_prob(torch.tensor(every).unsqueeze(1)).logsumexp(0)
    torch.testing.assert_close(total, torch.zeros(5), atol=1e-5, rtol=0, check_dtype=False)
    assert torch.equal(distribution.beam(1), distribution.mode)
    best = torch.tensor(every)[distribution.log_prob(torch.tensor(every).unsqueeze(1)).argmax(0)]
    assert torch.equal(distribution.beam(V**T), best)


def config(**changes):
    transformer = {"kind": "transformer", "width": 8, "heads": 2, **changes}
    text = {"shape": [T], "likelihood": {"kind": "string", "num_symbols": V, "end": 2}}
    text |= {"encoder": transformer, "decoder": transformer}
    model = {"latent_dim": D, "modalities": {"text": text, "other": text}}
    return {"model": model, "training": {"epochs": 1}}


@pytest.mark.parametrize("method", ["mvae", "jmvae"])
def test_a_spec_builds_them(method):
    content = config()
    content["model"]["method"] = method
    model = build_model(parse(content, "tiny").model).eval()
    assert isinstance(model.modalities["text"].encoder.features, TransformerFeatures)
    rows = torch.tensor([[0, 2, 2, 2], [0, 1, 0, 1]])
    assert model.posterior({"text": rows, "other": rows}).mean.shape == (2, D)
    assert model.generate({"text": rows}, ["other"])["other"].shape == (1, 2, T)


def test_a_width_that_the_heads_do_not_divide_is_refused():
    with pytest.raises(SpecError, match=r"model.modalities.text: width: expected a multiple of the 3 heads, got 8"):
        build_model(parse(config(heads=3), "tiny").model)
