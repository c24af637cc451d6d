"""The command line as real processes: what each command writes, and that what is wrong is said in one line."""

import csv
import json
import math
import re
import subprocess
import sys

import pytest
import torch
from PIL import Image

import mvae
from forked import COMMAND, run_python
from mvae.cli import main
from mvae.config.folder import METRICS, load, read_spec
from mvae.data.pictures import image_grid
from mvae.data.sources import SOURCES, load_dataset
from mvae.evaluation.report import evaluate
from mvae.files import read_json

COMMANDS = [
    "fit",
    "inspect",
    "impute",
    "embed",
    "score",
    "export",
    "evaluate",
    "sample",
    "translate",
    "data",
]


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def assert_refused(result, *parts):
    """Exit status 2 and one line on stderr that holds these parts."""
    assert result.returncode == 2, (result.stdout, result.stderr)
    assert_said_in_one_line(result.stderr, map(str, parts))


def assert_said_in_one_line(error, parts):
    (line,) = error.strip().splitlines()
    assert line.startswith("mvae: ")
    assert all(part in line for part in parts), line


def assert_parser_refused(result, *parts):
    """Exit status 2, usage and no traceback, where the parser itself refuses."""
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
    for part in parts:
        assert part in result.stderr


# Help


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        *([command] for command in COMMANDS),
        *(["data", action] for action in ("check", "fetch")),
    ],
)
def test_help_ends_well_and_shows_an_example(mvae_command, tmp_path, arguments):
    result = mvae_command(*arguments, "--help", cwd=tmp_path)
    assert result.returncode == 0
    assert result.stderr == ""
    assert re.search(rf"(Example|Start with):\s*mvae\s+{arguments[0] if arguments else 'fit'}", result.stdout)


def test_every_command_is_listed(mvae_command, tmp_path):
    out = mvae_command("--help", cwd=tmp_path).stdout
    assert re.search(r"\{(.*?)\}", out).group(1).split(",") == COMMANDS


@pytest.mark.parametrize(
    "code",
    [
        "import mvae; dir(mvae)",
        "import contextlib, mvae.cli\nwith contextlib.suppress(SystemExit): mvae.cli.main(['--help'])",
        "import contextlib, mvae.cli\nwith contextlib.suppress(SystemExit): mvae.cli.main(['fit', '--help'])",
    ],
)
def test_nothing_heavy_is_imported_before_it_is_needed(environment, code):
    heavy = "[name for name in ('torch', 'lightning', 'numpy', 'pandas', 'sklearn', 'pydantic') if name in sys.modules]"
    code = f"import sys\n{code}\nprint({heavy}, file=sys.stderr)"
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert result.stderr.strip() == "[]"


def test_fit_and_impute_import_little_more_than_torch_and_pandas(environment):
    code = (
        "import sys, mvae.cli, mvae.training.fit, mvae.tables.answers, mvae.cli.display\n"
        "rare = ('PIL', 'joblib', 'rich', 'safetensors', 'sklearn', 'yaml', 'jsonargparse', 'tensorboard')\n"
        "print([name for name in rare if name in sys.modules])"
    )
    result = run_python(code, environment)
    assert result.stdout.strip() == "[]", result.stderr


def test_every_command_shows_what_it_does(mvae_command, tmp_path):
    lines = mvae_command("--help", cwd=tmp_path).stdout.splitlines()
    for command in COMMANDS:
        (line,) = (line for line in lines if line.split()[:1] == [command])
        assert len(line.split()) > 3


def test_version(mvae_command, tmp_path):
    assert mvae_command("--version", cwd=tmp_path).stdout.strip().endswith(mvae.__version__)


# Fit


def test_fit_writes_a_run_and_says_what_is_next(first_fit):
    folder, result = first_fit
    assert result.returncode == 0, result.stderr
    assert {"config.json", "model.safetensors", "metrics.json"} <= {path.name for path in folder.iterdir()}
    for part in ("1,212 to train", "135 to validate", "450 to test", "writing to first", "mvae evaluate first"):
        assert part in result.stdout
    assert "Traceback" not in result.stderr
    assert "Warning" not in result.stderr
    assert load(folder).names == ("image", "label")
    assert len(read_json(folder / "metrics.json")["history"]) == 2


