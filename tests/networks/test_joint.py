"""The joint encoder: its formula, and Table 1's counts of what each method needs to infer z."""

import pytest
import torch
from torch import nn

from mvae.config.build import build_model
from mvae.config.recipes import resolve
from mvae.networks.joint import JointEncoder
from mvae.networks.mlp import Flat

MNIST = {
    "vae": 730_240,
    "cvae": 735_360,
    "bivcca": 1_063_680,
    "mvae": 1_063_680,
    "mvae-q": 1_063_680,
    "jmvae": 2_061_184,
    "telbo": 2_061_184,
}
FASHION = {
    "vae": 3_409_536,
    "cvae": 3_414_656,
    "bivcca": 3_742_976,
    "mvae": 3_742_976,
    "mvae-q": 3_742_976,
    "jmvae": 7_682_432,
    "telbo": 7_682_432,
}


@pytest.mark.parametrize(
    ("source", "method", "count"),
    [(source, *pair) for source, counts in (("mnist", MNIST), ("fashion-mnist", FASHION)) for pair in counts.items()],
)
def test_table_1_counts_of_the_inference_networks(source, method, count):
    model = build_model(resolve(source, None, {("model", "method"): method}).model)
    assert sum(part.numel() for network in model.inference_networks for part in network.parameters()) == count


def test_it_is_features_side_by_side_a_hidden_layer_of_swish_and_a_head():
    torch.manual_seed(0)
    first, second = nn.Sequential(Flat(), nn.Linear(6, 4)), nn.Embedding(5, 3)
    encoder = JointEncoder([first, second], [4, 3], 2, hidden=7)
    x, labels = torch.randn(10, 2, 3), torch.arange(10) % 5
    features = torch.cat([x.reshape(10, 6) @ first[1].weight.T + first[1].bias, second.weight[labels]], 1)
    hidden = features @ encoder.layers[0].weight.T + encoder.layers[0].bias
    out = (hidden / (1 + (-hidden).exp())) @ encoder.head.weight.T + encoder.head.bias
    mean, log_variance = encoder(x, labels)
    torch.testing.assert_close(mean, out[:, :2])
    torch.testing.assert_close(log_variance, out[:, 2:])


def test_single_numbers_and_one_row():
    encoder = JointEncoder([Flat(), Flat()], [1, 2], 3, hidden=4)
    assert [part.shape for part in encoder(torch.zeros(1), torch.zeros(1, 2))] == [(1, 3), (1, 3)]


@pytest.mark.parametrize("count", [1, 3])
def test_another_number_of_observations_is_refused(count):
    encoder = JointEncoder([Flat(), Flat()], [1, 1], 3, hidden=4)
    with pytest.raises(ValueError, match="zip"):
        encoder(*[torch.zeros(2)] * count)


def test_every_part_learns():
    torch.manual_seed(0)
    encoder = JointEncoder([nn.Linear(2, 4), nn.Embedding(5, 3)], [4, 3], 2, hidden=7)
    sum(part.square().sum() for part in encoder(torch.randn(10, 2), torch.arange(10) % 5)).backward()
    assert all(part.grad.any() for part in encoder.parameters())
