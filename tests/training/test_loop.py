import shutil
from contextlib import nullcontext

import pytest
import torch

import mvae
from mvae.adam import Adam
from mvae.batch import Batch
from mvae.cli import main
from mvae.data.dataset import Dataset
from mvae.evaluation.classification import classify
from mvae.linear_gaussian import draws, exact_log_likelihood, linear_gaussian
from mvae.models import MVAE, Objective
from mvae.training import terms
from mvae.training.checkpoints import LAST, Checkpoints
from mvae.training.curves import Curves
from mvae.training.loop import Loop
from mvae.training.prepare import prepare
from mvae.training.schedules import annealed_beta, cosine_decay
from mvae.training.spread import ALONE, Group

SIZES = {"a": 3, "b": 2, "c": 4}
CONFIG = {
    "data": {},
    "model": {
        "latent_dim": 2,
        "random_subsets": 1,
        "modalities": {
            name: {
                "shape": [size],
                "likelihood": {"kind": "normal", "scale": None},
                "encoder": {"kind": "mlp", "hidden": [32]},
                "decoder": {"kind": "mlp", "hidden": [32]},
            }
            for name, size in SIZES.items()
        },
    },
    "training": {"epochs": 30, "learning_rate": 5e-3, "annealing_epochs": 5},
}


def linear_gaussian_rows(count: int = 4000) -> tuple[Dataset, dict[str, torch.Tensor]]:
    _, parameters = linear_gaussian()
    everything = draws(parameters, count + 1000)
    parts = everything[: count - 500], everything[count - 500 : count], everything[count:]
    return Dataset("linear-gaussian", *parts), parameters


@pytest.fixture(scope="module")
def learned():
    """Rows, the parameters that they were drawn with, and a model that has learned from them as long as it helps."""
    dataset, parameters = linear_gaussian_rows()
    training = {"epochs": 10, "learning_rate": 0.01, "annealing_epochs": 2}
    return dataset, parameters, mvae.fit(dataset, config=CONFIG | {"training": training}, progress=False)


def test_trained_model_comes_within_2_percent_of_the_exact_log_likelihood(learned):
    dataset, parameters, model = learned
    for names in [("a",), ("b",), ("c",), ("a", "b"), ("a", "b", "c")]:
        estimate = mvae.log_likelihood(model, dataset.test, names, num_samples=200).mean()
        truth = exact_log_likelihood(parameters, dataset.test, names).mean().item()
        assert estimate == pytest.approx(truth, rel=0.02)


def test_trained_model_predicts_an_absent_modality_as_well_as_can_be(learned):
    # E[c | a] is linear and known; the error of the model's mean must come near that of the exact one.
    dataset, parameters, model = learned
    torch.manual_seed(0)
    predicted = model.generate(dataset.test.only(["a"]), ["c"], num_samples=50, mean=True)["c"].mean(0)
    weight = {name: parameters[f"{name}.weight"] for name in SIZES}
    bias = {name: parameters[f"{name}.bias"] for name in SIZES}
    gain = weight["c"] @ weight["a"].T @ torch.linalg.inv(weight["a"] @ weight["a"].T + torch.eye(3))  # scale of a: 1
    best = bias["c"] + (dataset.test.values["a"].double() - bias["a"]) @ gain.T
    errors = [(dataset.test.values["c"] - mean).square().mean().item() for mean in (predicted, best)]
    assert errors[0] < 1.02 * errors[1]


@pytest.mark.parametrize("steps", [1, 7, 500])
def test_beta_rises_in_equal_steps_from_0_to_1_and_stays(steps):
    betas = torch.tensor([annealed_beta(step, steps) for step in range(2 * steps)], dtype=torch.float64)
    assert betas[0] == 0
    assert (betas[steps:] == 1).all()
    torch.testing.assert_close(betas[: steps + 1].diff(), torch.full((min(steps, len(betas) - 1),), 1 / steps).double())


def validated(model, spec, dataset):
    """The validation ELBO of a model as the loop records it."""
    return Loop(model, spec, dataset)._validate(Group(ALONE))["validation/elbo"]


class Recorder(MVAE):
    """Keeps the beta of each step."""

    def loss(self, batch: Batch, beta: float = 1.0) -> Objective:
        self.betas = [*getattr(self, "betas", []), beta]
        return super().loss(batch, beta)


def test_training_passes_the_annealed_beta_of_each_optimiser_step(tmp_path):
    dataset, _ = linear_gaussian_rows(1500)  # 1000 training rows: 10 steps an epoch
    run = prepare(dataset, config=CONFIG, options={("training", "epochs"): 4, ("training", "annealing_epochs"): 2})
    model = Recorder(run.model.modalities, 2)
    Loop(model, run.spec.training, dataset).run()
    assert model.betas == pytest.approx([min(1.0, step / 20) for step in range(40)])


