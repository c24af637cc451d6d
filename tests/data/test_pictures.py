"""Grids of images, pixel by pixel, and images from picture files."""

import io
import math

import numpy as np
import pytest
import torch
from PIL import Image

from mvae.data.pictures import GAP, SMALLEST_CELL, fitted, image_grid, read_image
from mvae.modality import is_image_shape


def pixels(image):
    return torch.from_numpy(np.array(image))


def cell(image, row, column, height, width):
    """The part of a grid where an image lies, after enlargement."""
    scale = max(1, math.ceil(SMALLEST_CELL / min(height, width)))
    top, left = GAP + row * (height * scale + GAP), GAP + column * (width * scale + GAP)
    return pixels(image)[top : top + height * scale, left : left + width * scale]


@pytest.mark.parametrize(
    ("shape", "is_one"),
    [((1, 8, 8), True), ((3, 64, 48), True), ((2, 8, 8), False), ((8, 8), False), ((3,), False), ((), False)],
)
def test_which_shapes_are_pictures(shape, is_one):
    assert is_image_shape(shape) == is_one


@pytest.mark.parametrize(("channels", "height", "width"), [(1, 8, 8), (3, 64, 64), (1, 28, 28), (3, 20, 30)])
def test_size_of_a_grid(channels, height, width):
    grid = image_grid(torch.zeros(2, 3, channels, height, width))
    scale = math.ceil(SMALLEST_CELL / min(height, width))
    assert grid.mode == "RGB"
    assert grid.size == (3 * (width * scale + GAP) + GAP, 2 * (height * scale + GAP) + GAP)


@pytest.mark.parametrize("channels", [1, 3])
def test_every_image_stands_in_its_cell_enlarged_by_whole_pixels(channels):
    images = torch.randint(0, 256, (2, 3, channels, 8, 8), generator=torch.Generator().manual_seed(0))
    grid = image_grid(images / 255)
    for row in range(2):
        for column in range(3):
            expected = images[row, column].expand(3, -1, -1).permute(1, 2, 0)
            expected = expected.repeat_interleave(7, 0).repeat_interleave(7, 1)
            assert torch.equal(cell(grid, row, column, 8, 8).int(), expected.int())


def test_between_images_it_is_white():
    grid = pixels(image_grid(torch.zeros(2, 2, 1, 56, 56)))
    dark = grid[..., 0] == 0
    assert int(dark.sum()) == 4 * 56 * 56
    assert (grid[~dark] == 255).all()
    assert not dark[:GAP].any()
    assert not dark[:, -GAP:].any()


@pytest.mark.parametrize("channels", [1, 3])
def test_values_outside_the_unit_interval_are_clipped(channels):
    images = torch.stack([torch.full((channels, 8, 8), value) for value in (-0.5, 1.5)]).unsqueeze(0)
    grid = image_grid(images)
    assert (cell(grid, 0, 0, 8, 8) == 0).all()
    assert (cell(grid, 0, 1, 8, 8) == 255).all()


@pytest.mark.parametrize("channels", [1, 3])
def test_nan_leaves_a_white_gap(channels):
    images = torch.full((1, 2, channels, 8, 8), 0.5)
    images[0, 1] = math.nan
    grid = image_grid(images)
    assert (cell(grid, 0, 0, 8, 8) == 128).all()
    assert (cell(grid, 0, 1, 8, 8) == 255).all()


# Reading


def picture(tmp_path, name, array):
    path = tmp_path / name
    Image.fromarray(array).save(path)
    return path


@pytest.fixture
def ramp():
    return np.arange(64, dtype=np.uint8).reshape(8, 8) * 4


def test_a_png_of_the_right_size_is_read_exactly(tmp_path, ramp):
    image = read_image(picture(tmp_path, "a.png", ramp), (1, 8, 8))
    assert image.dtype == torch.float32
    assert torch.equal((image * 255).round().int(), torch.from_numpy(ramp).unsqueeze(0).int())


def test_a_colour_png_keeps_its_channels(tmp_path, ramp):
    colours = np.stack([ramp, 255 - ramp, np.full_like(ramp, 9)], -1)
    image = read_image(picture(tmp_path, "a.png", colours), (3, 8, 8))
    assert torch.equal((image * 255).round().int(), torch.from_numpy(colours).permute(2, 0, 1).int())


