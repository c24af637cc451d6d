"""Options override a config, a config overrides the recipe, and what is wrong is named."""

import copy
import json
import tomllib
from pathlib import Path

import pytest
import yaml

from mvae.config.build import build_model
from mvae.config.recipes import merge, recipe, resolve
from mvae.config.specs import SpecError, TrainingSpec
from mvae.models import METHODS

EPOCHS, ANNEALING = ("training", "epochs"), ("training", "annealing_epochs")


def weight(name):
    return ("model", "modalities", name, "weight")


def refused(*arguments):
    with pytest.raises(SpecError) as error:
        resolve(*arguments)
    assert "\n" not in str(error.value)
    return str(error.value)


# Who wins


def test_options_win_over_the_config_and_that_over_the_recipe():
    config = {"training": {"batch_size": 7, "seed": 3}, "model": {"latent_dim": 5}}
    spec = resolve("digits", config, {("training", "batch_size"): 9})
    assert (spec.training.batch_size, spec.training.seed, spec.model.latent_dim) == (9, 3, 5)
    untouched = recipe("digits")["training"]["learning_rate"]
    assert spec.training.learning_rate == untouched


def test_an_option_left_at_none_changes_nothing():
    assert resolve("digits", None, {EPOCHS: None, weight("label"): None}) == resolve("digits", None, {})


def test_an_option_may_be_zero():
    assert resolve("digits", None, {weight("label"): 0.0}).model.modalities["label"].weight == 0
    assert resolve("digits", None, {ANNEALING: 0}).training.annealing_epochs == 0


def test_neither_recipe_nor_config_nor_options_are_changed():
    config = {"training": {"epochs": 10}, "model": {"modalities": {"label": {"weight": 2}}}}
    before = copy.deepcopy(config), recipe("digits")
    resolve("digits", config, {EPOCHS: 4, weight("label"): 3.0})
    assert (config, recipe("digits")) == before


def test_an_unknown_source_lists_the_recipes():
    message = refused("emnist", None, {})
    assert all(word in message for word in ("emnist", "digits", "mnist", "binary-mnist", "fashion-mnist"))


# Annealing keeps its share


@pytest.mark.parametrize("epochs", [1, 5, 50, 500])
def test_epochs_alone_rescale_annealing(epochs):
    training = recipe("digits")["training"]
    annealing = round(epochs * training["annealing_epochs"] / training["epochs"])
    assert resolve("digits", None, {EPOCHS: epochs}).training.annealing_epochs == annealing
    assert resolve("digits", {"training": {"epochs": epochs}}, {}).training.annealing_epochs == annealing


def test_epochs_with_annealing_are_taken_as_given():
    assert resolve("digits", None, {EPOCHS: 50, ANNEALING: 33}).training.annealing_epochs == 33
    config = {"training": {"epochs": 50, "annealing_epochs": 33}}
    assert resolve("digits", config, {}).training.annealing_epochs == 33


def test_annealing_alone_leaves_epochs():
    training = resolve("digits", None, {ANNEALING: 3}).training
    assert (training.epochs, training.annealing_epochs) == (recipe("digits")["training"]["epochs"], 3)


def test_epochs_as_an_option_rescale_what_the_config_has():
    config = {"training": {"epochs": 100, "annealing_epochs": 50}}
    assert resolve("digits", config, {EPOCHS: 10}).training.annealing_epochs == 5


# Kinds of configs


