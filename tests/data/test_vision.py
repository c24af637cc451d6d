"""Image transformations, on pictures whose answer is known, and faces made modalities."""

import os
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageFilter, ImageOps

import mvae
from faces import PARTS, write_faces
from mvae.config.recipes import resolve
from mvae.data import vision
from mvae.data.sources import load_dataset
from mvae.data.vision import TRANSFORMATIONS, Transformation, face_masks, load_vision, transformed
from mvae.data.vision.face_masks import mask_from_points
from mvae.files import DataError
from mvae.training.prepare import learned

SIZE = (178, 218)


def plain(colour, size=SIZE):
    return Image.new("RGB", size, colour)


def halves(left, right, column=60):
    picture = plain(right)
    picture.paste(left, (0, 0, column, SIZE[1]))
    return picture


@pytest.mark.parametrize(("colour", "luma"), [((255, 0, 0), 76), ((0, 255, 0), 150), ((0, 0, 255), 29)])
def test_gray_is_the_luma(colour, luma):
    assert vision.gray(plain(colour)).getextrema() == (luma, luma)


def test_an_edge_is_where_two_halves_meet_and_nowhere_else():
    found = np.asarray(vision.edge(halves("black", "white")))
    assert set(np.unique(found)) == {0, 255}
    columns = np.flatnonzero(found.any(0))
    assert set(columns) <= {59, 60}
    assert (found[10:-10, 59:61].any(1)).all()  # all the way down
    assert not np.asarray(vision.edge(plain("gray"))).any()


def test_a_disc_has_an_edge_of_its_radius():
    picture = plain("black")
    ImageDraw.Draw(picture).ellipse((89 - 40, 109 - 40, 89 + 40, 109 + 40), fill="white")
    rows, columns = np.nonzero(np.asarray(vision.edge(picture)))
    radii = np.hypot(rows - 109, columns - 89)
    assert len(radii) > 150
    assert abs(radii - 40).max() <= 2


@pytest.mark.parametrize("width", [178, 89])
def test_of_what_is_obscured_the_left_half_stays(width):
    picture = Image.fromarray(np.random.default_rng(0).integers(1, 256, (50, width, 3)).astype(np.uint8))
    found, middle = np.asarray(vision.obscured(picture)), width // 2
    assert np.array_equal(found[:, : middle + 1], np.asarray(picture)[:, : middle + 1])
    assert not found[:, middle + 1 :].any()


