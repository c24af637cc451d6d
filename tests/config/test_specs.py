"""Specs: what is refused and in which words, and that what is accepted builds the model it describes."""

import copy
import json
import math
import re
from importlib import resources
from pathlib import Path

import pytest
import torch

from mvae.config.build import build_model
from mvae.config.recipes import merge, recipe
from mvae.config.specs import FORMAT, SpecError, computes_in_bfloat16, parse
from mvae.models import METHODS

RECIPES = sorted(
    file.name.removesuffix(".yaml")
    for file in (resources.files("mvae.config") / "recipes").iterdir()
    if file.name.endswith(".yaml")
)


def changed(config, path, value):
    """A copy of the config with one value set; a path's last key may be new."""
    config = copy.deepcopy(config)
    inner = config
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return config


def refused(config):
    with pytest.raises(SpecError) as error:
        build_model(parse(config, "my.yaml").model)
    assert "\n" not in str(error.value)
    return str(error.value)


# Words


@pytest.mark.parametrize(
    "path",
    [
        ("colour",),
        ("model", "latent_dims"),
        ("training", "epoch"),
        ("data", "sauce"),
        ("model", "modalities", "a", "x"),
    ],
)
def test_an_unknown_key_is_named_with_its_place(tiny_config, path):
    tiny_config["model"]["modalities"] = {"a": tiny_config["model"]["modalities"]["point"]}
    assert f"my.yaml: {'.'.join(path)}: unknown key" in refused(changed(tiny_config, path, 1))


def test_an_unknown_key_of_a_network_is_named_without_inner_tags(tiny_config):
    config = changed(tiny_config, ("model", "modalities", "point", "encoder", "widths"), [3])
    assert "model.modalities.point.encoder.widths: unknown key" in refused(config)


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (
            ("model", "modalities", "point", "encoder", "hidden"),
            [8, -3],
            ["encoder.hidden.1: ", "greater than 0", "-3"],
        ),
        (("model", "modalities", "point", "encoder", "hidden"), [], ["encoder.hidden: ", "at least 1 item"]),
        (("model", "modalities", "point", "decoder", "dropout"), 1.0, ["decoder.dropout: ", "less than 1", "1.0"]),
        (("model", "modalities", "point", "weight"), -1.0, ["point.weight: ", "greater than or equal to 0", "-1.0"]),
        (("model", "modalities", "point", "weight"), math.nan, ["point.weight: ", "nan"]),
        (("model", "modalities", "point", "shape"), [0], ["point.shape.0: ", "greater than 0", "0"]),
        (("model", "modalities", "point", "likelihood", "scale"), 0, ["likelihood.scale: ", "greater than 0"]),
        (("model", "modalities", "class", "likelihood", "num_classes"), 1, ["num_classes: ", "equal to 2", "1"]),
        (("model", "latent_dim"), 0, ["model.latent_dim: ", "greater than 0"]),
        (("model", "latent_dim"), "many", ["model.latent_dim: ", "integer", "'many'"]),
        (("model", "random_subsets"), -1, ["model.random_subsets: ", "greater than or equal to 0"]),
        (("model", "method"), ["vae"], ["model.method: ", "string"]),
        (("model", "reconstruct"), "all", ["model.reconstruct: ", "'given' or 'present'", "'all'"]),
        (("model", "modalities"), {}, ["model.modalities: ", "at least 1 item"]),
        (("data", "paired_fraction"), 1.2, ["data.paired_fraction: ", "less than or equal to 1", "1.2"]),
        (("data", "binarisation"), "soft", ["data.binarisation: ", "'dynamic' or 'fixed'", "'soft'"]),
        (("training", "epochs"), 0, ["training.epochs: ", "greater than 0"]),
        (("training", "epochs"), 2.5, ["training.epochs: ", "integer", "2.5"]),
        (("training", "learning_rate"), math.nan, ["training.learning_rate: ", "nan"]),
        (("training", "seed"), -1, ["training.seed: ", "greater than or equal to 0"]),
        (("training",), None, ["training: ", "None"]),
    ],
)
def test_a_value_out_of_range_is_named_with_what_was_expected(tiny_config, path, value, words):
    message = refused(changed(tiny_config, path, value))
    assert message.startswith("my.yaml: ")
    assert all(word in message for word in words), message


