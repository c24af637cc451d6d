"""Figure 3 on small random files: which rows each model sees, and what is written."""

import json
from copy import deepcopy
from dataclasses import replace
from functools import partial

import pytest
import torch

from mvae.config.recipes import resolve
from mvae.data.multimnist import Rules, load_multimnist
from mvae.data.sources import SOURCES, load_dataset
from mvae.training.prepare import prepare
from mvae.training.run import Run
from paper import figure3, figure3_view, trained
from paper.baselines.networks import Deterministic
from paper.figure3 import ALL, MODELS, cells, chosen_pairs, measure
from paper.runner import CATALOG, Setup, page, places, run

PRESETS = CATALOG["figure3"]["presets"]
TINY = PRESETS["smoke"] | {
    "seeds": {20: 2, ALL: 1},
    "samples": 2,
    "train_rows": 200,
    "seeds_of": {"multimnist": {20: 1}},
    "train_rows_of": {"multimnist": 120},
}


def cell(dataset, model, pairs, seed=0):
    return {"dataset": dataset, "model": model, "pairs": pairs, "seed": seed}


def asked(datasets, models, **options):
    return Setup("figure3", "tiny", chosen={"dataset": datasets, "model": models}, **options)


def measured(cells, data_dir):
    return measure(cells, Setup("figure3", "tiny", data_dir=data_dir), lambda *_: None)


def planned(dataset, models):
    """Each cell that there is, with those that are measured together one by one."""
    found = cells(asked([dataset], models))
    return [one for some in found for one in (some if isinstance(some, list) else [some])]


@pytest.fixture
def tiny(monkeypatch, tmp_path_factory, write_mnist, in_turn):
    monkeypatch.setitem(PRESETS, "tiny", TINY)
    folder = tmp_path_factory.mktemp("figure3")
    write_mnist(folder / "mnist", 220, 300)
    return str(folder)


@pytest.fixture
def one_digit(monkeypatch):
    """MultiMNIST of at most one digit: the random ones of the small files are too bright together."""
    source = replace(SOURCES["multimnist"], load=partial(load_multimnist, rules=Rules(most=1)))
    monkeypatch.setitem(SOURCES, "multimnist", source)


@pytest.fixture
def seen(monkeypatch):
    """The data sets that trainings were given."""
    found = []

    def remember(dataset, **options):
        found.append(dataset)
        return prepare(dataset, **options)

    monkeypatch.setattr(trained, "prepare", remember)
    return found


def test_every_model_gets_every_choice_once(monkeypatch):
    monkeypatch.setitem(PRESETS, "tiny", TINY)
    done = [(one["model"], (one["pairs"], one["seed"])) for one in planned("binary-mnist", list(MODELS))]
    aside = [name for name in MODELS if "aside" in MODELS[name]]
    assert len(done) == len(set(done)) == 3 * (len(MODELS) - len(aside)) + len(aside)
    assert {choice for model, choice in done if model in aside} == {(ALL, 0)}
    assert not any(one["model"] in aside for one in planned("fashion-mnist", list(MODELS)))
    assert {choice for _, choice in done} == {(20, 0), (20, 1), (ALL, 0)}


def test_pairs_of_a_smaller_choice_are_the_first_of_a_larger_one(tiny):
    rows = load_dataset("binary-mnist", data_dir=tiny).train
    few, more, everything = (chosen_pairs(rows, pairs, 3) for pairs in (20, 50, ALL))
    assert few.tolist() == more[:20].tolist() == everything[:20].tolist()
    assert everything.sort().values.tolist() == list(range(len(rows)))
    assert chosen_pairs(rows, 20, 4).tolist() != few.tolist()


@pytest.mark.parametrize("model", ["mvae", "mvae-q-label", "jmvae", "supervised"])
def test_what_a_network_learns_from(tiny, seen, model):
    (record,) = measured(cell("binary-mnist", model, 20, 1), tiny)
    (dataset,) = seen
    everything = load_dataset("binary-mnist", data_dir=tiny).train[:200]
    pairs = chosen_pairs(everything, 20, 1)
    held, learned = pairs[:4], pairs[4:]
    assert dataset.validation.values["label"].tolist() == everything.values["label"][held].tolist()
    assert dataset.validation.complete
    has = dataset.train.presence(["image", "label"])
    whole = has.all(1)
    if MODELS[model]["kind"] == "joint":  # all other rows, half of them with the image alone
        assert len(dataset.train) == 196
        assert int(whole.sum()) == 16
        assert has[~whole].sum(0).tolist() == [90, 90]
        assert not has[~whole].all(1).any()
    else:  # the pairs again and again, until there are as many rows
        assert len(dataset.train) == 192
        assert whole.all()
    grey = {tuple(image.flatten().tolist()) for image in dataset.train.values["image"][whole]}
    assert grey == {tuple(image.flatten().tolist()) for image in everything.values["image"][learned]}
    assert record["held"] == 4
    assert record["total"] == 200
    assert record["accuracy"] == record["right"]["decoder"] / 300


