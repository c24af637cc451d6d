"""Nineteen modalities and a thousand: built, trained, saved, loaded, given any of them."""

import pytest
import torch

import mvae
from mvae.batch import Batch
from mvae.config.build import build_model
from mvae.config.recipes import resolve
from mvae.data.dataset import Dataset

YES_OR_NO = {"shape": [], "likelihood": {"kind": "categorical", "num_classes": 2}}
YES_OR_NO |= {"encoder": {"kind": "embedding", "hidden": [4]}, "decoder": {"kind": "mlp", "hidden": [4]}}


def product(model, given):
    """Mean and variance of the product of the prior and the experts, from its definition, in float64."""
    precision, weighted = torch.ones(model.latent_dim).double(), torch.zeros(model.latent_dim).double()
    for name, value in given.items():
        mean, log_variance = model.modalities[name].encoder(value.unsqueeze(0))
        precision += (-log_variance[0].double()).exp()
        weighted += mean[0].double() * (-log_variance[0].double()).exp()
    return weighted / precision, 1 / precision


def assert_given_any(model, values, subsets):
    for names in subsets:
        given = {name: values[name] for name in names}
        with torch.no_grad():
            posterior, (mean, variance) = model.posterior(given), product(model, given)
        torch.testing.assert_close(posterior.mean[0].double(), mean, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(posterior.variance[0].double(), variance, rtol=1e-4, atol=1e-6)


def test_a_thousand_modalities(tmp_path):
    names = [f"m{number}" for number in range(1000)]
    generator = torch.Generator().manual_seed(0)
    rates = torch.rand(20, 1, generator=generator)
    answers = torch.rand(20, 1000, generator=generator) < rates  # how often a row says yes is what they share
    absent = torch.rand(20, 1000, generator=generator) < 0.5
    values = {name: torch.where(absent[:, n], -1, answers[:, n].long()) for n, name in enumerate(names)}
    rows = Batch(values, {name: ~absent[:, n] for n, name in enumerate(names)})
    config = {"model": {"latent_dim": 2, "random_subsets": 5, "modalities": dict.fromkeys(names, YES_OR_NO)}}
    config |= {"training": {"epochs": 1, "batch_size": 10, "learning_rate": 0.01}}
    trained = mvae.fit(Dataset("many", rows, rows[:0], rows[:0]), config=config, out=tmp_path / "run", progress=False)
    loaded = mvae.load(tmp_path / "run")
    before, after = trained.state_dict(), loaded.state_dict()
    assert all(torch.equal(after[name], parameter) for name, parameter in before.items())
    some = [[names[0]], names[::7], names[500:502], names]
    assert_given_any(loaded, {name: torch.tensor(n % 2) for n, name in enumerate(names)}, some)
    drawn = loaded.generate({"m3": 1}, ["m0", "m999"], 5)
    assert {name: value.shape for name, value in drawn.items()} == {"m0": (5, 1), "m999": (5, 1)}
    assert loaded.elbo(rows).isfinite().all()


@pytest.mark.parametrize("image", [True, False])
def test_nineteen_modalities_given_any(image):
    torch.manual_seed(0)
    model = build_model(resolve("celeba19", None, {}).model).eval()
    names = list(model.names)[0 if image else 1 :]
    values = {name: torch.tensor(n % 2) for n, name in enumerate(names)}
    values |= {"image": torch.rand(3, 64, 64)} if image else {}
    assert_given_any(model, values, [names[:1], names[::3], names])
