"""TELBO: the terms of both stages written with torch.distributions, and what is frozen when."""

import copy

import pytest
import torch

import mvae
from mvae.adam import Adam
from mvae.config.folder import METRICS
from mvae.files import read_json
from mvae.models import TELBO
from mvae.training.loop import Loop
from mvae.training.prepare import prepare
from small_models import assert_same_objective, bound, build, complete_rows, gaussian, rows_with_holes

BOTH = ("vector", "label")


def encoded(model, batch, names):
    if len(names) == 2:
        return gaussian(model.joint_encoder(*(batch.values[name] for name in BOTH)))
    return gaussian(model.modalities[names[0]].encoder(batch.values[names[0]]))


def bounds(model, batch, subsets, draws, beta, weighted=True):
    return torch.stack(
        [
            bound(model, encoded(model, batch, names), draw, batch, names, beta, weighted)
            for names, draw in zip(subsets, draws, strict=True)
        ]
    )


STAGES = [[BOTH], [("vector",), ("label",)]]


@pytest.mark.parametrize("stage", [0, 1])
@pytest.mark.parametrize("beta", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("holes", [False, True])
def test_the_first_stage_has_the_joint_term_and_the_second_the_others(noise, stage, beta, holes):
    model = build(TELBO)
    model.enter_stage(stage)
    batch = rows_with_holes(model) if holes else complete_rows(model)
    objective = model.loss(batch, beta)
    whole = batch[batch.present["vector"] & batch.present["label"]]
    terms = bounds(model, whole, STAGES[stage], noise[0], beta)
    elbo = bounds(model, whole, STAGES[stage][:1], noise[0][:1], 1.0, weighted=False)[0]
    assert_same_objective(model, objective, terms, elbo)


@pytest.mark.parametrize("stage", [0, 1])
def test_the_elbo_is_the_sum_of_all_three_in_either_stage(noise, stage):
    model = build(TELBO)
    model.enter_stage(stage)
    batch = complete_rows(model)
    elbo = model.elbo(batch)
    three = bounds(model, batch, [BOTH, ("vector",), ("label",)], noise[0], 1.0, weighted=False)
    torch.testing.assert_close(elbo, three.sum(0))


def parts(model):
    """Parameters of what the first stage fits, and of what the second does."""
    first = [*model.joint_encoder.parameters()]
    first += [part for modality in model.modalities.values() for part in modality.decoder.parameters()]
    return first, [part for modality in model.modalities.values() for part in modality.encoder.parameters()]


@pytest.mark.parametrize("stage", [0, 1])
def test_only_the_parts_of_a_stage_get_gradients(stage):
    model = build(TELBO)
    model.enter_stage(stage)
    model.loss(complete_rows(model)).loss.backward()
    fitted, others = parts(model) if stage == 0 else reversed(parts(model))
    assert all(part.grad is not None and part.grad.any() for part in fitted)
    assert all(part.grad is None for part in others)


def test_back_in_the_first_stage_everything_learns_again():
    model = build(TELBO).eval()
    model.enter_stage(1)
    assert not all(part.requires_grad for part in model.parameters())
    model.enter_stage(0)
    assert all(part.requires_grad for part in model.parameters())
    assert not model.training
    assert all(module.training for module in model.train().modules())


def test_in_the_second_stage_what_is_frozen_gathers_no_statistics():
    model = build(TELBO, batch_norm=True).train()
    before = copy.deepcopy(dict(model.named_buffers()))
    batch = complete_rows(model)
    model.loss(batch)
    joint = {name for name, value in model.named_buffers() if not torch.equal(value, before[name])}
    assert joint
    assert all(name.startswith("joint_encoder") for name in joint)
    before = copy.deepcopy(dict(model.named_buffers()))
    model.enter_stage(1)
    model.train()  # as the training loop calls it
    model.loss(batch)
    model.posterior(batch)
    changed = {name for name, value in model.named_buffers() if not torch.equal(value, before[name])}
    assert changed
    assert not any(name.startswith("joint_encoder") for name in changed)


# In training


BATCH_NORM = {"kind": "conv", "layers": [[4, 3, 2, 1], [4, 3, 2, 1]], "hidden": 8, "batch_norm": True}
DENSE = {"kind": "mlp", "hidden": [8]}
CONFIG = {
    "model": {
        "modalities": {
            "image": {"encoder": BATCH_NORM, "decoder": BATCH_NORM},
            "label": {"encoder": {"hidden": [8]}, "decoder": DENSE},
        }
    },
    "training": {"batch_size": 400, "keep": "best", "annealing_epochs": 0},
}
EPOCHS = 5  # the first stage has three


@pytest.fixture(scope="module")
def states(tmp_path_factory):
    """Of each epoch on digits, with batch normalisation: the state after it, and which parameters had gradients in it.

    Then the trained model and its folder.
    """
    folder = tmp_path_factory.mktemp("telbo") / "run"
    options = {("model", "method"): "telbo", ("training", "epochs"): EPOCHS, ("training", "learning_rate"): 0.01}
    run = prepare("digits", options=options, config=CONFIG, out=folder)
    seen, gradients, epoch, step = [], set(), Loop._epoch, Adam.step

    def stepped(adam, learning_rate):
        gradients.update(name for name, part in run.model.named_parameters() if part.grad is not None)
        step(adam, learning_rate)

    def ended(loop, *arguments):
        record = epoch(loop, *arguments)
        seen.append((copy.deepcopy(loop.model.state_dict()), frozenset(gradients)))
        gradients.clear()
        return record

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Adam, "step", stepped)
        patch.setattr(Loop, "_epoch", ended)
        run.train(progress=False)
    return seen, run.model, folder


