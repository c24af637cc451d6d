"""Fully connected networks: Table 1's counts, the formula of a layer, shapes and options."""

import pytest
import torch
from torch import nn
from torch.nn.functional import one_hot

from mvae.config.build import build_model
from mvae.config.recipes import resolve
from mvae.networks.bank import architecture
from mvae.networks.mlp import BatchNorm, EmbeddingEncoder, Flat, HeadBeside, MLPDecoder, MLPEncoder


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


def swish(x):
    return x / (1 + (-x).exp())


def linear(layer, x):
    return x @ layer.weight.T + layer.bias


def random(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def test_table_1_counts_of_the_mnist_recipe():
    modalities = build_model(resolve("mnist", None, {}).model).modalities
    counts = {name: count(modality.encoder) for name, modality in modalities.items()}
    assert counts == {"image": 730_240, "label": 333_440}
    assert sum(counts.values()) == 1_063_680


def test_encoder_is_linear_layers_and_swish():
    encoder = MLPEncoder((2, 3), 4, (5, 7))
    x = random(10, 2, 3)
    first, second = (module for module in encoder.layers if isinstance(module, nn.Linear))
    expected = linear(encoder.head, swish(linear(second, swish(linear(first, x.reshape(10, 6))))))
    mean, log_variance = encoder(x)
    torch.testing.assert_close(mean, expected[:, :4])
    torch.testing.assert_close(log_variance, expected[:, 4:])


def test_decoder_is_linear_layers_and_swish():
    decoder = MLPDecoder(4, 6, (5,))
    z = random(10, 4)
    torch.testing.assert_close(decoder(z), linear(decoder.head, swish(linear(decoder.layers[0], z))))


def test_an_embedding_is_a_linear_layer_on_one_hot_vectors():
    encoder = EmbeddingEncoder(6, 4, (5, 7))
    labels = torch.tensor([0, 5, 3, 3])
    embedded = one_hot(labels, 6).float() @ encoder.embedding.weight
    hidden = next(module for module in encoder.layers if isinstance(module, nn.Linear))
    expected = linear(encoder.head, swish(linear(hidden, swish(embedded))))
    torch.testing.assert_close(torch.cat(encoder(labels), -1), expected)


def test_batch_normalisation_stands_before_each_activation():
    encoder = MLPEncoder((3,), 2, (4, 5), batch_norm=True)
    kinds = [type(module) for module in encoder.layers]
    assert kinds == [nn.Linear, BatchNorm, nn.SiLU] * 2
    assert count(encoder) == count(MLPEncoder((3,), 2, (4, 5))) + 2 * 4 + 2 * 5


def test_without_options_there_is_neither_batch_normalisation_nor_dropout():
    kinds = {type(module) for module in (*MLPEncoder((3,), 2).modules(), *MLPDecoder(2, 3).modules())}
    assert kinds == {MLPEncoder, MLPDecoder, Flat, nn.Sequential, nn.Linear, nn.SiLU}


@pytest.mark.parametrize(
    "build", [lambda p: MLPEncoder((9,), 3, (50,), dropout=p), lambda p: MLPDecoder(9, 3, (50,), p)]
)
def test_dropout_acts_in_training_only(build):
    network, x = build(0.5), random(8, 9)

    def output():
        result = network(x)
        return result if isinstance(result, torch.Tensor) else torch.cat(result, -1)

    assert not torch.equal(output(), output())
    network.eval()
    assert torch.equal(output(), output())


def test_a_category_out_of_range_is_refused():
    with pytest.raises(IndexError):
        EmbeddingEncoder(3, 2, (4,))(torch.tensor([3]))


def test_batch_normalisation_takes_a_single_row_by_what_it_has_learned():
    torch.manual_seed(0)
    layer, plain = BatchNorm(4), nn.BatchNorm1d(4)
    rows = torch.randn(6, 4) * 3 + 1
    torch.testing.assert_close(layer(rows), plain(rows))
    before = layer.running_mean.clone()
    one = layer(rows[:1])
    assert torch.equal(layer.running_mean, before)
    torch.testing.assert_close(one, plain.eval()(rows[:1]))
    torch.testing.assert_close(layer.eval()(rows), plain(rows))
    assert architecture(nn.Sequential(nn.Linear(4, 4), layer)) is None  # its statistics are of the batch


def test_a_head_with_z_beside_each_output_is_a_head_on_both():
    head = HeadBeside(5, 3, 7).double()
    outputs, z = torch.randn(2, 4, 5, dtype=torch.float64), torch.randn(2, 3, dtype=torch.float64)
    both = torch.cat([outputs, z.unsqueeze(1).expand(-1, 4, -1)], -1)
    torch.testing.assert_close(head(outputs, z), nn.functional.linear(both, head.weight, head.bias))
    assert torch.autograd.gradcheck(head, (outputs.requires_grad_(), z.requires_grad_()))