def test_flags_win_over_a_config(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text("training: {epochs: 3, seed: 5}\nmodel: {latent_dim: 3}\n")
    arguments = ["--config", "mine.yaml", "--epochs", "1", "--weight", "label=2", "image=0.5", "--latent-dim", "4"]
    assert main(["fit", "digits", *arguments]) == 0
    assert "runs/digits" in capsys.readouterr().out
    spec = read_spec(tmp_path / "runs" / "digits")
    assert (spec.training.epochs, spec.training.seed, spec.model.latent_dim) == (1, 5, 4)
    assert {name: part.weight for name, part in spec.model.modalities.items()} == {"image": 0.5, "label": 2.0}


def test_reconstruct_takes_names(tmp_path, capsys):
    out = tmp_path / "run"
    assert main(["fit", "digits", "--reconstruct", "label", "--epochs", "1", "--out", str(out)]) == 0
    assert read_spec(out).model.reconstruct == ["label"]
    assert "each term reconstructs what is given and label" in capsys.readouterr().out


def test_the_plan_says_what_the_options_are(tmp_path, capsys):
    flags = ["--epochs", "1", "--schedule", "cosine", "--completion", "0", "--shares", "complete=0.25", "image=0.5"]
    flags += ["--smoothness", "0.5", "--free-nats", "0.25", "--annealing-cycles", "2", "--seed", "4"]
    assert main(["fit", "digits", *flags, "--out", str(tmp_path / "run")]) == 0
    said = capsys.readouterr().out.splitlines()
    model = "mvae, 16 latent dimensions, each term reconstructs what is present, 0.25 free nats"
    training = (
        "1 epochs, batches of 100, Adam at 0.003, learning rate down a cosine in the second half, KL annealed over"
    )
    training += " 0 epochs, 2 annealing cycles, seed 4"
    few = "batches with 25 % complete, 50 % image rows, virtual adversarial training with weight 0.5"
    assert {f"model: {model}", f"training: {training}", f"few labels: {few}"} <= set(said)
    spec = read_spec(tmp_path / "run")
    assert (spec.training.shares, spec.training.completion) == ({"complete": 0.25, "image": 0.5}, 0)
    assert spec.model.options == {"random_subsets": 0, "reconstruct": "present", "free_nats": 0.25}


def test_what_is_wrong_in_a_config_is_named_by_its_place(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text("training: {epochs: 0, seed: -1}")
    assert main(["fit", "digits", "--config", "mine.yaml"]) == 2
    error = capsys.readouterr().err
    assert_said_in_one_line(error, ["mvae: mine.yaml: training.epochs: ", "; training.seed: "])


def test_a_diverging_run_ends_with_status_1_and_a_reason(tmp_path, capsys):
    out = str(tmp_path / "run")
    assert main(["fit", "digits", "--epochs", "2", "--learning-rate", "1e30", "--out", out]) == 1
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("mvae: ")
    assert "lower the learning rate" in last


def test_a_used_folder_is_refused_and_nothing_in_it_changes(mvae_command, run_copy):
    before = contents(run_copy)
    result = mvae_command("fit", "digits", "--epochs", 1, "--out", run_copy, cwd=run_copy.parent)
    assert_refused(result, run_copy, "holds a run already", "--resume")
    assert contents(run_copy) == before


def test_going_on_with_a_contradicting_option_is_refused(mvae_command, run_copy):
    before = contents(run_copy)
    dimension = read_spec(run_copy).model.latent_dim
    arguments = ["--out", run_copy, "--resume", "--latent-dim", dimension + 1]
    result = mvae_command("fit", "digits", *arguments, cwd=run_copy.parent)
    assert_refused(result, run_copy, f"model.latent_dim = {dimension}", f"cannot be resumed with {dimension + 1}")
    assert contents(run_copy) == before


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["fit", "emnist"], ["emnist", "digits", "mnist"]),
        (["fit", "digits", "--weight", "label=much"], ["--weight", "number", "'much'"]),
        (["sample", "."], [". is not a run", "config.json"]),
    ],
)
def test_a_process_says_what_is_wrong_in_one_line(mvae_command, tmp_path, arguments, parts):
    assert_refused(mvae_command(*arguments, cwd=tmp_path), *parts)
    assert contents(tmp_path) == {}


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["fit", "digits", "--weight", "label"], ["--weight", "NAME=VALUE", "'label'"]),
        (["fit", "digits", "--weight", "sound=2"], ["sound", "image, label"]),
        (["fit", "digits", "--weight", "label=-2"], ["mvae: --weight label: ", "-2"]),
        (["fit", "digits", "--method", "gan"], ["method", "gan", "mvae"]),
        (["fit", "digits", "--reconstruct", "sound"], ["reconstruct", "sound", "image, label"]),
        (["fit", "digits", "--config", "bad.yaml"], ["bad.yaml", "YAML"]),
        (["fit", "digits", "--config", "absent.yaml"], ["absent.yaml"]),
        (["fit", "digits", "--resume", "--out", "absent"], ["absent is not a run"]),
        (["fit", "mnist"], ["no mnist files", "mvae data fetch mnist", "--data-dir"]),
        (["evaluate", "absent"], ["absent is not a run"]),
        (["evaluate", "bad.yaml"], ["bad.yaml"]),
        (["data", "check", "emnist"], ["unknown source 'emnist'", "digits"]),
        (["data", "check", "mnist", "--data-dir", "absent"], ["absent: not a folder"]),
    ],
)
def test_what_is_wrong_is_said_in_one_line(nowhere, tmp_path, monkeypatch, capsys, arguments, parts):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.yaml").write_text("training: {epochs: 3\nmodel: [")
    before = contents(tmp_path)
    assert main(arguments) == 2
    assert_said_in_one_line(capsys.readouterr().err, parts)
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["fit", "digits", "--epoches", "3"], ["--epoches"]),
        (["fit", "digits", "--epochs", "0"], ["epochs"]),
        (["fit", "digits", "--paired-fraction", "2"], ["paired_fraction"]),
        (["fit"], ["source"]),
        (["train", "digits"], ["fit", "evaluate", "sample", "data"]),
        ([], ["fit", "evaluate", "sample", "data"]),
    ],
)
def test_the_parser_refuses_what_it_does_not_know(mvae_command, tmp_path, arguments, parts):
    assert_parser_refused(mvae_command(*arguments, cwd=tmp_path), *parts)


