"""Held-out rows and the weak supervision of section 5.1."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mvae.batch import Batch
from mvae.data.dataset import Dataset, drop, hold_out, pairing_order, unpair


def complete(rows, num_modalities=2):
    """Row numbers as values, so that a row that moved would show."""
    numbers = torch.arange(rows)
    kinds = [numbers.float()[:, None].expand(-1, 3).clone(), numbers.clone(), numbers.to(torch.float64), numbers.int()]
    return Batch({f"m{index}": kinds[index] for index in range(num_modalities)})


def presence(batch):
    return batch.presence(list(batch.values))


@given(st.integers(1, 50).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n - 1))), st.integers(0, 1000))
@settings(max_examples=60, deadline=None)
def test_held_out_rows_and_the_others_are_all_rows(sizes, seed):
    num_rows, num_held = sizes
    kept, held = hold_out(num_rows, num_held, seed)
    assert len(held) == num_held
    assert sorted(kept.tolist() + held.tolist()) == list(range(num_rows))
    assert kept.tolist() == sorted(kept.tolist())
    assert held.tolist() == sorted(held.tolist())


def test_each_row_is_held_out_equally_often():
    counts = torch.zeros(10)
    for seed in range(2000):
        counts[hold_out(10, 3, seed)[1]] += 1
    # Binomial(2000, 0.3): five standard deviations are 102.
    assert (counts - 600).abs().max() < 102


def test_a_seed_repeats_the_held_out_rows_and_seeds_differ():
    assert torch.equal(hold_out(100, 30, 1)[1], hold_out(100, 30, 1)[1])
    assert not torch.equal(hold_out(100, 30, 1)[1], hold_out(100, 30, 2)[1])


@pytest.mark.parametrize(("num_rows", "num_held"), [(10, 10), (10, 11), (10, -1), (0, 0)])
def test_more_rows_than_there_are_cannot_be_held_out(num_rows, num_held):
    with pytest.raises(ValueError, match=f"cannot hold out {num_held} of {num_rows} rows"):
        hold_out(num_rows, num_held, 0)


@given(st.integers(1, 40), st.integers(2, 4), st.floats(0, 1), st.integers(0, 1000))
@settings(max_examples=100, deadline=None)
def test_paired_rows_keep_all_and_the_others_one_in_groups_as_even_as_can_be(rows, num_modalities, fraction, seed):
    batch = unpair(complete(rows, num_modalities), fraction, seed)
    table = presence(batch)
    paired = table.all(1)
    assert len(batch) == rows
    assert int(paired.sum()) == round(fraction * rows)
    assert (table[~paired].sum(1) == 1).all()
    groups = table[~paired].sum(0)
    assert int(groups.max() - groups.min()) <= 1


@pytest.mark.parametrize("num_modalities", [2, 3, 4])
def test_what_is_kept_keeps_its_place_and_what_is_lost_is_erased(num_modalities):
    before, batch = complete(30, num_modalities), unpair(complete(30, num_modalities), 0.2, 0)
    for name, value in batch.values.items():
        present = batch.present[name]
        assert torch.equal(value[present], before.values[name][present])
        assert value.dtype == before.values[name].dtype
        lost = value[~present]
        assert lost.isnan().all() if value.is_floating_point() else (lost == -1).all()


def test_with_fraction_1_everything_stays():
    batch = unpair(complete(9, 3), 1.0, 0)
    assert batch.complete
    assert all(torch.equal(value, complete(9, 3).values[name]) for name, value in batch.values.items())


def test_with_fraction_0_no_row_is_paired():
    assert presence(unpair(complete(9, 3), 0.0, 0)).int().sum(0).tolist() == [3, 3, 3]


def test_the_given_batch_is_left_as_it_is():
    batch = complete(10)
    unpair(batch, 0.0, 0)
    assert batch.complete
    assert all(torch.equal(value, complete(10).values[name]) for name, value in batch.values.items())


def test_rows_are_chosen_at_random_and_a_seed_repeats_them():
    first, again, other = (presence(unpair(complete(50), 0.5, seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_each_row_gets_each_modality_equally_often():
    counts = torch.zeros(6, 3)
    for seed in range(1500):
        counts += presence(unpair(complete(6, 3), 0.0, seed))
    # Binomial(1500, 1/3): five standard deviations are 92.
    assert (counts - 500).abs().max() < 92


def test_rows_that_lack_something_already_stay_as_they_are():
    once = unpair(complete(40), 0.5, 0)
    twice = unpair(once, 0.25, 1)
    whole, left = presence(once).all(1), presence(twice).all(1)
    assert (int(whole.sum()), int(left.sum())) == (20, 5)
    assert torch.equal(presence(twice)[~whole], presence(once)[~whole])
    assert not (left & ~whole).any()


@pytest.mark.parametrize("fraction", [-0.01, 1.01, math.nan])
def test_a_fraction_outside_0_to_1_is_refused(fraction):
    with pytest.raises(ValueError, match=f"paired fraction: expected a number from 0 to 1, got {fraction}"):
        unpair(complete(10), fraction, 0)


def test_a_split_is_found_by_its_name():
    dataset = Dataset("rows", complete(5), complete(3), complete(2))
    assert [len(dataset.split(name)) for name in ("train", "validation", "test")] == [5, 3, 2]


@pytest.mark.parametrize("name", ["valid", "", "name", "Train"])
def test_another_split_is_refused(name):
    with pytest.raises(ValueError, match=f"split: expected train, validation or test, got '{name}'"):
        Dataset("rows", complete(5), complete(3), complete(2)).split(name)


@given(st.integers(5, 60), st.integers(1, 5), st.floats(0, 1), st.integers(0, 100))
@settings(max_examples=60, deadline=None)
def test_balanced_pairs_have_each_class_equally_often_as_far_as_its_rows_go(rows, num_classes, fraction, seed):
    generator = torch.Generator().manual_seed(seed)
    classes = torch.randint(num_classes, (rows,), generator=generator)
    batch = Batch({"x": torch.arange(rows).float(), "class": classes})
    paired = presence(unpair(batch, fraction, seed, "class")).all(1)
    assert int(paired.sum()) == round(fraction * rows)
    found, there = (part.bincount(minlength=num_classes) for part in (classes[paired], classes))
    most = int(found.max())
    assert all(count >= min(most - 1, total) for count, total in zip(found.tolist(), there.tolist(), strict=True))


def test_where_pairs_are_balanced_the_other_rows_are_as_they_come():
    # Five classes, some rarer: whichever modality an unpaired row keeps, its class must say nothing about it.
    classes = torch.arange(20_000) ** 2 % 11 % 5
    rows = unpair(Batch({"x": torch.zeros(20_000), "class": classes}), 0.001, 0, "class")
    paired, share = presence(rows).all(1), classes.bincount() / len(classes)
    for name in rows.values:
        found = classes[rows.present[name] & ~paired].bincount()
        expected = found.sum() * share
        assert (found - expected).abs().max() < 5 * expected.sqrt().max()  # five standard deviations


@pytest.mark.parametrize("balance", [None, "m1"])
def test_the_pairs_of_a_smaller_fraction_are_among_those_of_a_larger_one(balance):
    fewer, more = (presence(unpair(complete(50), share, 3, balance)).all(1) for share in (0.1, 0.4))
    assert int(fewer.sum()) == 5
    assert bool((more | ~fewer).all())
    assert pairing_order(complete(50), 3, balance)[:5].sort().values.tolist() == fewer.nonzero().flatten().tolist()


@pytest.mark.parametrize("balance", ["m0", "other"])
def test_only_a_category_can_be_balanced(balance):
    with pytest.raises(ValueError, match=f"balance: expected a category .m1., got '{balance}'"):
        unpair(complete(10), 0.5, 0, balance)


# Dropping


@given(st.integers(1, 40), st.integers(1, 4), st.floats(0, 1), st.integers(0, 100))
@settings(max_examples=60, deadline=None)
def test_a_row_keeps_something_and_what_is_dropped_cannot_be_read(rows, modalities, probability, seed):
    batch = complete(rows, modalities)
    dropped = drop(batch, probability, seed)
    assert bool(presence(dropped).any(1).all())
    for name, value in batch.values.items():
        kept = dropped.present[name]
        assert torch.equal(dropped.values[name][kept], value[kept])
        lost = dropped.values[name][~kept]
        assert bool((lost.isnan() if value.is_floating_point() else lost == -1).all())


def test_each_modality_is_dropped_as_often_as_said():
    dropped = presence(drop(complete(20_000, 4), 0.3, 0))
    # 0.3 less what is kept so that no row is empty: one of the four, where all would go
    expected = 0.3 - 0.3**4 / 4
    assert (1 - dropped.double().mean(0) - expected).abs().max() < 5 * (0.3 * 0.7 / 20_000) ** 0.5
    assert bool((presence(drop(complete(50, 4), 1.0, 0)).sum(1) == 1).all())
    assert bool(presence(drop(complete(50, 4), 0.0, 0)).all())


@pytest.mark.parametrize("lose", [lambda rows: unpair(rows, 0.2, 0), lambda rows: drop(rows, 0.5, 0)])
def test_lost_bytes_are_zero(lose):
    rows = Batch({"image": torch.full((50, 1, 2, 2), 7, dtype=torch.uint8), "label": torch.arange(50)})
    lost = lose(rows)
    kept = lost.present["image"]
    assert 0 < int(kept.sum()) < 50
    assert bool((lost.values["image"][kept] == 7).all())
    assert not lost.values["image"][~kept].any()


@pytest.mark.parametrize("probability", [-0.1, 1.1, math.nan])
def test_an_impossible_probability_is_refused(probability):
    with pytest.raises(ValueError, match="probability: expected a number from 0 to 1"):
        drop(complete(5), probability, 0)
    with pytest.raises(ValueError, match="this batch has missing values already"):
        drop(unpair(complete(5), 0.0, 0), 0.5, 0)
