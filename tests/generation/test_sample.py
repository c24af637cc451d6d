"""From what a person types to observations, from a model to draws, and from draws to files."""

import csv
import json
import math

import numpy as np
import pytest
import torch
from PIL import Image

from mvae.cli.display import print_samples
from mvae.config.build import build_model
from mvae.config.specs import parse
from mvae.data.pictures import image_grid
from mvae.generation.sample import draw, read_given, write_samples
from mvae.likelihoods import Categorical, Normal
from mvae.modality import Decoder, Modality
from mvae.models import MVAE
from mvae.networks.mlp import EmbeddingEncoder, MLPDecoder, MLPEncoder


@pytest.fixture
def model(tiny_config):
    torch.manual_seed(0)
    return build_model(parse(tiny_config, "tiny").model).eval()


@pytest.fixture
def writer():
    """A model of a number and a text of up to four letters."""
    string = {"shape": [4], "likelihood": {"kind": "string", "num_symbols": 3, "end": 2, "characters": "ab"}}
    string |= {"encoder": {"kind": "gru", "hidden": 4}, "decoder": {"kind": "gru", "hidden": 4}}
    number = {"shape": [1], "likelihood": {"kind": "normal"}, "encoder": {"kind": "mlp", "hidden": [4]}}
    number |= {"decoder": {"kind": "mlp", "hidden": [4]}}
    config = {"model": {"latent_dim": 2, "modalities": {"text": string, "number": number}}}
    config |= {"training": {"epochs": 1, "batch_size": 2, "learning_rate": 0.001}}
    return build_model(parse(config, "writer").model).eval()


# What a person types


def test_a_text_is_its_symbols(writer):
    assert read_given(writer, {"text": "ab"})["text"].tolist() == [0, 1, 2, 2]
    with pytest.raises(ValueError, match="text: expected up to 4 characters of 'ab', got 'abc'"):
        read_given(writer, {"text": "abc"})


def test_elements_of_a_vector_are_named_when_given_printed_and_written(tmp_path, capsys):
    part = {"shape": [3], "likelihood": {"kind": "bernoulli"}, "encoder": {"kind": "mlp", "hidden": [4]}}
    part |= {"decoder": {"kind": "mlp", "hidden": [4]}, "elements": ["bald", "male", "tall"]}
    config = {"model": {"latent_dim": 2, "modalities": {"traits": part, "other": part}}, "training": {"epochs": 1}}
    faces = build_model(parse(config, "faces").model).eval()
    for text, expected in (("male,tall", [0, 1, 1]), ("", [0, 0, 0]), (" bald ", [1, 0, 0]), ("1,0,1", [1, 0, 1])):
        assert read_given(faces, {"traits": text})["traits"].tolist() == expected
    with pytest.raises(ValueError, match="traits: expected 3 numbers parted by commas, or some of bald, male, tall"):
        read_given(faces, {"traits": "male,kind"})
    with pytest.raises(ValueError, match=r"unknown modality 'male'; .*'male' is one of the elements of traits: say "):
        read_given(faces, {"male": "1"})
    drawn = draw(faces, read_given(faces, {"other": "male"}), 20)
    elements = {name: part.elements for name, part in faces.variables.items()}
    write_samples(drawn, tmp_path / "t.csv", elements)
    with (tmp_path / "t.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [[float(row[f"traits[{name}]"]) for name in ("bald", "male", "tall")] for row in rows] == drawn[
        "traits"
    ].tolist()
    print_samples(drawn, elements)
    assert f"male {drawn['traits'][:, 1].mean().item():.3g}" in capsys.readouterr().out


@pytest.mark.parametrize("elements", [["a"], ["a", "b", "b"], ["a", "b", "c", "d"]])
def test_elements_are_a_name_each(tiny_config, elements):
    tiny_config["model"]["modalities"]["point"]["elements"] = elements
    with pytest.raises(ValueError, match="elements: expected a name for each of a vector's elements"):
        parse(tiny_config, "tiny")