def test_a_traceback_is_shown_on_request(monkeypatch, tmp_path):
    monkeypatch.setenv("MVAE_DEBUG", "1")
    with pytest.raises(ValueError, match="is not a run"):
        main(["evaluate", str(tmp_path)])


# Evaluate


@pytest.fixture(scope="module")
def evaluated(mvae_command, digits_run):
    result = mvae_command("evaluate", digits_run, "--limit", 20, "--samples", 50, cwd=digits_run.parent)
    assert result.returncode == 0, result.stderr
    return digits_run / "evaluation.json", result


def test_the_evaluation_makes_sense(evaluated):
    report = read_json(evaluated[0])
    assert (report["split"], report["rows"], report["samples"], report["seed"]) == ("test", 20, 50, 0)
    scores = {tuple(score["targets"]): score for score in report["log_likelihood"]}
    assert set(scores) == {("image",), ("label",), ("image", "label")}
    # bounds that two epochs reach with any sensible recipe: images no worse than two fair coins a pixel
    assert -2 * 64 * math.log(2) < scores[("image",)]["nats"] < 0
    assert -20 < scores[("label",)]["nats"] < 0
    assert scores[("image", "label")]["nats"] < 0
    for score in scores.values():
        assert 1 <= score["effective_sample_size"] <= 50
        assert score["log_weight_variance"] >= 0
        assert score["standard_error"] > 0
        assert score["rows"] == 20
    (accuracy,) = report["accuracy"]
    assert (accuracy["target"], accuracy["given"], accuracy["rows"]) == ("label", ["image"], 20)
    low, high = accuracy["interval"]
    assert 0 <= low <= accuracy["accuracy"] <= high <= 1


