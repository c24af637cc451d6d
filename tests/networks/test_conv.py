"""Convolutional networks: Table 1's counts, mirrored sizes, options, errors."""

import math

import pytest
import torch
from torch import nn

from mvae.config.build import build_model
from mvae.config.recipes import resolve
from mvae.networks.conv import ConvDecoder, ConvEncoder, feature_shapes

SMALL = ((4, 4, 2, 1), (6, 4, 2, 1))
SIZES = [(28, 28), (50, 50), (64, 64), (33, 47)]
LAYERS = [
    SMALL,
    ((3, 4, 2, 1), (4, 4, 2, 1), (5, 4, 2, 1), (6, 4, 1, 0)),  # DCGAN's, as for 64x64 in the paper
    ((4, 3, 3, 0), (5, 5, 2, 2)),
    ((4, 3, 1, 1),),
    ((4, 5, 4, 0),),
]


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


def kinds(module, kind):
    return [part for part in module.modules() if isinstance(part, kind)]


def random(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def fits(size, layers):
    try:
        feature_shapes((1, *size), layers)
    except ValueError:
        return False
    return True


CASES = [(size, layers) for size in SIZES for layers in LAYERS if fits(size, layers)]


def test_table_1_counts_of_the_fashion_recipe():
    modalities = build_model(resolve("fashion-mnist", None, {}).model).modalities
    counts = {name: count(modality.encoder) for name, modality in modalities.items()}
    assert counts == {"image": 3_409_536, "label": 333_440}
    assert sum(counts.values()) == 3_742_976


@pytest.mark.parametrize(("size", "layers"), CASES)
def test_the_stated_feature_shapes_are_those_of_the_convolutions(size, layers):
    encoder = ConvEncoder((2, *size), 3, layers, 5)
    shapes = []
    for part in kinds(encoder, nn.Conv2d):
        part.register_forward_hook(lambda module, given, output: shapes.append(tuple(output.shape[1:])))
    mean, log_variance = encoder(random(2, 2, *size))
    assert mean.shape == log_variance.shape == (2, 3)
    assert [(2, *size), *shapes] == feature_shapes((2, *size), layers)


@pytest.mark.parametrize(("size", "layers"), CASES)
@pytest.mark.parametrize("hidden", [0, 5])
def test_the_decoder_runs_through_the_encoder_s_shapes_backwards(size, layers, hidden):
    decoder = ConvDecoder((2, *size), 3, layers, hidden)
    shapes = []
    for part in kinds(decoder, nn.ConvTranspose2d):
        part.register_forward_hook(lambda module, given, output: shapes.append(tuple(output.shape[1:])))
    assert decoder(random(2, 3)).shape == (2, 2 * math.prod(size))
    assert shapes == feature_shapes((2, *size), layers)[-2::-1]


def test_the_decoder_s_numbers_are_the_image_s_pixels_in_order():
    # An image whose last layer only adds up what lies around each pixel: equal features, equal pixels inside.
    decoder = ConvDecoder((2, 8, 6), 4, ((3, 3, 1, 1),), 0)
    features = decoder.layers[:-1](random(1, 4))
    expected = torch.nn.functional.conv_transpose2d(features, decoder.layers[-1].weight, padding=1)
    torch.testing.assert_close(decoder(random(1, 4)).reshape(2, 8, 6), expected[0])


def test_batch_normalisation_follows_each_convolution_but_the_first():
    layers = [*SMALL, (7, 3, 1, 1)]
    encoder = ConvEncoder((1, 12, 12), 3, layers, 5, batch_norm=True)
    assert [part.num_features for part in kinds(encoder, nn.BatchNorm2d)] == [6, 7]
    assert count(encoder) == count(ConvEncoder((1, 12, 12), 3, layers, 5)) + 2 * (6 + 7)


def test_batch_normalisation_follows_each_transposed_convolution_but_the_last():
    layers = [*SMALL, (7, 3, 1, 1)]
    decoder = ConvDecoder((1, 12, 12), 3, layers, 5, batch_norm=True)
    assert [part.num_features for part in kinds(decoder, nn.BatchNorm2d)] == [6, 4]
    assert not isinstance(list(decoder.layers)[-1], nn.BatchNorm2d)


def test_convolutions_have_no_bias():
    networks = (ConvEncoder((1, 12, 12), 3, SMALL, 5), ConvDecoder((1, 12, 12), 3, SMALL, 5))
    assert all(part.bias is None for network in networks for part in kinds(network, (nn.Conv2d, nn.ConvTranspose2d)))


def test_without_options_there_is_neither_batch_normalisation_nor_dropout():
    networks = (ConvEncoder((1, 12, 12), 3, SMALL, 5), ConvDecoder((1, 12, 12), 3, SMALL, 5))
    assert not any(kinds(network, (nn.BatchNorm2d, nn.Dropout)) for network in networks)


def test_dropout_acts_in_training_only():
    encoder, x = ConvEncoder((1, 12, 12), 3, SMALL, 50, dropout=0.5), random(2, 1, 12, 12)
    assert not torch.equal(encoder(x)[0], encoder(x)[0])
    encoder.eval()
    assert torch.equal(encoder(x)[0], encoder(x)[0])


@pytest.mark.parametrize("network", [ConvEncoder, ConvDecoder])
@pytest.mark.parametrize("shape", [(28, 28), (28,), (1, 1, 28, 28), ()])
def test_what_is_no_image_is_refused(network, shape):
    with pytest.raises(ValueError, match=r"expected an image of shape \(channels, height, width\), got"):
        network(shape, 3, SMALL, 5)


@pytest.mark.parametrize("network", [ConvEncoder, ConvDecoder])
def test_a_convolution_that_leaves_nothing_is_refused(network):
    with pytest.raises(ValueError, match="kernel 9, stride 1 and padding 1 does not fit 4x6"):
        network((1, 8, 12), 3, [(4, 4, 2, 1), (6, 9, 1, 1)], 5)