def test_texts_are_drawn_as_texts_and_written_as_such(writer, tmp_path):
    torch.manual_seed(0)
    texts = draw(writer, read_given(writer, {"number": "1"}), 50)["text"]
    assert len(texts) == 50
    assert all(set(text) <= {"a", "b"} and len(text) <= 4 for text in texts)
    assert {len(text) for text in texts} >= {0, 1, 2, 4}
    write_samples({"text": texts}, tmp_path / "texts.csv")
    with (tmp_path / "texts.csv").open() as file:
        assert [row["text"] for row in csv.DictReader(file)] == texts
    write_samples({"text": texts}, tmp_path / "texts.json")
    assert json.loads((tmp_path / "texts.json").read_text()) == {"text": texts}
    assert set(draw(writer, read_given(writer, {"text": "ab"}), 3)) == {"number"}


def test_a_class_is_a_whole_number(model):
    given = read_given(model, {"class": "3"})["class"]
    assert given.dtype == torch.long
    assert given.item() == 3


@pytest.mark.parametrize("text", ["4", "-1", "2.0", "cat", "", "1e0"])
def test_what_is_no_class_is_refused_with_those_there_are(model, text):
    with pytest.raises(ValueError, match=f"class: expected a class from 0 to 3, got '{text}'"):
        read_given(model, {"class": text})


def test_a_vector_is_numbers_parted_by_commas(model):
    assert read_given(model, {"point": "1, -2.5,3e1"})["point"].tolist() == [1.0, -2.5, 30.0]


@pytest.mark.parametrize("text", ["1,2", "1,2,3,4", "1,2,x", "", "1;2;3"])
def test_another_number_of_numbers_is_refused(model, text):
    with pytest.raises(ValueError, match=f"point: expected 3 numbers parted by commas, got '{text}'"):
        read_given(model, {"point": text})


def number_model():
    """One number `age`; the encoder is linear on it, written out because it reads a batch of single numbers."""
    encoder = torch.nn.Sequential(torch.nn.Unflatten(0, (-1, 1)), MLPEncoder([1], 2, hidden=()))
    return MVAE({"age": Modality(encoder, Decoder(MLPDecoder(2, 1, hidden=()), Normal(())), 2)}, 2)


def test_a_single_number():
    age = read_given(number_model(), {"age": "31.5"})["age"]
    assert age.shape == ()
    assert age.item() == 31.5
    with pytest.raises(ValueError, match=r"age: expected 1 number, got '1,2'"):
        read_given(number_model(), {"age": "1,2"})


def test_an_image_is_a_file_binarised_where_the_models_images_are(model, tmp_path):
    grey = np.uint8([[0, 120, 130, 255]] * 4)
    Image.fromarray(grey).save(tmp_path / "a.png")
    image = read_given(model, {"picture": str(tmp_path / "a.png")})["picture"]
    assert image.tolist() == [[[0.0, 0.0, 1.0, 1.0]] * 4]


def test_an_image_keeps_its_grey_where_the_models_images_are_grey(tiny_config, tmp_path):
    tiny_config["model"]["modalities"]["picture"]["likelihood"] = {"kind": "pixel-cross-entropy"}
    Image.fromarray(np.uint8([[0, 51, 204, 255]] * 4)).save(tmp_path / "a.png")
    image = read_given(build_model(parse(tiny_config, "tiny").model), {"picture": str(tmp_path / "a.png")})["picture"]
    torch.testing.assert_close(image, torch.tensor([0.0, 0.2, 0.8, 1.0]).expand(1, 4, 4))


def test_an_image_that_is_not_there_is_named(model):
    with pytest.raises(ValueError, match=r"absent\.png: not readable as a picture"):
        read_given(model, {"picture": "absent.png"})


def test_an_unknown_name_lists_the_known(model):
    with pytest.raises(ValueError, match="unknown modality 'label'; this model has point, picture, class"):
        read_given(model, {"label": "3"})


def test_several_at_once_and_none(model):
    assert set(read_given(model, {"class": "0", "point": "1,2,3"})) == {"class", "point"}
    assert read_given(model, {}) == {}


# Draws


def test_what_is_not_given_is_drawn(model):
    drawn = draw(model, {"class": torch.tensor(1)}, 5)
    assert {name: tuple(values.shape) for name, values in drawn.items()} == {"point": (5, 3), "picture": (5, 1, 4, 4)}


def test_without_anything_given_all_is_drawn_and_where_all_is_given_too(model):
    everything = {"class": torch.tensor(1), "point": torch.zeros(3), "picture": torch.zeros(1, 4, 4)}
    assert set(draw(model, {}, 2)) == set(draw(model, everything, 2)) == {"point", "picture", "class"}


