"""Runs: the same seed gives the same bits, also when a run is killed, interrupted, moved or made longer."""

import copy
import json
import math
import shutil
import signal
import time
from dataclasses import replace

import pytest
import torch

import mvae
from mvae import Batch, Dataset
from mvae.config.folder import METRICS, WEIGHTS, load, read_spec
from mvae.config.options import placed
from mvae.config.specs import SpecError
from mvae.files import RunError, read_json
from mvae.models import METHODS
from mvae.training.checkpoints import BEST, LAST, Checkpoints
from mvae.training.curves import Curves
from mvae.training.loop import Loop, NonFiniteLossError
from mvae.training.prepare import prepare
from small_models import POINT_AND_CLASS

CONFIG = {
    "data": {},
    "model": POINT_AND_CLASS,
    "training": {"epochs": 3, "batch_size": 16, "learning_rate": 0.01, "annealing_epochs": 2},
}


def rows(count, shift, generator):
    classes = torch.randint(0, 4, (count,), generator=generator)
    points = torch.randn(count, 3, generator=generator) + classes.unsqueeze(1) + shift
    present = torch.rand(count, generator=generator) < 0.7
    return Batch({"point": points, "class": classes}, {"class": present})


def own_dataset(validation_shift=0.0, num_validation=16, transform=None):
    """Three numbers and a category that go together. With a shift, training makes validation worse and worse."""
    generator = torch.Generator().manual_seed(0)
    train, test = rows(64, 0.0, generator), rows(16, 0.0, generator)
    return Dataset("own", train, rows(num_validation, validation_shift, generator), test, transform=transform)


def fit(dataset=None, **options):
    options = {"config": CONFIG, "progress": False} | options
    return mvae.fit(own_dataset() if dataset is None else dataset, **options)


def same_weights(first, second):
    first, second = first.state_dict(), second.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def validation(run):
    return [record["validation/elbo"] for record in read_json(run / METRICS)["history"]]


def same_runs(first, second):
    """Weights and metrics, byte for byte."""
    return all((first / name).read_bytes() == (second / name).read_bytes() for name in (WEIGHTS, METRICS))


def last_checkpoint(run):
    return Checkpoints(run).read(LAST)


# The same seed, the same bits


def test_the_same_seed_gives_the_same_bits(tmp_path):
    torch.manual_seed(1)
    first = fit(out=tmp_path / "a", seed=3)
    torch.manual_seed(2)
    second = fit(out=tmp_path / "b", seed=3)
    assert same_weights(first, second)
    assert same_runs(tmp_path / "a", tmp_path / "b")


def test_another_seed_gives_others(tmp_path):
    fit(out=tmp_path / "a", seed=3)
    fit(out=tmp_path / "b", seed=4)
    assert not same_weights(load(tmp_path / "a"), load(tmp_path / "b"))
    assert validation(tmp_path / "a") != validation(tmp_path / "b")


def test_digits_with_few_pairs_repeat_too(tmp_path):
    for name in ("a", "b"):
        mvae.fit("digits", epochs=1, paired_fraction=0.1, seed=5, out=tmp_path / name, progress=False)
    assert same_runs(tmp_path / "a", tmp_path / "b")


def test_a_run_kept_nowhere_gives_the_same_model(tmp_path):
    assert same_weights(fit(out=tmp_path / "a"), fit(out=None))


def test_the_progress_bar_changes_nothing(tmp_path):
    assert same_weights(fit(progress=True), fit(progress=False))


def test_validation_rows_do_not_change_what_is_learned(tmp_path):
    shown = prepare(own_dataset(), options={}, config=CONFIG).train(progress=False)
    hidden = prepare(own_dataset(num_validation=0), options={}, config=CONFIG).train(progress=False)
    assert [record["train/loss"] for record in shown.history] == [record["train/loss"] for record in hidden.history]


# What is written


def test_the_weights_on_disk_are_those_of_the_returned_model(tmp_path):
    model = fit(out=tmp_path / "run")
    assert same_weights(model, load(tmp_path / "run"))
    assert not model.training
    assert model.device == torch.device("cpu")


