"""Batches: what counts as absent, what is refused, indexing, presence tables."""

import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from mvae.batch import Batch, Part

NAN = math.nan


def mixed():
    """Five rows: numbers present in 0, 1, 3; labels in 1, 2."""
    return Batch(
        {"numbers": torch.arange(10.0).reshape(5, 2), "label": torch.tensor([-1, 4, 5, -1, -1])},
        {"numbers": torch.tensor([1, 1, 0, 1, 0]).bool(), "label": torch.tensor([0, 1, 1, 0, 0]).bool()},
    )


def assert_same(batch, expected):
    assert list(batch.values) == list(expected.values)
    for name, value in expected.values.items():
        assert torch.equal(batch.values[name], value)
        assert torch.equal(batch.present[name], expected.present[name])


# The constructor


def test_a_name_left_out_of_presence_is_present_everywhere():
    batch = Batch({"a": torch.zeros(3), "b": torch.zeros(3)}, {"a": torch.tensor([True, False, True])})
    assert batch.present["b"].tolist() == [True, True, True]
    assert len(batch) == 3


def test_a_batch_needs_a_modality():
    with pytest.raises(ValueError, match="at least one modality"):
        Batch({})


@pytest.mark.parametrize("build", [Batch, Batch.of])
def test_presence_of_a_modality_that_is_not_there_is_refused(build):
    with pytest.raises(ValueError, match="present: unknown modality 'b'; values has a"):
        build({"a": torch.zeros(2)}, {"b": torch.ones(2, dtype=torch.bool)})


@pytest.mark.parametrize("build", [Batch, Batch.of])
def test_modalities_of_other_lengths_are_refused(build):
    with pytest.raises(ValueError, match=r"modality 'b': expected 3 rows .* got 2 rows"):
        build({"a": torch.zeros(3), "b": torch.zeros(2)})


@pytest.mark.parametrize("shape", [(2,), (4,), (3, 1), ()])
def test_presence_of_another_length_is_refused(shape):
    with pytest.raises(ValueError, match="modality 'a': expected 3 rows"):
        Batch({"a": torch.zeros(3)}, {"a": torch.ones(shape, dtype=torch.bool)})


def test_presence_that_is_not_boolean_is_refused():
    # Ones and zeros would fail later, where nobody can tell why.
    with pytest.raises(ValueError, match=r"modality 'a': .*bool"):
        Batch({"a": torch.zeros(3)}, {"a": torch.tensor([1, 0, 1])})


# Rows and tables


def test_rows_are_those_that_have_the_modality():
    assert mixed().rows("numbers").tolist() == [0, 1, 3]
    assert mixed().rows("label").tolist() == [1, 2]


def test_rows_of_a_modality_that_is_everywhere_and_nowhere():
    batch = Batch({"a": torch.zeros(3), "b": torch.zeros(3)}, {"b": torch.zeros(3, dtype=torch.bool)})
    assert batch.rows("a") is None
    assert batch.rows("b").tolist() == []
    assert batch.rows("unheard of").tolist() == []


def test_the_presence_table_follows_the_names():
    table = mixed().presence(["label", "text", "numbers"])
    assert table.dtype == torch.bool
    assert table.int().tolist() == [[0, 0, 1], [1, 0, 1], [1, 0, 0], [0, 0, 1], [0, 0, 0]]


def test_complete_means_every_row_has_everything():
    assert Batch({"a": torch.zeros(2), "b": torch.zeros(2)}).complete
    assert not mixed().complete
    assert Batch({"a": torch.zeros(2)}, {"a": torch.tensor([True, True])}).complete


def test_only_keeps_the_named_modalities_in_their_order():
    only = mixed().only(["label"])
    assert list(only.values) == ["label"]
    assert torch.equal(only.present["label"], mixed().present["label"])
    assert list(mixed().only(iter(["label", "numbers"])).values) == ["label", "numbers"]


