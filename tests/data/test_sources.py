"""The data sets by name: split sizes, what stays the same for every seed, weak supervision."""

import pytest
import torch
from sklearn import datasets

from mvae.data.sources import SOURCES, load_dataset, source_named

PARTS = ("train", "validation", "test")


def rows_of(batch):
    """Each row as a tuple, so that sets of rows can be compared."""
    images = (batch.values["image"].flatten(1) * 16).round().int()
    return [(*image, label) for image, label in zip(images.tolist(), batch.values["label"].tolist(), strict=True)]


@pytest.mark.parametrize(("held", "sizes"), [(0, [1347, 0, 450]), (135, [1212, 135, 450])])
def test_digits_split_sizes(held, sizes):
    dataset = load_dataset("digits", validation_rows=held)
    assert [len(dataset.split(part)) for part in PARTS] == sizes
    assert all(dataset.split(part).complete for part in PARTS)


def test_digits_are_the_scans_of_scikit_learn_each_once():
    images, labels = datasets.load_digits(return_X_y=True)
    original = [(*map(int, image), int(label)) for image, label in zip(images, labels, strict=True)]
    dataset = load_dataset("digits", validation_rows=135)
    assert sorted(row for part in PARTS for row in rows_of(dataset.split(part))) == sorted(original)


def test_digits_values_are_sixteenths_in_the_unit_interval():
    images = load_dataset("digits").train.values["image"]
    assert images.shape[1:] == (1, 8, 8)
    assert torch.equal(images * 16, (images * 16).round())
    assert (images.min(), images.max()) == (0, 1)


@pytest.mark.parametrize("part", ["validation", "test"])
def test_held_out_rows_are_the_same_for_every_seed(part):
    first, second = (load_dataset("digits", validation_rows=135, seed=seed).split(part) for seed in (0, 5))
    assert rows_of(first) == rows_of(second)


def test_test_rows_do_not_depend_on_the_validation_rows():
    assert rows_of(load_dataset("digits", validation_rows=300).test) == rows_of(load_dataset("digits").test)


@pytest.mark.parametrize("held", [1, 135, 1346])
def test_parts_never_overlap(held):
    dataset = load_dataset("digits", validation_rows=held)
    train, validation, test = (set(rows_of(dataset.split(part))) for part in PARTS)
    assert not train & validation
    assert not train & test
    assert not validation & test


def test_no_training_row_would_be_left():
    with pytest.raises(ValueError, match="cannot hold out 1347 of 1347 rows"):
        load_dataset("digits", validation_rows=1347)


@pytest.mark.parametrize("fraction", [0.0, 0.001, 0.1, 0.5, 0.999])
@pytest.mark.parametrize("part", ["train", "validation"])
def test_paired_fraction_counts(part, fraction):
    rows = load_dataset("digits", validation_rows=135, paired_fraction=fraction).split(part)
    image, label = rows.present["image"], rows.present["label"]
    assert int((image & label).sum()) == round(fraction * len(rows))
    assert (image | label).all()  # every other row keeps one
    alone = int((image & ~label).sum()), int((label & ~image).sum())
    assert abs(alone[0] - alone[1]) <= 1


def test_test_rows_stay_paired():
    assert load_dataset("digits", paired_fraction=0.0).test.complete


def test_all_paired_is_the_default():
    assert rows_of(load_dataset("digits", paired_fraction=1.0).train) == rows_of(load_dataset("digits").train)


def test_what_is_kept_is_unchanged_and_what_is_lost_is_erased():
    whole, part = load_dataset("digits").train, load_dataset("digits", paired_fraction=0.3).train
    for name, lost in (("image", torch.isnan), ("label", lambda values: values == -1)):
        kept = part.present[name]
        assert torch.equal(part.values[name][kept], whole.values[name][kept])
        assert lost(part.values[name][~kept]).all()


def test_different_seeds_choose_different_pairs():
    first, again, second = (load_dataset("digits", paired_fraction=0.1, seed=s).train.present for s in (0, 0, 1))
    assert torch.equal(first["label"], again["label"])
    assert not torch.equal(first["label"] & first["image"], second["label"] & second["image"])


@pytest.mark.parametrize("fraction", [-0.1, 1.5, float("nan")])
def test_a_fraction_out_of_range_is_refused(fraction):
    with pytest.raises(ValueError, match="paired fraction: expected a number from 0 to 1"):
        load_dataset("digits", paired_fraction=fraction)


def test_an_unknown_source_lists_the_known():
    with pytest.raises(ValueError, match="unknown source 'emnist'") as error:
        load_dataset("emnist")
    assert all(name in str(error.value) for name in SOURCES)
    with pytest.raises(ValueError, match="unknown source 'Digits'"):
        source_named("Digits")


def test_an_unknown_part_is_refused():
    with pytest.raises(ValueError, match="expected train, validation or test, got 'dev'"):
        load_dataset("digits").split("dev")


def test_the_description_says_what_was_done(tmp_path, nowhere, write_mnist):
    write_mnist(tmp_path / "mnist")
    assert "0.25 of the rows paired" in load_dataset("digits", paired_fraction=0.25).description
    assert "anew at each use" in load_dataset("binary-mnist", data_dir=tmp_path).description
    assert load_dataset("binary-mnist", data_dir=tmp_path, binarisation="fixed").description.endswith("binarised once")


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        ("digits", {"anywhere": True}, "'digits' has no 'anywhere'; it has none"),
        ("multimnist", {"places": 3}, "no 'places'; it has fewest, most, anywhere, repeats, seed"),
        ("multimnist", {"anywhere": 1}, "anywhere: expected true or false, got 1"),
        ("multimnist", {"most": True}, "most: expected a whole number, got True"),
        ("celeba", {"skip": True}, "'celeba' has no 'skip'; it has skip_damaged"),
    ],
)
def test_an_option_that_a_source_has_not_is_refused_with_those_it_has(source, options, message):
    with pytest.raises(ValueError, match=message):
        load_dataset(source, options=options)


def test_options_choose_the_rows_and_are_told(tmp_path, nowhere, write_mnist):
    write_mnist(tmp_path / "mnist", 30, 10)
    found = load_dataset("multimnist", data_dir=tmp_path, options={"fewest": 1, "most": 1, "seed": 681307})
    assert "; fewest 1, most 1" in found.description  # the seed is as it is anyway
    assert "seed" not in found.description
    assert bool(((found.train.values["text"] < 10).sum(1) == 1).all())
