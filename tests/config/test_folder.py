"""A run's folder: what was saved is what is loaded, what is damaged is named, and nothing in it is ever executed."""

import json
import pickle
import zipfile

import pytest
import torch
from safetensors.torch import load_file, save_file

from mvae.config.build import build_model
from mvae.config.folder import CONFIG, METRICS, WEIGHTS, load, read_spec, save_weights
from mvae.config.specs import SpecError
from mvae.files import RunError, atomic, read_json, write_json


def refused(run, *parts, kind=RunError):
    with pytest.raises(kind) as error:
        load(run)
    assert "\n" not in str(error.value)
    for part in parts:
        assert str(part) in str(error.value)


def change_weights(run, change):
    weights = load_file(run / WEIGHTS)
    change(weights)
    save_file(weights, run / WEIGHTS)


# Whole runs


def test_a_run_has_its_three_files(digits_run):
    assert {CONFIG, WEIGHTS, METRICS} <= {path.name for path in digits_run.iterdir()}
    assert set(read_json(digits_run / METRICS)) == {"kept", "history"}


def test_loading_gives_a_model_in_evaluation_mode_on_the_cpu(digits_run):
    model = load(str(digits_run))
    assert not any(module.training for module in model.modules())
    assert model.device == torch.device("cpu")
    assert model.names == ("image", "label")


@torch.no_grad()
def test_save_and_load_give_bit_equal_outputs(digits_run, tmp_path):
    torch.manual_seed(4)
    model = build_model(read_spec(digits_run).model).eval()
    (tmp_path / CONFIG).write_bytes((digits_run / CONFIG).read_bytes())
    save_weights(model, tmp_path)
    loaded = load(tmp_path)
    given = {"image": torch.rand(5, 1, 8, 8), "label": torch.arange(5)}
    before, after = model.posterior(given), loaded.posterior(given)
    assert torch.equal(before.mean, after.mean)
    assert torch.equal(before.stddev, after.stddev)
    before, after = model.decode(before.mean), loaded.decode(before.mean)
    assert torch.equal(before["image"].mean, after["image"].mean)
    assert torch.equal(before["label"].logits, after["label"].logits)


def test_a_learned_scale_is_saved(tiny_config, tmp_path):
    likelihood = tiny_config["model"]["modalities"]["point"]["likelihood"]
    likelihood["scale"] = None
    write_json(tmp_path / CONFIG, tiny_config)
    model = build_model(read_spec(tmp_path).model)
    torch.nn.init.constant_(model.modalities["point"].decoder.likelihood.log_scale, 0.25)
    save_weights(model, tmp_path)
    assert (load(tmp_path).modalities["point"].decoder.likelihood.log_scale == 0.25).all()


def test_names_with_dots_and_slashes_survive(tiny_config, tmp_path):
    modalities = tiny_config["model"]["modalities"]
    names = ["a.b", "a/b", "a b", "größe", "keys", ""]
    tiny_config["model"]["modalities"] = dict.fromkeys(names, modalities["point"])
    write_json(tmp_path / CONFIG, tiny_config)
    model = build_model(read_spec(tmp_path).model)
    save_weights(model, tmp_path)
    loaded = load(tmp_path)
    assert loaded.names == tuple(names)
    expected = model.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in loaded.state_dict().items())


# Damaged ones


@pytest.mark.parametrize("name", [CONFIG, WEIGHTS])
def test_a_missing_file_is_named(run_copy, name):
    (run_copy / name).unlink()
    refused(run_copy, run_copy, name)


def test_a_folder_that_is_none(tmp_path):
    refused(tmp_path / "absent", "absent is not a run")
    (tmp_path / "file").write_text("")
    refused(tmp_path / "file", "file")


def test_a_missing_tensor_is_named(run_copy):
    name = sorted(load_file(run_copy / WEIGHTS))[3]
    change_weights(run_copy, lambda weights: weights.pop(name))
    refused(run_copy, run_copy / WEIGHTS, f"'{name}' is missing")


def test_a_tensor_too_many_is_named(run_copy):
    change_weights(run_copy, lambda weights: weights.update(surplus=torch.zeros(2)))
    refused(run_copy, run_copy / WEIGHTS, "'surplus' is not part of the model")


