"""Strings given z: normalisation by enumeration, drawing, decoding."""

from itertools import product

import pytest
import torch

from mvae.batch import Batch
from mvae.config.build import build_model
from mvae.config.specs import parse
from mvae.evaluation.classification import alike, guess
from mvae.evaluation.likelihood import _bytes_per_draw
from mvae.modality import Modality
from mvae.models import MVAE
from mvae.networks.mlp import FeaturesEncoder
from mvae.networks.recurrent import RecurrentDecoder, RecurrentFeatures
from mvae.strings import SequenceDecoder, Strings, lengths
from mvae.vocabularies import Alphabet, Vocabulary

V, T, D = 3, 4, 2


def network(seed: int = 0) -> RecurrentDecoder:
    torch.manual_seed(seed)
    net = RecurrentDecoder(D, V, embedding=5, hidden=6, layers=2, dropout=0.0)
    for parameter in net.parameters():
        parameter.data *= 4  # so that symbols depend on one another
    return net.double().eval()


def strings(end: int | None) -> torch.Tensor:
    """All different strings: after the end symbol nothing but it."""
    found = []
    for symbols in product(range(V), repeat=T):
        over = symbols.index(end) if end in symbols else T
        if all(symbol == end for symbol in symbols[over:]):
            found.append(symbols)
    return torch.tensor(found)


