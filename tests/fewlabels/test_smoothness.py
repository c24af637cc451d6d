import math

import pytest
import torch
from torch import nn

from mvae.batch import Batch
from mvae.fewlabels.smoothness import roughness
from mvae.likelihoods import Categorical, Normal
from mvae.modality import Decoder, Modality
from mvae.models import MVAE
from mvae.networks.mlp import EmbeddingEncoder

SLOPE = torch.tensor([0.3, -1.2, 0.7], dtype=torch.float64)


class Linear(nn.Module):
    """z is a.x, all but known: a Gaussian of precision e^30, beside which the prior does not matter."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        mean = (x @ SLOPE.to(x.dtype)).unsqueeze(-1)
        return mean, torch.full_like(mean, -30.0)


def model(width: float = 1.0) -> MVAE:
    """p(y = 1 | x) = sigmoid(width a.x + 0.4)."""
    head = nn.Linear(1, 2)
    head.weight.data, head.bias.data = torch.tensor([[0.0], [width]]), torch.tensor([0.0, 0.4])
    x = Modality(Linear(), Decoder(nn.Linear(1, 3), Normal((3,))), 1)
    y = Modality(EmbeddingEncoder(2, 1, [4]), Decoder(head, Categorical(2)), 1)
    return MVAE({"x": x, "y": y}, 1).double()


def kl(p: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
    """Between two coins."""
    return p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()


@pytest.mark.parametrize("radius", [0.1, 0.5, 2.0])
def test_it_is_the_divergence_along_the_steepest_direction(radius):
    # With two classes the guess changes along a alone, so that the worst change of this length is +-radius a / |a|.
    for seed in range(5):
        torch.manual_seed(seed)
        x = torch.randn(1, 3, dtype=torch.float64)
        logit = x @ SLOPE + 0.4
        changed = [logit + sign * radius * SLOPE.norm() for sign in (1, -1)]
        expected = [kl(logit.sigmoid(), other.sigmoid()).item() for other in changed]
        found = roughness(model(), Batch({"x": x}), radius).item()
        assert min(abs(found - value) for value in expected) < 1e-6


def test_its_gradient_makes_the_guess_flatter():
    torch.manual_seed(0)
    net = model()
    rough = roughness(net, Batch({"x": torch.randn(50, 3, dtype=torch.float64)}), 1.0)
    slope = net.modalities["y"].decoder.network.weight
    (gradient,) = torch.autograd.grad(rough, slope)
    assert gradient[1].item() > 0  # of the slope, which is 1: a step against it makes it less
    assert gradient[0].item() < 0


def test_rows_count_whether_labelled_or_not_and_those_without_an_input_as_nothing():
    torch.manual_seed(0)
    x = torch.randn(4, 3, dtype=torch.float64)
    here = torch.tensor([True, True, False, False])
    whole = Batch({"x": x, "y": torch.tensor([0, -1, 1, -1])}, {"y": torch.tensor([True, False, True, False])})
    holes = Batch({"x": torch.where(here[:, None], x, math.nan), "y": whole.values["y"]}, {**whole.present, "x": here})
    torch.manual_seed(1)
    some = roughness(model(), Batch({"x": x[:2]}), 0.5)
    torch.manual_seed(1)
    torch.testing.assert_close(roughness(model(), holes, 0.5), some / 2)  # the same sum over twice the rows


def test_there_is_nothing_to_smooth_without_an_input_or_a_category():
    assert roughness(model(), Batch({"y": torch.tensor([0, 1])}), 1.0) is None
    absent = Batch({"x": torch.full((2, 3), math.nan)}, {"x": torch.zeros(2, dtype=torch.bool)})
    assert roughness(model(), absent, 1.0) is None
    numbers = MVAE({"x": model().modalities["x"]}, 1).double()
    assert roughness(numbers, Batch({"x": torch.zeros(2, 3, dtype=torch.float64)}), 1.0) is None
