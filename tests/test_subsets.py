"""Which terms a step trains: distribution of the random subsets, and distinct terms against enumeration."""

import itertools
import math
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from mvae.subsets import count_other_subsets, distinct_terms, draw_subsets


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def as_sets(table):
    return [frozenset(row.nonzero().flatten().tolist()) for row in table]


def as_table(sets, num_modalities):
    return torch.tensor([[n in one for n in range(num_modalities)] for one in sets]).reshape(-1, num_modalities)


def others(num_modalities):
    """All subsets of 2 to N - 1 modalities."""
    sizes = range(2, num_modalities)
    return [frozenset(one) for size in sizes for one in itertools.combinations(range(num_modalities), size)]


def counted(sets, rows):
    """Which cut subsets count, by definition: not empty, and equal to none before."""
    table = []
    for row in rows:
        cut = [one & row for one in sets]
        table.append([bool(one) and one not in cut[:index] for index, one in enumerate(cut)])
    return torch.tensor(table).reshape(len(rows), len(sets)).T


@st.composite
def subsets_and_rows(draw):
    n = draw(st.integers(1, 5))
    any_set = st.frozensets(st.integers(0, n - 1))
    return (
        n,
        draw(st.lists(any_set, unique=True, min_size=1, max_size=2**n)),
        draw(st.lists(any_set, min_size=1, max_size=6)),
    )


@pytest.mark.parametrize(("num_modalities", "k"), [(2, 0), (3, 0), (3, 2), (5, 4), (8, 20), (19, 3)])
def test_joint_first_then_singles_then_k_others(num_modalities, k):
    table = draw_subsets(num_modalities, k, seeded())
    sets = as_sets(table)
    assert table.dtype == torch.bool
    assert table.device.type == "cpu"
    assert sets[0] == frozenset(range(num_modalities))
    assert sets[1 : num_modalities + 1] == [frozenset([n]) for n in range(num_modalities)]
    assert len(sets) == 1 + num_modalities + k
    assert all(2 <= len(one) < num_modalities for one in sets[num_modalities + 1 :])


@pytest.mark.parametrize("seed", range(20))
def test_no_subset_is_drawn_twice(seed):
    assert max(Counter(as_sets(draw_subsets(4, 8, seeded(seed)))).values()) == 1


@pytest.mark.parametrize("num_modalities", [4, 5])
def test_a_random_subset_is_uniform_by_size_then_within_its_size(num_modalities):
    generator, draws = seeded(1), 4000
    drawn = Counter(as_sets(draw_subsets(num_modalities, 1, generator))[-1] for _ in range(draws))
    probability = {s: 1 / (num_modalities - 2) / math.comb(num_modalities, len(s)) for s in others(num_modalities)}

    assert set(drawn) == set(probability)
    assert chisquare([drawn[s] for s in probability], [draws * p for p in probability.values()]).pvalue > 0.001
    by_size = Counter(len(s) for s in drawn.elements())
    assert chisquare([by_size[size] for size in range(2, num_modalities)]).pvalue > 0.001


def test_two_random_subsets_are_two_draws_without_replacement():
    generator, draws = seeded(2), 4000
    probability = {s: 1 / 2 / math.comb(4, len(s)) for s in others(4)}
    pairs = [frozenset(pair) for pair in itertools.combinations(probability, 2)]
    expected = []
    for pair in pairs:
        p, q = (probability[s] for s in pair)
        expected.append(draws * (p * q / (1 - p) + q * p / (1 - q)))
    drawn = Counter(frozenset(as_sets(draw_subsets(4, 2, generator))[-2:]) for _ in range(draws))
    assert chisquare([drawn[pair] for pair in pairs], expected).pvalue > 0.001


@pytest.mark.parametrize("num_modalities", [2, 3, 4])
@pytest.mark.parametrize("more", [0, 1, 1000])
def test_all_others_are_taken_where_fewer_than_k_exist(num_modalities, more):
    table = draw_subsets(num_modalities, len(others(num_modalities)) + more, seeded())
    drawn = as_sets(table)[num_modalities + 1 :]
    assert len(drawn) == len(others(num_modalities))
    assert set(drawn) == set(others(num_modalities))


@pytest.mark.parametrize("num_modalities", range(1, 9))
def test_count_of_others(num_modalities):
    assert count_other_subsets(num_modalities) == len(others(num_modalities))


@pytest.mark.parametrize("num_modalities", [2, 5])
def test_without_random_subsets_only_the_joint_and_the_singles(num_modalities):
    sets = as_sets(draw_subsets(num_modalities, 0))
    assert sets == [frozenset(range(num_modalities)), *(frozenset([n]) for n in range(num_modalities))]


@pytest.mark.parametrize("k", [0, 3])
def test_one_modality_has_one_term(k):
    assert as_sets(draw_subsets(1, k)) == [frozenset([0])]


def test_a_thousand_modalities():
    sets = as_sets(draw_subsets(1000, 4, seeded()))
    assert len(sets) == len(set(sets)) == 1005
    assert all(2 <= len(one) < 1000 for one in sets[1001:])


def test_a_seed_repeats_the_draw_and_seeds_differ():
    assert torch.equal(draw_subsets(10, 5, seeded(3)), draw_subsets(10, 5, seeded(3)))
    assert not torch.equal(draw_subsets(10, 5, seeded(3)), draw_subsets(10, 5, seeded(4)))


def test_without_a_generator_torch_s_own_is_used():
    torch.manual_seed(5)
    first = draw_subsets(10, 5)
    torch.manual_seed(5)
    assert torch.equal(first, draw_subsets(10, 5))


def test_a_generator_of_one_s_own_leaves_torch_s_alone():
    before = torch.get_rng_state()
    draw_subsets(10, 5, seeded())
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(("num_modalities", "k"), [(0, 0), (-1, 2), (3, -1)])
def test_impossible_numbers_are_refused(num_modalities, k):
    with pytest.raises(ValueError, match=rf"{num_modalities} modalities and k = {k}"):
        draw_subsets(num_modalities, k)


@given(subsets_and_rows())
@settings(max_examples=300, deadline=None)
def test_distinct_terms_are_the_first_of_equals_and_not_empty(drawn):
    n, sets, rows = drawn
    assert torch.equal(distinct_terms(as_table(sets, n), as_table(rows, n)), counted(sets, rows))


@given(st.permutations(range(16)))
@settings(max_examples=30, deadline=None)
def test_distinct_terms_of_all_subsets_in_any_order(order):
    every = [frozenset(n for n in range(4) if number >> n & 1) for number in range(16)]
    sets = [every[number] for number in order]
    assert torch.equal(distinct_terms(as_table(sets, 4), as_table(every, 4)), counted(sets, every))


@pytest.mark.parametrize("num_modalities", [19, 300])
def test_distinct_terms_of_a_step_with_many_modalities(num_modalities):
    table = draw_subsets(num_modalities, 6, seeded())
    few = torch.rand(5, num_modalities, generator=seeded()) < torch.tensor([0.0, 0.01, 0.1, 0.5, 0.99])[:, None]
    assert torch.equal(distinct_terms(table, few), counted(as_sets(table), as_sets(few)))


def test_each_row_counts_every_cut_subset_once():
    # What matters to the loss: as many terms as there are different non-empty cuts.
    table, present = draw_subsets(5, 9, seeded()), torch.rand(40, 5, generator=seeded()) < 0.5
    for row, terms in zip(as_sets(present), distinct_terms(table, present).T, strict=True):
        assert int(terms.sum()) == len({one & row for one in as_sets(table)} - {frozenset()})
