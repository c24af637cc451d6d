import json
import os
import pty
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.distributions import MultivariateNormal, Normal

import mvae
from mvae.batch import Batch
from mvae.config.build import build_model
from mvae.config.folder import load, save_weights
from mvae.data.sources import load_dataset
from mvae.files import RunError, write_json
from mvae.linear_gaussian import SCALES, draws, exact, linear_gaussian
from paper.__main__ import main
from paper.compared import DATASETS, MODELS, cells_of, folder_of, source_of, spec_of, train_model
from paper.runner import CATALOG, Setup
from paper.scores import scores
from paper.tables import train_and_score
from tasks import is_alive, wait_for

OPTIONS = ["--dataset", "mnist", "--preset", "smoke", "--out", "out", "--runs", "runs", "--data-dir", "data"]
PRESETS = CATALOG["table2"]["presets"]
SMOKE = PRESETS["smoke"]


def mnist(model, seed=0):
    return {"dataset": "mnist", "model": model, "seed": seed}


def smoke(folder, **options):
    return Setup("table2", "smoke", runs=folder, **options)


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def one_line(text):
    (line,) = text.strip().splitlines()
    assert line.startswith("paper: ")
    return line


def reproduced(table, *options):
    return main([table, *OPTIONS, *options])


# The process


def test_table2_as_a_process(table2):
    result, place = table2
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    assert "\x1b" not in result.stdout  # no bars in what is no terminal
    content = json.loads((place / "out" / "table2" / "smoke.json").read_text())
    assert {(cell["model"], cell["seed"]) for cell in content["cells"]} == {("vae", 0), ("mvae", 0)}
    for cell in content["cells"]:
        assert (cell["dataset"], cell["epochs"], cell["rows"]) == ("mnist", 1, 20)
        assert cell["trained"]["epoch"] == 1
        assert cell["trained"]["command"].startswith("python -m paper table2 --model vae mvae")
        assert f"mnist, {cell['model']}, seed 0: trained in" in result.stdout
    assert "# Table 2" in result.stdout


def test_table3_takes_what_table2_has_trained(cells, monkeypatch, capsys):
    monkeypatch.chdir(cells)
    before = contents(cells / "runs")
    assert reproduced("table3", "--model", "mvae") == 0  # the cell in a process of its own
    assert contents(cells / "runs") == before
    (cell,) = json.loads(Path("out/table3/smoke.json").read_text())["cells"]
    scores = json.loads(before[Path("smoke/mnist/mvae/seed-0/scores.json")])
    assert cell["trained"] == scores["trained"]
    assert [entry["variance"] for entry in cell["estimates"]] == [entry["variance"] for entry in scores["estimates"]]
    assert "# Table 3" in capsys.readouterr().out


# The estimates


def shown(entries, quantity, proposal, second=None):
    key = {"quantity": quantity, "proposal": proposal, "second": second}
    (entry,) = (entry for entry in entries if all(entry[name] == value for name, value in key.items()))
    return entry


def direct(cells, model, targets, proposal, num_samples=SMOKE["samples"], given=(), seed=0):
    test = load_dataset("mnist", data_dir=cells / "data").test[: SMOKE["rows"]["mnist"]]
    trained = load(folder_of(mnist(model), smoke(cells / "runs")))
    options = {"proposal": proposal, "num_samples": num_samples, "seed": seed, "prior_share": 0}
    return mvae.log_likelihood(trained, test.only(trained.names), targets, given, **options)


def assert_same(entry, values, variance, size, monte_carlo):
    values = values.numpy()
    assert entry["values"] == pytest.approx(values, abs=6e-4)
    assert entry["nats"] == pytest.approx(values.mean(), rel=1e-6)
    assert entry["error"] == pytest.approx(values.std(ddof=1) / np.sqrt(len(values)), rel=1e-4)
    assert entry["variance"] == pytest.approx(variance.mean().item(), rel=1e-3, abs=1e-6)
    assert entry["effective_sample_size"] == pytest.approx(size.mean().item(), rel=1e-3)
    assert entry["monte_carlo_error"] == pytest.approx(np.sqrt((monte_carlo**2).sum().item()) / len(values), rel=1e-3)


