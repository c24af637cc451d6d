"""The order of rows: every row once an epoch, a function of seed and epoch alone."""

from itertools import product

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as some

from mvae.batch import Batch
from mvae.data.loading import ShuffledBatches, grouped
from mvae.seeds import seed_of

sizes = some.integers(1, 200)
seeds = some.integers(0, 2**63 - 1)
kinds = some.lists(some.sampled_from([(True, True), (True, False), (False, True)]), min_size=1, max_size=200)


def whole(num_rows):
    """Rows of one kind."""
    return [(torch.arange(num_rows), 1.0)]


def pictures_and_names(table):
    picture, name = torch.tensor(table).T
    numbers = torch.zeros(len(table))
    return Batch({"picture": numbers, "name": numbers}, {"picture": picture, "name": name})


def rows_of(batches):
    """All row numbers, one after the other."""
    return torch.cat([part.rows for part in batches])


def order(num_rows=100, batch_size=7, seed=0, epoch=0):
    return rows_of(ShuffledBatches(whole(num_rows), batch_size, seed, epoch)).tolist()


@given(table=kinds, batch_size=sizes, seed=seeds, epoch=some.integers(0, 1000))
def test_every_row_once_an_epoch(table, batch_size, seed, epoch):
    groups = grouped(pictures_and_names(table), ("picture", "name"), None)
    batches = [part.rows for part in ShuffledBatches(groups, batch_size, seed, epoch)]
    assert sorted(torch.cat(batches).tolist()) == list(range(len(table)))
    assert len(batches) == len(ShuffledBatches(groups, batch_size, seed))
    assert all(len(batch) == batch_size for batch in batches[:-1])
    assert 1 <= len(batches[-1]) <= batch_size


def test_the_order_depends_on_seed_and_epoch_alone():
    expected = order(seed=3, epoch=5)
    torch.manual_seed(99)  # the global generator plays no part
    sampler = ShuffledBatches(whole(100), 7, 3)
    for epoch in (2, 5):  # nor what was drawn before
        sampler.epoch = epoch
        rows = rows_of(sampler).tolist()
    assert rows == expected
    assert rows_of(sampler).tolist() == expected


def test_the_batch_size_cuts_one_order():
    assert order(batch_size=7) == order(batch_size=100)


def test_the_global_generator_is_left_alone():
    torch.manual_seed(0)
    state = torch.get_rng_state()
    order()
    assert torch.equal(torch.get_rng_state(), state)


def test_orders_differ_between_epochs_and_between_seeds():
    orders = [order(seed=seed, epoch=epoch) for seed, epoch in product(range(5), range(5))]
    assert len(set(map(tuple, orders))) == 25


def test_the_order_is_a_uniform_shuffle():
    # the place of row 0 over many epochs: chi-square with 9 degrees of freedom, below its 99.99 % point
    places = torch.tensor([order(10, 10, 0, epoch).index(0) for epoch in range(2000)])
    counts = places.bincount(minlength=10).double()
    assert ((counts - 200).square() / 200).sum() < 33.7


@given(
    table=kinds,
    batch_size=some.integers(1, 50),
    seed=seeds,
    complete=some.floats(0.01, 0.6),
    names=some.floats(0.01, 0.3),
)
def test_shares_fill_their_part_of_every_batch_each_kind_in_turn(table, batch_size, seed, complete, names):
    rows = pictures_and_names(table)
    groups = grouped(rows, ("picture", "name"), {"complete": complete, "name": names})
    assert sum(share for _, share in groups) == pytest.approx(1)
    batches = [part.rows for part in ShuffledBatches(groups, batch_size, seed)]
    assert len(batches) == -(-len(table) // batch_size)
    if len(groups) == 1:
        return
    assert all(len(batch) == batch_size for batch in batches)
    for members, share in groups:
        counts = {int(torch.isin(batch, members).sum()) for batch in batches}
        assert len(counts) == 1
        assert counts.pop() == pytest.approx(share * batch_size, abs=1)
        visited = torch.cat(batches).bincount(minlength=len(table))[members]
        assert visited.max() - visited.min() <= 1


@given(table=kinds, batch_size=some.integers(1, 20), seed=seeds, complete=some.sampled_from([None, 0.4]))
def test_by_length_the_same_rows_come_as_often(table, batch_size, seed, complete):
    rows = pictures_and_names(table)
    groups = grouped(rows, ("picture", "name"), None if complete is None else {"complete": complete})
    lengths = torch.randint(1, 71, (len(table),), generator=torch.Generator().manual_seed(seed))
    one, other = (
        [part.rows for part in ShuffledBatches(groups, batch_size, seed, lengths=known)] for known in (None, lengths)
    )
    assert sorted(map(len, one)) == sorted(map(len, other))
    assert torch.equal(torch.cat(one).sort().values, torch.cat(other).sort().values)


@pytest.mark.parametrize("shares", [None, {"complete": 0.5}])
def test_rows_of_about_the_same_length_share_a_batch(shares):
    rows = pictures_and_names([(True, index % 5 == 0) for index in range(5000)])
    lengths = torch.randint(1, 71, (5000,), generator=torch.Generator().manual_seed(0))
    groups = grouped(rows, ("picture", "name"), shares)
    sampler = ShuffledBatches(groups, 50, seed=0, lengths=lengths)

    def padding(batches):
        return sum(int(lengths[batch].max()) * len(batch) for batch in batches) / sum(
            int(lengths[batch].sum()) for batch in batches
        )

    batches = [part.rows for part in sampler]
    assert padding(batches) < 1.05
    assert padding([part.rows for part in ShuffledBatches(groups, 50, seed=0)]) > 1.8
    means = torch.stack([lengths[batch].float().mean() for batch in batches])
    assert abs(torch.corrcoef(torch.stack([means, torch.arange(len(means)).float()]))[0, 1]) < 0.3  # in any order
    assert [part.rows.tolist() for part in sampler] == [batch.tolist() for batch in batches]


def test_kinds_are_what_rows_have():
    rows = pictures_and_names([(True, True), (True, False), (False, True), (True, False)])
    groups = grouped(rows, ("picture", "name"), {"complete": 0.5, "name": 0.1})
    assert [(members.tolist(), round(share, 9)) for members, share in groups] == [([0], 0.5), ([2], 0.1), ([1, 3], 0.4)]
    same = grouped(rows, ("picture", "name"), {"name+picture": 0.5, "name": 0.1})
    assert [members.tolist() for members, _ in same] == [[0], [2], [1, 3]]


def test_a_kind_without_rows_leaves_its_share_to_the_others():
    rows = pictures_and_names([(True, True), (True, True)])
    ((members, share),) = grouped(rows, ("picture", "name"), {"complete": 0.25, "name": 0.25})
    assert members.tolist() == [0, 1]
    assert share == 1


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        ({"complete": 0.5, "sound": 0.1}, "unknown modality 'sound'; there are picture, name, and complete"),
        ({"complete": 1.0}, "a sum below 1"),
        ({"complete": 0.7, "name": 0.7}, "a sum below 1"),
    ],
)
def test_shares_that_cannot_be_are_refused(shares, message):
    with pytest.raises(ValueError, match=message):
        grouped(pictures_and_names([(True, True), (True, False)]), ("picture", "name"), shares)