def changed(before, after):
    return {name for name in before if not torch.equal(before[name], after[name])}


def of_the_first_stage(name):
    return name.startswith("joint_encoder") or ".decoder." in name


def test_each_stage_changes_its_own_parts_alone(states):
    epochs = [state for state, _ in states[0]]
    first = set().union(*(changed(epochs[index - 1], epochs[index]) for index in (1, 2)))
    second = set().union(*(changed(epochs[index - 1], epochs[index]) for index in (3, 4)))
    assert first == {name for name in epochs[0] if of_the_first_stage(name)}
    assert second == {name for name in epochs[0] if not of_the_first_stage(name)}


def test_frozen_parts_have_no_gradients(states):
    gradients = [found for _, found in states[0]]
    assert all(of_the_first_stage(name) for found in gradients[:3] for name in found)
    assert not any(of_the_first_stage(name) for found in gradients[3:] for name in found)
    assert all(gradients)


def test_the_epoch_kept_is_of_the_second_stage(states):
    seen, model, folder = states
    metrics = read_json(folder / METRICS)
    assert metrics["kept"]["epoch"] > 3
    kept = seen[metrics["kept"]["epoch"] - 1][0]
    assert not changed(kept, model.state_dict())


def test_after_training_everything_learns_again(states):
    _, model, _ = states
    assert all(part.requires_grad for part in model.parameters())
    assert model.stage == 0
    assert not any(module.training for module in model.modules())


def test_a_resumed_training_goes_on_in_its_stage(states, tmp_path, monkeypatch):
    options = {("model", "method"): "telbo", ("training", "epochs"): EPOCHS, ("training", "learning_rate"): 0.01}
    epoch = Loop._epoch

    def stopped(loop, *arguments):
        if len(loop.history) == 4:
            raise RuntimeError("killed")
        return epoch(loop, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Loop, "_epoch", stopped)
        with pytest.raises(RuntimeError, match="killed"):
            prepare("digits", options=options, config=CONFIG, out=tmp_path / "run").train(progress=False)
    model = mvae.fit("digits", out=tmp_path / "run", resume=True, progress=False)
    assert not changed(model.state_dict(), states[1].state_dict())


def test_patience_does_not_end_the_first_stage_for_want_of_the_second():
    # the first stage's decoders move away from encoders that it leaves alone: L(x_1) and L(x_2) fall meanwhile
    options = {("model", "method"): "telbo", ("training", "epochs"): 20, ("training", "learning_rate"): 0.01}
    run = prepare("digits", options=options, config={"training": {"patience": 2, "keep": "best"}})
    assert len(run.train(progress=False).history) > 10


def test_an_epoch_of_the_first_stage_is_never_the_best():
    # its encoders of one modality are as they were at the start, however good the sum of the three bounds looks
    options = {("model", "method"): "telbo", ("training", "epochs"): 6, ("training", "learning_rate"): 0.003}
    outcome = prepare("digits", options=options, config={"training": {"keep": "best"}}).train(progress=False)
    assert outcome.kept["epoch"] > 3