@pytest.mark.parametrize(
    ("model", "quantity", "targets", "given", "proposal"),
    [
        ("vae", "marginal", ["image"], [], ["image"]),
        ("cvae", "conditional", ["image"], ["label"], ["image", "label"]),
        *(
            (model, quantity, targets, [], proposal)
            for model in ("mvae", "jmvae")
            for quantity, targets in (("marginal", ["image"]), ("joint", ["image", "label"]))
            for proposal in (["image"], ["image", "label"])
        ),
    ],
)
def test_estimates_are_the_librarys(cells, read_scores, model, quantity, targets, given, proposal):
    entry = shown(read_scores(model)["estimates"], quantity, proposal)
    estimate = direct(cells, model, targets, proposal, given=given)
    assert entry["samples"] == estimate.num_samples == 20
    assert_same(
        entry,
        estimate.value,
        estimate.log_weight_variance,
        estimate.effective_sample_size,
        estimate.standard_error,
    )


@pytest.mark.parametrize("second", ["prior", "importance"])
@pytest.mark.parametrize("proposal", [["image"], ["label"], ["image", "label"]])
@pytest.mark.parametrize("model", ["mvae", "jmvae"])
def test_the_conditional_is_the_joint_less_log_p_of_the_label(cells, read_scores, model, proposal, second):
    entry = shown(read_scores(model)["estimates"], "conditional", proposal, second)
    joint = direct(cells, model, ["image", "label"], proposal)
    behind, count = ((), SMOKE["prior_samples"]) if second == "prior" else (["label"], SMOKE["samples"])
    label = direct(cells, model, ["label"], behind, count, seed=1)
    error = (joint.standard_error**2 + label.standard_error**2).sqrt()
    assert_same(entry, joint.value - label.value, joint.log_weight_variance, joint.effective_sample_size, error)


@pytest.mark.parametrize("proposal", [["image"], ["image", "label"]])
def test_the_conditional_weights_vary_as_the_joint_ones(read_scores, proposal):
    entries = read_scores("mvae")["estimates"]
    variance = shown(entries, "joint", proposal)["variance"]
    assert variance > 0
    for second in ("prior", "importance"):
        assert shown(entries, "conditional", proposal, second)["variance"] == variance


def test_the_reading_with_q_of_the_label_on_a_model_that_is_known():
    # p(x | z) linear, q(z | y) Gaussian: the integral of their product is Gaussian, and the log weight is quadratic in
    # z, so that a few nodes of Gauss-Hermite quadrature give its variance under q(z | x) exactly.
    small, parameters = linear_gaussian(error=0.3)
    parts = {"image": small.modalities["a"], "label": small.modalities["c"]}
    model = mvae.MVAE(parts, 1).eval()
    batch = draws(parameters, 10)
    batch = Batch({"image": batch.values["a"], "label": batch.values["c"]})
    found = scores(model, batch, 20_000, 10)
    entry = shown(found, "conditional", ["image"], "q(z | label)")

    weight, bias = parameters["a.weight"], parameters["a.bias"]
    with torch.no_grad():
        given_image, given_label = (model.posterior(batch, [name]) for name in ("image", "label"))
    image, scale = batch.values["image"].double(), SCALES["a"]
    mean, spread = given_label.mean.double(), given_label.stddev.double()
    covariance = torch.stack([weight @ (s**2).diag() @ weight.T for s in spread]) + scale**2 * torch.eye(3).double()
    exact = MultivariateNormal(mean @ weight.T + bias, covariance).log_prob(image)
    nodes, masses = map(torch.tensor, np.polynomial.hermite_e.hermegauss(9))
    z = given_image.mean.double() + given_image.stddev.double() * nodes  # [B, nodes]
    log_weight = (
        Normal(z.unsqueeze(-1) @ weight.T + bias, scale).log_prob(image.unsqueeze(1)).sum(-1)
        + Normal(mean, spread).log_prob(z)
        - Normal(given_image.mean.double(), given_image.stddev.double()).log_prob(z)
    )
    masses = masses / masses.sum()
    variance = (log_weight**2 @ masses - (log_weight @ masses) ** 2).mean().item()
    assert abs(entry["nats"] - exact.mean().item()) < 5 * entry["monte_carlo_error"]
    assert entry["monte_carlo_error"] < 0.01
    assert entry["variance"] == pytest.approx(variance, rel=0.05)
    assert variance > 0.01


