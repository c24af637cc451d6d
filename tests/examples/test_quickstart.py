import runpy
import sys
from pathlib import Path

import torch
from PIL import Image

from examples.quickstart import ANSWERED, draw_picture
from mvae.batch import Batch
from mvae.training.fit import fit

ROOT = Path(__file__).parents[2]


def test_picture_shows_a_model_of_images_and_labels(tmp_path):
    model = fit("digits", epochs=1, progress=False)
    test = Batch({"image": torch.rand(ANSWERED, 1, 8, 8), "label": torch.arange(ANSWERED) % 10})
    draw_picture(model, test, tmp_path / "picture.png")
    with Image.open(tmp_path / "picture.png") as picture:
        assert min(picture.size) > 600
        assert len(picture.convert("L").getcolors()) > 50


def test_last_step_of_the_quickstart_explains_the_picture(tmp_path, monkeypatch, capsys):
    fit("digits", epochs=1, paired_fraction=0.1, out=tmp_path / "run", progress=False)
    monkeypatch.setattr(sys, "argv", ["quickstart.py", str(tmp_path / "run")])
    runpy.run_path(str(ROOT / "examples" / "quickstart.py"), run_name="__main__")
    assert "1,212 training rows only 121 had both" in capsys.readouterr().out
    assert (tmp_path / "run" / "picture.png").exists()