@pytest.mark.parametrize("model", ["autoencoder", "vae"])
def test_codes_are_learned_from_all_images(tiny, seen, model):
    records = measured([cell("binary-mnist", model, pairs) for pairs in (20, ALL)], tiny)
    (dataset,) = seen
    assert len(dataset.train) == 200
    assert [(record["pairs"], record["seed"]) for record in records] == [(20, 0), (ALL, 0)]


def test_test_labels_are_read_for_scoring_only(tiny, monkeypatch):
    def shuffled(*given, **options):
        dataset = load_dataset(*given, **options)
        labels = dataset.test.values["label"][torch.randperm(300, generator=torch.Generator().manual_seed(0))]
        test = type(dataset.test)({"image": dataset.test.values["image"], "label": labels})
        return replace(dataset, test=test)

    guesses = {}
    for name, load in (("true", load_dataset), ("shuffled", shuffled)):
        monkeypatch.setattr(figure3, "load_dataset", load)
        kept = []
        inner = figure3._predictions
        monkeypatch.setattr(figure3, "_predictions", lambda *given, f=inner, k=kept: k.append(f(*given)) or k[-1])
        measured(cell("binary-mnist", "mvae-label", ALL), tiny)
        monkeypatch.setattr(figure3, "_predictions", inner)
        guesses[name] = kept[0]["decoder"]
    assert torch.equal(guesses["true"], guesses["shuffled"])


def test_the_supervised_network_has_the_initial_weights_of_the_model_and_no_noise(tiny, monkeypatch):
    models = []
    train = Run.train_to_the_end
    monkeypatch.setattr(
        Run, "train_to_the_end", lambda run, progress: models.append(deepcopy(run.model)) or train(run, progress)
    )
    for model in ("supervised", "mvae-label"):
        measured(cell("binary-mnist", model, 20), tiny)
    network, mvae = models
    assert isinstance(network, Deterministic)
    for name, value in network.modalities["image"].encoder.state_dict().items():
        assert torch.equal(value, mvae.modalities["image"].encoder.state_dict()[name])
    rows = load_dataset("mnist", data_dir=tiny).train[:5]
    assert torch.equal(network.loss(rows).elbo, network.loss(rows).elbo)


def test_it_goes_on_where_it_stopped_and_writes_page_and_picture(tiny, tmp_path):
    setup = asked(["binary-mnist"], ["logistic", "mvae-label"], folder=tmp_path, data_dir=tiny)
    lines = run(setup)
    first = next(lines)
    lines.close()
    assert first.startswith("binary-mnist, logistic, all levels: ")
    rest = list(run(replace(setup, resume=True)))
    assert len(rest) == 4  # three choices, and the picture
    picture = tmp_path / "figure3" / "tiny-binary-mnist.png"
    assert picture.read_bytes().startswith(b"\x89PNG")
    content = json.loads((tmp_path / "figure3" / "tiny.json").read_text())
    assert len(content["cells"]) == 6
    text = page("figure3", content)
    accuracies = [c["accuracy"] for c in content["cells"] if c["model"] == "mvae-label" and c["pairs"] == 20]
    mean = 100 * sum(accuracies) / 2
    row = next(line for line in text.splitlines() if line.startswith("| MVAE, label in every term |"))
    assert f"{mean:.1f} ± " in row.split("|")[2]
    assert "all 200" in text


