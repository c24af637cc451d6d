import math

import pytest
import torch
from torch import nn

from mvae.batch import Batch
from mvae.fewlabels.completion import complete
from mvae.likelihoods import Categorical, Normal
from mvae.modality import Decoder, Modality
from mvae.models import MVAE
from mvae.networks.mlp import EmbeddingEncoder, MLPEncoder

LOGITS = torch.tensor([0.0, 1.0, -0.5])


def model() -> MVAE:
    """Two categories whose probabilities do not depend on z, and a number."""
    modalities = {"x": Modality(MLPEncoder((1,), 2, [4]), Decoder(nn.Linear(2, 1), Normal((1,))), 2)}
    for name in ("y", "w"):
        head = nn.Linear(2, 3)
        nn.init.zeros_(head.weight)
        head.bias.data = LOGITS.clone()
        modalities[name] = Modality(EmbeddingEncoder(3, 2, [4]), Decoder(head, Categorical(3)), 2)
    return MVAE(modalities, 2).eval()


def rows(presence: list[list[bool]]) -> Batch:
    x, y, w = torch.tensor(presence).T
    values = {"x": torch.where(x, 1.0, math.nan)[:, None], "y": torch.where(y, 2, -1), "w": torch.where(w, 1, -1)}
    return Batch(values, {"x": x, "y": y, "w": w})


@pytest.mark.parametrize("sharpness", [1.0, 2.0, 5.0])
def test_draws_follow_the_sharpened_probabilities(sharpness):
    torch.manual_seed(0)
    completed = complete(model(), rows([[True, False, True]] * 20_000), sharpness)
    frequencies = completed.values["y"].bincount(minlength=3) / 20_000
    torch.testing.assert_close(frequencies, (sharpness * LOGITS).softmax(0), atol=0.015, rtol=0)


def test_only_rows_that_lack_a_category_are_completed_and_what_they_have_stays():
    batch = rows(
        [[True, True, True], [True, False, True], [False, True, True], [False, False, True], [True, False, False]]
    )
    completed = complete(model(), batch)
    assert len(completed) == 3
    assert completed.present["y"].all()
    assert completed.present["w"].all()
    assert completed.present["x"].tolist() == [True, False, True]
    assert completed.values["w"][:2].tolist() == [1, 1]
    assert (completed.values["y"] >= 0).all()
    assert batch.values["y"].tolist() == [2, -1, 2, -1, -1]  # the batch itself is untouched


def test_rows_with_nothing_are_left_alone():
    assert complete(model(), rows([[False, False, False], [True, True, True]])) is None


def test_a_modality_the_batch_does_not_hold_is_completed_too():
    completed = complete(model(), Batch({"x": torch.zeros(5, 1)}))
    assert set(completed.values) == {"x", "y", "w"}
    assert completed.complete


def test_no_gradient_flows_through_the_guess():
    completed = complete(model().train(), rows([[True, False, True]] * 4))
    assert not completed.values["y"].requires_grad
    assert completed.values["y"].dtype == torch.long
