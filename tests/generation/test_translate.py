"""From pictures to pictures: what is certain, what is averaged, what is written."""

import os
import shutil
import sys
from io import BytesIO, TextIOWrapper
from pathlib import Path
from subprocess import PIPE

import numpy as np
import pytest
import torch
from PIL import Image

import mvae
from faces import write_faces
from mvae.batch import Batch
from mvae.cli import main
from mvae.config.build import build_model
from mvae.config.specs import parse
from mvae.data.texts import as_read, as_words
from mvae.data.vision import LUMA, with_left_half, with_luma
from mvae.generation.sample import draw, read_given
from mvae.generation.translate import Translated, translate, translate_texts, with_certain
from mvae.likelihoods import Normal
from mvae.modality import Decoder, Modality
from mvae.models import MVAE

W = torch.tensor(LUMA)[:, None, None]


def test_the_grey_given_is_the_luma_of_the_colours():
    generator = torch.Generator().manual_seed(0)
    true = torch.rand(4, 3, 8, 8, generator=generator)
    grey = (W * true).sum(1, keepdim=True)
    guess = (true + 0.3 * torch.randn(true.shape, generator=generator)).clamp(0, 1)
    found = with_luma(guess, grey)
    apart = ((W * found).sum(1, keepdim=True) - grey).abs()  # not nothing where colours were cut off at 0 or 1
    assert apart.median() < 1e-6
    assert apart.max() < 0.06
    assert ((found - true) ** 2).mean() < ((guess - true) ** 2).mean()
    assert 0 <= found.min() <= found.max() <= 1


def test_given_the_grey_a_normal_distribution_has_this_mean():
    # Independent answer: condition a joint normal of three colours, whose errors are one, on their luma, in float64.
    colours = torch.tensor([0.5, 0.4, 0.6], dtype=torch.float64)
    weights = torch.tensor(LUMA, dtype=torch.float64)
    covariance = 0.01 * torch.ones(3, 3, dtype=torch.float64)
    gain = covariance @ weights / (weights @ covariance @ weights)
    expected = colours + gain * (0.55 - weights @ colours)
    found = with_luma(colours[:, None, None], torch.tensor([[[0.55]]], dtype=torch.float64))
    assert torch.allclose(found.flatten(), expected, atol=1e-12)


def test_the_half_given_stays_and_nothing_else_changes():
    whole, given = torch.rand(5, 2, 3, 64, 64), torch.rand(2, 3, 64, 64)
    found = with_left_half(whole, given)
    assert torch.equal(found[..., :31], given[..., :31].expand(5, -1, -1, -1, -1))
    assert torch.equal(found[..., 31:], whole[..., 31:])


def test_only_what_is_given_is_put_in():
    one = Translated(torch.rand(1, 3, 64, 64), torch.rand(2, 1, 3, 64, 64))
    found = {"image": one, "edge": one}
    assert with_certain(found, {"edge": torch.rand(1, 1, 64, 64)}) == found
    half = with_certain(found, {"obscured": torch.zeros(1, 3, 64, 64)})
    assert not half["image"].draws[..., :31].any()
    assert half["edge"] is one


class Same(torch.nn.Module):
    def forward(self, x):
        return x.flatten(1), torch.full_like(x.flatten(1), -20.0)


