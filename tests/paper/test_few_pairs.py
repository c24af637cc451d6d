"""What helps with few pairs, on small random files."""

import json
from dataclasses import replace

import pytest

from mvae.data.sources import load_dataset
from paper import few_pairs
from paper.few_pairs import TESTED, VARIANTS, cells, measure
from paper.runner import CATALOG, Setup, page, run
from paper.trained import train_on_rows

PRESETS = CATALOG["few-pairs"]["presets"]


def asked(datasets=("binary-mnist",), variants=("plain",), pairs=(), **options):
    chosen = {"dataset": datasets, "variant": variants, "pairs": pairs}
    return Setup("few-pairs", "tiny", chosen=chosen, **options)


def plain(variant):
    return {"dataset": "binary-mnist", "variant": variant, "pairs": 50, "seed": 0}


@pytest.fixture
def tiny(monkeypatch, tmp_path_factory, write_mnist, in_turn):
    monkeypatch.setitem(PRESETS, "tiny", PRESETS["smoke"] | {"train_rows": 150, "seeds": 2, "validation_rows": 80})
    folder = tmp_path_factory.mktemp("few-pairs")
    write_mnist(folder / "mnist", 250, 60)
    return str(folder)


@pytest.mark.parametrize("variant", ["as-they-come", "chosen", "completion", "convolutional", "present"])
def test_what_a_variant_trains(tiny, monkeypatch, variant, tmp_path):
    trained = []
    monkeypatch.setattr(few_pairs, "train_on_rows", lambda *given: trained.append(given) or train_on_rows(*given))
    record = measure(plain(variant), asked(runs=tmp_path, data_dir=tiny), lambda *_: None)
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
    found = cells(asked(["binary-mnist", "fashion-mnist"], ["convolutional"]))
    assert {cell["dataset"] for cell in found} == {"binary-mnist"}


def test_only_what_is_tested_has_several_seeds(tiny):
    found = cells(asked(variants=list(VARIANTS)))
    assert len(found) == len({str(cell) for cell in found}) == len(VARIANTS) + len(TESTED)
    assert {cell["variant"] for cell in found if cell["seed"] == 1} == set(TESTED)


def test_a_level_may_be_chosen(tiny, monkeypatch, tmp_path):
    monkeypatch.setitem(PRESETS, "tiny", PRESETS["tiny"] | {"levels": {"binary-mnist": [20, 50]}, "seeds": 1})
    places = {"folder": tmp_path, "runs": tmp_path / "runs", "data_dir": tiny}
    with pytest.raises(
        ValueError, match="nothing to do: there is no cell of dataset binary-mnist; variant plain; pairs 30"
    ):
        next(run(asked(pairs=[30], **places)))
    (line,) = run(asked(pairs=[20], **places))
    assert line.startswith("binary-mnist, plain, 20 pairs, ")


def test_the_page_has_what_was_measured(tiny, tmp_path):
    setup = asked(variants=["plain", "smoothness"], folder=tmp_path, runs=tmp_path / "runs", data_dir=tiny)
    lines = run(setup)
    first = next(lines)
    lines.close()
    assert first.startswith("binary-mnist, plain, 50 pairs, seed 0: validation decoder ")
    rest = run(replace(setup, resume=True))
    assert len(list(rest)) == 2
    content = json.loads((tmp_path / "few-pairs" / "tiny.json").read_text())
    text = page("few-pairs", content)
    smoothed = next(cell for cell in content["cells"] if cell["variant"] == "smoothness")
    assert f"| smoothness | 1 | {100 * smoothed['validation']['decoder']:.1f} |" in text
    plain = [cell["test"]["decoder"] for cell in content["cells"] if cell["variant"] == "plain"]
    assert f"{50 * sum(plain):.1f} ± " in text


def test_a_training_that_was_done_is_not_done_again(tiny, tmp_path):
    setup, cell = asked(runs=tmp_path / "runs", data_dir=tiny), plain("plain")
    once = measure(cell, setup, lambda *_: None)
    stages = []
    again = measure(cell, setup, lambda stage, *_: stages.append(stage))
    assert stages == ["predicting"]
    assert again["validation"] == once["validation"]
    assert again["test"] == once["test"]
