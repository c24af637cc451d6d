"""The MVAE's networks without the stochastic layer."""

import pytest
import torch
from torch.nn.functional import cross_entropy

from mvae.batch import Batch
from mvae.data.dataset import Dataset
from mvae.evaluation.classification import classify
from mvae.training.prepare import prepare
from mvae.training.run import Run
from paper.baselines.networks import Deterministic
from small_models import CLASSES, LATENT, POINT_AND_CLASS, complete_rows, gradients, label, vector


def network(target: str) -> Deterministic:
    torch.manual_seed(0)
    return Deterministic({"vector": vector(), "label": label()}, LATENT, "vector", target).double()


@pytest.mark.parametrize("target", ["label", "vector"])
def test_it_maximises_the_likelihood_of_the_target_at_the_code(target):
    model = network(target)
    rows = complete_rows(model)
    code, _ = model.modalities["vector"].encoder(rows.values["vector"])
    part = model.modalities[target].decoder
    if target == "label":
        expected = cross_entropy(part.network(code), rows.values["label"])
    else:
        scale = part.likelihood.log_scale.exp()
        log_density = torch.distributions.Normal(part.network(code), scale).log_prob(rows.values["vector"])
        expected = -log_density.sum(1).mean()
    objective = model.loss(rows)
    torch.testing.assert_close(objective.loss, expected)
    learned = {name for name, gradient in gradients(model, objective.loss).items() if gradient.any()}
    assert learned
    assert all(("vector.encoder" in name) or (f"{target}.decoder" in name) for name in learned)


def test_nothing_is_drawn():
    model = network("label")
    rows = complete_rows(model, 5)
    code, _ = model.modalities["vector"].encoder(rows.values["vector"])
    expected = model.modalities["label"].decoder(code).probs
    found = classify(model, rows.only(["vector"]), "label", estimator="decoder", num_samples=2)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-8)


def test_it_learns_by_what_trains_the_models():
    generator = torch.Generator().manual_seed(0)
    kind = torch.randint(CLASSES, (600,), generator=generator)
    centres = 4 * torch.randn(CLASSES, 3, generator=generator)
    point = centres[kind] + 0.3 * torch.randn(600, 3, generator=generator)
    rows = Batch({"point": point, "class": kind})
    data = Dataset("blobs", rows[:400], rows[400:500], rows[500:])
    config = {
        "model": POINT_AND_CLASS,
        "training": {"epochs": 20, "learning_rate": 0.01, "batch_size": 50, "best_by": "class"},
    }
    run = prepare(data, config=config, options={})
    model = Deterministic(run.model.modalities, 2, "point", "class")
    outcome = Run(run.spec, run.dataset, model, None).train_to_the_end(progress=False)
    guesses = classify(model, rows[500:].only(["point"]), "class", estimator="decoder", num_samples=2).argmax(1)
    assert outcome.kept["validation/accuracy"] > 0.97
    assert (guesses == kind[500:]).double().mean() > 0.97