def test_images_are_means_and_the_rest_is_drawn(model):
    drawn = draw(model, {}, 200)
    assert ((drawn["picture"] > 0) & (drawn["picture"] < 1)).all()  # a draw of this model would be 0 or 1
    assert set(drawn["class"].tolist()) <= {0, 1, 2, 3}
    assert drawn["class"].dtype == torch.long


def test_draws_repeat_with_the_seed(model):
    for given in ({}, {"class": torch.tensor(2)}):
        drawn = []
        for seed in (0, 0, 1):
            torch.manual_seed(seed)
            drawn.append(draw(model, given, 4)["point"])
        assert torch.equal(drawn[0], drawn[1])
        assert not torch.equal(drawn[0], drawn[2])


def linear_model():
    """A category and a 3-vector that is linear in z, so that the law of its draws is known."""
    torch.manual_seed(1)
    category = Modality(EmbeddingEncoder(4, 2, hidden=(8,)), Decoder(MLPDecoder(2, 4, hidden=()), Categorical(4)), 2)
    torch.nn.init.normal_(category.encoder.head.weight, std=2.0)
    vector = Modality(MLPEncoder([3], 2, hidden=()), Decoder(MLPDecoder(2, 3, hidden=()), Normal([3], 0.5)), 2)
    return MVAE({"class": category, "point": vector}, 2)


@torch.no_grad()
def law_of_point(model, mean, variance):
    """Mean and covariance of the vector where z ~ N(mean, diag(variance)): x = A z + b + 0.5 noise."""
    head = model.modalities["point"].decoder.network.head
    a, b = head.weight.double(), head.bias.double()
    return a @ mean.double() + b, a @ variance.double().diag() @ a.T + 0.25 * torch.eye(3, dtype=torch.float64)


def assert_law(draws, mean, covariance):
    """Draws agree with a Gaussian's mean and covariance, to 5 standard errors each; the seed is fixed."""
    draws, count = draws.double(), len(draws)
    variance = covariance.diag()
    assert ((draws.mean(0) - mean).abs() < 5 * (variance / count).sqrt()).all()
    spread = ((variance[:, None] * variance[None] + covariance.square()) / count).sqrt()
    assert ((draws.T.cov() - covariance).abs() < 5 * spread).all()


def test_draws_from_the_prior_follow_its_law():
    model = linear_model()
    torch.manual_seed(0)
    assert_law(draw(model, {}, 20_000)["point"], *law_of_point(model, torch.zeros(2), torch.ones(2)))


@torch.no_grad()
@pytest.mark.parametrize("label", [0, 3])
def test_draws_given_a_label_follow_the_product_of_its_expert_and_the_prior(label):
    model = linear_model()
    mean, log_variance = (part[0] for part in model.modalities["class"].encoder(torch.tensor([label])))
    precision = (-log_variance).exp()
    law = law_of_point(model, precision * mean / (1 + precision), 1 / (1 + precision))
    torch.manual_seed(0)
    assert_law(draw(model, {"class": torch.tensor(label)}, 20_000)["point"], *law)


def test_a_decoder_that_ignores_z_draws_the_same_for_every_label():
    model = linear_model()
    torch.nn.init.zeros_(model.modalities["point"].decoder.network.head.weight)
    drawn = []
    for label in (0, 3):
        torch.manual_seed(0)
        drawn.append(draw(model, {"class": torch.tensor(label)}, 50)["point"])
    assert torch.equal(*drawn)


def test_a_decoder_that_reads_z_does_not():
    model = linear_model()
    drawn = []
    for label in (0, 3):
        torch.manual_seed(0)
        drawn.append(draw(model, {"class": torch.tensor(label)}, 50)["point"])
    assert not torch.equal(*drawn)


def test_a_label_whose_expert_says_nothing_leaves_the_prior():
    model = linear_model()
    head = model.modalities["class"].encoder.head
    torch.nn.init.zeros_(head.weight)
    with torch.no_grad():
        head.bias.copy_(torch.tensor([7.0, -7.0, 60.0, 60.0]))  # a mean, but a variance of exp(60)
    torch.manual_seed(0)
    law = law_of_point(model, torch.zeros(2), torch.ones(2))
    assert_law(draw(model, {"class": torch.tensor(2)}, 20_000)["point"], *law)


