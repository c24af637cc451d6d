"""What autoencoders and Boltzmann machines make of images."""

import numpy as np
import torch
from sklearn.neural_network import BernoulliRBM

from mvae.data.digits import load_digits
from mvae.models import VAE
from paper.baselines.latents import boltzmann_latents, network_latents
from paper.baselines.logistic import PairedLogisticRegression
from small_models import build, complete_rows

MODEL = build(VAE)


def test_codes_are_posterior_means_on_one_scale():
    rows, others = complete_rows(MODEL, 1500, seed=1), complete_rows(MODEL, 20, seed=2)
    codes = network_latents(MODEL, rows, "vector")
    means, _ = MODEL.modalities["vector"].encoder(rows.values["vector"])
    posterior = MODEL.posterior(rows).mean.detach().numpy()
    assert means.shape == posterior.shape
    np.testing.assert_allclose(codes(rows), posterior / posterior.std(), rtol=1e-6)
    np.testing.assert_allclose(codes(others), MODEL.posterior(others).mean.detach().numpy() / posterior.std())


def test_hidden_units_are_scikit_learns_and_help_to_tell_digits():
    train, test = load_digits()
    machine = boltzmann_latents(train, epochs=10, units=200)
    theirs = BernoulliRBM(200, learning_rate=0.05, batch_size=100, n_iter=10, random_state=0)
    theirs.fit(train.values["image"].flatten(1).numpy())
    np.testing.assert_array_equal(machine(test), theirs.transform(test.values["image"].flatten(1).numpy()))
    predicted = PairedLogisticRegression(machine).fit(train).predict(test)
    assert (torch.from_numpy(predicted) == test.values["label"]).double().mean() > 0.9