def test_a_tensor_of_another_shape_is_named_with_both(run_copy):
    name = next(name for name in load_file(run_copy / WEIGHTS) if name.endswith("encoder.head.bias"))
    right = tuple(load_file(run_copy / WEIGHTS)[name].shape)
    change_weights(run_copy, lambda weights: weights.update({name: torch.zeros(3)}))
    refused(run_copy, run_copy / WEIGHTS, f"'{name}'", "(3,)", right)


@pytest.mark.parametrize("kept", [0, 7, 100, -1])
def test_truncated_weights(run_copy, kept):
    content = (run_copy / WEIGHTS).read_bytes()
    (run_copy / WEIGHTS).write_bytes(content[:kept])
    refused(run_copy, run_copy / WEIGHTS, "damaged")


@pytest.mark.parametrize("content", [b"", b"{", b'{"format": 1', b"\xff\xfe\x00", b"cos\nsystem\n"])
def test_a_config_that_is_not_json(run_copy, content):
    (run_copy / CONFIG).write_bytes(content)
    refused(run_copy, run_copy / CONFIG, "not readable as JSON")


@pytest.mark.parametrize("content", ["[]", "3", "null"])
def test_a_config_that_is_no_object(run_copy, content):
    (run_copy / CONFIG).write_text(content)
    refused(run_copy, run_copy / CONFIG, "expected an object", kind=SpecError)


def test_a_config_of_another_version(run_copy):
    config = read_json(run_copy / CONFIG) | {"format": 2}
    write_json(run_copy / CONFIG, config)
    refused(run_copy, run_copy / CONFIG, "format 2", "reads format 1", kind=SpecError)


def test_a_config_with_a_fault_names_file_and_place(run_copy):
    config = read_json(run_copy / CONFIG)
    config["model"]["latent_dim"] = 0
    write_json(run_copy / CONFIG, config)
    refused(run_copy, run_copy / CONFIG, "model.latent_dim", kind=SpecError)


# Nothing is executed


def poison(target):
    """A pickle that creates a file when it is loaded."""
    return f"cbuiltins\nopen\n(S'{target}'\nS'w'\ntR.".encode()


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_pickle_in_place_of_weights_is_refused_and_not_run(run_copy, tmp_path, wrapped):
    target = tmp_path / "was-executed"
    pickle.loads(poison(target)).close()  # the poison works ...
    target.unlink()
    if wrapped:  # as torch.save wraps it
        with zipfile.ZipFile(run_copy / WEIGHTS, "w") as archive:
            archive.writestr("archive/data.pkl", poison(target))
            archive.writestr("archive/version", "3\n")
    else:
        (run_copy / WEIGHTS).write_bytes(poison(target))
    refused(run_copy, run_copy / WEIGHTS, "damaged")
    assert not target.exists()  # ... and did not


def test_a_pickle_in_place_of_the_config_is_refused_and_not_run(run_copy, tmp_path):
    target = tmp_path / "was-executed"
    (run_copy / CONFIG).write_bytes(poison(target))
    refused(run_copy, run_copy / CONFIG)
    assert not target.exists()


def test_loading_does_not_read_the_checkpoints(run_copy, tmp_path):
    target = tmp_path / "was-executed"
    for path in (run_copy / "checkpoints").iterdir():
        path.write_bytes(poison(target))
    load(run_copy)
    assert not target.exists()


# Writing


def test_atomic_replaces_the_file_when_the_block_ends_well(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with atomic(path) as temporary:
        assert temporary.parent == tmp_path
        assert temporary.suffix == ".txt"
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def write_half(path, exception):
    with atomic(path) as temporary:
        temporary.write_text("half of the n")
        raise exception


@pytest.mark.parametrize("exception", [RuntimeError, KeyboardInterrupt])
def test_an_exception_leaves_the_old_file_and_nothing_else(tmp_path, exception):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(exception):
        write_half(path, exception)
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_numbers_that_json_has_not_are_refused(tmp_path, value):
    path = tmp_path / "a.json"
    write_json(path, {"old": 1})
    with pytest.raises(ValueError, match="JSON"):
        write_json(path, {"new": [1.0, value]})
    assert read_json(path) == {"old": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_json_round_trip_keeps_numbers_and_letters(tmp_path):
    content = {"größe": [1, 0.1, 1e-300, None, True], "nested": {"a": "\n"}}
    write_json(tmp_path / "a.json", content)
    assert read_json(tmp_path / "a.json") == content
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == content