def test_the_table_says_what_the_file_says(evaluated):
    path, result = evaluated
    for score in read_json(path)["log_likelihood"]:
        assert f"{score['nats']:.3f}" in result.stdout
    assert f"written to {path}" in result.stdout


def test_the_evaluation_is_the_librarys_on_the_first_rows(evaluated, digits_run):
    rows = load_dataset("digits", validation_rows=135).test[:20]
    report = json.loads(json.dumps(evaluate(load(digits_run), rows, num_samples=50)))
    assert report == {name: part for name, part in read_json(evaluated[0]).items() if name != "split"}


def test_evaluating_again_gives_the_same(evaluated, digits_run):
    before = evaluated[0].read_bytes()
    evaluated[0].unlink()
    assert main(["evaluate", str(digits_run), "--limit", "20", "--samples", "50"]) == 0
    assert evaluated[0].read_bytes() == before


def test_a_single_row_can_be_evaluated(run_copy, capsys):
    status = main(["evaluate", str(run_copy), "--limit", "1", "--samples", "10"])
    assert status == 0, capsys.readouterr().err
    assert read_json(run_copy / "evaluation.json")["rows"] == 1


def test_rows_without_a_label_can_be_evaluated(tmp_path, capsys):
    # Without pairs each row has an image or a label, so that the first row lacks one of them.
    run = str(tmp_path / "run")
    assert main(["fit", "digits", "--paired-fraction", "0", "--epochs", "1", "--out", run]) == 0
    for limit in ("1", "2", "30"):
        status = main(["evaluate", run, "--split", "train", "--limit", limit, "--samples", "10"])
        assert status == 0, capsys.readouterr().err
        assert read_json(tmp_path / "run" / "evaluation.json")["rows"] == int(limit)


def test_the_other_rows_are_scored_on_request(run_copy):
    assert main(["evaluate", str(run_copy), "--split", "validation", "--limit", "5", "--samples", "10"]) == 0
    report = read_json(run_copy / "evaluation.json")
    assert (report["split"], report["rows"]) == ("validation", 5)


def test_training_rows_that_are_drawn_anew_can_be_scored(tmp_path, nowhere, write_mnist, monkeypatch):
    write_mnist(tmp_path / "mnist")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.yaml").write_text("data: {validation_rows: 5}\ntraining: {epochs: 1}\n")
    arguments = ["--data-dir", ".", "--config", "small.yaml", "--binarisation", "dynamic", "--out", "run"]
    assert main(["fit", "binary-mnist", *arguments]) == 0
    written = []
    for _ in range(2):
        assert main(["evaluate", "run", "--data-dir", ".", "--split", "train", "--limit", "3", "--samples", "5"]) == 0
        written.append((tmp_path / "run" / "evaluation.json").read_bytes())
    assert written[0] == written[1]


# Sample


def test_images_from_the_prior_go_into_the_run(mvae_command, run_copy):
    result = mvae_command("sample", run_copy, "--count", 10, cwd=run_copy.parent)
    assert result.returncode == 0, result.stderr
    with Image.open(run_copy / "samples.png") as grid:
        assert grid.size == image_grid(torch.zeros(3, 4, 1, 8, 8)).size
    assert "label, times drawn of 10:" in result.stdout
    counts = re.findall(r"\d: (\d+)", result.stdout.partition("of 10:")[2])
    assert sum(map(int, counts)) == 10