def test_a_label_of_several_modalities_is_scored_as_a_whole():
    small, parameters = linear_gaussian(error=0.1)
    model = mvae.MVAE({"image" if name == "a" else name: part for name, part in small.modalities.items()}, 1).eval()
    batch = draws(parameters, 10)
    batch = Batch({"image" if name == "a" else name: value for name, value in batch.values.items()})
    found = scores(model, batch, 5_000, 50_000)
    marginal, joint, label = (exact(parameters, names) for names in (("a",), ("a", "b", "c"), ("b", "c")))
    a, b, c = (batch.values[name].double() for name in ("image", "b", "c"))
    all_together, image = joint.log_prob(torch.cat([a, b, c], 1)), marginal.log_prob(a)
    given = all_together - label.log_prob(torch.cat([b, c], 1))
    for proposal in (["image"], ["image", "label"]):
        for quantity, second, value in (
            ("marginal", None, image),
            ("joint", None, all_together),
            ("conditional", "prior", given),
            ("conditional", "importance", given),
        ):
            entry = shown(found, quantity, proposal, second)
            assert abs(entry["nats"] - value.mean().item()) < 5 * entry["monte_carlo_error"]
            assert entry["monte_carlo_error"] < 0.02


def test_only_cells_that_there_are():
    cells = [(cell["dataset"], cell["model"]) for cell in cells_of(list(DATASETS), MODELS, 1)]
    assert {model for dataset, model in cells if dataset == "multimnist"} == {*MODELS} - {"cvae", "mvae19"}
    assert [dataset for dataset, model in cells if model == "mvae19"] == ["celeba"]
    assert source_of({"dataset": "celeba", "model": "mvae19", "seed": 0}) == "celeba19"
    for dataset, model in cells:
        build_model(spec_of({"dataset": dataset, "model": model, "seed": 0}, Setup("table2", "cpu")).model)


# Cells


def test_cells_are_data_set_by_data_set_and_seed_by_seed():
    cells = cells_of(["mnist", "binary-mnist"], ["vae", "mvae"], 2)
    assert [Setup("table2").label(cell) for cell in cells] == [
        f"{dataset}, {model}, seed {seed}"
        for dataset in ("mnist", "binary-mnist")
        for seed in (0, 1)
        for model in ("vae", "mvae")
    ]
    assert len({folder_of(cell, Setup("table2", preset)) for cell in cells for preset in PRESETS}) == 3 * len(cells)


def test_a_name_given_twice_is_done_once(copied, monkeypatch, in_turn):
    monkeypatch.chdir(copied)
    arguments = ["--preset", "smoke", "--out", "out", "--runs", "runs", "--data-dir", "data"]
    assert main(["table2", "--dataset", "mnist", "mnist", "--model", "vae", "vae", *arguments]) == 0
    assert in_turn == ["mnist, vae, seed 0"]


def test_all_models_have_the_same_data_networks_and_annealing():
    specs = {model: spec_of(mnist(model, 3), Setup("table2", "smoke")) for model in MODELS if model != "mvae19"}
    for spec in specs.values():
        assert spec.data == specs["mvae"].data
        assert spec.training == specs["mvae"].training
        assert spec.model.modalities == specs["mvae"].model.modalities
        assert (spec.training.seed, spec.training.epochs) == (3, 1)
    assert specs["mvae"].model.reconstruct == specs["mvae-q"].model.reconstruct == "given"
    assert specs["mvae-label"].model.reconstruct == ["label"]


# What is there already