@pytest.mark.parametrize("end", [None, 0, 2])
def test_all_strings_together_have_probability_one(end):
    z = torch.randn(5, D, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    everything = strings(end)
    assert len(everything) == (V**T if end is None else sum(2**k for k in range(T)) + 2**T)
    log_prob = Strings(network(), z, T, V, end).log_prob(everything.unsqueeze(1))
    assert log_prob.shape == (len(everything), 5)
    torch.testing.assert_close(log_prob.logsumexp(0), torch.zeros(5), atol=1e-5, rtol=0, check_dtype=False)


def test_what_stands_after_the_end_is_not_read():
    distribution = Strings(network(), torch.randn(1, D, dtype=torch.float64), T, V, end=2)
    one, other = torch.tensor([[0, 2, 2, 2]]), torch.tensor([[0, 2, 1, 0]])
    torch.testing.assert_close(distribution.log_prob(one), distribution.log_prob(other))
    torch.testing.assert_close(distribution.log_prob(one), distribution.log_prob(one[:, :2]))


@pytest.mark.parametrize("end", [None, 1])
def test_draws_are_as_frequent_as_they_are_probable(end):
    torch.manual_seed(0)
    distribution = Strings(network(), torch.randn(D, dtype=torch.float64), T, V, end)
    drawn = distribution.sample((20_000,))
    assert drawn.shape == (20_000, T)
    everything = strings(end)
    frequency = torch.stack([(drawn == string).all(1).double().mean() for string in everything])
    assert frequency.sum().item() == pytest.approx(1)
    expected = distribution.log_prob(everything).exp().double()
    assert ((frequency - expected).abs() < 5 * (expected * (1 - expected) / 20_000).sqrt() + 1e-4).all()


@pytest.mark.parametrize("end", [None, 1])
@pytest.mark.parametrize("seed", range(4))
def test_a_beam_as_wide_as_all_strings_finds_the_likeliest_and_one_of_width_one_is_greedy(end, seed):
    z = torch.randn(2, 3, D, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    distribution = Strings(network(seed), z, T, V, end)
    everything = strings(end)
    log_prob = distribution.log_prob(everything.reshape(-1, 1, 1, T))
    assert distribution.beam(V**T).tolist() == everything[log_prob.argmax(0)].tolist()
    assert distribution.beam(1).tolist() == distribution.mode.tolist()
    better = distribution.log_prob(distribution.beam(V**T)) - distribution.log_prob(distribution.mode)
    assert (better > -1e-6).all()


def test_the_first_symbols_of_the_mode_are_the_likeliest_given_those_before():
    z = torch.randn(1, D, dtype=torch.float64)
    distribution = Strings(network(), z, T, V)
    mode = distribution.mode
    previous = torch.cat([torch.full((1, 1), V), mode[:, :-1]], 1)
    assert network()(previous, z).argmax(-1).tolist() == mode.tolist()


def test_symbols_are_hidden_while_training_only():
    decoder = SequenceDecoder(network(), T, V, word_dropout=0.9)
    z, x = torch.randn(1, D, dtype=torch.float64), torch.tensor([[0, 1, 2, 0]])
    exact = Strings(network(), z, T, V).log_prob(x)
    torch.testing.assert_close(decoder.eval()(z).log_prob(x), exact)
    decoder.train()
    assert not torch.allclose(decoder(z).log_prob(x), exact)
    nothing = network()(torch.full((1, T), V), z).log_softmax(-1).gather(-1, x.unsqueeze(-1)).sum()
    decoder.word_dropout = 1.0
    torch.testing.assert_close(decoder(z).log_prob(x).sum(), nothing, check_dtype=False)


def test_in_training_the_symbols_are_said_from_z_alone_too():
    bag = torch.nn.Linear(D, V).double()
    decoder = SequenceDecoder(network(), T, V, end=2, bag=bag, bag_weight=0.7)
    z = torch.randn(1, D, dtype=torch.float64)
    string = torch.tensor([[0, 1, 2, 2]])
    plain = decoder.eval()(z).log_prob(string)
    assert torch.equal(plain, Strings(network(), z, T, V, end=2).log_prob(string))
    decoder.train()
    decoder.network.eval()  # its dropout aside
    each = torch.log(torch.softmax(bag.weight @ z[0] + bag.bias, 0))
    expected = plain + 0.7 * (each[0] + each[1] + each[2])  # the end once, and nothing after it
    torch.testing.assert_close(decoder(z).log_prob(string), expected)


def test_a_config_with_a_bag_of_words_learns_it():
    language = {
        "shape": [T],
        "likelihood": {"kind": "string", "num_symbols": V, "end": 2},
        "encoder": {"kind": "gru", "embedding": 3, "hidden": 3},
        "decoder": {"kind": "gru", "embedding": 3, "hidden": 3, "bag_of_words": 0.5},
    }
    model = {"method": "mvae", "latent_dim": D, "modalities": {"en": language}}
    model = build_model(parse({"model": model, "training": {"epochs": 1}}, "test").model)
    decoder = model.modalities["en"].decoder
    assert decoder.bag_weight == 0.5
    assert decoder.bag.weight.shape == (V, D)
    model.train().loss(Batch({"en": torch.tensor([[0, 1, 2, 2]])})).loss.backward()
    assert decoder.bag.weight.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [({"end": 3}, "from 0 to 2, got 3"), ({"word_dropout": 1}, "below 1"), ({"bag_weight": -1}, "at least 0")],
)
def test_impossible_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        SequenceDecoder(network(), T, V, **options)


def test_a_beam_needs_a_width():
    with pytest.raises(ValueError, match="width: expected at least 1, got 0"):
        Strings(network(), torch.zeros(1, D, dtype=torch.float64), T, V).beam(0)


@pytest.mark.parametrize("end", [None, 1])
def test_the_mode_of_a_mixture_goes_by_the_probabilities_of_all_strings(end):
    z = torch.randn(3, 5, D, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    distribution = Strings(network(2), z, T, V, end)
    everything = strings(end)
    mixed = distribution.log_prob(everything[:, None, None]).logsumexp(1)  # [strings, 5], up to a constant
    for row, found in enumerate(distribution.mixture_mode()):
        kept = torch.ones(len(everything), dtype=torch.bool)
        for place, symbol in enumerate(found):
            masses = [mixed[kept & (everything[:, place] == v), row].exp().sum() for v in range(V)]
            assert int(symbol) == int(torch.stack(masses).argmax())
            kept &= everything[:, place] == symbol
    one = Strings(network(2), z[:1], T, V, end)
    assert torch.equal(one.mixture_mode(), one.mode[0])
    assert not torch.equal(distribution.mixture_mode(), one.mode[0])


@pytest.mark.parametrize(("characters", "end"), [("aa", None), ("abcd", None), ("abc", 2), ("a", 0)])
def test_characters_that_do_not_fit_the_symbols_are_refused(characters, end):
    with pytest.raises(ValueError, match="characters: "):
        SequenceDecoder(network(), T, V, end, alphabet=Alphabet(characters, end))


def test_what_stands_after_the_end_changes_neither_posterior_nor_what_counts_as_right():
    torch.manual_seed(0)
    string = {"shape": [4], "likelihood": {"kind": "string", "num_symbols": 4, "end": 3}}
    string |= {"encoder": {"kind": "gru", "hidden": 4}, "decoder": {"kind": "gru", "hidden": 4}}
    kind = {"shape": [], "likelihood": {"kind": "categorical", "num_classes": 2}, "encoder": {"kind": "embedding"}}
    kind |= {"decoder": {"kind": "mlp", "hidden": [4]}}
    config = {"model": {"latent_dim": 2, "modalities": {"text": string, "kind": kind}}, "training": {"epochs": 1}}
    model = build_model(parse(config, "strings").model).eval()
    ended_alike = [torch.tensor([[1, 3, 3, 3]]), torch.tensor([[1, 3, 0, 2]])]
    means = [model.posterior({"text": text}).mean for text in ended_alike]
    assert torch.equal(*means)
    assert not torch.equal(means[0], model.posterior({"text": torch.tensor([[1, 0, 3, 3]])}).mean)
    written = guess(model, Batch({"kind": torch.tensor([0])}), "text")
    after = written.clone()
    place = int((written[0] == 3).nonzero()[0]) if (written == 3).any() else 3
    after[0, place + 1 :] = 0
    for truth in (written, after):
        rows = model.checked(Batch({"kind": torch.tensor([0]), "text": truth}))
        assert alike(written, rows.values["text"]).all()
    with pytest.raises(ValueError, match="'text' cannot be both predicted and given"):
        guess(model, Batch({"kind": torch.tensor([0]), "text": written}), "text", ["text"])
    with pytest.raises(ValueError, match="the batch has none of kind to predict 'text' from"):
        guess(model, Batch({"text": written}), "text")


def test_the_memory_of_scoring_a_string_is_that_of_all_its_steps():
    def bytes_of(length):
        decoder = SequenceDecoder(RecurrentDecoder(2, 5, embedding=4, hidden=8), length, 5)
        model = MVAE({"text": Modality(FeaturesEncoder(RecurrentFeatures(5, 4, 4), 4, 2), decoder, 2)}, 2)
        return _bytes_per_draw(model, ("text",))

    assert bytes_of(100) > 8 * bytes_of(10)


@pytest.mark.parametrize(("words", "end"), [(("a",), 1), (("a", "b"), 2), (("a", "a"), 3), (("a",), None)])
def test_words_that_do_not_fit_the_symbols_are_refused(words, end):
    with pytest.raises(ValueError, match="words: "):
        SequenceDecoder(
            network(), T, len(words) + 2 if len(set(words)) < len(words) else V, end, 0.0, Vocabulary(words)
        )


def test_lengths_are_counted_up_to_the_first_end():
    symbols = torch.tensor([[2, 2, 2], [0, 2, 1], [0, 1, 2], [0, 1, 1]])
    assert lengths(symbols, 2).tolist() == [1, 2, 3, 3]


def test_no_step_is_taken_where_all_strings_are_over():
    class Counting(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.steps = network(), []

        def forward(self, previous, z):
            self.steps.append(previous.shape[1])
            return self.inner(previous, z)

    counting, z = Counting(), torch.randn(3, D, dtype=torch.float64)
    long = torch.tensor([[0, 2, 2, 2], [2, 2, 2, 2], [0, 1, 2, 2]])
    found = Strings(counting, z, T, V, end=2).log_prob(long)
    assert counting.steps == [3]
    torch.testing.assert_close(
        found, torch.stack([Strings(network(), z[r], T, V, 2).log_prob(long[r]) for r in range(3)])
    )


class Ending(torch.nn.Module):
    """Says of row r that its string ends at step r + 1, and of every step how many there were."""

    def __init__(self):
        super().__init__()
        self.steps = 0

    def start(self, z):
        return torch.zeros(len(z), 1)

    def step(self, previous, z, state):
        self.steps += 1
        over = state[:, 0] >= z[:, 0]
        return torch.where(over.unsqueeze(1), torch.tensor([0.0, 1.0, 9.0]), torch.tensor([9.0, 1.0, 0.0])), state + 1


def test_nothing_more_is_written_where_all_strings_are_over():
    z, long = torch.tensor([[0.0], [2.0]]), 50
    expected = torch.full((2, long), 2)
    expected[1, :2] = 0
    for write in (lambda one: one.mode, lambda one: one.beam(1), lambda one: one.beam(3)):
        network = Ending()
        assert torch.equal(write(Strings(network, z, long, V, end=2)), expected)
        assert network.steps == 3
