"""Figure 4 on a few small faces; what it measures, against answers that are known."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mvae.batch import Batch
from mvae.config.folder import load, read_spec
from mvae.data.vision import transformed
from paper import figure4
from paper.__main__ import main
from paper.figure4 import baselines, quality
from paper.runner import page

PARTS = [0] * 20 + [1] * 4 + [2] * 8


pytestmark = pytest.mark.usefixtures("among_faces")


def test_each_recipe_is_measured_drawn_and_kept(in_turn, capsys):
    arguments = ["figure4", "--preset", "smoke", "--data-dir", "data", "--out", "out"]
    assert main([*arguments, "--recipe", "paper", "sharper", "--docs", "docs"]) == 0
    content = json.loads(Path("out/figure4/smoke.json").read_text())
    assert [cell["recipe"] for cell in content["cells"]] == ["paper", "sharper"]
    for cell in content["cells"]:
        assert cell["rows"] == {"validation": 4, "test": 6}
        found = {(one["given"], one["wanted"], one["way"]): one for one in cell["test"]}
        assert ("image", "mask", "model") not in found  # no face is found in pictures of one colour
        sure, plain = (found["gray", "image", way] for way in ("with certain", "model"))
        assert sure["psnr"] > plain["psnr"]
        assert found["obscured", "image", "with certain"]["psnr"] > found["obscured", "image", "model"]["psnr"]
        # Half of a picture of one colour mirrored is that picture, but for a pixel in the middle and JPEG.
        assert found["obscured", "image", "baseline"]["psnr"] > 40
        with Image.open(f"out/figure4/{cell['file']}") as picture:
            assert min(picture.size) > 1000
        assert load(f"runs/reproduce/smoke/vision/{cell['recipe']}").latent_dim == 250
    text = Path("docs/figure4.md").read_text()
    assert text == page("figure4", content)
    assert "32 of 202,599 images" in text
    assert "### Grey to colours" in text
    said = capsys.readouterr().out
    assert "paper: grey to colours " in said
    begun = len(in_turn)
    assert main([*arguments, "--recipe", "paper", "sharper", "--resume"]) == 0
    assert len(in_turn) == begun
    spec = read_spec(Path("runs/reproduce/smoke/vision/sharper"))
    assert {modality.weight for modality in spec.model.modalities.values()} == {1}
    # What is trained is used again, and not for other rows.
    assert main([*arguments[:-1], "again", "--recipe", "sharper"]) == 0
    again = json.loads(Path("again/figure4/smoke.json").read_text())["cells"][0]
    assert again["trained"] == content["cells"][1]["trained"]
    trained = Path("runs/reproduce/smoke/vision/sharper/trained.json")
    trained.write_text(trained.read_text().replace("32 of 202,599 images", "all images"))
    assert main([*arguments[:-1], "third", "--recipe", "sharper"]) != 0
    assert "sharper holds a model of 20 rows (" in capsys.readouterr().err


def test_an_unknown_recipe_is_refused(capsys):
    assert main(["figure4", "--recipe", "gan"]) == 2
    error = capsys.readouterr().err
    assert "--recipe: expected some of paper, given, sharper, deeper, normal, laplace, learned, got 'gan'" in error


def test_levels_are_measured_by_psnr_and_ssim():
    generator = torch.Generator().manual_seed(0)
    truth = torch.rand(2, 3, 64, 64, generator=generator)
    assert quality("image", truth, truth)["ssim"] == pytest.approx(1)
    # 20 log10(1 / 0.1) dB where every level is off by 0.1; what leaves [0, 1] is cut off first
    flat = torch.full((2, 3, 64, 64), 0.5)
    assert quality("image", flat + 0.1, flat)["psnr"] == pytest.approx(20, abs=1e-4)
    assert quality("image", flat + 9, flat)["psnr"] == pytest.approx(20 * np.log10(2), abs=1e-4)
    noisy = truth + 0.2 * torch.randn(truth.shape, generator=generator)
    assert quality("image", noisy, truth)["ssim"] < 0.95


def test_masks_are_measured_by_their_overlap():
    one, other = torch.zeros(1, 1, 64, 64), torch.zeros(1, 1, 64, 64)
    one[..., :20, :30], other[..., 10:20, :30] = 1, 1
    assert quality("mask", one, other) == {"iou": pytest.approx(0.5)}
    assert quality("mask", torch.zeros_like(one), torch.zeros_like(one)) == {"iou": 1}


def test_edges_may_be_one_pixel_off():
    true, near, far = (torch.zeros(1, 1, 64, 64) for _ in range(3))
    true[..., 30], near[..., 31], far[..., 33] = 0.3, 0.4, 0.4
    assert quality("edge", near, true, 0.4)["f1"] == pytest.approx(1)
    assert quality("edge", far, true, 0.4)["f1"] == pytest.approx(0, abs=1e-6)
    assert quality("edge", near, true, 0.5)["f1"] == pytest.approx(0, abs=1e-6)
    both = torch.maximum(near, far)
    assert quality("edge", both, true, 0.4)["f1"] == pytest.approx(2 * 0.5 / 1.5)
    assert quality("edge", torch.zeros_like(true), torch.zeros_like(true)) == {"f1": 1}


@pytest.mark.skipif("MVAE_DATA" not in os.environ, reason="needs the real files")
def test_edges_of_real_faces_are_lit():
    files = sorted((Path(os.environ["MVAE_DATA"]) / "celeba" / "img_align_celeba").iterdir())[::1000]
    edges = torch.stack([transformed(Image.open(file), "edge") for file in files])
    lit = (edges >= figure4.LIT["edge"]).float().mean((1, 2, 3))
    assert lit.min() > 0.03
    assert 0.08 < lit.mean() < 0.3


def test_the_simplest_ways():
    image = torch.rand(3, 3, 64, 64)
    edges = (torch.arange(3)[:, None, None, None] < 1).expand(3, 1, 64, 64).to(torch.uint8) * 255
    train = Batch({"edge": edges, "mask": edges}, {"mask": torch.tensor([True, True, False])})
    ways = baselines(train)
    rows = {"image": image, "gray": image[:, :1], "obscured": image, "watermark": image}
    assert torch.equal(ways["gray"](rows)[:, 2], image[:, 0])
    mirrored = ways["obscured"](rows)
    assert torch.equal(mirrored, mirrored.flip(-1))
    assert torch.equal(mirrored[..., :32], image[..., :32])
    assert torch.allclose(ways["edge"](rows), torch.full((3, 1, 64, 64), 1 / 3))
    assert torch.allclose(ways["mask"](rows), torch.full((3, 1, 64, 64), 1 / 2))