def test_images_given_a_label(mvae_command, digits_run, tmp_path):
    result = mvae_command("sample", digits_run, "--given", "label=7", "--count", 4, "--out", "sevens.png", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "written to sevens.png" in result.stdout
    with Image.open(tmp_path / "sevens.png") as grid:
        assert grid.size == image_grid(torch.zeros(2, 2, 1, 8, 8)).size


@pytest.fixture
def scan(tmp_path):
    """A test image of digits as a picture file."""
    pixels = (load_dataset("digits").test.values["image"][3, 0] * 255).round().byte()
    Image.fromarray(pixels.numpy()).save(tmp_path / "scan.png")
    return tmp_path / "scan.png"


def test_labels_given_an_image_as_csv(mvae_command, digits_run, scan):
    arguments = ["--given", "image=scan.png", "--count", 6, "--out", "labels.csv"]
    result = mvae_command("sample", digits_run, *arguments, cwd=scan.parent)
    assert result.returncode == 0, result.stderr
    with (scan.parent / "labels.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 6
    assert {row["label"] for row in rows} <= set("0123456789")


def test_labels_given_an_image_as_json(digits_run, scan):
    out = scan.with_name("labels.json")
    assert main(["sample", str(digits_run), "--given", f"image={scan}", "--out", str(out)]) == 0
    labels = read_json(out)["label"]
    assert len(labels) == 64
    assert all(isinstance(label, int) and 0 <= label <= 9 for label in labels)


def test_labels_given_an_image_on_screen(digits_run, scan, capsys):
    assert main(["sample", str(digits_run), "--given", f"image={scan}", "--count", "8"]) == 0
    out = capsys.readouterr().out
    assert "label, times drawn of 8:" in out
    assert "written" not in out


def test_draws_repeat_with_the_seed(digits_run, tmp_path):
    drawn = []
    for index, seed in enumerate(("0", "0", "1")):
        out = tmp_path / f"{index}.png"
        assert main(["sample", str(digits_run), "--out", str(out), "--seed", seed]) == 0
        drawn.append(out.read_bytes())
    assert drawn[0] == drawn[1]
    assert drawn[0] != drawn[2]


def test_earlier_draws_are_kept(run_copy):
    for _ in range(3):
        assert main(["sample", str(run_copy), "--count", "1"]) == 0
    assert sorted(path.name for path in run_copy.glob("*.png")) == ["samples-2.png", "samples-3.png", "samples.png"]


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["--given", "label"], ["--given", "NAME=VALUE", "'label'"]),
        (["--given", "label=12"], ["label: expected a class from 0 to 9", "'12'"]),
        (["--given", "label=1", "label=2"], ["--given", "'label' is given twice"]),
        (["--given", "sound=1"], ["unknown modality 'sound'", "image, label"]),
        (["--given", "image=absent.png"], ["absent.png"]),
        (["--given", "label=7", "--out", "sevens.csv"], ["sevens.csv", ".png for image"]),
        (["--out", "drawn.txt"], ["drawn.txt", ".png for image", ".csv or .json for label"]),
        (["--out", "taken.png"], ["taken.png exists"]),
        (["--out", "absent/drawn.png"], ["absent"]),
    ],
)
def test_what_cannot_be_drawn_is_said_in_one_line(digits_run, tmp_path, monkeypatch, capsys, arguments, parts):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken.png").write_text("mine")
    assert main(["sample", str(digits_run), *arguments]) == 2
    assert_said_in_one_line(capsys.readouterr().err, parts)
    assert contents(tmp_path) == {path.relative_to(tmp_path): b"mine" for path in tmp_path.iterdir()}


def test_a_bad_given_in_a_real_process(mvae_command, digits_run, tmp_path):
    assert_refused(mvae_command("sample", digits_run, "--given", "label=seven", cwd=tmp_path), "label", "0 to 9")


# Methods


METHOD_FLAGS = {
    "mvae": ["--random-subsets", "0", "--reconstruct", "label"],
    "mvae-q": ["--reconstruct", "present"],
    "vae": ["--target", "image"],
    "cvae": ["--target", "image"],
    "bivcca": ["--mu", "0.3"],
    "jmvae": ["--alpha", "0.1"],
    "telbo": [],
    "mmvae": [],
}


