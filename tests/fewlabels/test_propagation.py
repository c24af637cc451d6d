import math

import pytest
import torch
from sklearn.datasets import make_moons
from sklearn.neighbors import KNeighborsClassifier
from torch.distributions import Categorical as Classes

from mvae.batch import Batch
from mvae.fewlabels import propagation
from mvae.fewlabels.propagation import guess_loss, propagated, spread_classes, surest
from mvae.models import MVAE
from small_models import CLASSES, LATENT, WEIGHTS, build, complete_rows, gaussian, rows_with_holes


def test_classes_follow_the_shape_of_the_data_where_the_nearest_neighbour_does_not():
    points, truth = make_moons(600, noise=0.05, random_state=0)
    codes, truth = torch.from_numpy(points).float(), torch.from_numpy(truth)
    classes = torch.full((600,), -1)
    for kind in (0, 1):
        classes[(truth == kind).nonzero()[0]] = kind
    shares = spread_classes(codes, classes, torch.ones(2), neighbours=10)
    torch.testing.assert_close(shares.sum(1), torch.ones(600))
    assert (shares.argmax(1) == truth).double().mean() > 0.99
    known = classes >= 0
    nearest = KNeighborsClassifier(1).fit(points[known], truth[known]).predict(points)
    assert (torch.from_numpy(nearest) == truth).double().mean() < 0.95


def test_what_arrives_of_each_class_is_scaled_to_be_the_same():
    generator = torch.Generator().manual_seed(0)
    codes = torch.randn(60, 2, generator=generator)
    classes = torch.full((60,), -1)
    classes[:9], classes[9] = 0, 2  # nine rows of one class, one of another, and none of class 1
    shares = spread_classes(codes, classes, torch.ones(3), neighbours=8)
    assert shares[:, 1].max() == 0
    assert 10 < int((shares.argmax(1) == 2).sum()) < 50  # as likely as the class with nine times as many


@pytest.mark.parametrize("known", [1, 4])
def test_one_class_is_all_there_is(known):
    classes = torch.full((5,), -1)
    classes[:known] = 2
    assert spread_classes(torch.randn(5, 2), classes, torch.ones(4), neighbours=20).argmax(1).tolist() == [2] * 5


def test_a_rare_class_stays_rare():
    generator = torch.Generator().manual_seed(0)
    truth = (torch.rand(2000, generator=generator) < 0.05).long()
    codes = torch.randn(2000, 2, generator=generator) + 3 * truth[:, None] * torch.tensor([1.0, 0.0])
    classes = torch.where(torch.arange(2000) < 60, truth, -1)
    shares = spread_classes(codes, classes, truth.bincount(), neighbours=20)
    assert (shares.argmax(1) == truth).double().mean() > 0.93
    assert shares[:, 1].mean().item() == pytest.approx(truth.double().mean().item(), abs=0.03)


def test_rows_that_nothing_reaches_get_nothing():
    places = torch.tensor([0.0, 1.0, 100.0]).repeat_interleave(4) + torch.arange(12) / 100
    classes = torch.tensor([0, -1, -1, -1, 1, -1, -1, -1, -1, -1, -1, -1])
    shares = spread_classes(places[:, None], classes, torch.ones(2), neighbours=3)
    assert not shares[8:].any()
    assert shares[:8].argmax(1).tolist() == [0] * 4 + [1] * 4
    for share in (0.5, 1.0):
        assert surest(shares, classes, share).tolist() == [-1, 0, 0, 0, -1, 1, 1, 1, -1, -1, -1, -1]
    assert surest(shares[8:], classes[8:], 0.5).tolist() == [-1] * 4


def test_the_surest_are_those_of_least_entropy():
    shares = torch.tensor([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8], [0.5, 0.5], [0.0, 1.0]])
    classes = torch.tensor([-1, -1, -1, -1, 1])
    assert surest(shares, classes, 0.0).tolist() == [0, -1, -1, -1, -1]
    assert surest(shares, classes, 0.5).tolist() == [0, -1, 1, -1, -1]
    assert surest(shares, classes, 1.0).tolist() == [0, 1, 1, 0, -1]


def test_the_loss_is_the_cross_entropy_at_a_draw():
    model = build(MVAE)
    batch = rows_with_holes(model, 12)  # rows 1, 5, 9 have the vector alone
    guesses = torch.full((12,), -1)
    guesses[1], guesses[9] = 2, 0
    torch.manual_seed(3)
    noise = torch.randn(2, LATENT, dtype=torch.float64)
    expert = gaussian(model.modalities["vector"].encoder(batch.values["vector"][[1, 9]]))
    precision = 1 / expert.variance  # and the prior's, which is 1
    mean, deviation = expert.mean * precision / (1 + precision), (1 + precision).rsqrt()
    logits = model.modalities["label"].decoder.network(mean + deviation * noise)
    expected = -WEIGHTS["label"] * Classes(logits=logits).log_prob(torch.tensor([2, 0])).sum() / 12
    torch.manual_seed(3)
    torch.testing.assert_close(guess_loss(model, batch, "label", guesses), expected)
    assert guess_loss(model, batch, "label", torch.full((12,), -1)) is None


def test_only_rows_that_lack_the_class_and_have_something_get_one(monkeypatch):
    model = build(MVAE).eval()
    rows = rows_with_holes(model, 80)
    found = propagated(model, rows, "label", 5, 1.0)
    lacking = rows.present["vector"] & ~rows.present["label"]
    assert ((found >= 0) == lacking).all()
    assert set(found[lacking].tolist()) <= set(range(CLASSES))
    monkeypatch.setattr(propagation, "MOST_ROWS", 7)
    assert int((propagated(model, rows, "label", 5, 1.0) >= 0).sum()) == 7


def test_there_is_nothing_to_spread_without_classes_or_places():
    model = build(MVAE).eval()
    whole = complete_rows(model, 6)
    none = torch.zeros(6, dtype=torch.bool)
    for present in ({"label": none}, {"vector": none}):
        absent = Batch(whole.values, present)
        assert propagated(model, absent, "label", 3, 1.0).tolist() == [-1] * 6
    assert propagated(model, whole.only(["vector"]), "label", 3, 1.0).tolist() == [-1] * 6
    assert propagated(model, whole, "label", 3, 1.0).tolist() == [-1] * 6


def test_rows_are_read_as_the_model_sees_them():
    model = build(MVAE).eval()
    rows = rows_with_holes(model, 40, number=math.nan)
    doubled = Batch({**rows.values, "vector": 2 * rows.values["vector"]}, rows.present)
    as_seen = propagated(model, rows, "label", 5, 0.5, lambda b: Batch({"vector": 2 * b.values["vector"]}, b.present))
    assert as_seen.tolist() == propagated(model, doubled, "label", 5, 0.5).tolist()