def test_validation_is_the_true_elbo_whatever_the_weights(tmp_path):
    # With beta and lambda at 1, and the weights of the modalities at 7 and 0, the validation number is the same.
    dataset, _ = linear_gaussian_rows(1500)
    run = prepare(dataset, config=CONFIG, options={})
    elbos = []
    for weight in (1.0, 7.0, 0.0):
        for modality in run.model.modalities.values():
            modality.weight = weight
        elbos.append(validated(run.model, run.spec.training, dataset))
    assert elbos[0] == elbos[1] == elbos[2]


def test_every_row_is_seen_once_an_epoch_and_transforms_run_on_training_rows_only(tmp_path):
    dataset, _ = linear_gaussian_rows(1500)
    seen = []

    def record(batch: Batch) -> Batch:
        seen.append(batch.values["a"][:, 0])
        return batch

    dataset = Dataset("recorded", dataset.train, dataset.validation, dataset.test, transform=record)
    run = prepare(dataset, config=CONFIG, options={("training", "epochs"): 2})
    seen.clear()  # of the check
    Loop(run.model, run.spec.training, dataset).run()
    epochs = torch.cat(seen).split(len(dataset.train))
    for epoch in epochs:
        assert torch.equal(epoch.sort().values, dataset.train.values["a"][:, 0].sort().values)
    assert len(epochs) == 2
    assert not torch.equal(*epochs)


def test_best_weights_are_kept(tmp_path):
    dataset, _ = linear_gaussian_rows(1500)
    run = prepare(dataset, config=CONFIG, options={("training", "epochs"): 6, ("training", "learning_rate"): 0.05})
    training = Loop(run.model, run.spec.training, dataset)
    assert not training.run()
    best = max(record["validation/elbo"] for record in training.history)
    assert validated(run.model, run.spec.training, dataset) == best


def test_patience_stops_early(tmp_path):
    dataset, _ = linear_gaussian_rows(1500)
    options = {("training", "epochs"): 200, ("training", "patience"): 2, ("training", "learning_rate"): 0.05}
    run = prepare(dataset, config=CONFIG, options=options)
    training = Loop(run.model, run.spec.training, dataset)
    assert not training.run()
    assert len(training.history) < 200


def test_rows_that_do_not_fit_are_refused_before_training(tmp_path):
    dataset, _ = linear_gaussian_rows(1500)
    dataset.validation.values["b"][3, 1] = float("inf")
    with pytest.raises(ValueError, match="modality 'b', row 3: inf"):
        mvae.fit(dataset, config=CONFIG, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_keep_last_ends_with_the_weights_of_the_last_epoch(tmp_path):
    dataset, _ = linear_gaussian_rows(1500)
    training = {"epochs": 4, "learning_rate": 0.05}
    kept = {
        keep: mvae.fit(
            dataset, config=CONFIG | {"training": training | {"keep": keep}}, out=tmp_path / keep, progress=False
        )
        for keep in ("best", "last")
    }
    last = Checkpoints(tmp_path / "best").read(LAST).weights
    assert all(torch.equal(value, last[name]) for name, value in kept["last"].state_dict().items())


def test_the_learning_rate_follows_the_cosine_and_resumes_in_it(tmp_path, monkeypatch):
    dataset, _ = linear_gaussian_rows(1500)
    rates, step = [], Adam.step
    monkeypatch.setattr(Adam, "step", lambda adam, rate: rates.append(rate) or step(adam, rate))
    for epochs, resume in ((4, False), (4, True)):
        config = None if resume else CONFIG | {"training": {"epochs": epochs, "schedule": "cosine"}}
        run = prepare(dataset, config=config, options={}, out=tmp_path / "run", resume=resume)
        with pytest.MonkeyPatch.context() as patch:
            if not resume:
                patch.setattr(Curves, "add", lambda curves, record, step: stop_after(record, 3))
            with nullcontext() if resume else pytest.raises(RuntimeError, match="stopped"):
                run.train(progress=False)
    expected = [1e-3 * cosine_decay(step, 40) for step in (*range(30), *range(20, 40))]
    assert rates == pytest.approx(expected, rel=1e-12)  # the third epoch was not kept, and is repeated


def stop_after(record, epoch):
    if record["epoch"] == epoch:
        raise RuntimeError("stopped")


def test_completed_rows_add_their_share_of_the_loss(monkeypatch):
    # The step's loss is that of the batch plus weight * share of completed rows * the loss of these rows.
    source = mvae.load_dataset("digits", validation_rows=135, paired_fraction=0.1)
    options = {("training", "completion"): 0.7, ("training", "annealing_epochs"): 0}
    run = prepare("digits", options={("data", "paired_fraction"): 0.1, **options})
    training = Loop(run.model, run.spec.training, source)
    training.steps = 5
    losses = []
    plain = run.model.loss
    monkeypatch.setattr(run.model, "loss", lambda *given: losses.append((given[0], plain(*given))) or losses[-1][1])
    total, _ = training.step(source.train[:50], 0, Group(ALONE))
    (batch, first), (completed, second) = losses
    assert len(completed) == int((~batch.present["label"]).sum())
    torch.testing.assert_close(total, first.loss + 0.7 * len(completed) / 50 * second.loss)


def test_bfloat16_training_leaves_the_likelihood_where_float32_has_it():
    scores = {}
    for precision in ("float32", "bfloat16"):
        model = mvae.fit("digits", epochs=5, precision=precision, paired_fraction=1.0, progress=False)
        assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
        test = mvae.load_dataset("digits").test
        scores[precision] = mvae.log_likelihood(model, test, ["image", "label"], num_samples=100).mean()
    assert scores["float32"] != scores["bfloat16"]
    assert abs(scores["float32"] - scores["bfloat16"]) < 0.1


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_compiled_training_gives_what_eager_training_gives_to_rounding():
    from torch._dynamo.utils import counters  # takes seconds, also where this test is only collected

    before = counters["stats"]["unique_graphs"]
    dataset, _ = linear_gaussian_rows(700)
    changes = {"training": CONFIG["training"] | {"epochs": 3, "annealing_epochs": 1}}
    eager, compiled = (mvae.fit(dataset, config=CONFIG | changes, compile=c, progress=False) for c in (False, True))
    assert counters["stats"]["unique_graphs"] > before
    assert not any(module._compiled_call_impl for module in compiled.modules())
    for name, value in compiled.state_dict().items():
        torch.testing.assert_close(value, eager.state_dict()[name], rtol=1e-4, atol=1e-5)


def test_compiling_without_a_compiler_says_what_is_missing(tmp_path, monkeypatch, capsys):
    # In this process, where the test above has imported what takes a new one ten seconds.
    monkeypatch.setattr("torch._inductor.config.cpp.cxx", (str(tmp_path / "none"),))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))
    assert main(["fit", "digits", "--compile", "--out", str(tmp_path / "run")]) == 2
    said = capsys.readouterr().err
    assert "mvae: compiling the networks failed; train without it, or see to: " in said
    assert "C++ compiler" in said
    assert "Traceback" not in said


