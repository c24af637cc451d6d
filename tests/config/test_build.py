"""From a spec to a model of each method: which parts it has, and how wide they are."""

import ast
import copy
import os
import subprocess
import sys

import pytest
import torch
from torch import nn

from mvae.config.build import build_model
from mvae.config.specs import SpecError, parse
from mvae.models import METHODS

DENSE = {"kind": "mlp", "hidden": [16, 8]}
POINT = {"shape": [3], "likelihood": {"kind": "normal"}, "encoder": DENSE, "decoder": DENSE}
CLASS = {
    "shape": [],
    "likelihood": {"kind": "categorical", "num_classes": 4},
    "encoder": {"kind": "embedding", "hidden": [12, 9]},
    "decoder": DENSE,
}
CONV = {"kind": "conv", "layers": [[4, 3, 2, 1], [6, 3, 2, 1]], "hidden": 10, "batch_norm": True}
PICTURE = {"shape": [1, 4, 4], "likelihood": {"kind": "bernoulli"}, "encoder": CONV, "decoder": CONV}
NUMBER = {"shape": [], "likelihood": {"kind": "laplace", "scale": None}, "encoder": DENSE, "decoder": DENSE}


def model_of(method, modalities=None, **options):
    modalities = {"point": POINT, "class": CLASS} if modalities is None else modalities
    spec = {"method": method, "latent_dim": 2, "modalities": copy.deepcopy(modalities)} | options
    torch.manual_seed(0)
    return build_model(parse({"model": spec, "training": {"epochs": 1}}, "mine").model)


def values(name, rows=3):
    """Rows of the modality of that name."""
    generator = torch.Generator().manual_seed(0)
    return {
        "point": torch.randn(rows, 3, generator=generator),
        "class": torch.arange(rows) % 4,
        "picture": torch.rand(rows, 1, 4, 4, generator=generator).round(),
        "number": torch.randn(rows, generator=generator),
    }[name]


@pytest.mark.parametrize("method", METHODS)
def test_every_method_is_built_with_its_options_at_their_defaults(method):
    model = model_of(method)
    assert type(model) is METHODS[method]
    assert model.names == (("point",) if method == "vae" else ("point", "class"))


@pytest.mark.parametrize(
    ("method", "option", "value"),
    [
        ("mvae", "random_subsets", 3),
        ("mvae-q", "reconstruct", "present"),
        ("mvae-q", "reconstruct", ["class"]),
        ("bivcca", "mu", 0.25),
        ("bivcca", "mu", 0.0),
        ("jmvae", "alpha", 0.0),
        ("jmvae", "alpha", 3.0),
        ("cvae", "target", "point"),
    ],
)
def test_an_option_reaches_the_model(method, option, value):
    assert getattr(model_of(method, **{option: value}), option) == value


OPTIONS = {"random_subsets": 1, "reconstruct": "given", "target": "point", "alpha": 0.5, "mu": 0.5}


@pytest.mark.parametrize(
    ("method", "option"),
    [(method, option) for method in METHODS for option in OPTIONS if option not in METHODS[method].options],
)
def test_an_option_of_another_method_is_refused_with_its_place(method, option):
    with pytest.raises(SpecError) as error:
        model_of(method, **{option: OPTIONS[option]})
    own = ", ".join(METHODS[method].options)
    takes = f"its options: {own}" if own else "it has no options"
    said = f"mine: model.{option}: option '{option}' does not apply to method '{method}' ({takes})"
    assert str(error.value) == said


@pytest.mark.parametrize("method", ["vae", "cvae"])
def test_an_unknown_target_lists_the_modalities(method):
    with pytest.raises(SpecError, match=r"^mine: model\.target: unknown modality 'sound'; there are point, class$"):
        model_of(method, target="sound")


@pytest.mark.parametrize("target", ["point", "class"])
def test_the_vae_is_of_its_target_alone(target):
    model = model_of("vae", target=target)
    assert model.names == (target,)
    assert model.loss(model.checked({target: values(target)})).loss.isfinite()


def test_the_vae_of_one_modality_needs_no_target():
    assert model_of("vae", {"number": NUMBER}).names == ("number",)


@pytest.mark.parametrize("modalities", [{"point": POINT}, {"point": POINT, "class": CLASS, "number": NUMBER}])
@pytest.mark.parametrize("method", ["bivcca", "jmvae", "telbo"])
def test_methods_of_two_modalities_refuse_other_numbers_of_them(method, modalities):
    with pytest.raises(
        SpecError, match=f"^model: {METHODS[method].__name__} has two modalities, got {'.*'.join(modalities)}"
    ):
        model_of(method, modalities)


# The CVAE


def test_a_cvae_has_networks_as_wide_as_its_conditions():
    model = model_of("cvae", {"class": CLASS, "point": POINT, "picture": PICTURE}, target="point")
    assert model.names == ("class", "point", "picture")  # the order is the spec's, whatever the target
    assert model.conditions == ("class", "picture")
    encoder, decoder = model.modalities["point"].encoder, model.modalities["point"].decoder
    assert encoder.layers[0].in_features == 3 + 4 + 16
    assert decoder.network.layers[0].in_features == 2 + 4 + 16
    batch = model.checked({name: values(name) for name in model.names})
    assert model.loss(batch).loss.isfinite()


