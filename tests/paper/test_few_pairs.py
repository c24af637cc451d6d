"""What helps with few pairs, on small random files."""

import json
from dataclasses import replace

import pytest

from mvae.data.sources import load_dataset
from paper import few_pairs
from paper.comparison import train_on_rows
from paper.few_pairs import PRESETS, TESTED, VARIANTS, Task, tasks_of, work
from paper.setup import Setup


@pytest.fixture
def tiny(monkeypatch, tmp_path_factory, write_mnist, in_turn):
    few = replace(PRESETS["smoke"], train_rows=150, seeds=2)
    monkeypatch.setitem(PRESETS, "tiny", replace(few, levels={"binary-mnist": (50,), "fashion-mnist": (50,)}))
    monkeypatch.setattr(few_pairs, "VALIDATION_ROWS", 80)
    folder = tmp_path_factory.mktemp("few-pairs")
    write_mnist(folder / "mnist", 250, 60)
    return str(folder)


@pytest.mark.parametrize("variant", ["as-they-come", "chosen", "completion", "convolutional", "present"])
def test_what_a_variant_trains(tiny, monkeypatch, variant, tmp_path):
    trained = []
    monkeypatch.setattr(few_pairs, "train_on_rows", lambda *given: trained.append(given) or train_on_rows(*given))
    record = work(Task("binary-mnist", variant, 50, 0), Setup("tiny", runs=tmp_path, data_dir=tiny), lambda *_: None)
    ((_, spec, dataset, _),) = trained
    assert len(dataset.train) == 150
    paired = dataset.train.presence(["image", "label"]).all(1)
    assert int(paired.sum()) == 50
    assert len(dataset.validation) == 0  # the 80 rows are for choosing among variants
    chosen = variant in ("chosen", "convolutional")
    training, counts = spec.training, dataset.train.values["label"][paired].bincount(minlength=10)
    held = load_dataset("binary-mnist", data_dir=tiny, validation_rows=80).train[:150]
    most = held.values["label"].bincount(minlength=10).clamp(max=5)
    assert (counts >= most).all() == chosen
    pairs = None if variant == "as-they-come" else {"complete": 0.1}
    assert training.shares == ({"complete": 0.1, "image": 0.6} if chosen else pairs)
    assert (training.smoothness, training.propagation) == ((30, 1) if chosen else (0, 0))
    assert spec.model.modalities["image"].encoder.kind == ("conv" if variant == "convolutional" else "mlp")
    assert training.completion == (1 if variant == "completion" else 0)
    assert spec.model.reconstruct == ("present" if variant == "present" else ["label"])
    assert ("test" in record) == (variant in TESTED)
    assert 0 <= record["validation"]["decoder"] <= 1


def test_the_convolutional_encoder_is_tried_where_the_recipe_has_none(tiny):
    tasks = tasks_of(["binary-mnist", "fashion-mnist"], ["convolutional"], replace(PRESETS["tiny"], seeds=1))
    assert [task.dataset for task in tasks] == ["binary-mnist"]


def test_only_what_is_tested_has_several_seeds(tiny):
    tasks = tasks_of(["binary-mnist"], list(VARIANTS), PRESETS["tiny"])
    assert len(tasks) == len(set(tasks)) == len(VARIANTS) + len(TESTED)
    assert {task.variant for task in tasks if task.seed == 1} == set(TESTED)


def test_a_level_may_be_chosen(tiny, monkeypatch, tmp_path):
    monkeypatch.setitem(PRESETS, "tiny", replace(PRESETS["tiny"], levels={"binary-mnist": (20, 50)}, seeds=1))
    setup = Setup("tiny", tmp_path, tmp_path / "runs", data_dir=tiny)
    with pytest.raises(ValueError, match="nothing to do: none of plain is tried on binary-mnist at these levels"):
        next(few_pairs.reproduce(setup, ["binary-mnist"], ["plain"], [30]))
    (line,) = few_pairs.reproduce(setup, ["binary-mnist"], ["plain"], [20])
    assert line.startswith("binary-mnist, plain, 20 pairs, ")


def test_the_page_has_what_was_measured(tiny, tmp_path):
    setup = Setup("tiny", tmp_path, tmp_path / "runs", data_dir=tiny)
    lines = few_pairs.reproduce(setup, ["binary-mnist"], ["plain", "smoothness"])
    first = next(lines)
    lines.close()
    assert first.startswith("binary-mnist, plain, 50 pairs, seed 0: validation decoder ")
    rest = few_pairs.reproduce(replace(setup, resume=True), ["binary-mnist"], ["plain", "smoothness"])
    assert len(list(rest)) == 2
    content = json.loads((tmp_path / "few-pairs" / "tiny.json").read_text())
    page = few_pairs.page(content)
    smoothed = next(cell for cell in content["cells"] if cell["variant"] == "smoothness")
    assert f"| smoothness | 1 | {100 * smoothed['validation']['decoder']:.1f} |" in page
    plain = [cell["test"]["decoder"] for cell in content["cells"] if cell["variant"] == "plain"]
    assert f"{50 * sum(plain):.1f} ± " in page


def test_a_training_that_was_done_is_not_done_again(tiny, tmp_path):
    setup, task = Setup("tiny", tmp_path, tmp_path / "runs", data_dir=tiny), Task("binary-mnist", "plain", 50, 0)
    once = work(task, setup, lambda *_: None)
    stages = []
    again = work(task, setup, lambda stage, *_: stages.append(stage))
    assert stages == ["predicting"]
    assert again["validation"] == once["validation"]
    assert again["test"] == once["test"]
