"""Tables with pictures and texts: modalities of their own beside the record of the other columns."""

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

import mvae
from mvae.config.folder import read_spec
from mvae.files import DataError


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Scans of ones and zeros, a table with their file names, and what they show; some lack either."""
    folder = tmp_path_factory.mktemp("scans")
    digits = load_digits()
    chosen = np.flatnonzero(digits.target < 2)[:300]
    names = [f"{number}.png" for number in chosen]
    for name, number in zip(names, chosen, strict=True):
        Image.fromarray((digits.images[number] * 15).astype(np.uint8)).save(folder / name)
    shows = np.where(digits.target[chosen] == 1, "a one", "zero")
    ink = digits.images[chosen].mean((1, 2)).round(3)
    table = pd.DataFrame({"scan": names, "ink": ink, "shows": shows})
    table.loc[::5, "scan"], table.loc[1::5, "ink"], table.loc[2::5, "shows"] = None, None, None
    table.to_csv(folder / "scans.csv", index=False)
    return folder


@pytest.fixture(scope="module")
def run(folder):
    columns = {"scan": {"kind": "image", "size": [8, 8]}, "shows": "text"}
    config = {"training": {"epochs": 6, "passes": 1, "batch_size": 20}}
    mvae.fit(folder / "scans.csv", out=folder / "run", columns=columns, config=config, progress=False)
    return folder / "run"


def test_each_is_a_modality(run):
    spec = read_spec(run)
    kinds = {name: part.likelihood.kind for name, part in spec.model.modalities.items()}
    assert kinds == {"ink": "record", "scan": "pixel-cross-entropy", "shows": "string"}
    assert spec.model.modalities["scan"].shape == [1, 8, 8]


def test_texts_are_filled_from_pictures_and_pictures_stay_empty(run, folder):
    table = pd.read_csv(folder / "scans.csv", dtype=str, keep_default_na=False)
    found = mvae.impute(run, folder / "scans.csv", draws=1).frame
    assert (found["scan"] == table["scan"]).all()
    assert (found["ink"] != "").all()
    truth = load_digits()
    with_scan = (table["scan"] != "") & (table["shows"] == "")
    expected = [
        "a one" if truth.target[int(name.removesuffix(".png"))] == 1 else "zero" for name in table["scan"][with_scan]
    ]
    assert np.mean(found["shows"][with_scan].to_numpy() == expected) > 0.85


def test_pictures_in_memory_do_as_well(run, folder):
    images = [
        np.asarray(Image.open(folder / name)) if name else None
        for name in pd.read_csv(folder / "scans.csv", dtype=str, keep_default_na=False)["scan"]
    ]
    table = pd.read_csv(folder / "scans.csv").assign(scan=pd.Series(images, dtype=object))
    assert torch.allclose(
        torch.from_numpy(mvae.embed(run, table).to_numpy(float)),
        torch.from_numpy(mvae.embed(run, folder / "scans.csv").to_numpy(float)),
        atol=1e-5,
    )
    assert np.isfinite(mvae.score(run, table, num_samples=3)["nats"]).all()


def test_a_picture_that_is_gone_is_named(run, folder, tmp_path):
    pd.DataFrame({"scan": ["gone.png"], "ink": ["1"], "shows": ["zero"]}).to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(DataError, match=r"t\.csv, row 1, column 'scan': .*gone\.png: no such file"):
        mvae.impute(run, tmp_path / "t.csv")