def test_shares_that_leave_no_rows_are_refused():
    with pytest.raises(ValueError, match="they leave no rows"):
        grouped(pictures_and_names([(True, True)]), ("picture", "name"), {"complete": 0.0})


def test_kinds_come_in_another_order_each_epoch():
    rows = pictures_and_names([(True, index < 10) for index in range(40)])
    sampler = ShuffledBatches(grouped(rows, ("picture", "name"), {"complete": 0.5}), 8, seed=0)
    orders = []
    for epoch in range(10):
        sampler.epoch = epoch
        drawn = rows_of(sampler)
        orders.append(tuple(drawn[drawn < 10].tolist()))
    assert len(set(orders)) == 10


def test_seeds_are_distinct_on_a_grid_of_small_numbers():
    grid = list(product(range(-2, 40), repeat=2)) + list(product(range(6), repeat=3)) + [(n,) for n in range(40)]
    drawn = [seed_of(*numbers) for numbers in grid]
    assert len(set(drawn)) == len(grid)


@given(first=seeds, second=seeds)
def test_the_order_of_the_numbers_matters(first, second):
    assert (seed_of(first, second) == seed_of(second, first)) == (first == second)


@given(numbers=some.lists(some.integers(-(2**70), 2**70)))
def test_a_seed_is_one_that_torch_takes(numbers):
    seed = seed_of(*numbers)
    assert 0 <= seed < 2**63
    torch.Generator().manual_seed(seed)


def test_neighbours_share_no_bits_beyond_chance():
    # bits that change between neighbours: 63 on average / 2, as for unrelated numbers
    changed = [(seed_of(0, n) ^ seed_of(0, n + 1)).bit_count() for n in range(1000)]
    assert sum(changed) / 1000 == pytest.approx(31.5, abs=0.6)
    assert min(changed) > 8


# Parts of several processes


@given(table=kinds, batch_size=sizes, seed=seeds, epoch=some.integers(0, 9), world=some.integers(1, 9))
def test_the_parts_of_all_processes_are_the_batches_of_one(table, batch_size, seed, epoch, world):
    groups = grouped(pictures_and_names(table), ("picture", "name"), {"complete": 0.4} if epoch % 2 else None)
    whole_batches = [part.rows for part in ShuffledBatches(groups, batch_size, seed, epoch)]
    orders = [ShuffledBatches(groups, batch_size, seed, epoch, rank, world) for rank in range(world)]
    assert {len(order) for order in orders} == {len(whole_batches)}
    for batch, *parts in zip(whole_batches, *orders, strict=True):
        counted = [part for part in parts if part.counts]
        assert torch.equal(torch.cat([part.rows for part in counted]), batch)
        assert sum(part.share for part in parts) == pytest.approx(1)
        assert max(len(part.rows) for part in counted) - min(len(part.rows) for part in parts) <= 1
        for part in parts:  # those that do not count too
            assert len(part.rows) >= 1
            assert part.total == len(batch)
            assert torch.equal(part.rows, batch[part.start : part.start + len(part.rows)])