def test_only_refuses_an_unknown_name():
    with pytest.raises(ValueError, match="unknown modality 'text'; this batch has numbers, label"):
        mixed().only(["label", "text"])


def test_repr_says_how_much_is_present():
    assert repr(mixed()) == "Batch(5 rows; numbers: (2,), 3 present; label: (), 2 present)"


def test_to_a_device_keeps_values_and_presence():
    assert_same(mixed().to("cpu"), mixed())
    assert mixed().to("meta").present["label"].device.type == "meta"
    assert mixed().device.type == "cpu"


# Indexing


@pytest.mark.parametrize(
    "rows",
    [
        slice(1, 4),
        slice(None, None, 2),
        [4, 0, 0, 2],
        torch.tensor([3, 1]),
        torch.tensor([True, False, False, True, True]),
        slice(0, 0),
        [-1],
    ],
)
def test_indexing_takes_rows_of_values_and_presence(rows):
    batch, part = mixed(), mixed()[rows]
    numbers = torch.arange(5)[rows].tolist()
    assert len(part) == len(numbers)
    for place, row in enumerate(numbers):
        assert torch.equal(part.values["numbers"][place], batch.values["numbers"][row])
        assert part.values["label"][place] == batch.values["label"][row]
        assert torch.equal(part.presence(batch.values)[place], batch.presence(batch.values)[row])


def test_rows_are_counted_anew_after_indexing():
    part = mixed()
    assert part.rows("label").tolist() == [1, 2]
    assert part[[2, 0, 1]].rows("label").tolist() == [0, 2]
    assert part[[2, 1]].rows("label") is None


# Batch.of: where "missing" becomes presence


def test_none_and_nan_rows_and_masked_rows_are_absent():
    batch = Batch.of(
        {"label": [3, None, 1, 2], "numbers": [[1.0, 2.0], [NAN, NAN], None, [3.0, 4.0]]},
        {"label": [True, True, True, False]},
    )
    assert batch.present["label"].tolist() == [True, False, True, False]
    assert batch.present["numbers"].tolist() == [True, False, False, True]
    assert batch.values["label"][[0, 2]].tolist() == [3, 1]
    assert batch.values["numbers"][[0, 3]].tolist() == [[1.0, 2.0], [3.0, 4.0]]


@pytest.mark.parametrize(
    "rows", [[0.5, NAN, 2.0], (0.5, None, 2.0), np.array([0.5, NAN, 2.0]), torch.tensor([0.5, NAN, 2.0]), [0.5, NAN, 2]]
)
def test_scalars_with_holes(rows):
    batch = Batch.of({"age": rows})
    assert batch.present["age"].tolist() == [True, False, True]
    assert batch.values["age"].dtype == torch.float32
    assert batch.values["age"][[0, 2]].tolist() == [0.5, 2.0]


def test_labels_with_none_stay_integers():
    assert Batch.of({"label": [None, 4, 2]}).values["label"].dtype == torch.long


def test_rows_may_be_arrays_and_tensors_of_several_types():
    batch = Batch.of({"x": [np.ones(2), None, torch.zeros(2), [3, 4]]})
    assert batch.values["x"][[0, 2, 3]].tolist() == [[1, 1], [0, 0], [3, 4]]
    assert batch.present["x"].tolist() == [True, False, True, True]


@pytest.mark.parametrize("mask", [[1, 0], (True, False), np.array([True, False]), torch.tensor([1, 0])])
def test_a_mask_may_be_any_sequence_of_booleans(mask):
    present = Batch.of({"x": torch.zeros(2)}, {"x": mask}).present["x"]
    assert present.dtype == torch.bool
    assert present.tolist() == [True, False]


def test_double_precision_becomes_what_networks_read():
    assert Batch.of({"x": np.zeros((2, 3))}).values["x"].dtype == torch.float32