def test_a_watermark_lies_over_the_whole_picture_and_lets_it_through():
    on_black, on_white = (np.asarray(vision.watermark(plain(colour))).astype(int) for colour in ("black", "white"))
    marked = on_black[..., 0] > 0
    assert 0.05 < marked[:, : SIZE[0] // 2].mean() < 0.3
    assert 0.05 < marked[:, SIZE[0] // 2 :].mean() < 0.3
    assert (on_white[~marked] == 255).all()
    opacity = 150 / 255
    inside = np.asarray(vision.watermark(plain((100, 100, 100))))[..., 0][on_black[..., 0] == on_black.max()]
    assert abs(inside - (opacity * 235 + (1 - opacity) * 100)).max() <= 1
    assert vision.watermark(plain("red")).size == SIZE


def test_landmarks_are_drawn_as_filled_hulls_and_a_line():
    points = [(10.0 * number, 200.0) for number in range(17)]  # the jaw, along a row
    shapes = {  # number of the first point: how many, and the rectangle they lie on
        17: (5, (20, 20, 30, 24)),
        22: (5, (60, 20, 70, 24)),
        27: (9, (40, 40, 48, 60)),
        36: (6, (20, 40, 30, 46)),
        42: (6, (60, 40, 70, 46)),
        48: (20, (30, 80, 60, 90)),
    }
    points += [(0.0, 0.0)] * 51
    for first, (count, (left, top, right, bottom)) in shapes.items():
        corners = [(left, top), (right, top), (right, bottom), (left, bottom)]
        points[first : first + count] = (corners + [((left + right) / 2, (top + bottom) / 2)] * count)[:count]
    drawn = np.asarray(mask_from_points(points, SIZE)) == 255
    expected = np.zeros_like(drawn)
    for _, (left, top, right, bottom) in shapes.values():
        expected[top : bottom + 1, left : right + 1] = True
    assert np.array_equal(drawn[:150], expected[:150])
    rows, columns = np.nonzero(drawn[150:])
    assert set(rows + 150) <= {199, 200, 201}
    assert set(columns) >= set(range(160))


def test_points_in_one_line_have_a_hull():
    assert mask_from_points([(10.0 + number, 50.0) for number in range(68)], SIZE).getextrema() == (0, 255)


def test_no_mask_of_a_picture_without_a_face():
    assert face_masks.cascade_mask(plain("gray")) is None
    assert transformed(plain("gray"), "mask") is None


@pytest.mark.skipif("MVAE_DATA" not in os.environ, reason="needs the real files")
def test_faces_are_found_where_aligned_faces_have_them():
    files = sorted((Path(os.environ["MVAE_DATA"]) / "celeba" / "img_align_celeba").iterdir())[::300]
    masks = []
    for file in files:
        with Image.open(file) as picture:
            masks.append(transformed(picture, "mask"))
    found = torch.stack([mask for mask in masks if mask is not None])
    assert len(found) >= 0.85 * len(files)
    # Aligned eyes lie at rows 112 of 218, columns 69 and 108 of 178: 33 of 64 after resizing and cropping.
    eyes = found[:, 0, 30:37].amax(1) > 0.5
    assert eyes[:, 18:31].any(1).float().mean() > 0.75
    assert eyes[:, 33:46].any(1).float().mean() > 0.75


POINTS = [SimpleNamespace(x=20 + number, y=100 + number % 7) for number in range(68)]


@pytest.fixture
def dlib(monkeypatch):
    """A stand-in that finds `POINTS` in every picture that is not black."""
    monkeypatch.setitem(
        sys.modules,
        "dlib",
        SimpleNamespace(
            __spec__=SimpleNamespace(),
            get_frontal_face_detector=lambda: lambda pixels, times: ["a face"] if pixels.any() else [],
            shape_predictor=lambda path: lambda pixels, face: SimpleNamespace(part=POINTS.__getitem__),
        ),
    )
    yield
    face_masks._dlib.cache_clear()


def test_masks_of_landmarks_are_drawn_of_what_dlib_finds(tmp_path, nowhere, dlib, monkeypatch):
    (tmp_path / face_masks.LANDMARKS).write_bytes(b"")
    assert transformed(plain("black"), "mask", tmp_path, landmarks=True) is None
    found = transformed(plain("white"), "mask", tmp_path, landmarks=True)
    drawn = mask_from_points([(point.x, point.y) for point in POINTS], SIZE)
    monkeypatch.setitem(TRANSFORMATIONS, "drawn", Transformation(lambda _: drawn, 1))
    assert torch.equal(found, transformed(plain("white"), "drawn"))
    assert found.any()
    assert transformed(plain("white"), "mask", tmp_path) is None  # the classifiers, as asked


def chosen(tmp_path, **options):
    """What a run of `vision` keeps of how it finds masks."""
    spec = resolve("vision", None, {("data", "options"): options})
    return learned(spec, tmp_path).data.options


def test_a_run_keeps_what_finds_its_masks(tmp_path, nowhere, dlib):
    write_faces(tmp_path)
    assert chosen(tmp_path) == {"landmarks": False}  # the file is not there
    (tmp_path / face_masks.LANDMARKS).write_bytes(b"")
    assert chosen(tmp_path) == {"landmarks": True}
    assert chosen(tmp_path, landmarks=False) == {"landmarks": False}
    assert chosen(tmp_path, skip_damaged=True) == {"landmarks": True, "skip_damaged": True}
    described = {name: load_dataset("vision", data_dir=tmp_path, options={"landmarks": name}) for name in (True, False)}
    assert "masks by dlib's 68 landmarks" in described[True].description
    assert "masks by OpenCV's cascade classifiers)" in described[False].description
    masks = {name: data.train.present["mask"].any() for name, data in described.items()}
    assert masks == {True: True, False: False}  # the stand-in finds a face in plain colours


def test_landmarks_that_cannot_be_had_say_what_they_need(tmp_path, nowhere, monkeypatch):
    monkeypatch.setattr(face_masks.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"need dlib \(pip install 'mvae\[landmarks\]'\) and its file shape_predictor"):
        transformed(plain("white"), "mask", tmp_path, landmarks=True)


def test_half_of_what_landmarks_need_says_what_is_missing(tmp_path, nowhere, dlib, monkeypatch):
    assert face_masks.masks_by(tmp_path).startswith("OpenCV's cascade classifiers (dlib is there, its file shape_")
    monkeypatch.setattr(face_masks.importlib.util, "find_spec", lambda name: None)
    assert face_masks.masks_by(tmp_path) == "OpenCV's cascade classifiers"
    (tmp_path / face_masks.LANDMARKS).write_bytes(b"")
    assert "dlib is not: pip install 'mvae[landmarks]'" in face_masks.masks_by(tmp_path)


def test_rows_hold_all_transformations_and_lack_a_mask_where_no_face_is_found(tmp_path, nowhere):
    write_faces(tmp_path)
    parts = load_vision(tmp_path)
    for number, batch in enumerate(parts):
        rows = [row for row, part in enumerate(PARTS) if part == number]
        assert tuple(batch.values) == ("image", "gray", "edge", "mask", "obscured", "watermark")
        assert [tuple(value.shape[1:]) for value in batch.values.values()] == [
            (1 if name in ("gray", "edge", "mask") else 3, 64, 64) for name in batch.values
        ]
        assert not batch.present["mask"].any()
        assert all(batch.present[name].all() for name in batch.values if name != "mask")
        for place, row in enumerate(rows):
            image = batch.values["image"][place].float()
            luma = 0.299 * image[0] + 0.587 * image[1] + 0.114 * image[2]
            assert (batch.values["gray"][place, 0] - luma).abs().max() <= 1
            assert (image[0] - 20 * row).abs().max() <= 3
            assert torch.equal(batch.values["obscured"][place, :, :, :32], batch.values["image"][place, :, :, :32])
            assert not batch.values["obscured"][place, :, :, 33:].any()


def test_a_transformation_of_ones_own_is_a_function_and_a_line(tmp_path, nowhere, monkeypatch):
    write_faces(tmp_path)

    def negative(picture):
        return ImageOps.invert(picture)

    monkeypatch.setitem(TRANSFORMATIONS, "negative", Transformation(negative, 3))
    rows = load_vision(tmp_path, ["image", "negative"])[0]
    assert (rows.values["image"].int() + rows.values["negative"].int() == 255).all()

    def negative(picture):  # another function of that name makes other rows
        return picture

    monkeypatch.setitem(TRANSFORMATIONS, "negative", Transformation(negative, 3))
    rows = load_vision(tmp_path, ["image", "negative"])[0]
    assert torch.equal(rows.values["image"], rows.values["negative"])


def test_what_a_transformation_closes_over_is_part_of_it(tmp_path, nowhere, monkeypatch):
    write_faces(tmp_path)

    def blurred(radius):
        return lambda picture: picture.filter(ImageFilter.GaussianBlur(radius))

    found = {}
    for radius, version in ((2, 1), (9, 1), (9, 2)):
        monkeypatch.setitem(TRANSFORMATIONS, "blurred", Transformation(blurred(radius), 3, version))
        found[radius, version] = load_vision(tmp_path, ["blurred"])[0]
    assert len(list((nowhere / "mvae" / "made").glob("vision-blurred-*"))) == 3


def test_a_model_is_trained_with_ones_own(tmp_path, nowhere, monkeypatch):
    write_faces(tmp_path)
    monkeypatch.setitem(TRANSFORMATIONS, "negative", Transformation(ImageOps.invert, 3))
    networks = {"layers": [[4, 4, 4, 0], [8, 4, 4, 0]]}
    config = {"model": {"modalities": {name: {"encoder": networks, "decoder": networks} for name in TRANSFORMATIONS}}}
    model = mvae.fit("vision", data_dir=tmp_path, epochs=1, config=config, progress=False)
    assert model.names[-1] == "negative"
    assert model.modalities["negative"].shape == (3, 64, 64)


def test_one_that_finds_nothing_makes_an_absent_modality(tmp_path, nowhere, monkeypatch):
    write_faces(tmp_path)
    monkeypatch.setitem(
        TRANSFORMATIONS, "dark", Transformation(lambda picture: picture if np.asarray(picture).mean() < 90 else None, 3)
    )
    rows = load_vision(tmp_path, ["image", "dark"])
    for part in rows:
        dark = part.values["image"].float().mean((1, 2, 3)) < 90
        assert part.present["dark"].tolist() == dark.tolist()
        assert torch.equal(part.values["dark"][dark], part.values["image"][dark])


def test_a_damaged_image_is_left_out_of_all_modalities(tmp_path, nowhere):
    write_faces(tmp_path)
    path = tmp_path / "celeba" / "img_align_celeba" / "000003.jpg"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(DataError, match=r"000003.jpg: cannot be decoded"):
        load_vision(tmp_path)
    assert [len(part) for part in load_vision(tmp_path, skip_damaged=True)] == [3, 2, 2]


def test_an_unknown_transformation_is_refused(tmp_path, nowhere):
    write_faces(tmp_path)
    with pytest.raises(ValueError, match="unknown transformation 'blur'; there are image, gray"):
        load_vision(tmp_path, ["blur"])


def test_what_a_transformation_needs_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "skimage.feature", None)
    with pytest.raises(ValueError, match=r"edges need the package skimage: pip install 'mvae\[vision\]'"):
        vision.edge(plain("black"))
    monkeypatch.setitem(sys.modules, "cv2", SimpleNamespace(__version__="5.0.0", setNumThreads=lambda _: None))
    face_masks._cascade.cache_clear()
    with pytest.raises(DataError, match=r"OpenCV 5.0.0 comes without cascade classifiers"):
        face_masks.cascade_mask(plain("black"))
    face_masks._cascade.cache_clear()


def test_it_is_a_data_set_by_name_which_says_what_finds_the_masks(tmp_path, nowhere):
    write_faces(tmp_path)
    dataset = load_dataset("vision", data_dir=tmp_path)
    assert len(dataset.train) == PARTS.count(0)
    assert "8 of 202,599 images" in dataset.description
    assert "masks by OpenCV's cascade classifiers" in dataset.description
