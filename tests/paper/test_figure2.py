"""The pictures of Figure 2, drawn by models that were never trained but vary much: only what is drawn matters here."""

import itertools
import json

import numpy as np
import pytest
import torch
from PIL import Image

from faces import write_faces
from mvae.batch import Batch
from mvae.config.build import build_model
from mvae.config.folder import load, save_weights
from mvae.config.recipes import resolve
from mvae.data.multimnist import DIGITS, Rules, make_rows
from mvae.data.sources import load_dataset
from mvae.files import RunError, write_json
from paper import figure2
from paper.baselines.logistic import PairedLogisticRegression
from paper.compared import folder_of, spec_of
from paper.reader import Reader
from paper.results import provenance
from paper.runner import Setup, page, run

MODELS = ("mvae", "mvae-label")
CHOSEN = {"dataset": ["mnist"], "model": list(MODELS)}
LABEL = 0  # one that the judge, trained on noise, sees in some of the pictures


@pytest.fixture(scope="module")
def drawn(place, tmp_path_factory):
    """Pictures of two models: the folder, what was said, and the JSON."""
    folder = tmp_path_factory.mktemp("figure2")
    for name in MODELS:
        cell, setup = {"dataset": "mnist", "model": name, "seed": 0}, Setup("figure2", "smoke", runs=folder / "runs")
        kept = folder_of(cell, setup)
        kept.mkdir(parents=True)
        spec = spec_of(cell, setup)
        torch.manual_seed(0)
        model = build_model(spec.model)
        for layer in model.modalities["image"].decoder.modules():
            if isinstance(layer, torch.nn.Linear):
                layer.weight.data *= 10
        write_json(kept / "config.json", spec.model_dump(mode="json"))
        save_weights(model, kept)
        write_json(kept / "trained.json", provenance() | {"seconds": 1.0, "epoch": 1})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figure2, "JUDGE_ROWS", 100)
        patch.setitem(figure2.LABELS, "mnist", (LABEL, "zero"))
        patch.setattr(
            "paper.runner.run_side_by_side",
            lambda work, tasks, _: ((task, work(task, lambda *_: None)) for task in tasks),
        )
        lines = list(reproduce(folder, place))
    return folder, lines, json.loads((folder / "figure2" / "smoke.json").read_text())


def reproduce(folder, place, **options):
    places = {"folder": folder, "runs": folder / "runs", "data_dir": str(place / "data")}
    return run(Setup("figure2", "smoke", chosen=CHOSEN, **places, **options))


def texts_model():
    """Of images and texts, untrained, with z far in what both say."""
    torch.manual_seed(0)
    model = build_model(resolve("multimnist", None, {}).model).eval()
    for part in model.modalities["text"].decoder.network.parameters():
        part.data *= 4
    return model


def canvases(count):
    """Real rules, digits that are bars: those of the string can be told apart."""
    digits = np.zeros((10, 28, 28), np.uint8)
    for digit in range(10):
        digits[digit, 2 + 2 * digit : 5 + 2 * digit, 4:24] = 250
    made = make_rows(digits, np.arange(10), Rules(), 0, range(count))
    return Batch({name: torch.from_numpy(values) for name, values in made.items()})


def test_the_reader_reads_canvases_and_what_it_says_is_what_the_sheet_counts(tmp_path, monkeypatch):
    monkeypatch.setattr(figure2, "JUDGED", 400)
    rows = canvases(500)
    reader = Reader(400).fit(rows[:100])
    truth = [DIGITS.text(text) for text in rows.values["text"][100:]]
    assert reader.read(rows.values["image"][100:]) == truth
    assert reader.read(rows.values["image"][100:] / 255) == truth
    model, test = texts_model(), rows[100:]
    found = figure2._write_sheet(model, test, tmp_path / "sheet.png", reader.read)
    with Image.open(tmp_path / "sheet.png") as picture:
        assert min(picture.size) > 400
    torch.manual_seed(3)  # other draws of the same share
    with torch.no_grad():
        z = model.posterior(test.only(["image"])).sample((5,))
        written = [[DIGITS.text(text) for text in model.decode(one, ["text"])["text"].mode] for one in z]
    right = np.mean([[one == other for one, other in zip(texts, truth, strict=True)] for texts in written])
    assert abs(found["real"] - right) < 5 * np.sqrt(right * (1 - right) / 400) + 1e-3
    assert right > 0.001
    perfect = figure2._write_sheet(model, test, tmp_path / "sheet.png", lambda _: ["7"] * 400)
    assert perfect["real"] == found["real"]
    assert perfect["prior"] != found["prior"]


def test_a_label_is_given_as_the_model_has_it():
    assert figure2._given(texts_model(), "1773")["text"].tolist() == [1, 7, 7, 3]
    for source in ("celeba", "celeba19"):
        model = build_model(resolve(source, None, {}).model).eval()
        given = figure2._given(model, "Male")
        assert {name: torch.as_tensor(value).tolist() for name, value in given.items()} == (
            {"Male": 1} if source == "celeba19" else {"attributes": [float(number == 9) for number in range(18)]}
        )
        model.draw_latent(given)