@pytest.mark.parametrize("method", METHOD_FLAGS)
def test_a_run_of_each_method_is_fitted_evaluated_and_drawn_from(method, tmp_path, capsys):
    run = tmp_path / "run"
    flags = ["--method", method, *METHOD_FLAGS[method], "--epochs", "2"]
    assert main(["fit", "digits", *flags, "--out", str(run)]) == 0
    said = capsys.readouterr().out
    assert f"model: {method}, 16 latent dimensions" in said
    (label,) = [line for line in said.splitlines() if line.startswith("label ")] or [""]
    assert bool(label) is (method != "vae")
    assert (" given " in label) is (method == "cvae")
    assert read_spec(run).model.method == method
    assert main(["evaluate", str(run), "--limit", "10", "--samples", "20"]) == 0
    report = read_json(run / "evaluation.json")
    targets = [tuple(score["targets"]) for score in report["log_likelihood"]]
    assert targets == [("image",)] if method in ("vae", "cvae") else [("image",), ("label",), ("image", "label")]
    assert all(math.isfinite(score["nats"]) for score in report["log_likelihood"])
    assert len(report["accuracy"]) == (method not in ("vae", "cvae"))
    (told,) = (line for line in said.splitlines() if line.startswith("draw from it: mvae "))
    out = tmp_path / "drawn.png"
    assert main([*told.removeprefix("draw from it: mvae ").split(), "--count", "4", "--out", str(out)]) == 0
    with Image.open(out) as grid:
        assert grid.size == image_grid(torch.zeros(2, 2, 1, 8, 8)).size