def test_finished_cells_are_kept_on_resume_and_otherwise_refused(copied, monkeypatch, capsys, in_turn):
    monkeypatch.chdir(copied)
    assert reproduced("table2", "--model", "vae") == 0
    path = Path("out/table2/smoke.json")
    before = contents(copied)
    assert reproduced("table2", "--model", "vae", "mvae") == 2
    assert "smoke.json is already there" in one_line(capsys.readouterr().err)
    assert contents(copied) == before
    first = json.loads(path.read_text())["cells"]
    del in_turn[:]
    assert reproduced("table2", "--model", "vae", "mvae", "--resume") == 0
    assert in_turn == ["mnist, mvae, seed 0"]
    assert json.loads(path.read_text())["cells"][:1] == first
    assert len(json.loads(path.read_text())["cells"]) == 2


def test_a_finished_table_needs_no_runs(copied, monkeypatch, in_turn):
    # as after a clone of the repository, which keeps results and no runs
    monkeypatch.chdir(copied)
    assert reproduced("table2", "--model", "vae", "mvae") == 0
    before = json.loads(Path("out/table2/smoke.json").read_text())
    shutil.rmtree("runs")
    assert reproduced("table2", "--model", "vae", "mvae", "--resume") == 0
    after = json.loads(Path("out/table2/smoke.json").read_text())
    assert after["cells"] == before["cells"]
    assert after["differences"] == before["differences"]


@pytest.mark.parametrize(
    ("option", "value"), [(("training", "epochs"), 7), (("model", "latent_dim"), 3), (("model", "method"), "bivcca")]
)
def test_a_run_with_other_settings_is_refused(copied, monkeypatch, capsys, in_turn, option, value):
    monkeypatch.chdir(copied)
    path = Path("runs/smoke/mnist/mvae/seed-0/config.json")
    config = json.loads(path.read_text())
    config[option[0]][option[1]] = value
    if value == "bivcca":
        config["model"] |= {"reconstruct": None, "random_subsets": None}
    path.write_text(json.dumps(config))
    before = contents(copied)
    assert reproduced("table2", "--model", "vae", "mvae") == 2
    line = one_line(capsys.readouterr().err)
    assert str(path.parent) in line
    assert "other settings" in line
    assert in_turn == []
    assert contents(copied) == before


@pytest.mark.parametrize("name", ["trained.json", "scores.json"])
def test_a_damaged_cell_is_named(copied, name):
    cell = mnist("vae")
    folder = folder_of(cell, smoke(copied / "runs"))
    if name != "scores.json":
        (folder / "scores.json").unlink()
    (folder / name).write_bytes((folder / name).read_bytes()[:-40])
    with pytest.raises(RunError, match=re.escape(str(folder))):
        train_and_score(cell, smoke(copied / "runs", data_dir=str(copied / "data")), lambda *_: None)


def test_weights_that_are_gone_come_back_from_the_last_checkpoint(copied):
    cell = mnist("vae")
    weights = folder_of(cell, smoke(copied / "runs")) / "model.safetensors"
    before = weights.read_bytes()
    weights.unlink()
    train_and_score(cell, smoke(copied / "runs", data_dir=str(copied / "data")), lambda *_: None)
    assert weights.read_bytes() == before


def test_a_cell_that_fails_is_said_in_one_line(copied, monkeypatch, capsys):
    monkeypatch.chdir(copied)
    Path("runs/smoke/mnist/vae/seed-0/scores.json").write_text("{")
    assert reproduced("table2", "--model", "vae") == 1
    assert "mnist, vae, seed 0: " in one_line(capsys.readouterr().err)


def test_a_folder_left_while_its_config_was_written_is_no_obstacle(place, tmp_path):
    # What a kill leaves between the first byte of config.json and its renaming.
    cell = mnist("vae")
    folder = folder_of(cell, smoke(tmp_path))
    folder.mkdir(parents=True)
    (folder / ".config-x1y2z3.json").write_text("{")
    assert train_model(cell, smoke(tmp_path, data_dir=str(place / "data")), lambda *_: None)["epoch"] == 1


# What is wrong is said before anything is trained


@pytest.mark.parametrize("experiment", ["table2", "table3", "figure2"])
@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["--dataset", "mnist", "emnist"], ["--dataset", "'emnist'", "binary-mnist, mnist, fashion-mnist"]),
        (["--model", "mvae", "gan"], ["--model", "'gan'", "mvae"]),
        (["--dataset", "mnist", "--model", "mvae"], ["no mnist files", "mvae data fetch mnist", "--data-dir"]),
    ],
)
def test_wrong_names_and_missing_data(nowhere, tmp_path, monkeypatch, capsys, experiment, arguments, parts):
    monkeypatch.chdir(tmp_path)
    assert main([experiment, "--preset", "smoke", *arguments]) == 2
    line = one_line(capsys.readouterr().err)
    assert all(part in line for part in parts), line
    assert contents(tmp_path) == {}