def test_the_judge_of_faces_says_who_has_the_attribute(tmp_path, nowhere, monkeypatch):
    write_faces(tmp_path, [0] * 30 + [1] * 2 + [2] * 12)  # faces of one colour each, which says who is bald
    monkeypatch.setitem(figure2.LABELS, "celeba", ("Bald", "bald"))
    judge = figure2._judge("celeba", str(tmp_path))
    bald = [row % 2 for row in range(32, 44)]
    images = load_dataset("celeba19", data_dir=tmp_path).test.values["image"]
    assert judge.wanted == 1
    assert judge.accuracy == np.mean([one == other for one, other in zip(judge.says(images), bald, strict=True)])
    assert judge.says(images) == judge.says(images / 255)
    assert "44 of 202,599 images" in judge.data


def test_the_page_shows_the_sheet_of_texts_and_what_the_judge_can():
    made = {"command": "mvae", "commit": "abc", "machine": "a machine"}
    cell = {"dataset": "multimnist", "model": "mvae-label", "seed": 0, "label": "1773", "file": "a.png", "right": 0.5}
    cell |= {
        "judge": 0.95,
        "data": "canvases",
        "texts": {"file": "a-texts.png", "prior": 0.625, "real": 0.875},
        "trained": made,
    }
    settings = {"preset": "cpu", "epochs": {"multimnist": 4}, "train_rows": None}
    text = page("figure2", {"settings": settings, "provenance": made, "cells": [cell]})
    words = " ".join(text.split())
    assert "- MVAE, label in every term: 50.0 % on 1 data set Preset `cpu`, one seed, all training rows" in words
    assert "epochs: MultiMNIST 4. The preset `paper`, on the paper's scale, was not run." in words
    assert "(../../paper/results/figure2/a-texts.png)" in text
    assert (
        "the text is what the judge reads off the image in 62.5 %; of real canvases the judge itself reads 95.0 %"
        in words
    )
    assert "the text is the true one in 87.5 %" in words
    assert "| MultiMNIST | MVAE, label in every term | 1773 | 50.0 % | 95.0 % |" in text


def runs(filled):
    """First and last + 1 of each stretch of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], filled, [False]]).astype(int)))
    return list(zip(edges[::2], edges[1::2], strict=True))


@pytest.mark.parametrize("model", ["mvae", "mvae-label"])
def test_a_picture_has_two_panels_of_64_images(drawn, model):
    folder, _, content = drawn
    (cell,) = (cell for cell in content["cells"] if cell["model"] == model)
    with Image.open(folder / "figure2" / cell["file"]) as picture:
        assert picture.format == "PNG"
        grey = np.asarray(picture.convert("L"), dtype=float)
    columns = runs((grey[60:-30] < 250).any(0))  # below the titles
    assert len(columns) == 16
    gaps = [right[0] - left[1] for left, right in itertools.pairwise(columns)]
    assert gaps.index(max(gaps)) == 7
    for panel in (columns[:8], columns[8:]):
        rows = runs((grey[35:, panel[0][0] : panel[-1][1]] < 250).any(1))
        assert len(rows) == 8
        images = [grey[35 + top : 35 + bottom, left:right] for top, bottom in rows for left, right in panel]
        assert len({image[2:-2, 2:-2].tobytes() for image in images}) == 64


def test_the_json_says_what_was_drawn(drawn):
    folder, lines, content = drawn
    assert [(cell["dataset"], cell["model"], cell["seed"]) for cell in content["cells"]] == [
        ("mnist", "mvae", 0),
        ("mnist", "mvae-label", 0),
    ]
    assert {path.name for path in (folder / "figure2").iterdir()} == {
        "smoke.json",
        *(cell["file"] for cell in content["cells"]),
    }
    for cell, line in zip(content["cells"], lines, strict=True):
        assert (cell["label"], cell["judged"], cell["trained"]["epoch"]) == (LABEL, 1000, 1)
        assert 0 < cell["judge"] < 1
        assert f"drawn for 'zero', {100 * cell['right']:.1f} %" in line
        assert cell["file"] in line
    text = page("figure2", content)
    for cell in content["cells"]:
        assert f"(../../paper/results/figure2/{cell['file']})" in text
        assert f"{100 * cell['right']:.1f} %" in text


def test_the_share_that_is_right_is_that_of_other_draws(drawn, place):
    folder, _, content = drawn
    judge = PairedLogisticRegression().fit(load_dataset("mnist", data_dir=place / "data").train[:100])
    cell = content["cells"][0]
    model = load(folder / "runs" / "smoke" / "mnist" / "mvae" / "seed-0")
    torch.manual_seed(17)
    with torch.no_grad():
        posterior = model.posterior({"label": [LABEL]})
        z = posterior.mean + posterior.stddev * torch.randn(20_000, model.latent_dim)
        images = model.decode(z, ["image"])["image"].mean
    share = (judge.predict(Batch({"image": images})) == LABEL).mean()
    assert 0.01 < share < 0.99
    # five standard errors of a proportion of 1,000
    assert abs(cell["right"] - share) < 5 * np.sqrt(share * (1 - share) / 1000)


def test_pictures_are_kept_on_resume_and_otherwise_refused(drawn, place):
    folder, _, content = drawn
    before = {path: path.read_bytes() for path in (folder / "figure2").iterdir()}
    with pytest.raises(RunError, match=r"smoke\.json is already there"):
        list(reproduce(folder, place))
    assert list(reproduce(folder, place, resume=True)) == []
    assert {path: path.read_bytes() for path in (folder / "figure2").iterdir()} == before
    assert len(content["cells"]) == 2
