import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from mvae.batch import Batch
from mvae.data.dataset import unpair
from paper.baselines.logistic import PairedLogisticRegression, pixels, thumbnails


def blobs(count: int, seed: int) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    label = torch.randint(3, (count,), generator=generator)
    centres = torch.tensor([[0.0, 0.0], [3.0, 0.0], [0.0, 3.0]])
    image = (centres[label] + torch.randn(count, 2, generator=generator)).reshape(-1, 1, 1, 2)
    return Batch({"image": image, "label": label})


def test_reads_only_the_paired_rows():
    rows = unpair(blobs(400, 0), 0.2, seed=0)  # unpaired values are NaN and -1, which scikit-learn would refuse
    paired = rows.presence(["image", "label"]).all(1)
    test = blobs(200, 1)
    all_rows, pairs_only = (PairedLogisticRegression().fit(part).predict(test) for part in (rows, rows[paired]))
    np.testing.assert_array_equal(all_rows, pairs_only)


def test_is_scikit_learns_at_the_chosen_strength():
    rows, test = blobs(300, 0), blobs(200, 1)
    ours = PairedLogisticRegression().fit(rows)
    theirs = LogisticRegression(C=ours.models_[0].best_params_["C"], max_iter=5000)
    theirs.fit(rows.values["image"].flatten(1).numpy(), rows.values["label"].numpy())
    np.testing.assert_array_equal(ours.predict(test), theirs.predict(test.values["image"].flatten(1).numpy()))
    assert (ours.predict(test) == test.values["label"].numpy()).mean() > 0.85


def test_a_class_seen_once_is_no_obstacle():
    rows = Batch({"image": torch.eye(3).reshape(3, 1, 1, 3), "label": torch.tensor([0, 1, 2])})
    assert PairedLogisticRegression().fit(rows).predict(rows).tolist() == [0, 1, 2]


def test_no_pairs_are_refused():
    with pytest.raises(ValueError, match="no row has both 'image' and 'label'"):
        PairedLogisticRegression().fit(unpair(blobs(10, 0), 0.0, seed=0))


def test_of_a_string_each_symbol_has_a_regression_and_one_that_never_changes_is_kept():
    rows, test = blobs(300, 0), blobs(200, 1)
    strings = [Batch({"image": b.values["image"], "text": text(b.values["label"])}) for b in (rows, test)]
    found = PairedLogisticRegression(target="text").fit(strings[0]).predict(strings[1])
    label = PairedLogisticRegression().fit(rows).predict(test)
    assert found.shape == (200, 3)
    np.testing.assert_array_equal(found[:, 0], label)
    assert (found[:, 1] == 7).all()
    assert ((found[:, 2] == 1) == (label == 2)).mean() > 0.9


def text(label: torch.Tensor) -> torch.Tensor:
    return torch.stack([label, torch.full_like(label, 7), (label == 2).long()], 1)


def test_bytes_are_levels_of_grey():
    values = torch.randint(0, 256, (40, 1, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    label = (values.flatten(1)[:, 0] > 127).long()
    grey, raw = Batch({"image": values / 255, "label": label}), Batch({"image": values, "label": label})
    models = [PairedLogisticRegression(numbers).fit(grey) for numbers in (pixels, thumbnails)]
    for model in models:
        np.testing.assert_array_equal(model.predict(grey), model.predict(raw))
    np.testing.assert_allclose(models[0].probabilities(raw).sum(1), 1)