@pytest.mark.parametrize("option", [["--preset", "huge"], ["--seeds", "0"], ["--jobs", "0"], ["--jobs", "-1"]])
def test_options_that_the_parser_refuses(tmp_path, monkeypatch, capsys, option):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(["table2", *option])
    assert ended.value.code == 2
    assert option[0].lstrip("-") in capsys.readouterr().err
    assert contents(tmp_path) == {}


def test_a_results_folder_that_cannot_be_is_refused_before_training(copied, monkeypatch, capsys, in_turn):
    monkeypatch.chdir(copied)
    Path("taken").write_text("mine")
    assert reproduced("table2", "--model", "vae", "--out", "taken") == 2
    assert "taken" in one_line(capsys.readouterr().err)
    assert in_turn == []


# Interruptions


def start_process(cwd, *arguments, **options):
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)  # or children of a background shell ignore it
    try:
        command = [sys.executable, "-m", "paper", *arguments]
        return subprocess.Popen(command, cwd=cwd, start_new_session=True, **options)
    finally:
        signal.signal(signal.SIGINT, handler)


def without_provenance(cell):
    return {key: value for key, value in cell.items() if key not in ("trained", "scored", "made", "seconds")} | {
        "epoch": cell["trained"]["epoch"]
    }


def test_killed_at_any_moment_and_resumed_it_ends_as_if_nothing_had_been(table2, cells, tmp_path, monkeypatch):
    (tmp_path / "data").symlink_to(cells / "data")
    process = start_process(tmp_path, "table2", *OPTIONS, "--model", "mvae", stdout=subprocess.DEVNULL)
    folder = tmp_path / "runs/smoke/mnist/mvae/seed-0"
    assert wait_for((folder / "config.json").exists)
    moment = random.SystemRandom().uniform(0, 4)
    time.sleep(moment)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    left = sorted(path.name for path in folder.iterdir())
    monkeypatch.chdir(tmp_path)
    assert reproduced("table2", "--model", "mvae", "--resume") == 0
    (resumed,) = json.loads(Path("out/table2/smoke.json").read_text())["cells"]
    content = json.loads((table2[1] / "out/table2/smoke.json").read_text())
    (undisturbed,) = (cell for cell in content["cells"] if cell["model"] == "mvae")
    assert without_provenance(resumed) == without_provenance(undisturbed), (moment, left)


def test_ctrl_c_while_scoring_costs_only_the_scoring(place, tmp_path):
    cell, cpu = mnist("mvae"), Setup("table2", "cpu", runs=tmp_path / "runs")
    folder = folder_of(cell, cpu)
    folder.mkdir(parents=True)
    spec = spec_of(cell, cpu)
    write_json(folder / "config.json", spec.model_dump(mode="json"))
    save_weights(build_model(spec.model), folder)
    write_json(folder / "trained.json", {"seconds": 1.0, "epoch": 15})
    before = contents(tmp_path)
    options = ["--dataset", "mnist", "--model", "mvae", "--preset", "cpu", "--data-dir", str(place / "data")]
    terminal, end = pty.openpty()
    with (tmp_path.parent / f"{tmp_path.name}-said").open("w+") as said:
        process = start_process(tmp_path, "table2", *options, "--out", "out", "--runs", "runs", stdout=end, stderr=said)
        os.close(end)
        shown = ""
        while "scoring" not in shown:  # the bars, as on a terminal
            shown += os.read(terminal, 10_000).decode(errors="replace")
        workers = [int(child) for child in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(200) == 130
        os.close(terminal)
        said.seek(0)
        assert said.read().strip() == "interrupted"
    assert wait_for(lambda: not any(map(is_alive, workers)))
    assert "mnist, mvae, seed 0" in shown
    assert contents(tmp_path) == before
