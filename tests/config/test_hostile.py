"""Files of a run that are damaged, endless, enormous or another run's: refused in a line that names them."""

import json
import os
import shutil
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import mvae
from forked import run_python
from mvae import export
from mvae.adam import Adam
from mvae.config import folder
from mvae.config.build import build_model, outline
from mvae.config.folder import CONFIG, METRICS, WEIGHTS, load, read_spec, save_weights
from mvae.config.recipes import read_config
from mvae.config.specs import ModelSpec, validated
from mvae.files import RunError, read_json, write_json
from mvae.training.checkpoints import LAST, Checkpoint, Checkpoints, finished_epochs

EARLIER = Path(__file__).parents[1] / "earlier_runs"
DEEP = "[" * 200_000 + "]" * 200_000
HOSTILE = {
    "a pipe": os.mkfifo,
    "a device": lambda path: path.symlink_to("/dev/zero"),
    "50 GB": lambda path: path.touch() or os.truncate(path, 50 * 2**30),
    "deep": lambda path: path.write_text(DEEP, encoding="ascii"),
    "a folder": lambda path: path.mkdir(),
    "a link to itself": lambda path: path.symlink_to(path.name),
}


@pytest.fixture
def run(tmp_path):
    """A small run with all that may be in one."""
    place = shutil.copytree(EARLIER / "people", tmp_path / "run")
    save_weights(load(place), place)
    write_json(place / "evaluation.json", {"split": "test", "samples": 2, "log_likelihood": [], "accuracy": []})
    model = load(place)
    history = [{"epoch": number, "beta": 1.0, "train/loss": 2.5} for number in (1, 2)]
    Checkpoints(place).save(LAST, Checkpoint(model.state_dict(), Adam(model.parameters()).state(), history))
    return place


def refused(act, *words):
    with pytest.raises(ValueError) as error:  # noqa: PT011
        act()
    said = str(error.value)
    assert "\n" not in said
    assert len(said) < 1000
    for word in words:
        assert word in said
    return said


@pytest.mark.parametrize(
    ("name", "how"),
    [
        (name, how)
        for name in (CONFIG, WEIGHTS, METRICS, "evaluation.json", f"checkpoints/{LAST}", "c.yaml")
        for how in HOSTILE
        if how != "a link to itself" or name not in (METRICS, "evaluation.json")  # which a run need not have
    ],
)
def test_what_is_no_ordinary_file_is_refused(run, name, how):
    path = run / name
    path.unlink(missing_ok=True)
    HOSTILE[how](path)
    acts = {CONFIG: load, WEIGHTS: load, "c.yaml": lambda _: read_config(path), f"checkpoints/{LAST}": finished_epochs}
    act = acts.get(name, lambda run: export.export(run, run.with_name("out")))
    refused(lambda: act(run), path.name)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (
            "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12)),
            "at most 1,000,000 parts",
        ),
        ("a: &a [" + "[" * 60 + "]" * 60 + "]\nb: " + "[" * 60 + "*a" + "]" * 60, "100 deep"),
        ("model: " + DEEP, "exceeded maximum nesting depth"),
        ("model: " + "[" * 150 + "]" * 150, "100 deep"),
        ("model: " + "{a: " * 20_000 + "}" * 20_000, "100 deep"),
        ("model: &a [*a]\n", "a part of what it stands for"),
        ("model: &a {<<: *a, latent_dim: 2}\n", "a part of what it stands for"),
        (f"model: {{latent_dim: {'9' * 10**5}}}\n", "digits"),
        ("!!timestamp x", "not readable"),
        ("model: !!python/name:os.system\n", "could not determine a constructor"),
    ],
)
def test_a_config_that_grows_without_bounds_is_refused(tmp_path, content, words):
    path = tmp_path / "c.yaml"
    path.write_text(content, encoding="utf-8")
    refused(lambda: read_config(path), "c.yaml: not readable as YAML", words)


def test_aliases_within_the_bounds_are_read(tmp_path):
    (tmp_path / "c.yaml").write_text("a: &a {x: 1}\nb: [*a, {<<: *a, y: 2}]\n", encoding="utf-8")
    assert read_config(tmp_path / "c.yaml") == {"a": {"x": 1}, "b": [{"x": 1}, {"x": 1, "y": 2}]}


def zipped(run, **others):
    path = run.with_name("run.zip")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in (CONFIG, WEIGHTS, METRICS):
            archive.writestr(name, others.pop(name, None) or (run / name).read_bytes())
        for name, content in others.items():
            archive.writestr(name, content)
    return path


@pytest.mark.parametrize("name", [CONFIG, WEIGHTS])
def test_a_zip_that_unpacks_to_far_more_than_a_run_is_refused(run, name):
    weights = (run / WEIGHTS).read_bytes()
    path = zipped(run, **{name: bytes(70 * 2**20) if name == CONFIG else weights + bytes(8 * len(weights))})
    for act in (load, lambda run: export.export(run, run.with_name("out"))):
        refused(lambda act=act: act(path), f"run.zip/{name}: expected a file of at most")
    assert not path.with_name("out").exists()