# Files


@pytest.fixture
def samples():
    generator = torch.Generator().manual_seed(0)
    return {
        "picture": torch.rand(5, 1, 4, 4, generator=generator),
        "colours": torch.rand(5, 3, 4, 4, generator=generator),
        "class": torch.tensor([3, 0, 1, 1, 2]),
        "age": torch.tensor([31.5, -1.0, 0.25, 1e-9, 3.0]),
        "point": torch.arange(15.0).reshape(5, 3),
    }


def test_images_become_one_grid_a_modality(samples, tmp_path):
    paths = write_samples(samples, tmp_path / "drawn.png")
    assert [path.name for path in paths] == ["drawn.png", "drawn-colours.png"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["drawn-colours.png", "drawn.png"]
    filled = torch.cat([samples["colours"], torch.full((1, 3, 4, 4), math.nan)]).nan_to_num(1.0)
    with Image.open(paths[1]) as grid:
        assert np.array_equal(np.array(grid), np.array(image_grid(filled.reshape(2, 3, 3, 4, 4))))


def test_numbers_become_columns(samples, tmp_path):
    assert write_samples(samples, tmp_path / "drawn.csv") == [tmp_path / "drawn.csv"]
    with (tmp_path / "drawn.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["class", "age", "point[0]", "point[1]", "point[2]"]
    assert [int(row["class"]) for row in rows] == samples["class"].tolist()
    ages = torch.tensor([float(row["age"]) for row in rows])
    assert torch.equal(ages, samples["age"])
    points = torch.tensor([[float(row[f"point[{i}]"]) for i in range(3)] for row in rows])
    assert torch.equal(points, samples["point"])


def test_a_single_row(tmp_path):
    write_samples({"point": torch.tensor([[1.0, 2.0]]), "class": torch.tensor([4])}, tmp_path / "one.csv")
    assert (tmp_path / "one.csv").read_text().split() == ["point[0],point[1],class", "1.0,2.0,4"]


def test_a_matrix_becomes_a_column_an_element(tmp_path):
    write_samples({"grid": torch.arange(8.0).reshape(2, 2, 2)}, tmp_path / "m.csv")
    assert (tmp_path / "m.csv").read_text().split() == [
        "grid[0],grid[1],grid[2],grid[3]",
        "0.0,1.0,2.0,3.0",
        "4.0,5.0,6.0,7.0",
    ]


def test_json_keeps_the_nesting(samples, tmp_path):
    write_samples(samples, tmp_path / "drawn.json")
    content = json.loads((tmp_path / "drawn.json").read_text())
    assert content == {name: samples[name].tolist() for name in ("class", "age", "point")}


@pytest.mark.parametrize("name", ["drawn.png", "drawn-colours.png", "drawn.csv", "drawn.json"])
def test_an_existing_file_is_not_replaced(samples, tmp_path, name):
    (tmp_path / name).write_text("mine")
    out = tmp_path / name.replace("-colours", "")
    with pytest.raises(ValueError, match=f"{tmp_path / name} exists"):
        write_samples(samples, out)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {name: "mine"}


@pytest.mark.parametrize("name", ["drawn", "drawn.jpg", "drawn.txt", "drawn.png.gz"])
def test_another_ending_is_refused_with_those_there_are(samples, tmp_path, name):
    with pytest.raises(ValueError, match=r"\.png for picture, colours and \.csv or \.json for class, age, point"):
        write_samples(samples, tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_an_ending_for_which_nothing_was_drawn_is_refused(samples, tmp_path):
    with pytest.raises(ValueError, match=r"labels\.png: what was drawn can be written as \.csv or \.json for class$"):
        write_samples({"class": samples["class"]}, tmp_path / "labels.png")
    with pytest.raises(ValueError, match=r"written as \.png for picture$"):
        write_samples({"picture": samples["picture"]}, tmp_path / "images.csv")


def test_a_folder_that_is_not_there_is_named(samples, tmp_path):
    with pytest.raises((ValueError, OSError), match=f"{tmp_path / 'absent'}"):
        write_samples(samples, tmp_path / "absent" / "drawn.csv")