def test_best_by_keeps_the_epoch_that_predicts_the_category_best():
    options = {("training", "best_by"): "label", ("training", "keep"): "best", ("training", "epochs"): 8}
    run = prepare("digits", options=options)
    outcome = run.train_to_the_end(progress=False)
    found = [record["validation/accuracy"] for record in outcome.history]
    assert outcome.kept["epoch"] == 8 - found[::-1].index(max(found))  # of equally good ones the last
    validation = run.dataset.validation
    paired = validation[validation.presence(["image", "label"]).all(1)]
    guesses = classify(run.model, paired.only(["image"]), "label", estimator="decoder", num_samples=500).argmax(1)
    # The epoch was judged by a few draws only, which move some guesses.
    assert (guesses == paired.values["label"]).double().mean().item() == pytest.approx(max(found), abs=0.06)


def test_best_by_is_kept_whatever_the_recipe_keeps(tmp_path):
    mvae.fit("digits", best_by="label", epochs=1, out=tmp_path / "run", progress=False)
    assert (mvae.config.folder.read_spec(tmp_path / "run")).training.keep == "best"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"best_by": "image"}, "training.best_by: expected a category or string that 'mvae' models .label.: 'image'"),
        ({"best_by": "label", "method": "vae"}, "training.best_by: expected a category or string .*has none"),
        ({"best_by": "label", "method": "vae", "target": "label"}, "'vae' has nothing but 'label' to predict it from"),
        ({"config": {"training": {"best_by": "label"}}}, "best_by: the last epoch is kept .training.keep: last."),
        (
            {"propagation": 1.0, "method": "jmvae"},
            "training.propagation: 'jmvae' learns from no row with a missing category",
        ),
        ({"balance": "label", "paired_fraction": 1.0}, "balance: all rows stay paired"),
        (
            {"best_by": "label", "paired_fraction": 0.0},
            "no validation row has 'label' and something to predict it from",
        ),
    ],
)
def test_options_that_cannot_do_what_they_say_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        mvae.fit("digits", progress=False, **changes)


def test_smoothing_adds_its_share_of_the_loss_once_annealing_is_over(monkeypatch):
    source = mvae.load_dataset("digits", paired_fraction=0.1)
    options = {("training", "smoothness"): 3.0, ("training", "radius"): 0.5, ("training", "completion"): 0.0}
    run = prepare("digits", options={**options, ("training", "annealing_epochs"): 1})
    training = Loop(run.model, run.spec.training, source)
    seen = []
    monkeypatch.setattr(terms, "roughness", lambda model, batch, radius: seen.append(radius) or torch.tensor(0.25))
    added = {}
    for training.steps in (1, 1000):
        loss, objective = training.step(source.train[:50], 0, Group(ALONE))
        added[training.steps] = (loss - objective.loss).item()
    assert seen == [0.5]
    assert added == {1: 0, 1000: pytest.approx(0.75, abs=1e-4)}