@pytest.mark.parametrize(
    ("method", "option", "value", "words"),
    [
        ("jmvae", "alpha", -0.1, ["model.alpha: ", "greater than or equal to 0", "-0.1"]),
        ("jmvae", "alpha", math.nan, ["model.alpha: ", "nan"]),
        ("bivcca", "mu", 1.5, ["model.mu: ", "less than or equal to 1", "1.5"]),
        ("bivcca", "mu", -0.5, ["model.mu: ", "greater than or equal to 0", "-0.5"]),
        ("vae", "target", 3, ["model.target: ", "string", "3"]),
        ("mvae-q", "free_nats", -1, ["model.free_nats: ", "greater than or equal to 0", "-1"]),
    ],
)
def test_a_methods_option_out_of_range_is_named_with_what_was_expected(tiny_config, method, option, value, words):
    message = refused(changed(changed(tiny_config, ("model", "method"), method), ("model", option), value))
    assert message.startswith("my.yaml: ")
    assert all(word in message for word in words), message


@pytest.mark.parametrize(
    "path", [("model", "modalities", "point", "weight"), ("training", "learning_rate"), ("training", "epochs")]
)
def test_infinity_is_refused(tiny_config, path):
    assert ".".join(path) in refused(changed(tiny_config, path, math.inf))


def test_an_unknown_kind_lists_the_known(tiny_config):
    message = refused(changed(tiny_config, ("model", "modalities", "point", "encoder", "kind"), "rnn"))
    assert all(word in message for word in ("model.modalities.point.encoder", "lstm", "mlp", "conv", "embedding"))


def test_a_missing_kind_is_named(tiny_config):
    message = refused(changed(tiny_config, ("model", "modalities", "point", "decoder"), {"hidden": [3]}))
    assert "model.modalities.point.decoder" in message
    assert "kind" in message


@pytest.mark.parametrize(
    "path", [("model",), ("training", "epochs"), ("model", "latent_dim"), ("model", "modalities", "point", "decoder")]
)
def test_what_is_missing_is_named(tiny_config, path):
    config = copy.deepcopy(tiny_config)
    inner = config
    for key in path[:-1]:
        inner = inner[key]
    del inner[path[-1]]
    assert f"my.yaml: {'.'.join(path)}: missing" in refused(config)


def test_every_fault_is_named_at_once(tiny_config):
    config = changed(changed(tiny_config, ("training", "epochs"), 0), ("model", "latent_dim"), -1)
    message = refused(config)
    assert "training.epochs" in message
    assert "model.latent_dim" in message


@pytest.mark.parametrize("name", ["normal", "conv", "categorical"])
def test_a_modality_called_like_a_kind_is_named_in_the_place(tiny_config, name):
    config = changed(tiny_config, ("model", "modalities", name), {"shape": [2]})
    assert f"model.modalities.{name}.encoder: missing" in refused(config)


@pytest.mark.parametrize("version", [0, 2, "2", None])
def test_another_format_version_is_refused(tiny_config, version):
    message = refused(tiny_config | {"format": version})
    assert f"format {version}" in message
    assert f"reads format {FORMAT}" in message


# What is accepted


def test_a_spec_survives_json(tiny_config):
    spec = parse(tiny_config, "my.yaml")
    assert parse(json.loads(json.dumps(spec.model_dump(mode="json"))), "config.json") == spec


def test_defaults_are_written_out(tiny_config):
    content = parse(tiny_config, "my.yaml").model_dump(mode="json")
    assert content["format"] == FORMAT
    assert content["training"]["learning_rate"] == 1e-3
    assert content["model"]["modalities"]["point"]["likelihood"] == {"kind": "normal", "scale": 1.0}


