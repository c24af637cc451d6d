"""k-effect, dropping and attributes on a few small faces; what they measure, on models that are known."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from mvae.batch import Batch
from mvae.config.build import build_model
from mvae.config.recipes import resolve
from mvae.data.celeba import ATTRIBUTES
from paper import attributes
from paper.__main__ import main
from paper.runner import CATALOG, page

PARTS = [0] * 30 + [1] * 4 + [2] * 12


pytestmark = pytest.mark.usefixtures("among_faces")


def reproduced(name, *options):
    return main([name, "--preset", "smoke", "--data-dir", "data", "--out", "out", *options])


@pytest.mark.parametrize("name", ["k-effect", "dropping"])
def test_each_value_is_a_cell_and_a_row_of_the_page(name, in_turn, capsys):
    assert reproduced(name, "--docs", "docs") == 0
    content = json.loads(Path(f"out/{name}/smoke.json").read_text())
    assert [cell["value"] for cell in content["cells"]] == CATALOG[name]["presets"]["smoke"]["values"]
    one, other = ([entry["nats"] for entry in cell["estimates"]] for cell in content["cells"])
    assert one != other
    assert all(np.isfinite(value) for value in one + other)
    text = Path(f"docs/{name}.md").read_text()
    assert text == page(name, content)
    assert "46 of 202,599 images" in text
    said = capsys.readouterr().out
    for cell in content["cells"]:
        shown = f"{cell['value']:g}" if name == "k-effect" else f"{100 * cell['value']:g} %"
        assert f"| {shown} | {cell['estimates'][0]['nats']:.1f} ± " in text
        assert f"{CATALOG[name]['varies']} {cell['value']:g}: marginal {cell['estimates'][0]['nats']:.1f}" in said
    begun = len(in_turn)
    assert reproduced(name, "--resume") == 0
    assert len(in_turn) == begun


def test_attributes_of_all_predictors(in_turn):
    assert reproduced("attributes", "--docs", "docs") == 0
    content = json.loads(Path("out/attributes/smoke.json").read_text())
    assert [cell["predictor"] for cell in content["cells"]] == list(attributes.PREDICTORS)
    bits = np.array([[7 * row >> number & 1 for number in range(18)] for row in range(34, 46)])
    train = np.array([[7 * row >> number & 1 for number in range(18)] for row in range(30)])
    majority = content["cells"][0]["attributes"]
    for number, name in enumerate(ATTRIBUTES):
        guess = train[:, number].mean() > 0.5
        assert majority[name]["accuracy"] == pytest.approx((bits[:, number] == guess).mean())
        assert majority[name]["frequency"] == pytest.approx(bits[:, number].mean())
        assert majority[name]["auc"] == (0.5 if 0 < bits[:, number].mean() < 1 else None)
    logistic = content["cells"][1]["attributes"]
    assert any(scores["auc"] not in (None, 0.5) for scores in logistic.values())
    text = Path("docs/attributes.md").read_text()
    assert text == page("attributes", content)
    assert all(f"| {name} |" in text for name in ATTRIBUTES)


@pytest.mark.parametrize("source", ["celeba", "celeba19"])
def test_probabilities_are_the_decoders_on_posterior_draws(source):
    torch.manual_seed(1)
    model = build_model(resolve(source, None, {}).model).eval()
    images = Batch({"image": torch.rand(3, 3, 64, 64)})
    found = attributes.attribute_probabilities(model, images, 2000)
    with torch.no_grad():
        z = model.posterior(images).sample((4000,))
        for number, name in enumerate(ATTRIBUTES[:3]):
            if source == "celeba":
                each = model.modalities["attributes"].decoder(z).mean[..., number]
            else:
                each = model.modalities[name].decoder(z).probs[..., 1]
            error = 5 * each.std(0) * (1 / 2000 + 1 / 4000) ** 0.5
            assert (torch.as_tensor(found[name]) - each.mean(0)).abs().le(error).all()


def test_scores_are_those_of_the_probabilities():
    truth = np.array([0, 0, 0, 1, 1])
    probabilities = np.array([0.1, 0.4, 0.6, 0.55, 0.3])
    found = attributes._scores(truth, probabilities)
    assert found == {"frequency": 0.4, "accuracy": 0.6, "balanced": pytest.approx((2 / 3 + 1 / 2) / 2)} | {
        "auc": pytest.approx(roc_auc_score(truth, probabilities))
    }
    pairs = [(a > b) for a in probabilities[truth == 1] for b in probabilities[truth == 0]]
    assert found["auc"] == pytest.approx(np.mean(pairs))
    assert attributes._scores(np.zeros(5), probabilities)["auc"] is None


def test_an_unknown_predictor_is_refused_with_those_there_are(capsys):
    assert reproduced("attributes", "--predictor", "mvae20") == 2
    assert (
        "--predictor: expected some of majority, logistic, mvae-label, mvae19, got 'mvae20'" in capsys.readouterr().err
    )