@pytest.mark.parametrize("name", ["../evil", "/tmp/evil", "a/../../evil", "config.json/evil", "stranger.bin"])
def test_strangers_in_a_zip_are_left_alone(run, tmp_path, name):
    path = zipped(run, **{name: b"evil"})
    load(path)
    export.export(path, tmp_path / "out")
    assert {file.name for file in (tmp_path / "out").iterdir()} == {CONFIG, WEIGHTS, METRICS, "README.md"}
    assert not list(tmp_path.rglob("*evil*"))


def test_an_encrypted_member_of_a_zip_is_named(run):
    path = zipped(run)
    content = path.read_bytes()
    for head, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        place = content.index(head) + at
        content = content[:place] + b"\x01" + content[place + 1 :]
    path.write_bytes(content)
    refused(lambda: load(path), f"run.zip/{CONFIG}: cannot be read", "encrypted")


def changed(run, change):
    content = read_json(run / CONFIG)
    change(content["model"])
    write_json(run / CONFIG, content)


def with_layers(hidden):
    def change(model):
        for part in model["modalities"].values():
            part["encoder"]["hidden"] = part["decoder"]["hidden"] = hidden

    return change


def with_modalities(model):
    one = next(iter(model["modalities"].values()))
    model["modalities"] |= {f"m{number}": one for number in range(2000)}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda model: model.update(latent_dim=10**6), "model.latent_dim: input should be less than or equal to 65536"),
        (lambda model: model.update(latent_dim=60_000), "the model has (64, 60000)"),
        (with_layers([30_000, 30_000]), "the model has (7, 30000)"),
        (with_layers([8] * 3000), "at most 100 items"),
        (with_modalities, "model.modalities.m0: the run's weights have no tensor of it"),
    ],
    ids=["latent space", "latent space within the bounds", "wide layers", "many layers", "many modalities"],
)
def test_a_size_that_is_not_that_of_the_weights_is_refused_before_anything_is_built(run, change, words, monkeypatch):
    changed(run, change)
    monkeypatch.setattr(folder, "build_model", lambda _: pytest.fail("a model was built"))
    said = refused(lambda: load(run))
    assert words in said
    refused(lambda: finished_epochs(run, read_spec(run).model))


@pytest.mark.parametrize("name", ["people", "five-kinds", "vae", "cvae", "jmvae", "telbo", "mvae-q", "bivcca"])
def test_an_outline_has_the_names_shapes_and_types_of_the_model(name):
    spec = read_spec(EARLIER / name).model
    model = build_model(spec)
    found = outline(spec, model.state_dict())
    assert described(found.state_dict()) == described(model.state_dict())
    assert described(Adam(found.parameters()).state()) == described(Adam(model.parameters()).state())
    assert any(value.is_meta for value in found.state_dict().values())


def described(tensors):
    return {name: (value.shape, value.dtype) for name, value in tensors.items()}


@pytest.mark.parametrize("kind", ["transformer", "lstm", "conv"])
def test_an_outline_of_networks_with_initialisers_of_their_own(kind):
    text = {"shape": [5], "likelihood": {"kind": "string", "num_symbols": 4}}
    image = {"shape": [1, 8, 8], "likelihood": {"kind": "bernoulli"}}
    layers = [[4, 4, 2, 1]]
    nets = {"transformer": {"width": 8, "heads": 2}, "lstm": {"hidden": 8}, "conv": {"layers": layers, "hidden": 8}}
    part = (image if kind == "conv" else text) | {"encoder": {"kind": kind, **nets[kind]}}
    part["decoder"] = {"kind": kind, **nets[kind]}
    spec = validated(ModelSpec, {"latent_dim": 2, "modalities": {"a": part, "b": part}}, "")
    model = build_model(spec)
    assert described(outline(spec, model.state_dict()).state_dict()) == described(model.state_dict())


def test_an_outline_does_not_import_torchs_compiler():
    code = f"""
import sys
from mvae.config.build import outline
from mvae.config.folder import read_spec
spec = read_spec("{EARLIER / "five-kinds"}").model
outline(spec, [f"x.{{name.replace(' ', ' ')}}.y" for name in spec.modalities])
assert "torch._dynamo" not in sys.modules
"""
    run_python(code).check_returncode()


def weight(tensors, part=""):
    return next(name for name, value in sorted(tensors.items()) if value.dim() == 2 and name.startswith(part))


