"""Measures of translations, where their answer is known."""

import sys

import pytest
import torch
from torch import nn

from mvae.batch import Batch
from mvae.evaluation.translation import quality_of_texts, retrieval
from mvae.likelihoods import Normal
from mvae.modality import Decoder, Modality
from mvae.models import MVAE


class Turned(nn.Module):
    """q(z | x) around x, turned by an angle."""

    def __init__(self, angle):
        super().__init__()
        cosine, sine = torch.tensor(angle).cos(), torch.tensor(angle).sin()
        self.matrix = torch.stack([torch.stack([cosine, -sine]), torch.stack([sine, cosine])])

    def forward(self, x):
        return x @ self.matrix, torch.zeros_like(x)


def model(angle):
    decoders = [Decoder(nn.Linear(2, 2), Normal((2,))) for _ in range(2)]
    return MVAE(
        {"en": Modality(Turned(0.0), decoders[0], 2), "vi": Modality(Turned(angle), decoders[1], 2)}, latent_dim=2
    ).eval()


def around(count):
    """Points on a circle."""
    angles = torch.arange(count) * (2 * torch.pi / count)
    return torch.stack([angles.cos(), angles.sin()], 1)


@pytest.mark.parametrize(("steps", "expected"), [(0.0, 1.0), (0.4, 1.0), (0.6, 0.0), (-0.6, 0.0)])
def test_rows_find_themselves_unless_another_lies_nearer(steps, expected):
    points = around(500)
    rows = Batch({"en": points, "vi": 3 * points})  # lengths do not matter
    assert retrieval(model(steps * 2 * torch.pi / 500), rows, "en", "vi") == expected


def test_retrieval_needs_both():
    rows = Batch({"en": around(3), "vi": around(3)}, {"vi": torch.tensor([True, False, True])})
    with pytest.raises(ValueError, match="retrieval needs rows that have both 'en' and 'vi'"):
        retrieval(model(0.0), rows, "en", "vi")


def test_texts_are_measured_by_bleu_and_chrf():
    truth = ["The cat sat on the mat.", "A dog barked at night in the garden."]
    assert quality_of_texts(truth, truth) == {"bleu": pytest.approx(100), "chrf": pytest.approx(100)}
    other = quality_of_texts(["The cat sat on the mat.", "Nothing of the kind here, no no no."], truth)
    assert 5 < other["bleu"] < 70
    assert 20 < other["chrf"] < 90
    # A text of four words whose reference is itself and four more: all n-grams right, brevity penalty exp(1 - 8/4).
    half = quality_of_texts(["one two three four"], ["one two three four five six seven eight"])
    assert half["bleu"] == pytest.approx(100 * torch.tensor(-1.0).exp().item(), abs=1e-3)


def test_without_sacrebleu_it_is_said_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "sacrebleu", None)
    with pytest.raises(ValueError, match=r"pip install 'mvae\[translation\]'"):
        quality_of_texts(["a"], ["a"])