def test_nothing_is_left_where_no_folder_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    fit(out=None)
    assert [path for path in tmp_path.rglob("*") if path != temporary] == []


def test_metrics_have_one_record_an_epoch(tmp_path):
    fit(out=tmp_path / "run", epochs=4)
    metrics = read_json(tmp_path / "run" / METRICS)
    assert [record["epoch"] for record in metrics["history"]] == [1, 2, 3, 4]
    assert set(metrics["history"][0]) == {"epoch", "beta", "train/loss", "train/elbo", "train/kl", "validation/elbo"}
    assert metrics["kept"] in metrics["history"]


def test_beta_rises_over_the_annealing_epochs(tmp_path):
    fit(out=tmp_path / "run", epochs=4, annealing_epochs=2)
    betas = [record["beta"] for record in read_json(tmp_path / "run" / METRICS)["history"]]
    assert betas == [0.5, 1.0, 1.0, 1.0]


def test_the_config_on_disk_says_what_was_done(tmp_path):
    fit(out=tmp_path / "run", epochs=2, weight={"class": 3.0}, seed=7)
    spec = read_spec(tmp_path / "run")
    assert (spec.data.source, spec.training.epochs, spec.training.seed) == (None, 2, 7)
    assert spec.model.modalities["class"].weight == 3.0


def test_a_config_of_another_source_is_not_stored_as_the_source(tmp_path):
    try:
        run = prepare("digits", options={("training", "epochs"): 1}, config={"data": {"source": "mnist"}})
    except ValueError as error:
        assert "source" in str(error)  # noqa: PT017
    else:
        assert run.spec.data.source == "digits"  # or `evaluate` would score it on mnist


@pytest.mark.parametrize("shift", [0.0, -8.0])
def test_the_best_epochs_weights_are_kept(tmp_path, shift):
    model = fit(own_dataset(shift), out=tmp_path / "run", epochs=5, annealing_epochs=2)
    history = validation(tmp_path / "run")
    best = max(range(5), key=history.__getitem__) + 1
    assert read_json(tmp_path / "run" / METRICS)["kept"]["epoch"] == best
    assert (best == 1) == (shift != 0)  # both cases are really met
    stopped_there = fit(own_dataset(shift), epochs=best, annealing_epochs=2)
    assert same_weights(model, stopped_there)


def test_without_validation_rows_the_last_weights_are_kept(tmp_path):
    model = fit(own_dataset(num_validation=0), out=tmp_path / "run")
    state = last_checkpoint(tmp_path / "run").weights
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert read_json(tmp_path / "run" / METRICS)["kept"]["epoch"] == 3


def test_patience_ends_a_run_that_gets_worse(tmp_path):
    fit(own_dataset(-8.0), out=tmp_path / "run", epochs=50, patience=2)
    assert len(validation(tmp_path / "run")) == 3


def test_the_test_rows_choose_nothing():
    other = own_dataset()
    other = Dataset("own", other.train, other.validation, other.test[:3])
    assert same_weights(fit(), fit(other))


# Own data


def test_own_rows_with_gaps_are_learned():
    model = fit(epochs=30, annealing_epochs=5)
    test = own_dataset().test
    probabilities = mvae.classify(model, Batch(test.values), "class")
    assert (probabilities.argmax(1) == test.values["class"]).double().mean() > 0.5  # chance is a quarter


def test_own_rows_need_no_data_part():
    config = {name: part for name, part in CONFIG.items() if name != "data"}
    fit(config=config, epochs=1)


def test_own_rows_without_a_config_say_what_is_missing():
    with pytest.raises(ValueError, match="model: missing"):
        fit(config=None)


