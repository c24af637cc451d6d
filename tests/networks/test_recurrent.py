"""The string encoder against the recurrence written out, and what it can and cannot overlook."""

import pytest
import torch

from mvae.networks.mlp import FeaturesEncoder
from mvae.networks.recurrent import RecurrentDecoder, RecurrentFeatures

SYMBOLS, LENGTH = 5, 4


def features():
    torch.manual_seed(0)
    return RecurrentFeatures(SYMBOLS, embedding=3, hidden=6).double()


def last_state(gru, embedded, direction):
    """Cho et al. (2014), with PyTorch's reset gate after the product: the state after the last step."""
    input_weight, state_weight, input_bias, state_bias = (
        getattr(gru, f"{part}_l0{direction}") for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    )
    state = torch.zeros(len(embedded), gru.hidden_size, dtype=torch.float64)
    for step in embedded.unbind(1) if not direction else reversed(embedded.unbind(1)):
        from_input = (step @ input_weight.T + input_bias).chunk(3, -1)
        from_state = (state @ state_weight.T + state_bias).chunk(3, -1)
        reset = 1 / (1 + (-from_input[0] - from_state[0]).exp())
        update = 1 / (1 + (-from_input[1] - from_state[1]).exp())
        new = (from_input[2] + reset * from_state[2]).tanh()
        state = (1 - update) * new + update * state
    return state


def strings(count=7):
    return torch.randint(0, SYMBOLS, (count, LENGTH), generator=torch.Generator().manual_seed(1))


def test_both_directions_read_the_whole_string_and_are_added():
    network, x = features(), strings()
    embedded = network.embedding.weight[x]
    expected = last_state(network.recurrent, embedded, "") + last_state(network.recurrent, embedded, "_reverse")
    torch.testing.assert_close(network(x), expected, atol=1e-12, rtol=1e-12)


def test_the_head_gives_mean_then_log_variance():
    torch.manual_seed(0)
    encoder = FeaturesEncoder(RecurrentFeatures(SYMBOLS, embedding=3, hidden=6), 6, 2)
    x = strings()
    expected = encoder.features(x) @ encoder.head.weight.T + encoder.head.bias
    mean, log_variance = encoder(x)
    torch.testing.assert_close(mean, expected[:, :2])
    torch.testing.assert_close(log_variance, expected[:, 2:])


@pytest.mark.parametrize("position", range(LENGTH))
def test_every_symbol_counts(position):
    network, x = features(), strings()
    changed = x.clone()
    changed[:, position] = (x[:, position] + 1) % SYMBOLS
    assert ((network(changed) - network(x)).abs().max(1).values > 1e-4).all()


def test_the_order_of_the_symbols_counts():
    network = features()
    assert (network(torch.tensor([[0, 1, 2, 3]])) - network(torch.tensor([[3, 2, 1, 0]]))).abs().max() > 1e-4


def test_rows_are_read_each_for_itself():
    network, x = features(), strings()
    torch.testing.assert_close(torch.cat([network(row) for row in x.split(1)]), network(x), atol=1e-12, rtol=1e-12)


def test_table_1_count_of_multimnist():
    # Embedding 12 x 200; each direction three gates of 200 x 200 twice and two biases; a head to 2 x 100.
    encoder = FeaturesEncoder(RecurrentFeatures(12), 200, 100)
    count = sum(parameter.numel() for parameter in encoder.parameters())
    assert count == 12 * 200 + 2 * 3 * (2 * 200 * 200 + 2 * 200) + (200 + 1) * 200 == 525_000


def test_a_symbol_out_of_range_is_refused():
    with pytest.raises(IndexError):
        features()(torch.tensor([[0, 1, 2, SYMBOLS]]))


def test_after_the_end_nothing_is_read():
    torch.manual_seed(0)
    network = RecurrentFeatures(SYMBOLS, embedding=3, hidden=6, end=4).double()
    x = torch.tensor([[0, 1, 4, 4], [4, 4, 4, 4], [3, 2, 1, 0], [2, 4, 0, 1]])
    found = network(x)
    embedded = network.embedding.weight[x]
    for row, length in enumerate([3, 1, 4, 2]):
        part = embedded[row : row + 1, :length]
        expected = last_state(network.recurrent, part, "") + last_state(network.recurrent, part, "_reverse")
        torch.testing.assert_close(found[row : row + 1], expected, atol=1e-12, rtol=1e-12)
    torch.testing.assert_close(network(x[:1, :3]), found[:1], atol=1e-12, rtol=1e-12)


def test_no_rows_have_no_features():
    assert RecurrentFeatures(SYMBOLS, embedding=3, hidden=6, end=4)(torch.zeros(0, 4, dtype=torch.long)).shape == (0, 6)


def test_an_lstm_gives_its_last_output_in_both_directions():
    torch.manual_seed(0)
    network = RecurrentFeatures(SYMBOLS, embedding=3, hidden=6, end=4, cell="lstm").double()
    x = torch.tensor([[0, 1, 4, 4], [3, 2, 1, 0]])
    for row, length in enumerate([3, 4]):
        outputs, _ = network.recurrent(network.embedding(x[row : row + 1, :length]))
        torch.testing.assert_close(network(x)[row], outputs[0, -1, :6] + outputs[0, 0, 6:])


@pytest.mark.parametrize("cell", ["gru", "lstm"])
@pytest.mark.parametrize("layers", [1, 2])
def test_step_by_step_a_decoder_says_what_it_says_at_once(cell, layers):
    torch.manual_seed(0)
    decoder = RecurrentDecoder(2, SYMBOLS, embedding=3, hidden=6, layers=layers, cell=cell).double().eval()
    z, previous = torch.randn(7, 2, dtype=torch.float64), strings()
    state, found = decoder.start(z), []
    for symbol in previous.unbind(1):
        logits, state = decoder.step(symbol, z, state)
        found.append(logits)
    torch.testing.assert_close(torch.stack(found, 1), decoder(previous, z))
