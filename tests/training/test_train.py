"""Models with networks of one's own: trained, continued, saved and loaded, from rows of any kind."""

import json
import math

import pytest
import torch
from torch import nn
from torch.distributions import Independent, Normal, Poisson
from torch.utils.data import DataLoader, TensorDataset

import mvae
from mvae.cli import main
from mvae.config.specs import SpecError
from mvae.evaluation.report import evaluate
from mvae.export import export
from mvae.files import RunError
from mvae.generation.sample import draw


class Encoder(nn.Module):
    """Counts to an expert."""

    def __init__(self, width=5, hidden=4):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(width, hidden), nn.Tanh(), nn.Linear(hidden, 6))

    def forward(self, x):
        return self.layers(x.log1p()).chunk(2, -1)


class Counts(nn.Module):
    """z to Poisson distributions."""

    def __init__(self, width=5):
        super().__init__()
        self.layer = nn.Linear(3, width)

    def forward(self, z):
        return Independent(Poisson(self.layer(z).exp()), 1)


class Number(nn.Module):
    """z to one normal distribution."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 1)

    def forward(self, z):
        return Independent(Normal(self.layer(z), torch.ones(1)), 1)


def build(width=5, hidden=4):
    torch.manual_seed(0)
    number = nn.Sequential(nn.Linear(1, 6), Chunk())
    parts = {"counts": (Encoder(width, hidden), Counts(width)), "number": (number, Number())}
    return mvae.MVAE({name: mvae.Modality(*each, latent_dim=3) for name, each in parts.items()}, latent_dim=3)


class Chunk(nn.Module):
    def forward(self, x):
        return x.chunk(2, -1)


def rows(count=64, seed=0):
    """Counts and a number that go together; a third of the rows lack each."""
    generator = torch.Generator().manual_seed(seed)
    level = torch.rand(count, 1, generator=generator)
    counts = torch.poisson(5 * level.expand(-1, 5), generator=generator)
    present = {name: torch.rand(count, generator=generator) > 1 / 3 for name in ("counts", "number")}
    present["number"] |= ~present["counts"]
    return mvae.Batch({"counts": counts, "number": level}, present)


def data():
    return mvae.Dataset("own", rows(), rows(40, 1), rows(40, 2))


OPTIONS = {"epochs": 4, "batch_size": 16, "learning_rate": 0.01, "annealing_epochs": 2, "seed": 3, "progress": False}


def same(first, second):
    return all(torch.equal(value, second.state_dict()[name]) for name, value in first.state_dict().items())


def test_an_own_model_learns_and_is_returned_ready_to_answer():
    model, test = build(), rows(200, 5)
    before = mvae.log_likelihood(model, test, ["counts", "number"]).mean()
    trained = mvae.train(model, rows(400), epochs=12, batch_size=32, learning_rate=0.02, progress=False)
    assert trained is model
    assert not model.training
    assert mvae.log_likelihood(model, test, ["counts", "number"]).mean() > before + 1


def test_the_run_it_leaves_fills_a_model_that_is_built_anew(tmp_path):
    model = mvae.train(build(), data(), out=tmp_path / "run", **OPTIONS)
    loaded = mvae.load(tmp_path / "run", model=build())
    assert same(model, loaded)
    names, test = ["counts", "number"], rows(20, 7)
    scores = [mvae.log_likelihood(one, test, names, num_samples=10).value for one in (model, loaded)]
    assert torch.equal(*scores)
    content = json.loads((tmp_path / "run" / "config.json").read_text())
    assert content["model"] == {
        "own": "MVAE",
        "latent_dim": 3,
        "modalities": {"counts": {"shape": [5], "weight": 1.0}, "number": {"shape": [1], "weight": 1.0}},
    }
    history = json.loads((tmp_path / "run" / "metrics.json").read_text())["history"]
    assert [record["epoch"] for record in history] == [1, 2, 3, 4]
    assert all(math.isfinite(record["validation/elbo"]) for record in history)


def test_a_run_needs_its_model_and_refuses_anothers(tmp_path, capsys):
    mvae.train(build(), data(), out=tmp_path / "run", **OPTIONS)
    with pytest.raises(SpecError, match=r"a run of a model of your own, MVAE; .*mvae.load\(run, model=...\)"):
        mvae.load(tmp_path / "run")
    assert main(["evaluate", str(tmp_path / "run")]) == 2
    assert "a run of a model of your own" in capsys.readouterr().err
    with pytest.raises(RunError, match=r"model.safetensors: tensor '.*counts.*' has shape .*, the model has"):
        mvae.load(tmp_path / "run", model=build(width=4))
    one = mvae.VAE({"counts": mvae.Modality(Encoder(), Counts(), latent_dim=3)}, latent_dim=3)
    with pytest.raises(RunError, match=r"tensor '.*number.*' is not part of the model"):
        mvae.load(tmp_path / "run", model=one)


def test_it_evaluates_samples_generates_and_exports(tmp_path):
    model = mvae.train(build(), data(), out=tmp_path / "run", **OPTIONS)
    assert {tuple(score["targets"]) for score in evaluate(model, rows(20, 7), 20)["log_likelihood"]} == {
        ("counts",),
        ("number",),
        ("counts", "number"),
    }
    assert draw(model, {"number": torch.tensor([0.5])}, 7)["counts"].shape == (7, 5)
    assert model.generate({"number": torch.tensor([0.5])}, "counts", 3)["counts"].shape == (3, 1, 5)
    export(tmp_path / "run", tmp_path / "run.zip")
    assert same(model, mvae.load(tmp_path / "run.zip", model=build()))
    with pytest.raises(RunError, match=r"programs: .*model"):
        export(tmp_path / "run", tmp_path / "other", programs=True)
    names = export(tmp_path / "run", tmp_path / "programs", programs=True, model=build())
    assert "programs/counts.encoder.pt2" in names


def test_a_run_continues_bit_for_bit_and_only_as_it_was_started(tmp_path):
    whole = mvae.train(build(), data(), out=tmp_path / "whole", **OPTIONS)
    mvae.train(build(), data(), out=tmp_path / "run", **OPTIONS | {"epochs": 2})
    torch.manual_seed(9)  # what stands in the model is replaced
    resumed = mvae.train(build(), data(), out=tmp_path / "run", resume=True, **OPTIONS)
    assert same(whole, resumed)
    for name in ("model.safetensors", "metrics.json", "config.json"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    with pytest.raises(RunError, match=r"training.seed = 3; it cannot be resumed with 4"):
        mvae.train(build(), data(), out=tmp_path / "run", resume=True, **OPTIONS | {"seed": 4})
    with pytest.raises(RunError, match=r"model.modalities.counts.shape = \[5\]; it cannot be resumed with \[4\]"):
        mvae.train(build(4), rows()[:10], out=tmp_path / "run", resume=True, **OPTIONS)
    files = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*.*")}
    own = r"last.safetensors: tensor '.*counts.encoder.layers.0.bias' has shape \(4,\), the model has \(7,\)"
    with pytest.raises(RunError, match=own):
        mvae.train(build(hidden=7), data(), out=tmp_path / "run", resume=True, **OPTIONS)
    assert files == {path: path.read_bytes() for path in (tmp_path / "run").rglob("*.*")}
    with pytest.raises(RunError, match="has 4 epochs already"):
        mvae.train(build(), data(), out=tmp_path / "run", resume=True, **OPTIONS | {"epochs": 3})
    with pytest.raises(RunError, match="holds a run already"):
        mvae.train(build(), data(), out=tmp_path / "run", **OPTIONS)


def items(batch):
    """Each row as a mapping: what it lacks is None, NaN, left out or masked, in turn."""
    found = []
    for row in range(len(batch)):
        values, masks = {name: value[row] for name, value in batch.values.items()}, {}
        for name in batch.values:
            if not batch.present[name][row]:
                kind = row % 4
                if kind == 0:
                    values[name] = None
                elif kind == 1:
                    values[name] = torch.full_like(batch.values[name][row], math.nan)
                elif kind == 2:
                    del values[name]
                else:
                    masks[name] = False
        found.append((values, masks) if masks else values)
    return found


def test_a_torch_dataset_of_rows_is_learned_as_a_batch_is():
    expected = mvae.train(build(), mvae.Dataset("own", rows(), rows(40, 1), rows(1)), **OPTIONS)
    found = mvae.train(build(), items(rows()), items(rows(40, 1)), **OPTIONS)
    assert same(expected, found)


def collated(batch):
    """B rows as a mapping of tensors, NaN where missing."""
    return {
        name: torch.where(batch.present[name].unsqueeze(1), value, math.nan) for name, value in batch.values.items()
    }


def test_a_dataloader_is_read_in_its_own_order_and_repeats(tmp_path):
    everything = rows()
    options = {name: value for name, value in OPTIONS.items() if name != "batch_size"}

    def loader(shuffle):
        return DataLoader(
            TensorDataset(*collated(everything).values()),
            batch_size=16,
            shuffle=shuffle,
            collate_fn=lambda pairs: dict(
                zip(everything.values, map(torch.stack, zip(*pairs, strict=True)), strict=True)
            ),
        )

    models = [mvae.train(build(), loader(True), loader(False), **options) for _ in range(2)]
    assert same(*models)
    mvae.train(build(), loader(True), out=tmp_path / "run", **options | {"epochs": 2})
    mvae.train(build(), loader(True), out=tmp_path / "run", resume=True, **options)
    whole = mvae.train(build(), loader(True), **options)
    assert same(whole, mvae.load(tmp_path / "run", model=build()))
    with pytest.raises(ValueError, match="batch_size: the DataLoader has its own"):
        mvae.train(build(), loader(True), **OPTIONS)


def test_masks_stand_beside_values():
    batch = rows()
    pairs = [(dict(batch[start : start + 16].values), dict(batch[start : start + 16].present)) for start in (0, 16)]
    loader = DataLoader(pairs, batch_size=None)
    model = mvae.train(build(), loader, epochs=1, progress=False)
    assert all(parameter.isfinite().all() for parameter in model.parameters())


@pytest.mark.parametrize("kind", ["batch", "rows", "loader"])
def test_a_name_that_the_model_does_not_have_is_an_error(kind):
    wrong = mvae.Batch({"cuonts": rows().values["counts"]})
    given = {"batch": wrong, "rows": items(wrong), "loader": DataLoader([dict(wrong.values)], batch_size=None)}[kind]
    with pytest.raises(ValueError, match="unknown modality 'cuonts'; this model has counts, number"):
        mvae.train(build(), given, epochs=1, progress=False)


@pytest.mark.parametrize("kind", ["batch", "rows"])
def test_values_that_do_not_fit_name_the_modality(kind):
    wrong = mvae.Batch({"counts": torch.ones(8, 4)})
    with pytest.raises(ValueError, match=r"modality 'counts': expected rows of shape \(5,\), got rows of shape \(4,\)"):
        mvae.train(build(), wrong if kind == "batch" else items(wrong), epochs=1, progress=False)
    negative = mvae.Batch({"counts": -torch.ones(8, 5)})
    with pytest.raises(ValueError, match=r"modality 'counts', row 0: -1 is outside the support"):
        mvae.train(build(), negative if kind == "batch" else items(negative), epochs=1, progress=False)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"epochs": 0}, "epochs: input should be greater than 0, got 0"),
        ({"patience": 3}, "patience: there are no validation rows to get better on"),
        ({"best_by": "counts"}, "best_by: expected a category or string that 'MVAE' models .has none."),
        ({"shares": {"complete": 0.5}, "data": "rows"}, "shares: rows that are not in memory are read in their order"),
        ({"validation_rows": 5, "data": "rows"}, "validation_rows: only rows of a Batch can be held out"),
        ({"data": "mapping"}, "data: expected a Batch, .*got dict"),
    ],
)
def test_options_that_cannot_be_are_refused_before_anything_is_written(options, words, tmp_path):
    options = dict(options)
    given = {"rows": items(rows()), "mapping": {"counts": 1}}.get(options.pop("data", ""), rows())
    with pytest.raises(ValueError, match=words):
        mvae.train(build(), given, out=tmp_path / "run", progress=False, **options)
    assert not (tmp_path / "run").exists()


def test_an_unknown_option_is_refused():
    with pytest.raises(TypeError, match="learnin_rate"):
        mvae.train(build(), rows(), learnin_rate=0.1)


def test_rows_are_held_out_to_choose_the_epoch(tmp_path):
    mvae.train(build(), rows(), validation_rows=10, out=tmp_path / "run", **OPTIONS)
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["kept"] == max(metrics["history"], key=lambda record: record["validation/elbo"])