def test_a_convolutional_cvae_reads_its_condition_beside_the_features():
    model = model_of("cvae", {"picture": PICTURE, "number": NUMBER})
    encoder = model.modalities["picture"].encoder
    assert encoder.layers[0].in_features == 6 + 1  # 4x4 pixels, halved twice
    pictures, numbers = values("picture"), values("number")
    batch = model.eval().checked({"picture": pictures, "number": numbers})
    hidden = encoder.layers(torch.cat([encoder.features(pictures), numbers[:, None]], 1))
    torch.testing.assert_close(model.posterior(batch).mean, encoder.head(hidden)[:, :2])


def test_a_cvae_of_a_category_is_refused_with_what_to_do():
    with pytest.raises(SpecError, match=r"^model\.modalities\.class: .*choose another target"):
        model_of("cvae", target="class")


def test_a_cvae_without_a_condition_is_refused():
    with pytest.raises(SpecError, match=r"^model: a CVAE has one modality and at least one condition"):
        model_of("cvae", {"point": POINT})


def width_of_features(model):
    return model.joint_encoder.layers[0].in_features


@pytest.mark.parametrize("method", ["jmvae", "telbo"])
def test_a_joint_encoder_has_each_encoder_but_its_last_hidden_layer(method):
    model = model_of(method)
    points, classes = model.joint_encoder.features
    assert [layer.out_features for layer in points.modules() if isinstance(layer, nn.Linear)] == [16]
    assert (classes[0].num_embeddings, classes[0].embedding_dim) == (4, 12)
    assert not any(isinstance(layer, nn.Linear) for layer in classes.modules())
    assert width_of_features(model) == 16 + 12
    assert model.joint_encoder.layers[0].out_features == 9  # the wider of the last hidden layers


@pytest.mark.parametrize(
    ("modalities", "width"),
    [
        ({"point": POINT | {"encoder": {"kind": "mlp", "hidden": [5]}}, "class": CLASS}, 3 + 12),
        ({"point": POINT, "class": CLASS | {"encoder": {"kind": "embedding", "hidden": [7]}}}, 16 + 7),
        ({"point": POINT, "class": CLASS | {"encoder": {"kind": "embedding", "hidden": [7, 6, 5]}}}, 16 + 6),
        ({"number": NUMBER | {"encoder": {"kind": "mlp", "hidden": [5]}}, "point": POINT}, 1 + 16),
        ({"picture": PICTURE, "class": CLASS}, 10 + 12),
        ({"picture": PICTURE, "number": NUMBER}, 10 + 16),
    ],
)
@pytest.mark.parametrize("rows", [2, 5])
def test_a_joint_encoder_reads_whatever_the_encoders_read(modalities, width, rows):
    model = model_of("jmvae", modalities)
    assert width_of_features(model) == width
    batch = model.checked({name: values(name, rows) for name in modalities})
    assert model.posterior(batch).mean.shape == (rows, 2)
    assert model.loss(batch).loss.isfinite()


@pytest.mark.parametrize("method", METHODS)
def test_one_row_is_enough_in_evaluation(method):
    model = model_of(method, {"picture": PICTURE, "class": CLASS}).eval()
    batch = model.checked({name: values(name, 1) for name in model.names})
    assert model.elbo(batch).isfinite().all()
    assert model.posterior(batch).mean.shape == (1, 2)


def test_dropout_of_an_encoder_is_the_joint_encoder_s_too():
    model = model_of("jmvae", {"point": POINT | {"encoder": DENSE | {"dropout": 0.25}}, "class": CLASS})
    assert [layer.p for layer in model.joint_encoder.modules() if isinstance(layer, nn.Dropout)] == [0.25]


# The same parameters everywhere


STATES = """
import hashlib
import torch
from mvae.config.build import build_model
from mvae.config.recipes import resolve
from mvae.models import METHODS

states = [hash("mvae")]
for method in METHODS:
    torch.manual_seed(3)
    state = build_model(resolve("digits", None, {("model", "method"): method}).model).state_dict()
    whole = b"".join(name.encode() + value.numpy().tobytes() for name, value in state.items())
    states.append((method, hashlib.sha256(whole).hexdigest()))
"""


def test_initial_parameters_are_the_same_in_processes_that_hash_differently():
    here = {}
    exec(STATES, here)
    seed = "1" if os.environ.get("PYTHONHASHSEED") == "0" else "0"
    said = subprocess.run(
        [sys.executable, "-c", f"{STATES}print(states)"],
        check=True,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONHASHSEED": seed},
    ).stdout
    there = ast.literal_eval(said)
    assert here["states"][0] != there[0]
    assert len(here["states"]) == len(METHODS) + 1
    assert here["states"][1:] == there[1:]