def test_a_conditional_run_in_real_processes(mvae_command, tmp_path):
    result = mvae_command("fit", "digits", "--method", "cvae", "--epochs", 1, "--out", "run", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    result = mvae_command("sample", "run", "--given", "label=7", "--count", 4, "--out", "sevens.png", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "sevens.png").exists()


def test_a_conditional_run_is_scored_given_its_condition_and_not_drawn_from_without(tmp_path, capsys):
    run = str(tmp_path / "run")
    assert main(["fit", "digits", "--method", "cvae", "--epochs", "1", "--out", run]) == 0
    assert main(["evaluate", run, "--limit", "10", "--samples", "20"]) == 0
    (score,) = read_json(tmp_path / "run" / "evaluation.json")["log_likelihood"]
    assert (score["targets"], score["given"], score["rows"]) == (["image"], ["label"], 10)
    said = capsys.readouterr().out
    assert f"{score['nats']:.3f}" in said
    assert "image | label" in said
    assert main(["sample", run]) == 2
    assert_said_in_one_line(capsys.readouterr().err, ["generates 'image' given label"])
    assert not (tmp_path / "run" / "samples.png").exists()


@pytest.mark.parametrize(
    ("flags", "parts"),
    [
        (
            ["--method", "gan"],
            ["mvae: --method: expected", "mvae, mvae-q, vae, cvae, bivcca, jmvae, telbo, mmvae", "'gan'"],
        ),
        (
            ["--method", "vae", "--random-subsets", "1"],
            ["mvae: --random-subsets: ", "does not apply to method 'vae'", "(its options: target)"],
        ),
        (["--alpha", "0.1"], ["--alpha: ", "option 'alpha' does not apply to method 'mvae'", "its options: --random-"]),
        (["--method", "telbo", "--mu", "0.1"], ["--mu: ", "method 'telbo'", "it has no options"]),
        (["--best-by", "sound"], ["mvae: --best-by: expected a category or string", "'sound'"]),
        (["--patience", "3", "--validation-rows", "0"], ["mvae: --patience: ", "hold some out: --validation-rows"]),
        (["--steps", "100"], ["mvae: --steps: expected of a new run on a table; give epochs"]),
        (
            ["--shares", "complete=0.5", "--paired-share", "0.5"],
            ["--shares: expected shares or --paired-share, not both"],
        ),
        (["--method", "vae", "--target", "sound"], ["--target: unknown modality 'sound'", "image, label"]),
        (["--method", "cvae", "--target", "label"], ["model.modalities.label", "choose another target"]),
        (["--method", "jmvae", "--paired-fraction", "0"], ["no training row", "'jmvae'", "image, label"]),
    ],
)
def test_a_method_that_cannot_be_trained_so_is_refused_in_one_line(flags, parts, tmp_path, capsys):
    assert main(["fit", "digits", *flags, "--out", str(tmp_path / "run")]) == 2
    assert_said_in_one_line(capsys.readouterr().err, parts)
    assert not (tmp_path / "run").exists()


# Data


def test_data_list_says_what_is_where(mvae_command, tmp_path, write_mnist):
    write_mnist(tmp_path / "mnist")
    result = mvae_command("data", "list", cwd=tmp_path, MVAE_DATA=".")
    assert result.returncode == 0, result.stderr
    lines = {line.split()[0]: line for line in result.stdout.splitlines()[1:]}
    assert set(lines) == set(SOURCES)
    assert lines["digits"].rstrip().endswith("bundled")
    assert lines["binary-mnist"].rstrip().endswith("mnist")
    assert "mvae data fetch fashion-mnist" in lines["fashion-mnist"]


def test_data_check_of_files_that_are_whole_but_not_the_published(tmp_path, write_mnist, capsys):
    write_mnist(tmp_path / "mnist")
    assert main(["data", "check", "mnist", "--data-dir", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert out.count("readable, but not the published contents") == 4
    assert "complete, 40 training and 12 test rows" in out


def test_data_check_names_what_is_damaged(mvae_command, tmp_path, write_mnist):
    write_mnist(tmp_path / "mnist")
    path = tmp_path / "mnist" / "t10k-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-20])
    assert_refused(mvae_command("data", "check", "mnist", "--data-dir", tmp_path, cwd=tmp_path), path, "gzip")


def test_data_check_of_bundled_and_missing_data(nowhere, tmp_path, capsys):
    assert main(["data", "check", "digits"]) == 0
    assert "bundled" in capsys.readouterr().out
    assert main(["data", "check", "fashion-mnist"]) == 2
    assert "mvae data fetch fashion-mnist" in capsys.readouterr().err


def test_it_is_said_how_well_the_kept_epoch_predicts(tmp_path, capsys):
    assert main(["fit", "digits", "--epochs", "1", "--best-by", "label", "--out", str(tmp_path / "run")]) == 0
    said = capsys.readouterr().out
    right = read_json(tmp_path / "run" / METRICS)["kept"]["validation/accuracy"]
    assert f"label right in {100 * right:.1f} % of validation rows" in said


# Streams


@pytest.mark.parametrize("shell", ['"$@" >&-', '("$@"; echo $? >&2) | true'], ids=["closed", "| true"])
@pytest.mark.parametrize("arguments", [["data", "list"], ["fit", "--help"]])
def test_an_output_that_nobody_reads_ends_quietly(environment, arguments, shell):
    result = subprocess.run(
        ["sh", "-c", shell, "sh", *COMMAND, *arguments], env=environment, capture_output=True, text=True, check=False
    )
    assert result.stderr.strip() in ("", "0", "1", "141")  # rich ends with 1


def test_an_output_that_cannot_be_written_is_an_error(environment):
    shell = ["sh", "-c", '"$@" > /dev/full', "sh", *COMMAND, "data", "list"]
    result = subprocess.run(shell, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert {line.partition(":")[0] for line in result.stderr.splitlines()} == {"mvae"}
    assert "No space left on device" in result.stderr


def test_names_are_printed_in_the_locale_c(environment, tmp_path):
    (tmp_path / "t.csv").write_text("größe,€\n1,2\n2,3\n", encoding="utf-8")
    bare = environment | {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    bare.pop("PYTHONIOENCODING", None)
    result = subprocess.run([*COMMAND, "inspect", "t.csv"], cwd=tmp_path, env=bare, capture_output=True, check=False)
    assert result.returncode == 0, result.stderr
    assert "größe" in result.stdout.decode("utf-8")


def test_ctrl_c_while_a_command_is_imported_is_no_traceback(monkeypatch, capsys):
    monkeypatch.setattr("mvae.cli.import_module", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
    assert main(["fit", "digits"]) == 130
    assert capsys.readouterr().err.strip() == "interrupted"


@pytest.mark.parametrize(
    "arguments", [["fit", "digits"], ["sample", "run"], ["impute", "run", "t.csv"], ["inspect", "t"]]
)
def test_an_empty_name_to_write_to_is_refused(arguments, capsys):
    assert main([*arguments, "--out", ""]) == 2
    assert_said_in_one_line(capsys.readouterr().err, ["--out: expected a name, got ''"])


def test_an_error_stands_on_a_line_of_its_own_below_a_progress_bar(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("mvae.training.loop.Curves", lambda _: (_ for _ in ()).throw(PermissionError(13, "no", "logs")))
    assert main(["fit", "digits", "--epochs", "1", "--out", str(tmp_path / "run")]) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("mvae: [Errno 13] no")