def test_rows_that_do_not_fit_the_model_are_refused_before_anything_is_written(tmp_path):
    whole = own_dataset()
    wrong = Batch({**whole.test.values, "class": torch.full((16,), 4)})
    with pytest.raises(ValueError, match="modality 'class', row 0: 4 is outside the support"):
        fit(Dataset("own", whole.train, whole.validation, wrong), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("binarisation", ["dynamic", "fixed"])
def test_binarised_images_can_be_trained_on(tmp_path, nowhere, write_mnist, binarisation):
    write_mnist(tmp_path / "mnist")
    config = {"data": {"validation_rows": 5}}
    options = {"epochs": 1, "binarisation": binarisation, "config": config, "progress": False}
    model = mvae.fit("binary-mnist", data_dir=tmp_path, **options)
    assert model.generate({"label": 7}, ["image"])["image"].shape == (1, 1, 1, 28, 28)


def test_the_curves_are_tensorboards_whatever_becomes_of_their_folder(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    fit(out=tmp_path, epochs=2)
    read = EventAccumulator(str(tmp_path / "logs")).Reload()
    history = read_json(tmp_path / METRICS)["history"]
    assert [point.step for point in read.Scalars("beta")] == [4, 8]
    assert [point.value for point in read.Scalars("train/loss")] == pytest.approx([r["train/loss"] for r in history])
    curves = Curves(tmp_path)
    shutil.rmtree(tmp_path / "logs")
    curves.add({"beta": 1.0}, 8)
    curves.close()


# Folders


def test_a_used_folder_is_refused_and_nothing_in_it_changes(tmp_path):
    fit(out=tmp_path / "run", epochs=1)
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    with pytest.raises(RunError, match=r"holds a run already; continue it with --resume or choose another folder"):
        fit(out=tmp_path / "run", epochs=2)
    assert {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()} == before


def test_a_folder_with_other_things_and_a_file_are_refused(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    for out in (tmp_path, tmp_path / "thesis.txt"):
        with pytest.raises(RunError, match="is not empty; choose another folder"):
            fit(out=out)


def test_an_empty_folder_is_taken(tmp_path):
    fit(out=tmp_path, epochs=1)
    assert (tmp_path / WEIGHTS).exists()


# Going on


@pytest.mark.parametrize("shift", [0.0, -8.0])
@pytest.mark.parametrize(
    "options", [{}, {"paired_share": 0.5, "completion": 0.5}, {"propagation": 0.5, "smoothness": 0.5}]
)
def test_a_finished_run_made_longer_equals_one_long_run(tmp_path, shift, options):
    fit(own_dataset(shift), out=tmp_path / "a", epochs=3, **options)
    fit(own_dataset(shift), out=tmp_path / "a", epochs=6, resume=True)
    fit(own_dataset(shift), out=tmp_path / "b", epochs=6, annealing_epochs=2, **options)
    assert same_runs(tmp_path / "a", tmp_path / "b")
    assert read_spec(tmp_path / "a") == read_spec(tmp_path / "b")


def test_going_on_starts_after_the_last_epoch_not_after_the_best(tmp_path):
    # Validation is best after epoch 1 here; epochs 2 to 5 must not have to be trained again.
    fit(own_dataset(-8.0), out=tmp_path / "run", epochs=5)
    assert len(last_checkpoint(tmp_path / "run").history) == 5


def test_going_on_without_asking_for_more_changes_nothing(tmp_path):
    fit(out=tmp_path / "run")
    shutil.copytree(tmp_path / "run", tmp_path / "before")
    fit(out=tmp_path / "run", resume=True)
    assert same_runs(tmp_path / "run", tmp_path / "before")


def test_a_folder_that_was_moved_keeps_its_best_weights(tmp_path):
    fit(own_dataset(-8.0), out=tmp_path / "here", epochs=2)
    best = load(tmp_path / "here")
    shutil.move(tmp_path / "here", tmp_path / "there")
    fit(own_dataset(-8.0), out=tmp_path / "there", epochs=4, resume=True)
    assert read_json(tmp_path / "there" / METRICS)["kept"]["epoch"] == 1
    assert same_weights(load(tmp_path / "there"), best)


def test_going_on_needs_no_config_for_it_has_one(tmp_path):
    fit(out=tmp_path / "a", epochs=2, annealing_epochs=1)
    fit(out=tmp_path / "a", epochs=4, resume=True, config=None)
    fit(out=tmp_path / "b", epochs=4, annealing_epochs=1)
    assert same_runs(tmp_path / "a", tmp_path / "b")


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ({"latent_dim": 5}, r"model\.latent_dim = 2; it cannot be resumed with 5"),
        ({"seed": 9}, r"training\.seed = 0; it cannot be resumed with 9"),
        ({"weight": {"class": 9.0}}, r"model\.modalities\.class\.weight = 1\.0; it cannot be resumed with 9\.0"),
    ],
)
def test_an_option_that_contradicts_the_run_is_refused(tmp_path, option, words):
    fit(out=tmp_path / "run", epochs=1)
    with pytest.raises(RunError, match=words):
        fit(out=tmp_path / "run", resume=True, **option)


def test_a_config_that_contradicts_the_run_is_refused(tmp_path):
    fit(out=tmp_path / "run", epochs=1)
    config = copy.deepcopy(CONFIG)
    config["model"]["latent_dim"] = 5
    with pytest.raises(RunError, match=r"model\.latent_dim = 2; it cannot be resumed with 5"):
        fit(out=tmp_path / "run", resume=True, config=config, epochs=1)


def test_options_that_agree_with_the_run_are_taken(tmp_path):
    fit(out=tmp_path / "run", epochs=1, seed=4)
    fit(out=tmp_path / "run", epochs=2, seed=4, latent_dim=2, resume=True)
    assert len(validation(tmp_path / "run")) == 2


def test_fewer_epochs_than_done_are_refused_and_change_nothing(tmp_path):
    fit(out=tmp_path / "run", epochs=3)
    before = read_spec(tmp_path / "run")
    with pytest.raises(ValueError, match="epochs"):
        fit(out=tmp_path / "run", epochs=1, resume=True)
    assert read_spec(tmp_path / "run") == before


def test_going_on_with_another_source_is_refused(digits_run):
    with pytest.raises(RunError, match="is a run on digits, not on mnist"):
        prepare("mnist", options={}, out=digits_run, resume=True)


def test_there_must_be_something_to_go_on_with(tmp_path):
    with pytest.raises(RunError, match="nothing to resume: name the run's folder"):
        fit(resume=True)
    with pytest.raises(RunError, match="absent is not a run"):
        fit(resume=True, out=tmp_path / "absent")


# Loss that is not finite


def diverging(good_calls):
    """A dataset whose points become huge after so many batches of 16."""
    calls = 0

    def transform(batch):
        nonlocal calls
        calls += len(batch) == 16  # not where all rows are looked at beforehand
        factor = 1.0 if calls <= good_calls else 1e25
        return Batch({**batch.values, "point": batch.values["point"] * factor}, batch.present)

    return own_dataset(transform=transform)


def test_a_loss_that_is_not_finite_names_modality_and_step(tmp_path):
    with pytest.raises(NonFiniteLossError, match=r"log p\(point \| z\)") as error:
        fit(diverging(10), out=tmp_path / "run", epochs=5)
    assert "step 10 (epoch 3)" in str(error.value)  # four batches an epoch


def test_values_that_are_huge_from_the_start_name_the_modality_too():
    whole = own_dataset()
    points = whole.train.values["point"].clone()
    points[7] = 1e25
    huge = Batch({**whole.train.values, "point": points}, whole.train.present)
    with pytest.raises(NonFiniteLossError, match=r"step [0-3] \(epoch 1\): log p\(point \| z\)"):
        fit(Dataset("own", huge, whole.validation, whole.test))


def test_epochs_before_a_loss_that_is_not_finite_stay(tmp_path):
    with pytest.raises(NonFiniteLossError):
        fit(diverging(10), out=tmp_path / "run", epochs=5)
    assert len(last_checkpoint(tmp_path / "run").history) == 2
    fit(out=tmp_path / "run", epochs=5, resume=True)
    fit(out=tmp_path / "whole", epochs=5)
    assert same_runs(tmp_path / "run", tmp_path / "whole")


def test_the_best_weights_before_a_loss_that_is_not_finite_are_saved(tmp_path):
    with pytest.raises(NonFiniteLossError):
        fit(diverging(10), out=tmp_path / "run", epochs=5)
    assert len(validation(tmp_path / "run")) == 2
    load(tmp_path / "run")


# Damaged checkpoints


@pytest.mark.parametrize("num_validation", [0, 16])
def test_a_damaged_last_checkpoint_gives_way_to_the_one_before(tmp_path, capsys, num_validation):
    dataset, run = own_dataset(-8.0, num_validation), tmp_path / "run"
    fit(dataset, out=tmp_path / "unbroken", epochs=5, annealing_epochs=2)
    fit(dataset, out=run, epochs=3, annealing_epochs=2)
    for length in (0, 5000):
        last = run / "checkpoints" / LAST
        last.write_bytes(last.read_bytes()[:length])
        capsys.readouterr()
        fit(dataset, out=run, epochs=4 if length == 0 else 5, resume=True)
        said = capsys.readouterr().err
        assert said.count("\n") == 1
        assert f"mvae: {last}: damaged (" in said
        assert f"previous.safetensors, after epoch {2 if length == 0 else 3}, takes its place" in said
    assert same_runs(run, tmp_path / "unbroken")


def test_a_damaged_best_checkpoint_gives_way_to_the_last(tmp_path, capsys):
    run = tmp_path / "run"
    fit(own_dataset(-8.0), out=run)
    (run / "checkpoints" / BEST).write_bytes(b"")
    fit(own_dataset(-8.0), out=run, resume=True)
    assert f"{LAST}, after epoch 3, takes its place" in capsys.readouterr().err
    assert read_json(run / METRICS)["kept"]["epoch"] == 3
    assert same_weights(load(run), fit(own_dataset(-8.0), keep="last"))


def test_checkpoints_that_are_all_damaged_are_refused_in_a_line(tmp_path):
    run = tmp_path / "run"
    fit(out=run)
    for path in (run / "checkpoints").iterdir():
        path.write_bytes(b"")
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    with pytest.raises(RunError, match=f"{LAST}: .*; no other checkpoint can be read: train anew in another"):
        fit(out=run, resume=True)
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_a_kill_while_a_checkpoint_is_written_after_a_damaged_one_loses_nothing(tmp_path, monkeypatch):
    run = tmp_path / "run"
    fit(out=tmp_path / "unbroken", epochs=4, annealing_epochs=2)
    fit(out=run)
    (run / "checkpoints" / LAST).write_bytes(b"")

    def killed(*_):
        raise RuntimeError("killed")

    monkeypatch.setattr("mvae.training.checkpoints.write_tensors", killed)
    with pytest.raises(RuntimeError, match="killed"):
        fit(out=run, epochs=4, resume=True)
    monkeypatch.undo()
    fit(out=run, epochs=4, resume=True)
    assert same_runs(run, tmp_path / "unbroken")


# Real processes that are killed and interrupted


OPTIONS = ("fit", "digits", "--epochs", 12, "--paired-fraction", 0.5, "--seed", 2)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """The same run from Python and in one go."""
    out = tmp_path_factory.mktemp("uninterrupted") / "run"
    mvae.fit("digits", epochs=12, paired_fraction=0.5, seed=2, out=out, progress=False)
    return out


def stop_in_the_middle(process, run, sent):
    """Send the signal once three epochs have been kept; fails if training ends before."""
    path, kept, limit = run / "checkpoints" / LAST, set(), time.monotonic() + 200
    while len(kept) < 3:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < limit
        if path.exists():
            kept.add(path.stat().st_mtime_ns)
        time.sleep(0.005)
    process.send_signal(sent)
    return process.communicate(timeout=200)


def test_a_killed_run_goes_on_as_if_nothing_had_happened(start, mvae_command, tmp_path, uninterrupted):
    stop_in_the_middle(start(*OPTIONS, "--out", "run", cwd=tmp_path), tmp_path / "run", signal.SIGKILL)
    run = tmp_path / "run"
    assert 2 <= len(last_checkpoint(run).history) < 12
    assert not (run / WEIGHTS).exists()
    with pytest.raises(RunError, match="did not end; continue it with --resume"):
        load(run)
    result = mvae_command("fit", "digits", "--out", "run", "--resume", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert same_runs(run, uninterrupted)
    assert read_spec(run) == read_spec(uninterrupted)


def test_an_interrupted_run_ends_cleanly_and_goes_on(start, mvae_command, tmp_path, uninterrupted):
    run = tmp_path / "run"
    process = start(*OPTIONS, "--out", "run", cwd=tmp_path)
    out, error = stop_in_the_middle(process, run, signal.SIGINT)
    assert process.returncode == 130
    assert "Traceback" not in error
    assert "interrupted after" in out
    (told,) = (line for line in out.splitlines() if line.startswith("continue: "))
    assert told == "continue: mvae fit digits --out run --resume"
    history = json.loads((run / METRICS).read_text())["history"]
    assert 2 <= len(history) < 12
    assert f"interrupted after {len(history)} complete epochs" in out
    load(run)
    result = mvae_command(*told.removeprefix("continue: mvae ").split(), cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert same_runs(run, uninterrupted)


# Shares


def test_a_paired_share_replaces_the_shares_of_a_recipe():
    run = prepare("digits", options=placed({"paired_share": 0.5}))
    assert run.spec.training.shares == {"complete": 0.5}


def test_impossible_shares_are_refused_before_anything_is_written(tmp_path):
    config = {"training": {"shares": {"complete": 0.9}}}
    with pytest.raises(ValueError, match="a sum below 1"):
        prepare("digits", out=tmp_path / "run", options={("data", "paired_fraction"): 0.1}, config=config)
    assert not (tmp_path / "run").exists()


# Methods


NEEDED = {"vae": ("point",), "cvae": ("point", "class"), "jmvae": ("point", "class"), "telbo": ("point", "class")}
OPTIONS_OF = {
    "mvae": {"random_subsets": 1},
    "mvae-q": {"reconstruct": "present"},
    "bivcca": {"mu": 0.3},
    "jmvae": {"alpha": 0.2},
}


@pytest.fixture(scope="module", params=METHODS)
def digits_of(request, tmp_path_factory):
    """A run of each method on digits, half of whose rows lack something: its name, the trained model, the folder."""
    folder = tmp_path_factory.mktemp("methods") / request.param
    options = {"epochs": 2, "paired_fraction": 0.5, "out": folder, "progress": False}
    return (
        request.param,
        mvae.fit("digits", method=request.param, **options, **OPTIONS_OF.get(request.param, {})),
        folder,
    )


def test_a_run_of_each_method_is_loaded_bit_by_bit(digits_of):
    method, model, folder = digits_of
    loaded = load(folder)
    assert type(loaded) is type(model) is METHODS[method]
    assert same_weights(loaded, model)
    assert not loaded.training
    assert all(part.requires_grad for name, part in loaded.named_parameters())
    for name, value in OPTIONS_OF.get(method, {}).items():
        assert getattr(loaded, name) == value
    assert read_spec(folder).model.method == method
    rows = mvae.load_dataset("digits").test[:5].only(model.names)
    assert torch.equal(loaded.posterior(rows).mean, model.posterior(rows).mean)
    scores = [mvae.log_likelihood(one, rows, "image", one.conditions, num_samples=5).value for one in (model, loaded)]
    assert torch.equal(*scores)


def test_a_resumed_run_of_each_method_is_the_uninterrupted(digits_of, tmp_path):
    method, model, _ = digits_of
    options = {"paired_fraction": 0.5, "out": tmp_path / "run", "progress": False}
    prepared = prepare(
        "digits",
        out=tmp_path / "run",
        options=placed({"method": method, "epochs": 2, "paired_fraction": 0.5, **OPTIONS_OF.get(method, {})}),
    )
    killed_in_the_second_epoch(prepared)
    assert same_weights(mvae.fit("digits", resume=True, **options), model)


def killed_in_the_second_epoch(run):
    with pytest.MonkeyPatch.context() as patch:
        step = Loop.step
        patch.setattr(Loop, "step", lambda loop, *given: die_after(loop) or step(loop, *given))
        with pytest.raises(RuntimeError, match="killed"):
            run.train(progress=False)


def die_after(loop):
    if len(loop.history) == 1:
        raise RuntimeError("killed")


@pytest.mark.parametrize("method", METHODS)
def test_a_method_is_trained_on_the_rows_that_it_learns_from(method):
    dataset = own_dataset()
    gap = torch.arange(64) % 5 > 0
    dataset = replace(dataset, train=Batch(dataset.train.values, {**dataset.train.present, "point": gap}))
    config = {**CONFIG, "model": {name: part for name, part in CONFIG["model"].items() if name != "reconstruct"}}
    run = prepare(dataset, options={("model", "method"): method}, config=config)
    names = NEEDED.get(method, ())
    expected = dataset.train.presence(names).all(1) if names else dataset.train.presence(["point", "class"]).any(1)
    assert len(run.dataset.train) == int(expected.sum()) < 64
    assert torch.equal(run.dataset.train.values["point"], dataset.train.values["point"][expected])
    validation = dataset.validation.presence(names).all(1) if names else torch.ones(16, dtype=torch.bool)
    assert len(run.dataset.validation) == int(validation.sum())
    assert len(run.dataset.test) == 16
    assert tuple(run.dataset.test.values) == run.model.names
    said = f"{int(expected.sum()):,} of 64 training rows have what '{method}' learns from"
    assert said in run.dataset.description
    history = run.train(progress=False).history
    assert all(torch.tensor(list(record.values())).isfinite().all() for record in history)


def test_the_description_says_nothing_where_all_rows_are_used():
    run = prepare("digits", options={("model", "method"): "jmvae"})
    assert "learns from" not in run.dataset.description


@pytest.mark.parametrize("method", ["cvae", "jmvae", "telbo"])
def test_rows_of_which_none_is_complete_are_refused_before_anything_is_written(method, tmp_path):
    options = {("model", "method"): method, ("data", "paired_fraction"): 0.0}
    with pytest.raises(SpecError, match=f"no training row has what '{method}' learns from, all of image, label"):
        prepare("digits", out=tmp_path / "run", options=options)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("method", ["vae", "cvae", "jmvae"])
def test_training_rows_that_hold_nothing_of_what_a_method_needs_are_refused(method):
    whole = own_dataset()
    model = {name: part for name, part in CONFIG["model"].items() if name != "reconstruct"}
    modalities = dict(reversed(CONFIG["model"]["modalities"].items())) if method == "vae" else model["modalities"]
    config = {**CONFIG, "model": {**model, "modalities": modalities}}
    with pytest.raises(SpecError, match=f"no training row has what '{method}' learns from, all of .*class"):
        prepare(replace(whole, train=whole.train.only(["point"])), options={("model", "method"): method}, config=config)


@pytest.mark.parametrize(("method", "target"), [("vae", "image"), ("vae", "label"), ("bivcca", None), ("mvae-q", None)])
def test_rows_of_one_modality_each_are_enough_for_others(method, target):
    options = {("model", "method"): method, ("data", "paired_fraction"): 0.0, ("model", "target"): target}
    count = {"image": 606, "label": 606}.get(target, 1212)
    assert len(prepare("digits", options=options).dataset.train) == count


def test_a_vae_of_labels_needs_no_images(tmp_path):
    options = {"target": "label", "weight": {"label": 1.0}, "epochs": 10, "progress": False}
    model = mvae.fit("digits", method="vae", out=tmp_path / "run", **options)
    labels = mvae.load_dataset("digits").test.only(["label"])
    value = mvae.log_likelihood(load(tmp_path / "run"), labels, "label", num_samples=50).mean()
    assert value == pytest.approx(mvae.log_likelihood(model, labels, "label", num_samples=50).mean())
    assert -math.log(10) - 0.2 < value < -math.log(10) + 0.05  # classes are almost equally many


@pytest.mark.parametrize(("started", "asked"), [("jmvae", "telbo"), ("mvae", "mvae-q"), ("vae", "mvae")])
def test_a_run_is_not_resumed_with_another_method(started, asked, tmp_path):
    options = {"epochs": 1, "out": tmp_path / "run", "progress": False}
    mvae.fit("digits", method=started, **options)
    with pytest.raises(RunError, match=f"was started with model.method = {started}; .* resumed with {asked}"):
        mvae.fit("digits", method=asked, resume=True, **options)
