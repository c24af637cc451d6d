"""Rows on disk: what is read equals rows in memory, every row comes once an epoch, and faults name their place."""

import json
import os
import pickle
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as some

import mvae
from mvae import Batch
from mvae.config.folder import read_spec
from mvae.config.specs import SpecError
from mvae.data.loading import ShardedBatches
from mvae.data.shards import BLOCK, OPEN_SHARDS, open_shards
from mvae.files import DataError, RunError
from mvae.training.loop import Loop
from mvae.training.prepare import held_rows, prepare
from small_models import POINT_AND_CLASS

pa = pytest.importorskip("pyarrow")
datasets = pytest.importorskip("datasets")
parquet = pytest.importorskip("pyarrow.parquet")


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """Parquet is converted to a cache of this test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "converted"))


def write_arrow(path, table, batch_rows=5, file=False):
    path.parent.mkdir(parents=True, exist_ok=True)
    make = pa.ipc.new_file if file else pa.ipc.new_stream
    with pa.OSFile(str(path), "wb") as sink, make(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=batch_rows)


def write_parquet(path, table):
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(table, path, row_group_size=5)


def columns(num_rows, seed=0):
    """Every kind of column with every kind of hole: name to a list with a value or None for each row."""
    generator = np.random.default_rng(seed)

    def holes(values):
        return [None if gone else value for value, gone in zip(values, generator.random(num_rows) < 0.3, strict=True)]

    pictures = generator.random((num_rows, 2, 3)).astype("float32")
    pictures[generator.random(num_rows) < 0.2] = np.nan  # absent too
    ages = generator.random(num_rows)
    ages[generator.random(num_rows) < 0.2] = np.nan
    return {
        "picture": holes(pictures.tolist()),
        "flat": holes(generator.random((num_rows, 6)).tolist()),
        "whole": generator.random((num_rows, 2)).tolist(),
        "age": holes(ages.tolist()),
        "label": holes(generator.integers(0, 4, num_rows).tolist()),
        "count": generator.integers(0, 200, num_rows).tolist(),
        "flag": holes((generator.random(num_rows) < 0.5).tolist()),
    }


TYPES = {
    "picture": pa.list_(pa.list_(pa.float32())),
    "flat": pa.list_(pa.float64(), 6),
    "whole": pa.large_list(pa.float16()),
    "age": pa.float64(),
    "label": pa.int64(),
    "count": pa.uint16(),
    "flag": pa.bool_(),
}


def table_of(rows, types=TYPES):
    return pa.table({name: pa.array(rows[name], kind) for name, kind in types.items() if name in rows})


def same(read, rows):
    """The batch equals one that `Batch.of` makes, wherever anything is present."""
    expected = Batch.of(rows)
    assert tuple(read.values) == tuple(expected.values)
    for name, value in expected.values.items():
        present = expected.present[name]
        assert torch.equal(read.present[name], present), name
        assert read.values[name].shape == value.shape, name
        assert torch.equal(read.values[name][present].double(), value[present].double()), name


def write_split(folder, rows, cuts, write):
    bounds = [0, *cuts, len(rows["count"])]
    for number, (start, stop) in enumerate(pairwise(bounds)):
        write(folder / f"part-{number}", {name: values[start:stop] for name, values in rows.items()})


WRITERS = {
    "stream": lambda path, rows: write_arrow(path.with_suffix(".arrow"), table_of(rows)),
    "file": lambda path, rows: write_arrow(path.with_suffix(".arrow"), table_of(rows), file=True),
    "parquet": lambda path, rows: write_parquet(path.with_suffix(".parquet"), table_of(rows)),
}


def as_float16(rows):
    return {**rows, "whole": np.array(rows["whole"]).astype("float16").astype("float32").tolist()}


# Reading


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("place", ["", "train"])
def test_rows_read_equal_rows_in_memory(tmp_path, writer, place):
    rows = columns(37)
    write_split(tmp_path / "rows" / place, rows, [12, 13], WRITERS[writer])
    train = open_shards(tmp_path / "rows").train
    assert len(train) == 37
    same(train[:], as_float16(rows))
    order = torch.randint(0, 37, (50,), generator=torch.Generator().manual_seed(0))  # any order, some rows twice
    same(train[order], {name: [values[i] for i in order] for name, values in as_float16(rows).items()})
    same(train[30:40], {name: values[30:40] for name, values in as_float16(rows).items()})
    assert len(train[torch.zeros(0, dtype=torch.long)]) == 0
    with pytest.raises(IndexError, match="row 37: expected 0 to 36"):
        train[[3, 37]]


def test_what_datasets_saves_is_read(tmp_path):
    rows = columns(20)
    kinds = {name: kind for name, kind in TYPES.items() if name != "picture"}
    features = datasets.Features(
        {"picture": datasets.Array2D((2, 3), "float32")}
        | {n: datasets.Features.from_arrow_schema(pa.schema([(n, kind)]))[n] for n, kind in kinds.items()}
    )
    saved = datasets.Dataset.from_dict(rows, features=features)
    datasets.DatasetDict({"train": saved, "test": saved.select(range(9, 1, -1))}).save_to_disk(
        tmp_path / "rows", num_shards={"train": 3, "test": 1}
    )
    write_arrow(tmp_path / "rows" / "train" / "cache-12ab.arrow", table_of({"count": [1]}))  # as `map` leaves there
    found = open_shards(tmp_path / "rows")
    same(found.train[:], as_float16(rows))
    same(found.test[:], {name: values[9:1:-1] for name, values in as_float16(rows).items()})
    assert len(found.train.files) == 3
    assert len(found.validation) == 0


def test_a_file_without_a_single_value_in_a_column_is_read(tmp_path):
    write_arrow(tmp_path / "a.arrow", pa.table({"label": pa.nulls(3), "age": [1.0, 2.0, 3.0]}))
    write_arrow(tmp_path / "b.arrow", pa.table({"label": [7, None], "age": [4.0, 5.0]}))
    batch = open_shards(tmp_path).train[[0, 3, 4]]
    assert batch.present["label"].tolist() == [False, True, False]
    assert batch.values["label"][1] == 7
    assert batch.values["age"].tolist() == [1, 4, 5]


def test_a_modality_without_a_single_value_is_absent_everywhere(tmp_path):
    write_arrow(tmp_path / "rows" / "a.arrow", pa.table({"point": pa.nulls(30), "class": [1, 2, 3] * 10}))
    batch = open_shards(tmp_path / "rows").train[2:5]
    assert not batch.present["point"].any()
    read = prepare(tmp_path / "rows", config=CONFIG, options={}).dataset.train[2:5]
    assert read.values["point"].shape == (3, 3)
    assert not read.present["point"].any()
    assert weights(mvae.fit(tmp_path / "rows", epochs=1, **QUIET)).isfinite().all()


def test_the_shape_of_a_column_is_that_of_its_first_value(tmp_path):
    rows = [None, None, [[1.0, 2.0, 3.0]], None, [[4.0, 5.0, 6.0]]]
    write_arrow(tmp_path / "a.arrow", pa.table({"x": pa.nulls(4)}))
    write_arrow(tmp_path / "b.arrow", pa.table({"x": pa.array(rows, pa.list_(pa.list_(pa.float32())))}), batch_rows=4)
    batch = open_shards(tmp_path).train[[0, 4, 6, 8]]
    assert batch.present["x"].tolist() == [False, False, True, True]
    assert torch.equal(batch.values["x"][2:], torch.tensor([[[1.0, 2, 3]], [[4, 5, 6]]]))


def test_parquet_is_converted_once(tmp_path, monkeypatch):
    write_parquet(tmp_path / "rows" / "a.parquet", table_of(columns(20)))
    first = open_shards(tmp_path / "rows").train
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "converted").rglob("*.arrow")}
    assert before
    assert first.files[0].mapped in before
    again = open_shards(tmp_path / "rows").train
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "converted").rglob("*.arrow")} == before
    assert torch.equal(again[:].values["whole"], first[:].values["whole"])
    write_parquet(tmp_path / "rows" / "a.parquet", table_of(columns(23, seed=1)))  # another file in its place
    same(open_shards(tmp_path / "rows").train[:], as_float16(columns(23, seed=1)))
    assert len(list((tmp_path / "converted").rglob("*"))) == len(before) + 2  # the old one is gone


def test_a_conversion_that_is_cut_short_leaves_nothing(tmp_path, monkeypatch):
    write_parquet(tmp_path / "rows" / "a.parquet", table_of(columns(20)))
    with monkeypatch.context() as patch:
        patch.setattr("pyarrow.ipc.new_stream", lambda *_: (_ for _ in ()).throw(OSError("no space left")))
        with pytest.raises(DataError, match=r"a\.parquet: could not be converted to .*: no space left"):
            open_shards(tmp_path / "rows")
    assert not [path for path in (tmp_path / "converted").rglob("*") if path.is_file()]
    same(open_shards(tmp_path / "rows").train[:], as_float16(columns(20)))


def test_shapes_of_a_model_are_taken_from_flat_and_from_nested_lists(tmp_path, tiny_config):
    generator = np.random.default_rng(0)
    pictures = (generator.random((6, 4, 4)) < 0.5).astype("int8")
    for name, written in (("nested", pictures.tolist()), ("flat", pictures.reshape(6, 16).tolist())):
        rows = {
            "picture": pa.array(written, None),
            "point": [[0.0, 1.0, 2.0]] * 6,
            "class": [3] * 6,
            "other": ["x"] * 6,
        }
        write_arrow(tmp_path / name / "a.arrow", pa.table(rows))
        train = prepare(tmp_path / name, config=tiny_config, options={}).dataset.train
        batch = train[:]
        assert torch.equal(batch.values["picture"], torch.tensor(pictures).reshape(6, 1, 4, 4).float())
        assert tuple(batch.values) == ("point", "picture", "class")  # the column that no modality has is not read


def test_few_files_are_mapped_at_a_time(tmp_path):
    count = OPEN_SHARDS + 8
    for number in range(count):
        write_arrow(tmp_path / f"{number:03}.arrow", pa.table({"x": np.arange(2000.0) + 2000 * number}))
    train = open_shards(tmp_path).train

    def mapped():
        return len(
            {line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines() if tmp_path.name in line}
        )

    if sys.platform != "linux":
        pytest.skip("what is mapped is seen on Linux alone")
    assert mapped() == 0
    most = 0
    for _ in range(2):
        for number in range(count):
            assert train[[2000 * number]].values["x"].item() == 2000 * number
            most = max(most, mapped())
    assert most == OPEN_SHARDS
    copy = pickle.loads(pickle.dumps(train))  # goes to another process without the rows
    assert len(pickle.dumps(train)) < 100_000
    assert torch.equal(copy[5:9].values["x"], train[5:9].values["x"])


# Held out


@given(count=some.integers(0, 59), cuts=some.lists(some.integers(0, 60), max_size=3))
@settings(deadline=None, max_examples=25)
def test_rows_held_out_and_rows_kept_are_all_rows(tmp_path_factory, count, cuts):
    folder = tmp_path_factory.mktemp("held")
    bounds = [0, *sorted(cuts), 60]
    for number, (start, stop) in enumerate(pairwise(bounds)):
        write_arrow(folder / f"{number}.arrow", pa.table({"x": pa.array(range(start, stop), pa.int64())}))
    kept, held = open_shards(folder).train.hold_out(count)
    assert (len(kept), len(held)) == (60 - count, count)
    parts = [rows[:].values["x"].tolist() if len(rows) else [] for rows in (kept, held)]
    assert all(part == sorted(part) for part in parts)
    assert sorted(parts[0] + parts[1]) == list(range(60))


def test_rows_held_out_are_whole_blocks_from_all_over(tmp_path):
    write_arrow(tmp_path / "a.arrow", pa.table({"x": np.arange(200 * BLOCK)}), batch_rows=10_000)
    train = open_shards(tmp_path).train
    _, held = train.hold_out(20 * BLOCK)
    numbers = held[:].values["x"].reshape(20, BLOCK)
    assert (numbers - numbers[:, :1] == torch.arange(BLOCK)).all()
    assert (numbers[:, 0] % BLOCK == 0).all()
    assert numbers.double().mean() / (200 * BLOCK) == pytest.approx(0.5, abs=0.2)


# The order


@given(
    num_rows=some.integers(1, 300),
    batch_size=some.integers(1, 90),
    world=some.integers(1, 4),
    block=some.integers(1, 40),
    window=some.integers(1, 5),
    seed=some.integers(0, 2**63 - 1),
    epoch=some.integers(0, 1000),
)
@settings(deadline=None)
def test_every_row_once_an_epoch_over_all_ranks(num_rows, batch_size, world, block, window, seed, epoch):
    orders = [
        ShardedBatches(num_rows, batch_size, seed, epoch, rank, world, block=block, window=window)
        for rank in range(world)
    ]
    batches = [list(order) for order in orders]
    assert all(len(some) == len(orders[0]) == -(-num_rows // batch_size) for some in batches)
    assert sorted(numbers_of(part for some in batches for part in some).tolist()) == list(range(num_rows))
    for step, parts in enumerate(zip(*batches, strict=True)):
        lengths = [len(part.rows) * part.counts for part in parts]
        assert [part.start for part in parts] == [sum(lengths[:rank]) for rank in range(world)]
        assert {part.total for part in parts} == {sum(lengths)} == {min(batch_size, num_rows - step * batch_size)}
        assert sum(part.share for part in parts) == pytest.approx(1)
        assert all(len(part.rows) for part in parts)


def numbers_of(parts):
    return torch.cat([part.rows for part in parts if part.counts])


def order(num_rows=100, seed=0, epoch=0, **options):
    return numbers_of(ShardedBatches(num_rows, 7, seed, epoch, **options)).tolist()


def test_the_order_depends_on_seed_and_epoch_alone():
    expected = order(seed=3, epoch=5)
    torch.manual_seed(99)
    state = torch.get_rng_state()
    sampler = ShardedBatches(100, 7, 3)
    for epoch in (2, 5):
        sampler.epoch = epoch
        rows = numbers_of(sampler).tolist()
    assert rows == expected
    assert torch.equal(torch.get_rng_state(), state)
    assert len({tuple(order(seed=seed, epoch=epoch)) for seed in range(5) for epoch in range(5)}) == 25


def test_a_rank_reads_blocks_of_its_own_a_window_at_a_time():
    ranks = [numbers_of(ShardedBatches(6400, 10, 0, 0, rank, 2, block=100, window=4)) for rank in range(2)]
    blocks = [set((rows // 100).tolist()) for rows in ranks]
    assert not blocks[0] & blocks[1]
    for rows in ranks:
        windows = [set((part // 100).tolist()) for part in rows.split(400)]
        assert all(len(window) == 4 for window in windows)
        assert len(set.union(*windows)) == 32


def test_rows_are_shuffled_evenly_within_a_window():
    # the place of row 0 of a window of 10 rows over many epochs: chi-square, 9 degrees of freedom, 99.99 % point
    places = torch.tensor([order(10, epoch=epoch, block=4).index(0) for epoch in range(2000)])
    assert ((places.bincount(minlength=10).double() - 200).square() / 200).sum() < 33.7


# Training


@pytest.fixture
def folder(tmp_path):
    """Points and categories that go together, in three files, with validation and test rows."""
    for part, cuts in (("train", (30, 90, 160)), ("validation", (40,)), ("test", (40,))):
        for number, count in enumerate(cuts):
            write_arrow(tmp_path / "rows" / part / f"{number}.arrow", rows_of(count, seed=number), batch_rows=16)
    return tmp_path / "rows"


def rows_of(count, seed=0):
    generator = np.random.default_rng(seed)
    classes = generator.integers(0, 4, count)
    points = generator.normal(size=(count, 3)) + 2 * classes[:, None]
    gone = generator.random(count) < 0.3
    return pa.table(
        {"point": points.tolist(), "class": [None if g else int(c) for c, g in zip(classes, gone, strict=True)]}
    )


CONFIG = {
    "model": POINT_AND_CLASS,
    "training": {"epochs": 3, "batch_size": 16, "learning_rate": 0.01, "annealing_epochs": 1},
}
QUIET = {"config": CONFIG, "progress": False}


def weights(model):
    return torch.cat([value.flatten().double() for value in model.state_dict().values()])


def test_training_from_disk_equals_training_on_the_same_batches_in_memory(folder, monkeypatch):
    model = mvae.fit(folder, **QUIET)
    shards = open_shards(folder)
    memory = mvae.Dataset("own", shards.train[:], shards.validation[:], shards.test[:])
    assert not torch.equal(weights(mvae.fit(memory, **QUIET)), weights(model))  # another order
    plain = Loop.__init__

    def in_the_order_of_shards(self, *given):
        plain(self, *given)
        self.batches.order = ShardedBatches(len(memory.train), 16, 0)

    monkeypatch.setattr(Loop, "__init__", in_the_order_of_shards)
    assert torch.equal(weights(mvae.fit(memory, **QUIET)), weights(model))


def test_what_is_learned_from_disk_classifies(folder):
    model = mvae.fit(open_shards(folder), epochs=12, **QUIET)
    test = open_shards(folder).test.read_as(model.variables)[:]
    right = mvae.classify(model, test, "class", given=["point"]).argmax(1) == test.values["class"]
    assert right[test.present["class"]].double().mean() > 0.6  # chance is a quarter


def test_a_run_killed_and_resumed_is_the_uninterrupted_bit_by_bit(folder, tmp_path, monkeypatch):
    whole = mvae.fit(folder, out=tmp_path / "a", **QUIET)
    step = Loop.step

    def dying(self, batch, index, group):
        if len(self.history) == 1 and index == 5:
            raise RuntimeError("killed")
        return step(self, batch, index, group)

    with monkeypatch.context() as patch:
        patch.setattr(Loop, "step", dying)
        with pytest.raises(RuntimeError, match="killed"):
            mvae.fit(folder, out=tmp_path / "b", **QUIET)
    resumed = mvae.fit(folder, out=tmp_path / "b", resume=True, progress=False)
    assert torch.equal(weights(resumed), weights(whole))
    for name in ("model.safetensors", "metrics.json", "config.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_batches_that_hold_nothing_are_passed_over(tmp_path):
    table = pa.table(
        {"point": pa.array([[0.0] * 3] * 4 + [None] * 60, pa.list_(pa.float32())), "class": [1] * 4 + [None] * 60}
    )
    write_arrow(tmp_path / "rows" / "a.arrow", table)
    model = mvae.fit(tmp_path / "rows", epochs=2, batch_size=2, config=CONFIG, progress=False)
    assert weights(model).isfinite().all()


def test_validation_rows_are_held_out(folder):
    config = {**CONFIG, "data": {"validation_rows": 50}}
    with pytest.raises(SpecError, match=r"validation_rows: expected 0, for the folder has rows in validation/"):
        prepare(folder, config=config, options={})
    for path in (folder / "validation").iterdir():
        path.unlink()
    dataset = prepare(folder, config=config, options={}).dataset
    assert (len(dataset.train), len(dataset.validation), len(dataset.test)) == (230, 50, 40)


def test_command_line(folder, tmp_path, capsys):
    from mvae.cli import main

    (tmp_path / "model.yaml").write_text(json.dumps(CONFIG))
    run = str(tmp_path / "run")
    assert main(["fit", str(folder), "--config", str(tmp_path / "model.yaml"), "--epochs", "1", "--out", run]) == 0
    said = capsys.readouterr().out
    nulls = open_shards(folder).train.nulls("class")
    assert 0 < nulls < 280
    assert f"{280 - nulls} of 280" in said
    assert "at most 280 of 280" in said
    assert "280 to train, 40 to validate, 40 to test" in said
    assert main(["fit", str(folder), "--epochs", "2", "--resume", "--out", run]) == 0
    assert main(["evaluate", run, "--samples", "5", "--limit", "10"]) == 0
    assert json.loads((tmp_path / "run" / "evaluation.json").read_text())["rows"] == 10
    for path in (folder / "test").iterdir():
        path.unlink()
    assert main(["evaluate", run]) == 2
    assert "no test rows; expected Arrow or Parquet files in test/" in capsys.readouterr().err
    assert main(["evaluate", run, "--split", "validation", "--samples", "5"]) == 0
    folder.rename(tmp_path / "moved")
    assert main(["evaluate", run, "--split", "validation", "--samples", "5"]) == 2
    assert "rows: no such folder" in capsys.readouterr().err
    assert (
        main(["evaluate", run, "--split", "validation", "--samples", "5", "--data-dir", str(tmp_path / "moved")]) == 0
    )


def test_rows_too_many_for_memory_are_not_evaluated_at_once(folder, tmp_path, monkeypatch):
    model = mvae.fit(folder, out=tmp_path / "run", epochs=1, **QUIET)
    spec = read_spec(tmp_path / "run")
    monkeypatch.setattr("mvae.training.prepare.MOST_NUMBERS", 100)
    with pytest.raises(ValueError, match="40 test rows are too many for memory; say how many, up to 25: --limit N"):
        held_rows(model, spec, "test")
    assert len(held_rows(model, spec, "test", 25)) == 25


# Refused


def refused(folder, words, error=ValueError, **options):
    out = folder.parent / "run"
    with pytest.raises(error, match=words):
        mvae.fit(folder, out=out, **(QUIET | options))
    assert not out.exists()


@pytest.mark.parametrize(
    ("column", "values", "words"),
    [
        (
            "point",
            [[0.0] * 3, [0.0] * 4],
            r"b\.arrow, row 1, column 'point': expected 3 numbers \(3\), lists of 3; got 4",
        ),
        ("point", [[0.0] * 3, []], r"b\.arrow, row 1, column 'point': expected 3 numbers .* got 0"),
        ("point", [None, [0.0, float("nan"), 1.0]], r"b\.arrow, row 1, column 'point': element 1 is null or NaN among"),
        ("point", [[0.0] * 3, [0.0, 1.0, None]], r"b\.arrow, row 1, column 'point': element 2 is null or NaN among"),
        ("point", [[0.0] * 3, [0.0, 1.0, float("inf")]], r"modality 'point', .*b\.arrow, row 1: inf is outside"),
        ("class", [None, 4], r"modality 'class', .*b\.arrow, row 1: 4 is outside the support .* integers from 0 to 3"),
    ],
)
def test_a_value_that_cannot_be_read_names_file_and_row(tmp_path, column, values, words):
    folder = tmp_path / "rows"
    write_arrow(folder / "a.arrow", rows_of(3))
    rows = {"point": [[0.0] * 3] * 2, "class": [1, 2], column: values}
    types = {"point": pa.list_(pa.float64()), "class": pa.int64()}
    write_arrow(folder / "b.arrow", table_of(rows, types))
    refused(folder, words)
    write_arrow(folder / "a.arrow", rows_of(300))  # further on than what is looked at first: found when it is read
    with pytest.raises(ValueError, match=words):
        mvae.fit(folder, **QUIET)


def test_ragged_nested_lists_are_refused_though_the_numbers_are_enough(tmp_path):
    write_arrow(tmp_path / "a.arrow", pa.table({"x": [[[1.0, 2.0], [3.0, 4.0]], [[1.0, 2.0, 3.0], [4.0]]]}))
    with pytest.raises(DataError, match=r"a\.arrow, row 1, column 'x': expected 4 numbers \(2x2\), lists of 2; got 3"):
        open_shards(tmp_path).train[:]
    write_arrow(tmp_path / "a.arrow", pa.table({"x": [[[1.0, 2.0], [3.0, 4.0]], [[1.0, 2.0], None]]}))
    with pytest.raises(DataError, match=r"a\.arrow, row 1, column 'x': expected 4 numbers .* got null in list 1"):
        open_shards(tmp_path).train[:]


def without(table, name):
    return table.drop_columns([name])


def other_type(table):
    return table.set_column(1, "class", table["class"].cast(pa.float64()))


@pytest.mark.parametrize(
    ("second", "words"),
    [
        (lambda table: without(table, "class"), r"b\.arrow: no column 'class'; it has point"),
        (other_type, r"b\.arrow: column 'class' holds double; expected int64 as in .*a\.arrow"),
    ],
)
def test_columns_that_do_not_fit_name_the_file(tmp_path, second, words):
    write_arrow(tmp_path / "rows" / "a.arrow", rows_of(10))
    write_arrow(tmp_path / "rows" / "b.arrow", second(rows_of(10)))
    refused(tmp_path / "rows", words, DataError)


@pytest.mark.parametrize(
    ("name", "values", "words"),
    [
        ("class", ["x"] * 10, r"a\.arrow: column 'class' holds string; expected numbers, booleans or lists of them"),
        ("class", [[1, 2]] * 10, r"a\.arrow, row 0, column 'class': expected one value, lists of 1; got 2"),
        ("point", [0.5] * 10, r"a\.arrow: column 'point' holds double; expected 3 numbers \(3\) a row"),
        ("point", [[[0.5] * 3]] * 10, r"a\.arrow: column 'point' holds list<.*list<.*; expected 3 numbers \(3\) a row"),
    ],
)
def test_a_column_of_a_type_that_the_model_cannot_read_is_refused(tmp_path, name, values, words):
    rows = {"point": [[0.0] * 3] * 10, "class": [1] * 10} | {name: values}
    write_arrow(tmp_path / "rows" / "a.arrow", pa.table(rows))
    refused(tmp_path / "rows", words, DataError)


def test_a_modality_without_a_column_is_refused(tmp_path):
    write_arrow(tmp_path / "rows" / "a.arrow", without(rows_of(10), "class"))
    refused(tmp_path / "rows", r"a\.arrow: no column 'class'; it has point", DataError)


@pytest.mark.parametrize("kind", ["arrow", "parquet"])
@pytest.mark.parametrize("kept", [0, 40, 0.5, -9, -8])
def test_a_damaged_file_is_named(tmp_path, kind, kept):
    path = tmp_path / "rows" / f"a.{kind}"
    (write_arrow if kind == "arrow" else write_parquet)(path, rows_of(100))
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content)) if isinstance(kept, float) else kept])
    refused(tmp_path / "rows", rf"a\.{kind}: .*cut short", DataError)


@pytest.mark.parametrize("file", [False, True])
def test_a_file_that_is_truncated_while_it_is_read_is_named(tmp_path, file):
    path = tmp_path / "a.arrow"
    write_arrow(path, pa.table({"x": np.arange(50_000)}), batch_rows=10_000, file=file)
    train = open_shards(tmp_path).train
    assert train[:3].values["x"].tolist() == [0, 1, 2]
    os.truncate(path, 5000)  # a mapped page that is gone would end the process: SIGBUS
    with pytest.raises(DataError, match=r"a\.arrow: changed while it is read: 40\d,\d+ bytes, now 5,000"):
        train[49_000:]


def test_compressed_arrow_is_refused(tmp_path):
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    path = tmp_path / "rows" / "a.arrow"
    path.parent.mkdir()
    table = pa.table({"x": np.zeros(100_000)})
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema, options=options) as writer:
        writer.write_table(table)
    with pytest.raises(DataError, match=r"a\.arrow: compressed, so that it cannot be mapped"):
        open_shards(tmp_path / "rows")


def test_folders_without_rows_or_with_too_many_kinds_are_refused(tmp_path):
    folder = tmp_path / "rows"
    with pytest.raises(DataError, match="rows: no such folder of Arrow or Parquet files"):
        mvae.fit(folder, **QUIET)
    folder.mkdir()
    refused(
        folder, r"rows: expected files ending in \.arrow or \.parquet, here or in train/; there are none", DataError
    )
    (folder / "train").mkdir()
    refused(folder, "there are none", DataError)
    write_arrow(folder / "train" / "a.arrow", rows_of(0))
    refused(folder, "train: its 1 files have no rows", DataError)
    write_parquet(folder / "train" / "b.parquet", rows_of(4))
    refused(folder, r"holds \.arrow and \.parquet files; expected one kind", DataError)
    write_arrow(folder / "a.arrow", rows_of(4))
    refused(folder, r"rows: holds a\.arrow beside train/", DataError)


def test_a_file_that_the_list_of_a_saved_set_names_must_be_there(tmp_path):
    datasets.Dataset.from_dict({"x": list(range(10))}).save_to_disk(tmp_path / "rows", num_shards=2)
    (tmp_path / "rows" / "data-00001-of-00002.arrow").unlink()
    with pytest.raises(DataError, match=r"data-00001-of-00002\.arrow: not there, but .*state\.json lists it"):
        open_shards(tmp_path / "rows")
    (tmp_path / "rows" / "state.json").write_text("[]")
    with pytest.raises(DataError, match=r"state\.json: expected the list of files"):
        open_shards(tmp_path / "rows")


def test_options_that_need_rows_in_memory_are_refused(folder):
    refused(folder, "shares: rows that are not in memory are read in their order", SpecError, paired_share=0.5)
    refused(folder, "paired_fraction: rows on disk are used as they are", SpecError, paired_fraction=0.5)
    model = {name: part for name, part in CONFIG["model"].items() if name != "reconstruct"}
    words = r"'jmvae' learns from rows with all of point, class, and column 'class' has \d+ nulls"
    refused(folder, words, SpecError, method="jmvae", config={**CONFIG, "model": model})
    refused(folder, "a config must say what each column is", SpecError, config=None)


def test_a_method_of_whole_rows_learns_from_files_without_nulls(folder):
    for path in folder.rglob("*.arrow"):
        write_arrow(path, rows_of(100).drop_null())
    model = {name: part for name, part in CONFIG["model"].items() if name != "reconstruct"}
    trained = mvae.fit(folder, method="jmvae", epochs=1, config={**CONFIG, "model": model}, progress=False)
    assert weights(trained).isfinite().all()


def test_nothing_to_learn_from_is_refused(tmp_path):
    write_arrow(tmp_path / "rows" / "a.arrow", pa.table({"point": pa.nulls(5), "class": pa.nulls(5)}))
    refused(tmp_path / "rows", "no training row has what 'mvae' learns from", SpecError)


@pytest.mark.parametrize(("package", "kind"), [("pyarrow", "arrow"), ("pyarrow.parquet", "parquet")])
def test_a_missing_package_is_named_with_how_to_install_it(tmp_path, monkeypatch, package, kind):
    (write_arrow if kind == "arrow" else write_parquet)(tmp_path / f"a.{kind}", rows_of(5))
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(DataError, match=r"pip install 'mvae\[shards\]'"):
        open_shards(tmp_path)


def test_a_run_resumes_on_moved_shards_and_not_on_others(tmp_path):
    write_parquet(tmp_path / "rows" / "a.parquet", rows_of(40))
    mvae.fit(tmp_path / "rows", out=tmp_path / "run", epochs=1, **QUIET)
    (tmp_path / "rows").rename(tmp_path / "moved")
    again = {"out": tmp_path / "run", "resume": True, "progress": False}
    mvae.fit(tmp_path / "moved", epochs=2, **again)
    mvae.fit(open_shards(tmp_path / "moved"), epochs=3, **again)
    write_parquet(tmp_path / "moved" / "b.parquet", rows_of(40))
    for source in (tmp_path / "moved", open_shards(tmp_path / "moved")):
        with pytest.raises(
            RunError, match=r"moved has changed since the run was trained: 40 rows in 1 files, .*; now 80"
        ):
            mvae.fit(source, epochs=4, **again)