def test_a_spec_cannot_be_changed(tiny_config):
    spec = parse(tiny_config, "my.yaml")
    with pytest.raises(ValueError, match="frozen"):
        spec.training.epochs = 3


def test_a_model_that_was_built_is_what_the_spec_says(tiny_config):
    config = changed(tiny_config, ("model", "modalities", "point", "weight"), 2.5)
    config = changed(config, ("model", "random_subsets"), 1)
    model = build_model(parse(config, "my.yaml").model)
    assert model.names == ("point", "picture", "class")
    assert (model.latent_dim, model.random_subsets, model.reconstruct) == (2, 1, "given")
    assert {name: modality.shape for name, modality in model.modalities.items()} == {
        "point": (3,),
        "picture": (1, 4, 4),
        "class": (),
    }
    assert [modality.weight for modality in model.modalities.values()] == [2.5, 1.0, 1.0]
    assert model.modalities["class"].num_classes == 4


def test_the_same_seed_builds_the_same_parameters(tiny_config):
    spec = parse(tiny_config, "my.yaml").model
    states = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        states.append(torch.cat([p.flatten() for p in build_model(spec).parameters()]))
    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])


@pytest.mark.parametrize("kind", ["normal", "laplace"])
@pytest.mark.parametrize("scale", [0.5, None])
def test_a_single_number_is_a_modality(tiny_config, kind, scale):
    number = tiny_config["model"]["modalities"]["point"] | {"shape": [], "likelihood": {"kind": kind, "scale": scale}}
    model = build_model(parse(changed(tiny_config, ("model", "modalities", "age"), number), "my.yaml").model)
    assert model.modalities["age"].shape == ()
    assert model.posterior({"age": 31.0}).mean.shape == (1, 2)


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_parses_and_builds(name):
    spec = parse(recipe(name), name)
    assert spec.data.source == name
    model = build_model(spec.model)
    drawn = model.generate(None, num_samples=2)
    assert {part: tuple(values.shape) for part, values in drawn.items()} == {
        part: (2, 1, *modality.shape) for part, modality in spec.model.modalities.items()
    }


# Parts that do not fit


def test_an_unknown_method_lists_the_known(tiny_config):
    message = f"my.yaml: model.method: expected one of {', '.join(METHODS)}, got 'gan'"
    assert refused(changed(tiny_config, ("model", "method"), "gan")) == message


@pytest.mark.parametrize(
    ("method", "option", "value", "takes"),
    [
        ("mvae", "alpha", 0.0, "its options: random_subsets, reconstruct, free_nats"),
        ("vae", "reconstruct", ["class"], "its options: target"),
        ("jmvae", "target", "class", "its options: alpha"),
        ("bivcca", "random_subsets", 0, "its options: mu"),
        ("telbo", "mu", 0.5, "it has no options"),
    ],
)
def test_an_option_of_another_method_is_refused_in_these_words(tiny_config, method, option, value, takes):
    config = changed(changed(tiny_config, ("model", "method"), method), ("model", option), value)
    said = f"my.yaml: model.{option}: option '{option}' does not apply to method '{method}' ({takes})"
    assert refused(config) == said


def test_an_option_of_another_method_at_null_is_left_out(tiny_config):
    config = changed(changed(tiny_config, ("model", "alpha"), None), ("model", "free_nats"), None)
    assert parse(config, "my.yaml").model.options == {}


def test_the_earlier_name_of_an_option_is_read(tiny_config):
    spec = parse(changed(tiny_config, ("model", "subsets"), 3), "my.yaml")
    assert spec.model.options == {"random_subsets": 3}
    assert spec == parse(changed(tiny_config, ("model", "random_subsets"), 3), "my.yaml")
    assert parse(changed(tiny_config, ("model", "subsets"), None), "my.yaml").model.options == {}


@pytest.mark.parametrize("name", ["sound", ""])
def test_an_unknown_modality_to_reconstruct_lists_the_known(tiny_config, name):
    message = refused(changed(tiny_config, ("model", "reconstruct"), ["class", name]))
    assert message == f"my.yaml: model.reconstruct: unknown modality '{name}'; there are point, picture, class"


