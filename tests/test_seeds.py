"""Draws from a seed: the same in any thread, and nothing of the caller's random state changes."""

import random
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import distributions

import mvae
from mvae.seeds import Drawing, seeded
from mvae.sklearn import MVAEImputer
from small_models import build

ROWS = np.array([[1.0, 2.0], [2.0, np.nan], [3.0, 5.0], [np.nan, 8.0]] * 10)
P = torch.tensor([0.2, 0.8])


def states():
    return torch.get_rng_state().tolist(), random.getstate(), str(np.random.get_state())  # noqa: NPY002


@pytest.mark.parametrize(
    ("kind", "parameters"),
    [
        ("Bernoulli", [P]),
        ("Beta", [P, P]),
        ("Binomial", [9, P]),
        ("Categorical", [P]),
        ("Dirichlet", [P]),
        ("Exponential", [P]),
        ("Gamma", [P, P]),
        ("Laplace", [P, P]),
        ("NegativeBinomial", [9 * P, P]),
        ("Normal", [P, P]),
        ("Poisson", [P]),
        ("StudentT", [9 * P]),
    ],
)
def test_distributions_draw_what_they_draw_from_the_global_generator(kind, parameters):
    one, before = getattr(distributions, kind)(*parameters), states()
    with seeded(3):
        expected = one.sample((50,))
    with Drawing(3, torch.device("cpu")):
        assert torch.equal(one.sample((50,)), expected)
    assert states() == before


@pytest.mark.parametrize("mean", [False, True])
def test_draws_with_a_seed_are_the_same_in_any_thread(mean):
    model = build(mvae.MVAE)

    def drawn(seed):
        return {name: values.tolist() for name, values in model.generate(None, None, 30, mean, seed=seed).items()}

    before = states()
    alone = [drawn(seed) for seed in range(8)]
    assert states() == before
    assert alone[0] != alone[1]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(50):  # others draw from the global generator meanwhile
            pool.submit(torch.rand, 10)
        assert list(pool.map(drawn, range(8))) == alone


def trained():
    model = build(mvae.MVAE).float()
    return lambda: mvae.train(model, mvae.Batch({"vector": torch.zeros(9, 3)}), epochs=1, progress=False)


@pytest.mark.parametrize(
    "act",
    [
        lambda: mvae.fit("digits", epochs=1, progress=False, seed=7),
        trained(),
        lambda: MVAEImputer(steps=5).fit(ROWS),
        lambda: MVAEImputer(steps=5, random_state=1).fit_transform(ROWS),
    ],
    ids=["fit", "train", "fit an imputer", "impute"],
)
def test_the_random_state_of_the_caller_stays(act):
    before = states()
    act()
    assert states() == before
