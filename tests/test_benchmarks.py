import copy
import math
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # benchmarks/ stands beside src/ and is not installed

import mvae  # noqa: E402
from benchmarks import classifiers, floor, models, page, peer, proposals  # noqa: E402
from benchmarks.plain import reencoding_loss  # noqa: E402
from mvae.files import read_json  # noqa: E402


def without_noise(model):
    """Experts so narrow that z is the mean to seven digits: the loss is a number, however the noise is drawn."""
    for modality in model.modalities.values():
        head = modality.encoder.head
        with torch.no_grad():
            head.bias[head.out_features // 2 :] -= 30
    return model.eval()


CASES = {
    "mnist": (models.mnist, models.pictures),
    "celeba19": (lambda: models.celeba19(batch_norm=False), models.faces),
    "table": (lambda: models.tables(5), lambda count: models.numbers(5, count)),
}


@pytest.mark.parametrize("case", CASES)
def test_the_plain_loop_has_the_loss_and_gradients_of_the_library(case):
    torch.manual_seed(0)
    make_model, make_rows = CASES[case]
    ours, rows = without_noise(make_model()), make_rows(3)
    with models.unstacked():
        once, plain = make_model().eval(), make_model().eval()
    once.load_state_dict(ours.state_dict())
    plain.load_state_dict(ours.state_dict())
    losses = {"stacked": lambda: ours.loss(rows).loss, "once": lambda: once.loss(rows).loss}
    losses["plain"] = lambda: reencoding_loss(plain, rows)
    found = {}
    for name, loss in losses.items():
        torch.manual_seed(1)  # the same random subsets
        found[name] = loss()
        found[name].backward()
    torch.testing.assert_close(found["stacked"], found["plain"], rtol=1e-5, atol=1e-3)
    torch.testing.assert_close(found["once"], found["plain"], rtol=1e-5, atol=1e-3)
    for mine, theirs in zip(once.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-3, atol=1e-3 * float(theirs.grad.abs().max()))


@pytest.mark.skipif(not peer.available(), reason="multivae is not installed")
@pytest.mark.parametrize("case", ["mnist", "table"])
def test_the_peer_has_the_loss_of_the_library(case):
    torch.manual_seed(0)
    make_model, make_rows = CASES[case]
    ours, rows = without_noise(make_model()), make_rows(4)
    ours.random_subsets = 0  # the peer draws its random ones otherwise
    theirs = peer.peer_model(ours)
    loss = theirs(peer.peer_rows(ours, rows.values), epoch=1).loss
    torch.testing.assert_close(loss, ours.loss(rows).loss, rtol=1e-5, atol=1e-3)


@pytest.mark.skipif(not peer.available(), reason="multivae is not installed")
def test_the_peer_trains_a_lone_modality_twice():
    torch.manual_seed(0)
    ours, rows = without_noise(models.mnist()), models.pictures(1)
    present = {"image": torch.tensor([True]), "label": torch.tensor([False])}
    theirs = peer.peer_model(ours)
    loss = theirs(peer.peer_rows(ours, rows.values, present), epoch=1).loss
    alone = ours.loss(models.Batch(rows.values, present)).loss
    # once as the joint and once as the single; here the term counts once
    torch.testing.assert_close(loss, 2 * alone, rtol=1e-5, atol=1e-3)


def test_operations_are_those_of_the_layers():
    rows = models.pictures(10).values
    products = floor.step_products(models.mnist(), rows, terms=2)
    image_encoder = 2 * (784 * 512) + 3 * (512 * 512 + 512 * 128)  # the first layer's input is data
    label_encoder = 3 * (512 * 512 + 512 * 128)  # its embedding learns
    hidden = 64 * 512 + 2 * 512 * 512
    decoders = 2 * 3 * (2 * hidden + 512 * 784 + 512 * 10)
    assert floor.work(products) == 2 * 10 * (image_encoder + label_encoder + decoders)


def test_a_convolution_multiplies_each_weight_at_each_place():
    model = models.celeba19()
    convolutions = [p for p in floor.step_products(model, models.faces(2).values, 1) if p.kind != "linear"]
    encoder = [2 * 2 * p * size for p, size in ((2, 32 * 3 * 16 * 32**2), (3, 64 * 32 * 16 * 16**2))]
    assert [p.operations for p in convolutions[:2]] == encoder
    mirrored = 2 * 2 * 3 * 32 * 3 * 16 * 32**2  # the decoder's last undoes the encoder's first
    assert convolutions[-1].operations == mirrored


def test_products_run():
    products = floor.step_products(models.tables(9), models.numbers(9, 4).values, 2)
    for dtype in (torch.float32, torch.bfloat16):
        floor.run(products, dtype)()


def test_the_page_is_what_the_results_give():
    contents = page.read(ROOT / "results" / "benchmarks")
    assert contents
    assert (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8") == page.page(contents)


def test_a_missed_target_is_shown():
    contents = copy.deepcopy(page.read(ROOT / "results" / "benchmarks"))
    for found in contents[0]["comparisons"]:
        found.update(target=0.0, sense="at most", met=False)
    assert "**not met**" in page.targets(contents[:1])


def test_the_guide_shows_which_classifier_was_ahead():
    found = classifiers.summary(read_json(ROOT / "results" / "benchmarks" / "classifiers.json")["cells"])
    assert found in (ROOT / "docs" / "guide" / "evaluate.md").read_text(encoding="utf-8")


def test_a_classifiers_scores_are_those_of_what_it_says():
    model, rows = models.mnist().eval(), models.pictures(20)
    found = classifiers.scores(model, rows, "label")
    for estimator in classifiers.ESTIMATORS:
        told = mvae.classify(model, rows, "label", estimator=estimator)
        truth = rows.values["label"].tolist()
        right = sum(row.index(max(row)) == label for row, label in zip(told.tolist(), truth, strict=True))
        assert found[estimator]["accuracy"] == pytest.approx(right / 20)
        nats = [math.log(row[label]) for row, label in zip(told.tolist(), truth, strict=True)]
        assert found[estimator]["nats"] == pytest.approx(sum(nats) / 20)


def test_of_the_tumours_so_many_have_a_class_and_others_are_scored():
    trained, rows, target = classifiers.table(20, epochs=1)(0)
    assert target == "diagnosis"
    assert len(rows) == 200
    assert rows.present["diagnosis"].all()
    assert 0.2 < rows.values["diagnosis"].double().mean() < 0.9
    assert set(trained.modalities) == {"measurements", "diagnosis"}


@pytest.mark.parametrize("share", proposals.SHARES)
def test_proposals_of_a_model_that_is_known_are_near_its_exact_value(share):
    case = next(proposals.cases())
    found = list(proposals.scores(case, share))
    assert [(cell["targets"], cell["given"]) for cell in found][2:4] == [(["a", "b"], []), (["a"], ["b"])]
    for cell in found:
        assert abs(cell["nats"] - cell["exact"]) < 5 * cell["monte_carlo_error"]