def test_colour_becomes_grey_and_grey_becomes_colour(tmp_path, ramp):
    grey = picture(tmp_path, "grey.png", ramp)
    assert torch.equal(read_image(grey, (3, 8, 8)), read_image(grey, (1, 8, 8)).expand(3, -1, -1))
    red = picture(tmp_path, "red.png", np.tile(np.uint8([255, 0, 0]), (8, 8, 1)))
    weight = 0.299  # of red in luma, ITU-R 601
    assert read_image(red, (1, 8, 8)).mean().item() == pytest.approx(weight, abs=1 / 255)


def test_a_jpg_is_read_and_resized(tmp_path):
    left_dark = np.repeat(np.uint8([[20] * 20 + [220] * 20]), 40, 0)
    image = read_image(picture(tmp_path, "a.jpg", left_dark), (1, 8, 8))
    assert image.shape == (1, 8, 8)
    assert image[0, :, :3].mean().item() == pytest.approx(20 / 255, abs=0.05)
    assert image[0, :, 5:].mean().item() == pytest.approx(220 / 255, abs=0.05)


def test_height_and_width_are_not_mistaken(tmp_path):
    top_dark = np.repeat(np.uint8([[0], [0], [255], [255]]), 6, 1)
    image = read_image(picture(tmp_path, "a.png", top_dark), (1, 4, 6))
    assert torch.equal(image[0], torch.tensor([0.0, 0.0, 1.0, 1.0]).unsqueeze(1).expand(4, 6))


@pytest.mark.parametrize(("wide", "tall"), [(100, 40), (40, 100), (40, 40), (8, 30)])
def test_a_picture_of_another_form_is_cropped_to_its_middle(wide, tall):
    array = np.zeros((tall, wide), np.uint8)
    side = min(wide, tall)
    top, left = (tall - side) // 2, (wide - side) // 2
    array[top : top + side, left : left + side] = 200
    assert (np.asarray(fitted(Image.fromarray(array), 20, 20))[3:-3, 3:-3] == 200).all()
    assert fitted(Image.fromarray(array), 20, 10).size == (20, 10)


@pytest.mark.parametrize("mode", ["1", "P", "LA", "RGBA"])
def test_other_kinds_of_pictures_are_converted(tmp_path, mode):
    half = np.repeat(np.uint8([[0] * 4 + [255] * 4]), 8, 0)
    path = tmp_path / "a.png"
    Image.fromarray(half).convert(mode).save(path)
    assert torch.equal(read_image(path, (1, 8, 8))[0], torch.from_numpy(half) / 255)


def test_sixteen_bits_a_pixel_are_scaled_not_cut_off(tmp_path):
    ramp = np.linspace(0, 65535, 64).reshape(8, 8)
    image = read_image(picture(tmp_path, "a.png", ramp.astype(np.uint16)), (1, 8, 8))
    torch.testing.assert_close(image[0].double(), torch.from_numpy(ramp) / 65535, atol=1 / 255, rtol=0)


def test_a_picture_in_a_grid_survives_a_file(tmp_path, ramp):
    path = tmp_path / "grid.png"
    image_grid(torch.from_numpy(ramp).reshape(1, 1, 1, 8, 8) / 255).save(path)
    with Image.open(path) as grid:
        assert torch.equal(cell(grid, 0, 0, 8, 8)[::7, ::7, 0], torch.from_numpy(ramp))


@pytest.mark.parametrize("content", [b"", b"not a picture", b"\x89PNG\r\n\x1a\n"])
def test_a_file_that_is_no_picture_is_named(tmp_path, content):
    path = tmp_path / "a.png"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.png: not readable as a picture"):
        read_image(path, (1, 8, 8))


def test_an_absent_file_and_a_folder_are_named(tmp_path):
    for path in (tmp_path / "absent.png", tmp_path):
        with pytest.raises(ValueError, match=f"{path}: not readable as a picture"):
            read_image(path, (1, 8, 8))


@pytest.mark.parametrize("kind", ["png", "jpeg"])
def test_a_damaged_picture_is_named_or_read_never_worse(tmp_path, ramp, kind):
    buffer = io.BytesIO()
    Image.fromarray(ramp).save(buffer, kind)
    whole, path = buffer.getvalue(), tmp_path / "a.picture"
    for place in range(0, len(whole), 1 if kind == "png" else 5):
        for changed in (
            whole[:place],
            *(whole[:place] + bytes([whole[place] ^ b]) + whole[place + 1 :] for b in (1, 128)),
        ):
            path.write_bytes(changed)
            try:
                assert read_image(path, (1, 8, 8)).shape == (1, 8, 8)
            except ValueError as error:
                assert str(path) in str(error)  # noqa: PT017
