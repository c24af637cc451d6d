"""Every encoder gives an expert a row, every decoder a distribution for z of any leading dimensions."""

import pytest
import torch
from torch import nn

from mvae.likelihoods import Bernoulli, Categorical, Normal
from mvae.modality import Decoder
from mvae.networks.conv import ConvDecoder, ConvEncoder
from mvae.networks.mlp import EmbeddingEncoder, FeaturesEncoder, MLPDecoder, MLPEncoder
from mvae.networks.record import RecordEncoder
from mvae.networks.recurrent import RecurrentDecoder, RecurrentFeatures
from mvae.networks.transformer import TransformerDecoder, TransformerFeatures
from mvae.records import Element, Records
from mvae.strings import SequenceDecoder
from mvae.testing import check_decoder, check_encoder

D = 4
CONV = ((4, 4, 2, 1), (6, 4, 2, 1))
ELEMENTS = [Element("normal"), Element("categorical", 2), Element("poisson")]
GENERATOR = torch.Generator().manual_seed(0)
LABELS = torch.tensor([0, 1, 2, 2])
IMAGES = torch.rand(4, 1, 9, 7, generator=GENERATOR).round()
STRINGS = torch.tensor([[0, 1, 4, 4], [3, 2, 1, 0], [4, 4, 4, 4]])
RECORDS = torch.tensor([[0.3, 1.0, torch.nan], [torch.nan] * 3, [-1.0, 0.0, 4.0]])
VALUES = {shape: torch.randn(5, *shape, generator=GENERATOR) for shape in [(), (3,), (1, 2, 3)]}

ENCODERS = [(MLPEncoder(shape, D, hidden), rows) for shape, rows in VALUES.items() for hidden in [(), (5,), (5, 6, 7)]]
ENCODERS += [(MLPEncoder((3,), D, (5,), True, 0.5), VALUES[3,]), (RecordEncoder(ELEMENTS, D, (5,)), RECORDS)]
ENCODERS += [(EmbeddingEncoder(3, D, hidden), LABELS) for hidden in [(5,), (5, 6, 7)]]
ENCODERS += [(ConvEncoder((1, 9, 7), D, CONV, 5, batch_norm), IMAGES) for batch_norm in (False, True)]
FEATURES = [(RecurrentFeatures(5, 3, 6, end, cell), 6) for end in (None, 4) for cell in ("gru", "lstm")]
FEATURES += [(TransformerFeatures(5, 4, 8, 2, end=end), 8) for end in (None, 4)]
ENCODERS += [(FeaturesEncoder(features, width, D), STRINGS) for features, width in FEATURES]
DECODERS = [(Decoder(MLPDecoder(D, 3, hidden), Normal((3,), None)), VALUES[3,]) for hidden in [(), (5, 5)]]
DECODERS += [(Decoder(MLPDecoder(D, 3, (5,)), Categorical(3)), LABELS)]
DECODERS += [(Decoder(MLPDecoder(D, 4, (5,)), Records(ELEMENTS)), RECORDS)]
DECODERS += [
    (Decoder(ConvDecoder((1, 9, 7), D, CONV, 5, norm), Bernoulli((1, 9, 7))), IMAGES) for norm in (False, True)
]
for cell in ("gru", "lstm"):
    DECODERS += [(SequenceDecoder(RecurrentDecoder(D, 5, 3, 6, cell=cell), 4, 5, end), STRINGS) for end in (None, 4)]
DECODERS += [(SequenceDecoder(TransformerDecoder(D, 5, 4, 8, 2), 4, 5, end), STRINGS) for end in (None, 4)]


@pytest.mark.parametrize(("encoder", "rows"), ENCODERS)
def test_every_encoder_keeps_the_contract(encoder, rows):
    check_encoder(encoder, rows, D)


@pytest.mark.parametrize(("decoder", "rows"), DECODERS)
def test_every_decoder_keeps_the_contract(decoder, rows):
    check_decoder(decoder, D, rows)


@pytest.mark.parametrize("network", [MLPDecoder(D, 7, ()), MLPDecoder(D, 7, (5, 5))])
def test_no_rows_have_no_parameters(network: nn.Module):
    assert network(torch.zeros(0, D)).shape == (0, 7)