def test_a_config_may_be_a_yaml_file(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("training: {learning_rate: 1e-4}\nmodel:\n  latent_dim: 3\n")
    spec = resolve("digits", path, {})
    assert (spec.training.learning_rate, spec.model.latent_dim) == (1e-4, 3)
    assert resolve("digits", str(path), {}) == spec
    assert resolve("digits", yaml.safe_load(path.read_text()), {}) == spec


def test_a_runs_config_is_a_config(tmp_path):
    spec = resolve("digits", None, {EPOCHS: 7, weight("label"): 3.0, ("data", "paired_fraction"): 0.25})
    path = tmp_path / "config.json"
    path.write_text(json.dumps(spec.model_dump(mode="json")))
    assert resolve("digits", path, {}) == spec


def test_a_config_may_say_everything(tiny_config):
    spec = resolve(None, tiny_config, {EPOCHS: 5})
    assert (spec.data.source, spec.training.epochs, list(spec.model.modalities)) == (
        None,
        5,
        ["point", "picture", "class"],
    )


def test_rows_from_python_need_no_data_part(tiny_config):
    del tiny_config["data"]
    assert resolve(None, tiny_config, {}).data.source is None


def test_a_config_may_change_one_network_of_the_recipe():
    config = {"model": {"modalities": {"image": {"encoder": {"hidden": [32]}}}}}
    parts = resolve("digits", config, {}).model.modalities
    assert parts["image"].encoder.hidden == [32]
    assert parts["image"].decoder.hidden == recipe("digits")["model"]["modalities"]["image"]["decoder"]["hidden"]
    assert parts["label"] == resolve("digits", None, {}).model.modalities["label"]


def test_a_config_may_add_a_modality(tiny_config):
    config = {"model": {"modalities": {"point": tiny_config["model"]["modalities"]["point"]}}}
    assert list(resolve("digits", config, {weight("point"): 2.0}).model.modalities) == ["image", "label", "point"]


# Merging


def test_a_part_whose_kind_changes_is_replaced():
    base = {"encoder": {"kind": "mlp", "hidden": [3], "dropout": 0.1}, "weight": 1}
    assert merge(base, {"encoder": {"kind": "conv", "hidden": 5}}) == {
        "encoder": {"kind": "conv", "hidden": 5},
        "weight": 1,
    }


@pytest.mark.parametrize("change", [{"hidden": [5]}, {"kind": "mlp", "hidden": [5]}])
def test_a_part_whose_kind_stays_is_merged(change):
    base = {"encoder": {"kind": "mlp", "hidden": [3], "dropout": 0.1}}
    assert merge(base, {"encoder": change}) == {"encoder": {"kind": "mlp", "hidden": [5], "dropout": 0.1}}


def test_merging_replaces_lists_whole():
    assert merge({"a": [1, 2, 3]}, {"a": [4]}) == {"a": [4]}


def test_merging_leaves_its_arguments_alone():
    base, changes = {"a": {"b": {"c": 1}}}, {"a": {"b": {"d": 2}}}
    merged = merge(base, changes)
    assert merged == {"a": {"b": {"c": 1, "d": 2}}}
    assert (base, changes) == ({"a": {"b": {"c": 1}}}, {"a": {"b": {"d": 2}}})


def test_the_recipe_of_another_kind_of_network():
    config = {"model": {"modalities": {"image": {"encoder": {"kind": "conv", "layers": [[8, 4, 2, 1]], "hidden": 16}}}}}
    assert resolve("mnist", config, {}).model.modalities["image"].encoder.hidden == 16


# What is refused


def test_a_weight_of_an_unknown_modality_lists_the_known():
    message = refused("digits", None, {weight("sound"): 2.0})
    assert all(word in message for word in ("sound", "image", "label"))


def test_an_invalid_option_names_its_place():
    assert "the options: model.modalities.label.weight: " in refused("digits", None, {weight("label"): -1.0})


def test_what_is_wrong_with_an_option_is_not_laid_on_the_config(tmp_path):
    (tmp_path / "mine.yaml").write_text("training: {seed: 3}")
    assert refused("digits", tmp_path / "mine.yaml", {EPOCHS: 0}).startswith("the options: training.epochs: ")


def test_an_invalid_value_of_a_config_names_file_and_place(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("training: {epochs: -1}")
    assert refused("digits", path, {}).startswith(f"{path}: training.epochs: ")


@pytest.mark.parametrize("content", ["a: [1\nb: {", "training: {epochs: 3", "\tepochs: 3", "a: b: c"])
def test_a_file_that_is_not_yaml_is_named_in_one_line(tmp_path, content):
    path = tmp_path / "mine.yaml"
    path.write_text(content)
    assert refused("digits", path, {}).startswith(f"{path}: not readable as YAML")


def test_a_file_that_is_not_text_is_named(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_bytes(b"\xff\xfe\x00\x81")
    assert str(path) in refused("digits", path, {})


def test_an_absent_file_and_a_folder_are_named(tmp_path):
    assert "absent.yaml: not readable" in refused("digits", tmp_path / "absent.yaml", {})
    assert f"{tmp_path}: not readable" in refused("digits", tmp_path, {})


@pytest.mark.parametrize("content", ["", "- a\n- b", "word", "3"])
def test_a_file_without_a_mapping_is_named(tmp_path, content):
    path = tmp_path / "mine.yaml"
    path.write_text(content)
    assert f"{path}: expected a mapping" in refused("digits", path, {})


@pytest.mark.parametrize("part", ["training", "model", "data"])
@pytest.mark.parametrize("value", [None, 5])
@pytest.mark.parametrize("options", [{EPOCHS: 3}, {weight("label"): 3.0}])
def test_a_part_that_is_no_mapping_is_named(part, value, options):
    # `training:` with nothing below it is null in YAML, and easily left behind when a line is commented out
    assert part in refused("digits", {part: value}, options)


@pytest.mark.parametrize("value", [None, 5, []])
def test_modalities_that_are_no_mapping_are_named(value):
    assert "model.modalities" in refused("digits", {"model": {"modalities": value}}, {weight("label"): 3.0})


def test_a_config_of_another_source_is_refused_or_gives_way():
    # what is stored as the run's source must be what it was trained on
    try:
        spec = resolve("digits", {"data": {"source": "mnist"}}, {})
    except SpecError as error:
        assert "source" in str(error)  # noqa: PT017
    else:
        assert spec.data.source == "digits"


# Another method than the recipe's


METHOD = ("model", "method")


@pytest.mark.parametrize("source", ["digits", "mnist", "binary-mnist", "fashion-mnist"])
@pytest.mark.parametrize("method", METHODS)
def test_every_recipe_goes_with_every_method(source, method):
    spec = resolve(source, None, {METHOD: method})
    own = recipe(source)
    assert spec.model.method == method
    assert type(build_model(spec.model)) is METHODS[method]
    assert spec.model.latent_dim == own["model"]["latent_dim"]
    assert (spec.training.epochs, spec.training.batch_size) == (
        own["training"]["epochs"],
        own["training"]["batch_size"],
    )


@pytest.mark.parametrize("way", ["option", "config"])
def test_what_a_recipe_chose_for_its_own_method_goes_where_the_method_changes(way, monkeypatch):
    own = merge(recipe("digits"), {"training": {"sharpness": 5}})
    assert {"random_subsets", "reconstruct"} <= own["model"].keys()
    assert {"shares", "completion"} <= own["training"].keys()
    monkeypatch.setattr("mvae.config.recipes.recipe", lambda source: own)
    config, options = (None, {METHOD: "jmvae"}) if way == "option" else ({"model": {"method": "jmvae"}}, {})
    spec, plain = resolve("digits", config, options), TrainingSpec(epochs=1)
    assert spec.model.options == {}
    for name in ("shares", "completion", "sharpness"):
        assert getattr(spec.training, name) == getattr(plain, name) != own["training"][name]
    for name in ("epochs", "batch_size", "learning_rate", "schedule", "annealing_epochs", "keep"):
        assert getattr(spec.training, name) == own["training"][name]


def test_the_earlier_name_of_an_option_in_a_config_wins_over_the_recipe_and_gives_way_to_the_option(tmp_path):
    (tmp_path / "old.yaml").write_text("model: {subsets: 3}")
    for config in ({"model": {"subsets": 3}}, tmp_path / "old.yaml"):
        assert resolve("digits", config, {}).model.options["random_subsets"] == 3
        assert resolve("digits", config, {("model", "random_subsets"): 2}).model.options["random_subsets"] == 2


def test_what_is_asked_for_beside_the_method_stays():
    spec = resolve("digits", {"training": {"completion": 0.5}}, {METHOD: "bivcca", ("model", "mu"): 0.3})
    assert (spec.model.mu, spec.training.completion) == (0.3, 0.5)
    spec = resolve("digits", {"model": {"method": "mvae-q", "random_subsets": 1}}, {})
    assert (spec.model.method, spec.model.random_subsets) == ("mvae-q", 1)


def test_an_option_s_method_wins_over_the_config_s():
    assert resolve("digits", {"model": {"method": "vae"}}, {METHOD: "jmvae"}).model.method == "jmvae"
    # and where it goes back to the recipe's, nothing of the recipe has gone
    assert resolve("digits", {"model": {"method": "vae"}}, {METHOD: "mvae"}) == resolve("digits", None, {})


def test_naming_the_recipe_s_own_method_changes_nothing():
    assert resolve("digits", None, {METHOD: "mvae"}) == resolve("digits", None, {})
    assert resolve("digits", {"model": {"method": "mvae"}}, {}) == resolve("digits", None, {})


def test_options_that_two_methods_share_stay_the_recipe_s():
    assert resolve("digits", None, {METHOD: "mvae-q"}).model.reconstruct == recipe("digits")["model"]["reconstruct"]


@pytest.mark.parametrize("method", [None, ["vae"], 3, {"name": "vae"}, ""])
def test_a_method_that_is_no_name_is_named_with_its_place(method):
    try:
        spec = resolve("digits", {"model": {"method": method}}, {})
        build_model(spec.model)
    except SpecError as error:
        assert "model.method" in str(error)  # noqa: PT017
    else:
        pytest.fail(f"{method} was taken for a method")


def test_a_variant_of_a_recipe_is_a_config_by_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plain, sharper = resolve("vision", None, {}), resolve("vision", "vision-sharper", {})
    for name, modality in sharper.model.modalities.items():
        assert (modality.weight, modality.encoder.dropout) == (1, 0)
        before = plain.model.modalities[name]
        same = {"weight": before.weight, "encoder": before.encoder}
        assert modality.model_copy(update=same) == before
        assert modality.encoder.model_copy(update={"dropout": before.encoder.dropout}) == before.encoder
    assert sharper.training == plain.training
    with pytest.raises(SpecError, match="no recipe for source 'vision-sharper'"):
        recipe("vision-sharper")
    with pytest.raises(SpecError, match="expected 'digits', the data set to train on, got 'vision'"):
        resolve("digits", "vision-sharper", {})
    with pytest.raises(SpecError, match=r"vision-sharp: no such file, nor one of the recipes .*, vision-sharper"):
        resolve("vision", "vision-sharp", {})
    (tmp_path / "vision-sharper").mkdir()  # the folder of a run
    assert resolve("vision", "vision-sharper", {}) == sharper
    (tmp_path / "vision-sharper").rmdir()
    (tmp_path / "vision-sharper").write_text("training: {epochs: 3}")  # a file of that name goes first
    assert resolve("vision", "vision-sharper", {}).training.epochs == 3


def test_the_files_that_the_package_reads_are_part_of_it():
    root = Path(__file__).parents[2]
    package = root / "src" / "mvae"
    globs = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["mvae"]
    packed = {path for pattern in globs for path in package.glob(pattern)}
    data = {path for path in package.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")}
    assert data <= packed
    assert any(path.suffix == ".yaml" for path in data)