def test_the_mean_is_over_draws_of_z_given_what_is_there():
    # q(z | x) is x almost without spread (but for the prior's expert); x2 is twice z.
    double = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.constant_(double.weight, 2.0)
    model = MVAE(
        {
            "one": Modality(Same(), Decoder(torch.nn.Identity(), Normal((1,))), 1),
            "other": Modality(Same(), Decoder(double, Normal((1,))), 1),
        },
        latent_dim=1,
    ).eval()
    rows = Batch({"one": torch.arange(120.0).unsqueeze(1)})
    found = translate(model, rows, ["other"], draws=3, num_samples=4)["other"]
    assert found.mean.shape == (120, 1)
    assert found.draws.shape == (3, 120, 1)
    assert torch.allclose(found.mean[:, 0], 2 * torch.arange(120.0), atol=0.01)
    again = translate(model, rows, ["other"], draws=3, num_samples=4)["other"]
    assert torch.equal(found.draws, again.draws)
    assert not torch.equal(found.draws, translate(model, rows, ["other"], 3, 4, seed=1)["other"].draws)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run on a few faces, and a picture that is not one of them."""
    folder = tmp_path_factory.mktemp("translate")
    write_faces(folder / "data", [0] * 12 + [1] * 2 + [2] * 2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        networks = {"layers": [[4, 4, 4, 0], [8, 4, 4, 0]]}
        names = ("image", "gray", "edge", "mask", "obscured", "watermark")
        config = {"model": {"modalities": {name: {"encoder": networks, "decoder": networks} for name in names}}}
        (folder / "small.yaml").write_text(str(config))
        options = ["--data-dir", str(folder / "data"), "--config", str(folder / "small.yaml"), "--epochs", "1"]
        assert main(["fit", "vision", *options, "--out", str(folder / "run")]) == 0
    pixels = np.random.default_rng(0).integers(0, 256, (300, 200, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(folder / "me.png")
    return folder


def translated(run, tmp_path, *options):
    return main(["translate", str(run / "run"), str(run / "me.png"), "--out", str(tmp_path / "made"), *options])


def test_a_picture_of_any_size_becomes_others(run, tmp_path, capsys):
    assert translated(run, tmp_path, "--from", "gray", "--to", "image,edge", "--draws", "3") == 0
    files = {path.name: path for path in (tmp_path / "made").iterdir()}
    assert set(files) == {"me-image.png", "me-image-draws.png", "me-edge.png", "me-edge-draws.png"}
    with Image.open(files["me-image.png"]) as image, Image.open(files["me-edge.png"]) as edge:
        assert (image.size, image.mode, edge.size, edge.mode) == ((64, 64), "RGB", (64, 64), "L")
    with Image.open(files["me-image-draws.png"]) as draws:
        assert draws.width > 3 * 64
    assert "written to" in capsys.readouterr().out
    assert translated(run, tmp_path, "--from", "gray", "--to", "image") == 2
    assert "me-image.png exists" in capsys.readouterr().err


def test_what_is_given_is_put_in_unless_told(run, tmp_path):
    pixels = {}
    for name, options in (("sure", ()), ("plain", ("--plain",))):
        assert translated(run, tmp_path / name, "--from", "obscured", "--to", "image", *options) == 0
        with Image.open(tmp_path / name / "made" / "me-image.png") as picture:
            pixels[name] = np.asarray(picture).astype(int)
    from mvae.data.vision import transformed

    with Image.open(run / "me.png") as picture:
        half = (transformed(picture, "obscured") * 255).round().int().permute(1, 2, 0).numpy()
    assert np.array_equal(pixels["sure"][:, :31], half[:, :31])
    assert not np.array_equal(pixels["plain"][:, :31], half[:, :31])
    assert np.array_equal(pixels["plain"][:, 31:], pixels["sure"][:, 31:])


def test_a_mask_is_made_by_what_made_those_of_the_run(run, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "dlib", None)  # as where it is not installed
    assert translated(run, tmp_path, "--from", "mask", "--to", "image") == 2
    assert "nothing found for 'mask'" in capsys.readouterr().err  # by the classifiers, in noise
    shutil.copytree(run / "run", tmp_path / "run")
    config = tmp_path / "run" / "config.json"
    assert '"landmarks": false' in config.read_text()
    config.write_text(config.read_text().replace('"landmarks": false', '"landmarks": true'))
    options = ["--from", "mask", "--to", "image", "--out", str(tmp_path / "made")]
    assert main(["translate", str(tmp_path / "run"), str(run / "me.png"), *options]) == 2
    assert "need dlib (pip install 'mvae[landmarks]')" in capsys.readouterr().err


def test_a_picture_may_be_transformed_already(run, tmp_path):
    # The watermarked picture itself, given as it is, is what the model is given when it is made of the clean one.
    from mvae.data.pictures import fitted
    from mvae.data.vision import SIZE, watermark

    with Image.open(run / "me.png") as picture:
        watermark(fitted(picture.convert("RGB"), *SIZE)).save(tmp_path / "me.png")
    assert translated(run, tmp_path / "made-of", "--from", "watermark", "--to", "image") == 0
    arguments = ["translate", str(run / "run"), str(tmp_path / "me.png"), "--from", "watermark", "--to", "image"]
    assert main([*arguments, "--as-it-is", "--out", str(tmp_path / "as-it-is")]) == 0
    one, other = (np.asarray(Image.open(tmp_path / p / "me-image.png")) for p in ("made-of/made", "as-it-is"))
    assert np.array_equal(one, other)


def test_several_pictures_or_none(run, tmp_path, capsys):
    (tmp_path / "other").mkdir()
    for name in ("you.png", "other/me.png"):
        Image.new("CMYK", (30, 500), (10, 200, 30, 40)).convert("RGB").save(tmp_path / name)
    arguments = ["translate", str(run / "run"), str(run / "me.png"), str(tmp_path / "you.png")]
    more = ["--from", "gray", "--to", "image, edge", "--out", str(tmp_path / "made")]
    assert main([*arguments, str(tmp_path / "other" / "me.png"), *more]) == 2
    assert "me-image.png would be written twice" in capsys.readouterr().err
    assert not (tmp_path / "made").exists()
    assert main([*arguments, *more]) == 0
    assert len(list((tmp_path / "made").iterdir())) == 4


def test_of_other_runs_the_picture_is_only_resized(tmp_path, run, capsys):
    assert main(["fit", "digits", "--epochs", "1", "--out", str(tmp_path / "digits")]) == 0
    arguments = ["translate", str(tmp_path / "digits"), str(run / "me.png"), "--out", str(tmp_path / "made")]
    assert main([*arguments, "--from", "image", "--to", "image"]) == 0
    with Image.open(tmp_path / "made" / "me-image.png") as image:
        assert image.size == (8, 8)
    assert "pictures are only resized, as with --as-it-is" in capsys.readouterr().err
    assert main([*arguments[:3], "--out", str(tmp_path / "as"), "--as-it-is", "--from", "image", "--to", "image"]) == 0
    assert "only resized" not in capsys.readouterr().err
    assert main([*arguments, "--from", "image", "--to", "label"]) == 2
    assert "'label' is not a picture; for other kinds: mvae sample" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--from", "grey", "--to", "image"), "unknown modality 'grey'; this model has image, gray"),
        (("--from", "gray", "--to", "images"), "unknown modality 'images'"),
        (("--from", "mask", "--to", "image"), "me.png: nothing found for 'mask', such as a face"),
    ],
)
def test_what_cannot_be_done_is_said(run, tmp_path, capsys, options, message):
    assert translated(run, tmp_path, *options) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "made").exists()


def test_a_file_that_is_no_picture_is_named(run, tmp_path, capsys):
    (tmp_path / "me.jpg").write_text("no picture")
    arguments = ["translate", str(run / "run"), str(tmp_path / "me.jpg"), "--from", "gray", "--to", "image"]
    assert main([*arguments, "--out", str(tmp_path / "made")]) == 2
    assert "me.jpg: not readable as a picture" in capsys.readouterr().err


@pytest.fixture(scope="module")
def sentences(tmp_path_factory):
    """A run on a few sentences."""
    folder = tmp_path_factory.mktemp("sentences")
    place = folder / "data" / "iwslt15-en-vi"
    place.mkdir(parents=True)
    for part in ("train", "tst2012", "tst2013"):
        (place / f"{part}.en").write_text("it &apos;s a cat .\nit &apos;s a dog .\n" * 8, encoding="utf-8")
        (place / f"{part}.vi").write_text("đó là một con mèo .\nđó là một con chó .\n" * 8, encoding="utf-8")
    networks = {"encoder": {"embedding": 8, "hidden": 8}, "decoder": {"embedding": 8, "hidden": 8}}
    config = {"model": {"latent_dim": 4, "modalities": {"en": networks, "vi": networks}}}
    (folder / "small.yaml").write_text(str(config))
    options = [
        "--data-dir",
        str(folder / "data"),
        "--config",
        str(folder / "small.yaml"),
        "--data-options",
        "longest=8",
    ]
    assert main(["fit", "iwslt-en-vi", *options, "--epochs", "5", "--out", str(folder / "run")]) == 0
    return folder


def test_a_text_is_translated_by_beam_from_the_mean_of_its_posterior(sentences, capsys):
    model = mvae.load(sentences / "run")
    english, vietnamese = (model.modalities[name] for name in ("en", "vi"))
    for width in (1, 3):
        (found,) = translate_texts(model, ["it's a dog."], "en", "vi", width)
        z = model.posterior({"en": english.alphabet.symbols("it &apos;s a dog .", 8).unsqueeze(0)}).mean
        distribution = vietnamese.decoder(z)
        expected = distribution.beam(width) if width > 1 else distribution.mode
        assert found.translation == as_read(vietnamese.alphabet.text(expected[0]))
        assert (found.unknown, found.cut) == ((), 0)


def test_lines_of_a_file_come_one_by_one_and_what_is_not_read_is_told(sentences, tmp_path, capsys):
    lines = ["It's a cat.", "", "it's a dog. it's a cat. it's"]
    (tmp_path / "lines.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    arguments = ["translate", str(sentences / "run"), "--from", "en", "--to", "vi"]
    assert main([*arguments, str(tmp_path / "lines.txt"), "it's a tiger."]) == 0
    said = capsys.readouterr()
    assert len(said.out.splitlines()) == 4
    assert said.err.splitlines() == [
        "mvae: line 1: unknown words: It",
        "mvae: line 3: too long, its last 4 words (or pieces) were not read",
        "mvae: line 4: unknown words: tiger",
    ]
    model = mvae.load(sentences / "run")
    (expected,) = translate_texts(model, ["it's a tiger."], "en", "vi")
    assert said.out.splitlines()[3] == expected.translation
    assert said.out.splitlines()[1] == ""


def test_what_comes_in_is_translated_as_it_comes(sentences, start, tmp_path):
    arguments = ["translate", sentences / "run", "-", "--from", "vi", "--to", "en"]
    with start(*arguments, cwd=tmp_path, stdin=PIPE) as process:
        for _ in range(2):
            process.stdin.write("đó là một con mèo .\n")
            process.stdin.flush()
            assert process.stdout.readline().endswith("\n")  # before the next line is there
        process.stdin.close()
    assert process.returncode == 0


def test_a_line_of_what_comes_in_that_is_no_text_is_named(sentences, monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", TextIOWrapper(BytesIO(b"xin\n\xff\n")))
    assert main(["translate", str(sentences / "run"), "-", "--from", "vi", "--to", "en"]) == 2
    said = capsys.readouterr()
    assert len(said.out.splitlines()) == 1
    assert "standard input, line 2: not UTF-8: invalid start byte at byte 0" in said.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--from", "en", "--to", "fr"), "unknown modality 'fr'; this model has en, vi"),
        (("--from", "en", "--to", "vi,en"), "expected one name each, where texts are translated"),
        (("--from", "en", "--to", "en"), "'en' to 'en': expected another modality"),
        (("--from", "en", "--to", "vi", "--out", "made"), "--out: only for pictures; texts are printed"),
    ],
)
def test_texts_that_cannot_be_translated(sentences, capsys, options, message):
    assert main(["translate", str(sentences / "run"), "a cat", *options]) == 2
    assert message in capsys.readouterr().err


def test_a_text_may_be_longer_than_a_name_of_a_file_and_a_file_may_be_damaged(sentences, tmp_path, capsys):
    arguments = ["translate", str(sentences / "run"), "--from", "en", "--to", "vi"]
    assert main([*arguments, "a cat " * 200]) == 0
    assert "too long, its last 392 words (or pieces) were not read" in capsys.readouterr().err
    (tmp_path / "lines.txt").write_bytes(b"a cat\n\xff\n")
    assert main([*arguments, str(tmp_path / "lines.txt")]) == 2
    assert "lines.txt, line 2: not UTF-8: invalid start byte at byte 0" in capsys.readouterr().err


def test_sentences_are_given_and_drawn_as_people_write_them(sentences, tmp_path):
    model = mvae.load(sentences / "run")
    given = read_given(model, {"en": "it's a cat."})
    assert model.modalities["en"].alphabet.text(given["en"]) == "it &apos;s a cat ."
    texts = draw(model, {}, 20)["en"]
    assert any(text.endswith("a.") or "'s" in text or "." in text for text in texts)
    assert not any("&apos;" in text or " ." in text for text in texts)


def test_texts_of_characters_too(tmp_path):
    string = {"shape": [4], "likelihood": {"kind": "string", "num_symbols": 3, "end": 2, "characters": "ab"}}
    string |= {"encoder": {"kind": "gru", "hidden": 4}, "decoder": {"kind": "gru", "hidden": 4}}
    config = {"model": {"latent_dim": 2, "modalities": {"one": string, "other": string}}, "training": {"epochs": 1}}
    model = build_model(parse(config, "tiny").model).eval()
    (found,) = translate_texts(model, ["ab"], "one", "other")
    assert set(found.translation) <= {"a", "b"}
    with pytest.raises(ValueError, match="expected up to 4 characters of 'ab', got 'abc'"):
        list(translate_texts(model, ["abc"], "one", "other"))


@pytest.mark.skipif("MVAE_DATA" not in os.environ, reason="needs the real files")
@pytest.mark.parametrize("language", ["en", "vi"])
def test_what_people_write_becomes_the_words_of_the_files(language):
    path = Path(os.environ["MVAE_DATA"]) / "iwslt15-en-vi" / f"tst2012.{language}"
    lines = [" ".join(line.split()) for line in path.read_text(encoding="utf-8").splitlines()]
    same = [as_words(as_read(line)) == line for line in lines]
    assert sum(same) > 0.95 * len(lines)
