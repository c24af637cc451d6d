"""The batches of a training and of a validation."""

import pytest
import torch

from mvae.batch import Batch
from mvae.data.loading import ShuffledBatches
from mvae.training import batches
from mvae.training.batches import Batches, validation_batches


def numbers(count=20):
    return [(torch.arange(count), 1.0)]


def test_training_batches_hold_the_rows_of_the_order():
    rows = Batch({"n": torch.arange(20)}, {"n": torch.arange(20) % 3 > 0})
    order = ShuffledBatches(numbers(), 6, seed=1)
    found = list(Batches(rows, order).epoch(4))
    expected = [part.rows for part in ShuffledBatches(numbers(), 6, seed=1, epoch=4)]
    assert [batch.values["n"].tolist() for batch in found] == [part.tolist() for part in expected]
    assert all(torch.equal(batch.present["n"], batch.values["n"] % 3 > 0) for batch in found)


def test_a_part_knows_its_place_wherever_it_goes():
    rows = Batch({"n": torch.arange(20), "m": torch.arange(20)})
    found = Batches(rows, ShuffledBatches(numbers(), 7, seed=1, rank=1, world=2)).epoch(0)
    for batch, part in zip(found, ShuffledBatches(numbers(), 7, seed=1, rank=1, world=2), strict=True):
        assert torch.equal(batch.values["n"], part.rows)
        assert (batch.to("cpu").part.start, batch.to("cpu").part.total) == (part.start, part.total)
        assert batch[torch.arange(2)].part is None


@pytest.mark.parametrize("size", [1, 3, 7, 20, 100])
def test_validation_batches_keep_the_order_and_are_dealt_out_in_turn(size, monkeypatch):
    monkeypatch.setattr(batches, "VALIDATION_BATCH", size)
    rows = Batch({"n": torch.arange(20)})
    expected = dict(validation_batches(rows))
    assert torch.cat([batch.values["n"] for batch in expected.values()]).tolist() == list(range(20))
    assert list(expected) == list(range(-(-20 // size)))
    for world in (2, 3):
        dealt = [dict(validation_batches(rows, rank, world)) for rank in range(world)]
        assert sum(map(len, dealt)) == len(expected)
        for rank, own in enumerate(dealt):
            for number, batch in own.items():
                assert number % world == rank
                assert torch.equal(batch.values["n"], expected[number].values["n"])