@pytest.mark.parametrize(
    ("rows", "row", "element"),
    [
        (torch.tensor([[0.0, 1.0], [2.0, NAN]]), 1, 1),
        (np.array([[[NAN, 1.0], [0.0, 0.0]]]), 0, 0),
        ([None, [NAN, NAN], [1.0, NAN]], 2, 1),
        (torch.tensor([[[0.0, 1.0], [NAN, 2.0]]]), 0, 2),
    ],
)
def test_a_row_that_is_partly_nan_is_refused_by_row_and_element(rows, row, element):
    with pytest.raises(ValueError, match=rf"modality 'scan', row {row}, element {element}: NaN among other values"):
        Batch.of({"scan": rows})


def test_a_row_that_is_partly_nan_may_be_masked():
    batch = Batch.of({"scan": torch.tensor([[0.0, NAN], [1.0, 2.0]])}, {"scan": [False, True]})
    assert batch.present["scan"].tolist() == [False, True]


def test_infinity_is_a_value():
    # The model refuses it, since only the model knows the likelihood.
    assert Batch.of({"x": [[math.inf, 0.0]]}).complete


def test_rows_of_different_shapes_are_refused():
    with pytest.raises(ValueError, match=r"modality 'x', row 2: expected shape \(2,\) .* got \(3,\)"):
        Batch.of({"x": [[1.0, 2.0], None, [1.0, 2.0, 3.0]]})


@pytest.mark.parametrize("rows", [[None, None], [None]])
def test_a_modality_of_nothing_but_none_is_refused(rows):
    # Its shape is unknown.
    with pytest.raises(ValueError, match="modality 'x': no row has a value"):
        Batch.of({"x": rows})


@pytest.mark.parametrize("mask", [[True], [True, False, True], [[True, False]]])
def test_a_mask_of_another_length_is_refused(mask):
    with pytest.raises(ValueError, match=r"present\['x'\]: expected 2 booleans, got shape"):
        Batch.of({"x": torch.zeros(2)}, {"x": mask})


@pytest.mark.parametrize("value", [torch.tensor(7), 7, np.float64(0.5)])
def test_one_value_without_a_row_dimension_is_refused(value):
    with pytest.raises(ValueError, match="modality 'x'"):
        Batch.of({"x": value})


@st.composite
def rows_with_holes(draw):
    """Rows as a list, each a value, None or all NaN, perhaps masked; and which of them are there."""
    shape = draw(array_shapes(min_dims=1, max_dims=2, max_side=3)) if draw(st.booleans()) else ()
    value = arrays(np.float32, shape, elements=st.floats(-1e6, 1e6, width=32))
    kinds = draw(st.lists(st.sampled_from(["value", "none", "nan", "masked"]), min_size=1, max_size=6))
    rows = []
    for kind in kinds:
        row = draw(value)
        rows.append({"none": None, "nan": np.full_like(row, NAN)}.get(kind, row))
    return rows, [kind != "masked" for kind in kinds], [kind == "value" for kind in kinds]


@given(rows_with_holes())
@settings(max_examples=80, deadline=None)
def test_presence_is_what_is_neither_none_nor_nan_nor_masked(drawn):
    rows, mask, expected = drawn
    assume(any(row is not None for row in rows))
    batch = Batch.of({"x": rows}, {"x": mask})
    assert batch.present["x"].tolist() == expected
    for row, there, value in zip(rows, expected, batch.values["x"], strict=True):
        assert not there or np.array_equal(value.numpy(), row)


@given(arrays(np.float32, array_shapes(min_dims=1, max_dims=3, max_side=4), elements=st.sampled_from([0.5, NAN])))
@settings(max_examples=80, deadline=None)
def test_an_array_is_refused_exactly_where_a_row_is_partly_nan(array):
    holes = np.isnan(array).reshape(len(array), -1)
    if (holes.any(1) & ~holes.all(1)).any():
        with pytest.raises(ValueError, match="NaN among other values"):
            Batch.of({"x": array})
    else:
        assert Batch.of({"x": array}).present["x"].tolist() == (~holes.any(1)).tolist()


