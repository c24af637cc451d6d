"""Posteriors fitted to rows, against the exact ones of linear-Gaussian models."""

import torch
from torch import nn

from forked import run_python
from mvae.batch import Batch
from mvae.evaluation.refining import refined
from mvae.likelihoods import Normal
from mvae.modality import Decoder, Modality
from mvae.models import MMVAE, MVAE


class Elsewhere(nn.Module):
    """An encoder that is wrong: it says the same of every row."""

    def forward(self, x):
        return torch.full((len(x), 2), 3.0, dtype=x.dtype), torch.full((len(x), 2), 1.0, dtype=x.dtype)


def model(method=MVAE):
    torch.manual_seed(0)
    modalities = {}
    for name in ("one", "other"):
        network = nn.Linear(2, 4)
        nn.init.normal_(network.weight)
        modalities[name] = Modality(Elsewhere(), Decoder(network, Normal((4,), scale=0.8)), 2)
    return method(modalities, latent_dim=2).double().eval()


def exact(linear, rows):
    """Of each row the exact mean, and the variances of the best diagonal q: one over the precision's diagonal."""
    means, variances = [], []
    for row in range(len(rows)):
        precision, shift = torch.eye(2, dtype=torch.float64), torch.zeros(2, dtype=torch.float64)
        for name, modality in linear.modalities.items():
            if rows.present[name][row]:
                weight, bias = modality.decoder.network.weight, modality.decoder.network.bias
                precision = precision + weight.T @ weight / 0.64
                shift = shift + weight.T @ (rows.values[name][row] - bias) / 0.64
        means.append(torch.linalg.solve(precision, shift))
        variances.append(1 / precision.diagonal())
    return torch.stack(means), torch.stack(variances)


def rows_of(count):
    generator = torch.Generator().manual_seed(1)
    values = {name: torch.randn(count, 4, generator=generator, dtype=torch.float64) for name in ("one", "other")}
    present = {"other": torch.arange(count) % 3 > 0}
    values["other"][~present["other"]] = float("nan")
    return Batch(values, present)


def test_it_becomes_the_best_diagonal_posterior_whatever_a_row_lacks():
    linear, rows = model(), rows_of(9)
    found = refined(linear, rows, steps=800)
    mean, variance = (part.detach() for part in exact(linear, rows))
    assert (found.mean - mean).abs().max() < 0.03
    assert (found.variance / variance).log().abs().max() < 0.15
    start = linear.posterior(rows)
    assert (start.mean - mean).abs().max() > 0.5


def test_rows_do_not_influence_one_another():
    linear, rows = model(), rows_of(9)
    together = refined(linear, rows)
    alone = refined(linear, rows[4:6])
    assert torch.allclose(together.mean[4:6], alone.mean, atol=1e-12)
    assert torch.allclose(together.stddev[4:6], alone.stddev, atol=1e-12)


def test_without_steps_it_is_what_the_encoders_say_and_nothing_of_the_model_changes():
    linear, rows = model(), rows_of(4)
    before = {name: part.clone() for name, part in linear.state_dict().items()}
    start = linear.posterior(rows)
    assert torch.equal(refined(linear, rows, steps=0).mean, start.mean)
    with torch.no_grad():
        found = refined(linear, rows, steps=3)
    assert not found.mean.requires_grad
    assert all(torch.equal(part, before[name]) for name, part in linear.state_dict().items())
    assert all(part.grad is None for part in linear.parameters())


def test_it_works_where_the_caller_does_without_gradients():
    linear, rows = model(), rows_of(4)
    expected = refined(linear, rows, steps=3)
    with torch.inference_mode():
        assert torch.equal(refined(linear, rows_of(4), steps=3).mean, expected.mean)


def test_a_mixture_too_comes_near_the_best_diagonal_posterior():
    linear, rows = model(MMVAE), rows_of(9)
    found = refined(linear, rows, steps=800)
    mean, variance = (part.detach() for part in exact(linear, rows))
    assert (found.mean - mean).abs().max() < 0.03
    start = refined(linear, rows, steps=0)  # far off, which Adam's running means do not forget soon
    assert (found.variance / variance).log().abs().max() < 0.5
    assert (start.variance / variance).log().abs().min() > 2.0
    assert torch.equal(start.mean, linear.posterior(rows).mean)


def test_it_does_not_import_torchs_compiler():
    code = """
import sys, torch
from mvae.batch import Batch
from mvae.config.build import build_model
from mvae.config.specs import ModelSpec
from mvae.evaluation.refining import refined
part = {"shape": [2], "likelihood": {"kind": "normal"}, "encoder": {"kind": "mlp"}, "decoder": {"kind": "mlp"}}
model = build_model(ModelSpec.model_validate({"latent_dim": 2, "modalities": {"x": part}})).eval()
refined(model, Batch({"x": torch.randn(3, 2)}), steps=2)
assert "torch._dynamo" not in sys.modules
"""
    run_python(code).check_returncode()