TENSORS = {
    "a weight missing": (lambda t: t.pop(weight(t)), "is missing"),
    "a weight more": (lambda t: t.update(more=torch.zeros(2)), "'more' is not part of the model"),
    "another shape": (lambda t: t.update({weight(t): torch.zeros(7, 3)}), "has shape (7, 3)"),
    "another type": (lambda t: t.update({weight(t): t[weight(t)].double()}), "is of torch.float64"),
    "a long name": (lambda t: t.update({"x" * 10**4: torch.zeros(2)}), "is not part of the model"),
    "NaN": (lambda t: t.update({weight(t): t[weight(t)] * torch.nan}), "has numbers that are NaN"),
}
CHECKPOINTS = {
    "no optimiser": (lambda t: [t.pop(name) for name in [*t] if name.startswith("adam.")], "'adam.0.mean' is missing"),
    "a part of the optimiser missing": (lambda t: t.pop(weight(t, "adam.")), "'adam.0.mean' is missing"),
    "the optimiser's shape": (lambda t: t.update({weight(t, "adam."): torch.zeros(7, 3)}), "has shape (7, 3)"),
}
HISTORIES = (
    *("x", {}, [], [1], [{}], [{"epoch": True}], [{"epoch": 7}], [{"epoch": 2}, {"epoch": 1}], None),
    [{"epoch": 1, "validation/elbo": 1.0}, {"epoch": 2}],
    [{"epoch": 1, "beta": float("nan")}],
    [{"epoch": 1, "beta": "x" * 10**4}],
)


@pytest.mark.parametrize("what", TENSORS)
def test_weights_that_are_not_the_models_are_refused(run, what):
    change, words = TENSORS[what]
    tensors = load_file(run / WEIGHTS)
    change(tensors)
    save_file(tensors, run / WEIGHTS)
    refused(lambda: load(run), f"{WEIGHTS}: tensor '", words, "restore it from a copy")


@pytest.mark.parametrize("what", [*TENSORS, *CHECKPOINTS])
def test_a_checkpoint_that_is_not_the_models_is_refused(run, what):
    change, words = (TENSORS | CHECKPOINTS)[what]
    path, model = run / "checkpoints" / LAST, load(run)
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, {"mvae": json.dumps({"history": [{"epoch": 1}]})})
    refused(lambda: Checkpoints(run).read(LAST, model), f"{LAST}: tensor '", words, "restore it from a copy")


@pytest.mark.parametrize("history", HISTORIES, ids=[str(one)[:30] for one in HISTORIES])
def test_a_history_of_another_kind_is_refused(run, history):
    path = run / "checkpoints" / LAST
    save_file(load_file(path), path, {"mvae": json.dumps({"history": history})})
    refused(lambda: finished_epochs(run), f"{LAST}: not a checkpoint of mvae")
    (run / METRICS).write_text(json.dumps({"kept": {"epoch": 1}, "history": history}), encoding="utf-8")
    refused(lambda: export.export(run, run.with_name("out")), METRICS)


def test_a_bit_that_has_flipped_in_the_numbers_is_told(run):
    path = run / WEIGHTS
    content = bytearray(path.read_bytes())
    content[-2] ^= 4
    path.write_bytes(content)
    refused(lambda: load(run), f"{WEIGHTS}: damaged (its content does not fit its checksum)")
    path = run / "checkpoints" / LAST
    content = bytearray(path.read_bytes())
    content[-2] ^= 4
    path.write_bytes(content)
    with pytest.raises(RunError, match=r"does not fit its checksum\); no other checkpoint can be read"):
        Checkpoints(run).read(LAST)


@pytest.mark.parametrize("content", ["[]", "1.5", '{"kept": 1}', '{"split": "test"}', '{"history": [{"epoch": 1}]}'])
@pytest.mark.parametrize("name", [METRICS, "evaluation.json"])
def test_scores_of_another_shape_are_not_exported(run, name, content):
    (run / name).write_text(content, encoding="utf-8")
    refused(lambda: export.export(run, run.with_name("out")), f"{name}: ")


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content.update({"x" * 10**5: 1}),
        lambda content: content["data"].update(source=["y" * 10**5]),
        lambda content: content["model"].update(method="z" * 10**5),
        lambda content: content.update(format="z" * 10**5),
        lambda content: content["model"].update(own="z" * 10**5),
        lambda content: content["training"].update({f"strange {number}": 1 for number in range(50)}),
        lambda content: content["model"]["modalities"].update({"m" * 10**5: {}}),
    ],
)
def test_a_message_repeats_little_of_a_file(run, change):
    content = read_json(run / CONFIG)
    change(content)
    write_json(run / CONFIG, content)
    said = refused(lambda: mvae.load(run), CONFIG)
    assert not any(letter * 201 in said for letter in "xyzm")


def test_weights_that_may_not_be_read_are_called_so(run, monkeypatch):
    def denied(path, flags):
        raise PermissionError(13, "Permission denied", path) if str(path).endswith(WEIGHTS) else FileNotFoundError

    spec = read_spec(run)
    monkeypatch.setattr(folder, "read_spec", lambda _: spec)
    monkeypatch.setattr("mvae.files._at_once", denied)
    refused(lambda: load(run), f"{WEIGHTS}: cannot be read (Permission denied)")
