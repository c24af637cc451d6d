"""Faces and attributes, from small files in the originals' formats."""

import os

import numpy as np
import pytest
import torch
from PIL import Image

from faces import PARTS, write_faces
from mvae.cli import main
from mvae.data.celeba import ATTRIBUTES, as_seen, load_celeba, read_attributes, read_partition
from mvae.data.sources import load_dataset
from mvae.files import DataError


@pytest.fixture
def faces(tmp_path, nowhere):
    write_faces(tmp_path)
    return tmp_path


def test_images_attributes_and_parts_go_together(faces):
    parts = load_celeba(faces)
    for number, batch in enumerate(parts):
        rows = [row for row, part in enumerate(PARTS) if part == number]
        assert batch.values["image"].shape == (len(rows), 3, 64, 64)
        assert batch.values["image"].dtype == torch.uint8
        for place, row in enumerate(rows):
            red = batch.values["image"][place, 0].float()
            assert (red - 20 * row).abs().max() <= 3  # JPEG
            assert batch.values["attributes"][place].tolist() == [7 * row >> bit & 1 for bit in range(18)]


def test_attributes_apart_are_categories_by_name(faces):
    together, apart = load_celeba(faces)[0], load_celeba(faces, apart=True)[0]
    assert tuple(apart.values) == ("image", *ATTRIBUTES)
    for column, name in enumerate(ATTRIBUTES):
        assert apart.values[name].tolist() == together.values["attributes"][:, column].tolist()


def test_the_second_time_nothing_is_decoded(faces):
    first = load_celeba(faces)[0].values["image"].clone()
    for path in (faces / "celeba" / "img_align_celeba").iterdir():
        content = path.read_bytes()
        path.write_bytes(b"x" * len(content))
    assert torch.equal(load_celeba(faces)[0].values["image"], first)


def test_a_damaged_image_is_named_and_left_out_on_request(faces):
    path = faces / "celeba" / "img_align_celeba" / "000003.jpg"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(DataError, match=r"000003.jpg: cannot be decoded"):
        load_celeba(faces)
    train, validation, test = load_celeba(faces, skip_damaged=True)
    assert [len(part) for part in (train, validation, test)] == [3, 2, 2]
    assert train.values["attributes"].tolist() == [[7 * row >> bit & 1 for bit in range(18)] for row in (0, 4, 7)]
    with pytest.raises(DataError, match=r"000003.jpg: cannot be decoded; .*skip_damaged=true only"):
        load_celeba(faces)  # though the rows are made
    Image.new("RGB", (89, 109), (60, 10, 195)).save(path, quality=95)
    assert [len(part) for part in load_celeba(faces, skip_damaged=True)] == [4, 2, 2]  # repaired, and seen to be


@pytest.mark.parametrize("size", [(178, 218), (89, 109), (64, 64), (300, 100)])
def test_the_middle_square_is_kept(size):
    # The crop of an image whose grey is its column is centred, whatever the size.
    columns = np.linspace(0, 255, size[0]).astype(np.uint8)
    seen = as_seen(Image.fromarray(np.broadcast_to(columns, size[::-1]).copy()))
    assert seen.shape == (3, 64, 64)
    assert abs(seen[0, 32].astype(int) + seen[0, 32, ::-1] - 255).max() <= 6


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("list_attr_celeba.txt", b"8\r\n", b"9\r\n", "line 1: says 9 images; 8 follow"),
        (
            "list_attr_celeba.txt",
            b"Smiling",
            b"Grinning",
            "line 2: expected the names of the attributes, Smiling",
        ),
        ("list_attr_celeba.txt", b"000002.jpg", b"000002.jpg 0", "line 5: expected an image and 20 values, 1 or -1"),
        ("list_eval_partition.txt", b"000002.jpg 1", b"000002.jpg 3", "line 3: expected an image and 0, 1 or 2"),
        (
            "list_eval_partition.txt",
            b"000002.jpg",
            b"000099.jpg",
            "expected the images of list_attr_celeba.*000002",
        ),
    ],
)
def test_a_fault_is_named_with_its_line(faces, file, old, new, message):
    path = faces / "celeba" / file
    path.write_bytes(path.read_bytes().replace(old, new, 1))
    with pytest.raises(DataError, match=f"{file}.*{message}"):
        load_celeba(faces)


def test_an_image_that_is_not_there_is_named(faces):
    (faces / "celeba" / "img_align_celeba" / "000005.jpg").unlink()
    with pytest.raises(DataError, match=r"no 000005.jpg, which list_attr_celeba.txt names"):
        load_celeba(faces)


def test_without_files_it_says_where_they_were_looked_for(nowhere):
    with pytest.raises(DataError, match=r"no celeba files in .*img_align_celeba/, list_attr_celeba.txt"):
        load_celeba()


def test_how_much_there_is_stands_wherever_the_data_set_is_named(faces, capsys):
    assert "(8 of 202,599 images, stored at 89x109)" in load_dataset("celeba", data_dir=faces).description
    assert main(["data", "check", "celeba", "--data-dir", str(faces)]) == 0
    said = capsys.readouterr().out
    assert "8 of 202,599 images" in said
    assert "complete, 4 training and 2 test rows" in said


def test_it_is_not_fetched_and_not_called_bundled(nowhere, capsys):
    assert main(["data", "fetch", "celeba"]) == 2
    assert "the authors of CelebA say how to get them" in capsys.readouterr().err
    assert main(["data", "list"]) == 0
    (line,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("celeba "))
    assert "no (mvae data check celeba)" in line


def test_its_validation_rows_are_the_authors(faces):
    assert len(load_dataset("celeba19", data_dir=faces).validation) == 2
    with pytest.raises(ValueError, match="'celeba19' has validation rows of its own"):
        load_dataset("celeba19", data_dir=faces, validation_rows=1)


@pytest.mark.skipif("MVAE_DATA" not in os.environ, reason="needs the real files")
def test_the_real_lists_agree():
    from pathlib import Path

    place = Path(os.environ["MVAE_DATA"]) / "celeba"
    names, table = read_attributes(place / "list_attr_celeba.txt")
    partition = read_partition(place / "list_eval_partition.txt")
    assert len(names) == len(set(names)) == len(table) == len(partition)
    assert 0.3 < table[:, ATTRIBUTES.index("Male")].mean() < 0.5
    assert set(table[:, ATTRIBUTES.index("Bald")][table[:, ATTRIBUTES.index("Bangs")] == 1].tolist()) == {0}