# Many modalities


def many(count=9, seed=0):
    generator = torch.Generator().manual_seed(seed)
    values = {"image": torch.rand(count, 2, 3, generator=generator)}
    for number in range(4):
        values[f"x{number}"] = torch.randn(count, generator=generator)
        values[f"k{number}"] = torch.randint(5, (count,), generator=generator)
    present = {name: torch.rand(count, generator=generator) < 0.6 for name in values if name != "x2"}
    return Batch(values, present)


@pytest.mark.parametrize("rows", [torch.tensor([3, 3, 0]), slice(2, 5), torch.arange(9) % 2 == 0, [8, 1], slice(9)])
def test_presence_of_some_rows_and_names_is_that_of_the_whole(rows):
    batch, kept = many(), ["k1", "image", "x2"]
    expected = {name: there[rows] for name, there in batch.present.items()}
    for some in (batch[rows], batch[rows].to("cpu"), batch[rows].only(kept), batch.only(kept)[rows]):
        names = [*some.values, "not here"]
        for name, there in some.present.items():
            assert torch.equal(there, expected[name])
            found = some.rows(name)
            assert found is None if there.all() else torch.equal(found, there.nonzero().flatten())
        table = torch.stack([expected.get(name, torch.zeros(len(some), dtype=torch.bool)) for name in names], 1)
        assert torch.equal(some.presence(names), table)
        assert torch.equal(some.presence(names[:-1]), table[:, :-1])
        assert some.complete == some.has_all(names[:-1]) == bool(table[:, :-1].all())
        assert some.has_all(["x2"])


# Draws for parts


@given(total=st.integers(1, 40), world=st.integers(1, 6), dim=st.integers(0, 2))
def test_the_draws_of_all_parts_are_those_of_the_whole_batch(total, world, dim):
    rows, shape = Batch({"n": torch.arange(total)}), [3, 4, 5]

    def drawn(batch):
        torch.manual_seed(0)
        like = torch.zeros([*shape[:dim], len(batch), *shape[dim + 1 :]])
        numbers = batch.drawn(torch.randn_like, like, dim)
        return numbers, torch.get_rng_state()

    expected, state = drawn(rows)
    for rank in range(world):
        part = Part.of(torch.arange(total), rank, world)
        numbers, after = drawn(rows[part])
        assert torch.equal(numbers, expected.index_select(dim, part.rows))
        assert torch.equal(after, state)


def test_values_are_not_copied():
    image = torch.zeros(6, 1, 4, 4, dtype=torch.uint8)
    assert Batch({"image": image, "a": torch.arange(6)}).values["image"].data_ptr() == image.data_ptr()


# Parts


def test_what_keeps_the_rows_keeps_the_part():
    rows = Batch({"n": torch.arange(9), "m": torch.arange(9), "x": torch.rand(9)}, {"m": torch.arange(9) > 3})
    part = Part.of(torch.tensor([5, 2, 8, 1, 0]), rank=1, world=2)
    batch = rows[part]
    assert batch.part is part
    assert batch.values["n"].tolist() == [8, 1, 0]
    kept = {
        "to": batch.to("cpu"),
        "only": batch.only(["x", "m"]),
        "holding": batch.holding({"m": batch.values["n"] + 1}),
    }
    for same in kept.values():
        assert same.part is part
        assert torch.equal(same.present["m"], batch.present["m"])
    assert kept["holding"].values["m"].tolist() == [9, 2, 1]
    absent = {"m": torch.zeros(3, dtype=torch.bool)}
    assert not batch.holding({"m": batch.values["n"]}, absent).present["m"].any()
    for other in (rows, batch[:2], batch[[0, 1, 2]], batch[torch.arange(3)]):
        assert other.part is None