@pytest.mark.parametrize("model", ["mvae-label", "mvae-weight-1", "jmvae", "supervised", "logistic", "vae"])
def test_a_text_is_predicted_as_a_label_is(tiny, one_digit, seen, model):
    assert planned("multimnist", [model]) == [cell("multimnist", model, 20)]
    (record,) = measured(cell("multimnist", model, 20), tiny)
    assert record["total"] == 120
    assert record["rows"] == 300
    assert set(record["right"]) >= ({"logistic"} if model in ("logistic", "vae") else {"decoder"})
    if MODELS[model]["kind"] == "joint":
        spec = resolve("multimnist", None, places(figure3._of_target(MODELS[model]["options"], "text")))
        weight = spec.model.modalities["text"].weight
        assert (spec.model.reconstruct, weight) == ((["text"], 10) if model == "mvae-label" else ("given", 1))
        assert seen[0].train.presence(["image", "text"]).all(1).sum() == 16


def test_the_page_says_when_a_text_is_right(tiny, one_digit, tmp_path):
    list(run(asked(["multimnist", "binary-mnist"], ["logistic"], folder=tmp_path, data_dir=tiny)))
    content = json.loads((tmp_path / "figure3" / "tiny.json").read_text())
    assert "right only if all of it is" in page("figure3", content)
    content["cells"] = [cell for cell in content["cells"] if cell["dataset"] != "multimnist"]
    assert "right only if all of it is" not in page("figure3", content)


def parted(content):
    return figure3_view.cells_of(content, "mnist")


def test_where_the_mvae_had_fewer_choices_of_pairs_the_others_are_taken_on_those():
    def cell(model, seed, accuracy):
        return {"dataset": "mnist", "model": model, "pairs": 10, "seed": seed, "accuracy": accuracy, "rows": 10_000}

    others = [cell("rbm", 0, 0.8), cell("rbm", 1, 0.1), cell("rbm", 2, 0.1), cell("logistic", 0, 0.5)]
    content = {"cells": [cell("mvae-label", 0, 0.7), *others, cell("jmvae", 1, 0.99)]}
    points, best = figure3_view.verdict(parted(content), "mvae-label", 10, ["rbm", "logistic", "jmvae"]).cells
    assert points.startswith("loses, -10.0 ± ")
    assert best == "RBM + logistic regression, 80.0"
    assert figure3_view.verdict(parted(content), "mvae-label", 10, ["logistic", "jmvae"]).cells[0].startswith("wins")
    content["cells"].append(cell("mvae-label", 1, 0.7))
    found = figure3_view.verdict(parted(content), "mvae-label", 10, ["rbm", "logistic", "jmvae"])
    assert found.cells == ("neither wins nor loses, +25.0 ± 35.0", "RBM + logistic regression, 45.0")


def test_the_page_says_how_many_networks_were_still_learning():
    def cell(model, **epochs):
        return {"dataset": "mnist", "model": model, **epochs}

    networks = [cell("mvae", epoch=3, epochs=3), cell("jmvae", epoch=3, epochs=3), cell("mvae-q", epoch=2, epochs=3)]
    others = [cell("rbm"), cell("mvae-longer", epoch=9, epochs=9), cell("mvae", epoch=1, epochs=1) | {"dataset": "x"}]
    assert figure3_view.lasting(parted({"cells": networks + others})) == "2 of 3"


def test_in_words_where_the_mvae_wins_beside_whom():
    def cell(model, pairs, accuracy):
        one = {"dataset": "mnist", "model": model, "pairs": pairs, "seed": 0, "accuracy": accuracy}
        return one | {"rows": 10_000, "right": {"decoder": int(10_000 * accuracy)}}

    accuracies = {
        "mvae-label": (0.3, 0.8, 0.9, 0.97),
        "supervised": (0.4, 0.7, 0.85, 0.97),
        "logistic": (0.5, 0.6, 0.7, 0.8),
        "rbm": (0.6, 0.75, 0.95, 0.8),
    }
    levels = (10, 100, 1000, 0)
    cells = [
        cell(name, n, value) for name, values in accuracies.items() for n, value in zip(levels, values, strict=True)
    ]
    assert figure3_view.in_words(parted({"cells": cells})).splitlines() == [
        "- Beside what learns from the pairs alone it wins at 100 and 1,000 pairs (by 5.0 to 10.0 points); loses at 10"
        " pairs (by 20.0 points); neither wins nor loses at all pairs.",
        "- Beside all that is no MVAE it wins at 100 pairs (by 5.0 points); loses at 10 and 1,000 pairs (by 5.0 to 30.0"
        " points); neither wins nor loses at all pairs.",
    ]
    words = "With all pairs Eq. 2 finds 97.0 % with the label in every term."
    assert figure3_view.causes(parted({"cells": cells})) == words