@pytest.mark.parametrize("part", ["encoder", "decoder"])
def test_a_convolution_that_does_not_fit_names_the_modality(tiny_config, part):
    network = {"kind": "conv", "layers": [[8, 9, 2, 1]]}
    message = refused(changed(tiny_config, ("model", "modalities", "picture", part), network))
    assert message.startswith("model.modalities.picture: ")
    assert "kernel 9" in message
    assert "4x4" in message


@pytest.mark.parametrize("part", ["encoder", "decoder"])
def test_a_convolution_of_a_vector_names_the_modality(tiny_config, part):
    message = refused(changed(tiny_config, ("model", "modalities", "point", part), {"kind": "conv"}))
    assert message.startswith("model.modalities.point: ")
    assert "image" in message


def test_a_convolutional_decoder_of_a_category_names_the_modality(tiny_config):
    message = refused(changed(tiny_config, ("model", "modalities", "class", "decoder"), {"kind": "conv"}))
    assert message.startswith("model.modalities.class: ")


def test_an_embedding_of_an_image_names_the_modality(tiny_config):
    message = refused(changed(tiny_config, ("model", "modalities", "picture", "encoder"), {"kind": "embedding"}))
    assert message.startswith("model.modalities.picture: ")
    assert "categorical" in message


@pytest.mark.parametrize("kind", ["mlp", "conv"])
def test_a_category_read_as_numbers_names_the_modality(tiny_config, kind):
    message = refused(changed(tiny_config, ("model", "modalities", "class", "encoder"), {"kind": kind}))
    assert message.startswith("model.modalities.class: ")


def test_a_string_read_by_an_embedding_names_the_modality(tiny_config):
    message = refused(changed(tiny_config, ("model", "modalities", "class", "shape"), [3]))
    assert message.startswith("model.modalities.class: an embedding encoder reads one category, shape ();")


def test_merging_with_a_recipe_builds_another_network():
    conv = {"kind": "conv", "layers": [[4, 4, 2, 1]], "hidden": 8}
    content = merge(recipe("digits"), {"model": {"modalities": {"image": {"encoder": conv, "decoder": conv}}}})
    model = build_model(parse(content, "merged").model)
    assert type(model.modalities["image"].encoder).__name__ == "ConvEncoder"
    assert model.generate({"label": 3}, ["image"])["image"].shape == (1, 1, 1, 8, 8)


@pytest.mark.parametrize(
    ("amx", "avx", "expected"), [(True, False, "bfloat16"), (False, True, "bfloat16"), (False, False, "float32")]
)
def test_precision_auto_is_the_faster_one_of_each_machine(tiny_config, monkeypatch, amx, avx, expected):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.cpu._is_avx512_bf16_supported", lambda: avx)
    monkeypatch.setattr("torch.cpu._is_amx_tile_supported", lambda: amx)
    spec = parse(changed(tiny_config, ("training", "precision"), "auto"), "my.yaml").training
    assert (spec.precision, spec.precision_here) == ("auto", expected)  # so that another machine can go on with a run
    assert parse(tiny_config, "my.yaml").training.precision_here == "float32"


def test_a_gpu_says_for_itself_whether_it_has_bfloat16(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    for has in (True, False):
        monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda including_emulation, has=has: has)
        assert computes_in_bfloat16() == has


@pytest.mark.skipif(torch.cuda.is_available() or not Path("/proc/cpuinfo").exists(), reason="asks Linux's processor")
def test_what_the_processor_computes_in_is_what_linux_says_of_it():
    flags = set(re.findall(r"\w+", Path("/proc/cpuinfo").read_text()))
    assert computes_in_bfloat16() == bool(flags & {"avx512_bf16", "amx_tile"})


def test_pieces_without_words_are_refused(tiny_config):
    config = changed(tiny_config, ("model", "modalities", "point", "likelihood"), {"kind": "string", "num_symbols": 3})
    config["model"]["modalities"]["point"]["likelihood"]["pieces"] = True
    assert "pieces: expected words" in refused(config)
