import math

import pytest
import torch
from sklearn.metrics import accuracy_score
from torch import Tensor, nn

import mvae
from mvae.batch import Batch
from mvae.cli.display import print_report
from mvae.evaluation.classification import proportion_interval
from mvae.evaluation.likelihood import NOISE_BLOCK
from mvae.evaluation.report import evaluate
from mvae.likelihoods import Categorical, Normal
from mvae.modality import Decoder, Modality
from mvae.models import CVAE, JMVAE, MVAEQ, TELBO, VAE, BiVCCA
from small_models import build, complete_rows, rows_with_holes

GRID = torch.linspace(-12, 12, 20_001, dtype=torch.float64)
SLOPE, NOISE = 0.8, 0.7


class Expert(nn.Module):
    """A Gaussian expert, wrong on purpose, so that weights matter."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return 0.5 * x, torch.full_like(x, 1.0)


class LabelExpert(nn.Module):
    def forward(self, y: Tensor) -> tuple[Tensor, Tensor]:
        return torch.zeros(len(y), 1), torch.zeros(len(y), 1)


def model(weight: float = 1.0) -> mvae.MVAE:
    """z on a line, x = SLOPE z + noise, three classes by logits linear in z."""
    see, name = nn.Linear(1, 1), nn.Linear(1, 3)
    see.weight.data, see.bias.data = torch.tensor([[SLOPE]]), torch.zeros(1)
    name.weight.data, name.bias.data = torch.tensor([[2.0], [0.0], [-1.5]]), torch.tensor([0.0, 0.4, -0.3])
    modalities = {
        "x": Modality(Expert(), Decoder(see, Normal((1,), NOISE)), 1, weight),
        "y": Modality(LabelExpert(), Decoder(name, Categorical(3)), 1),
    }
    return mvae.MVAE(modalities, 1).eval()


def class_probabilities() -> Tensor:
    logits = GRID[:, None] * torch.tensor([2.0, 0.0, -1.5]) + torch.tensor([0.0, 0.4, -0.3])
    return logits.double().softmax(1)


def exact(x: Tensor, weight: float) -> Tensor:
    """p(y | x) by integration over z, with p(x | z) to the power of its weight."""
    likelihood = -0.5 * weight * ((x.double() - SLOPE * GRID) / NOISE).square()
    density = (likelihood - 0.5 * GRID.square()).softmax(1)
    return density @ class_probabilities()


@pytest.mark.parametrize("weight", [1.0, 3.0, 0.3])
def test_importance_weighted_prediction_is_the_exact_one(weight):
    x = torch.tensor([[-2.0], [0.0], [0.7], [2.5]])
    predicted = mvae.classify(model(weight), Batch({"x": x}), "y", estimator="importance", num_samples=200_000)
    torch.testing.assert_close(predicted, exact(x, weight), atol=6e-3, rtol=0)


def test_decoder_prediction_averages_over_the_posterior():
    x = torch.tensor([[-2.0], [0.7]])
    predicted = mvae.classify(model(), Batch({"x": x}), "y", estimator="decoder", num_samples=100_000)
    precision = 1 + math.exp(-1)
    density = (-0.5 * precision * (GRID - 0.5 * x.double() * math.exp(-1) / precision).square()).softmax(1)
    torch.testing.assert_close(predicted, density @ class_probabilities(), atol=6e-3, rtol=0)


def test_a_row_with_nothing_given_gets_the_marginal():
    x = torch.tensor([[math.nan], [1.0]])
    batch = Batch({"x": x}, {"x": torch.tensor([False, True])})
    predicted = mvae.classify(model(), batch, "y", estimator="importance", num_samples=100_000)
    marginal = (-0.5 * GRID.square()).softmax(0) @ class_probabilities()
    torch.testing.assert_close(predicted[0], marginal, atol=6e-3, rtol=0)
    torch.testing.assert_close(predicted[1:], exact(x[1:], 1.0), atol=6e-3, rtol=0)


@pytest.mark.parametrize("estimator", ["importance", "decoder"])
def test_the_targets_own_values_are_not_read_and_memory_changes_nothing(estimator):
    x = torch.randn(2, 1, generator=torch.Generator().manual_seed(0))
    known = Batch({"x": x, "y": torch.tensor([0, 2])})
    options = {"estimator": estimator, "num_samples": NOISE_BLOCK + 1}
    reference = mvae.classify(model(), Batch({"x": x}), "y", **options)
    torch.testing.assert_close(mvae.classify(model(), known, "y", **options), reference)
    torch.testing.assert_close(mvae.classify(model(), known, "y", memory=1, **options), reference)
    torch.testing.assert_close(reference.sum(1), torch.ones(2).double())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": "x"}, r"expected a categorical modality of this model \(y\), got 'x'"),
        ({"target": "nothing"}, "got 'nothing'"),
        ({"target": "y", "given": ["y"]}, "cannot be both predicted and given"),
        ({"target": "y", "given": ["z"]}, "none of z"),
        ({"target": "y", "estimator": "guess"}, "'importance' or 'decoder'"),
    ],
)
def test_bad_questions_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        mvae.classify(model(), Batch({"x": torch.zeros(2, 1)}), **options)


def test_interval_covers_as_often_as_it_says():
    generator = torch.Generator().manual_seed(0)
    for truth in (0.5, 0.9, 0.98):
        successes = torch.binomial(torch.full((4000,), 200.0), torch.full((4000,), truth), generator=generator)
        covered = [low <= truth <= high for low, high in (proportion_interval(int(s), 200) for s in successes)]
        assert 0.93 < sum(covered) / len(covered) < 0.98


def test_report_says_what_the_estimators_say():
    torch.manual_seed(0)
    drawn = model().generate(None, None, 300)
    rows = Batch({name: values[:, 0] for name, values in drawn.items()})
    report = evaluate(model(), rows, num_samples=50)
    by_targets = {tuple(score["targets"]): score for score in report["log_likelihood"]}
    assert set(by_targets) == {("x",), ("y",), ("x", "y")}
    for targets, score in by_targets.items():
        estimate = mvae.log_likelihood(model(), rows, targets, num_samples=50)
        assert score["nats"] == pytest.approx(estimate.mean())
        assert score["standard_error"] == pytest.approx(estimate.value.std().item() / math.sqrt(300))
        assert score["effective_sample_size"] == pytest.approx(estimate.effective_sample_size.mean().item())
        assert score["prior_share"] == 12 / 50
    (accuracy,) = report["accuracy"]
    predicted = mvae.classify(model(), rows, "y", ["x"], num_samples=accuracy["samples"]).argmax(1)
    assert accuracy["accuracy"] == pytest.approx(accuracy_score(rows.values["y"], predicted))
    assert accuracy["interval"][0] < accuracy["accuracy"] < accuracy["interval"][1]


def test_it_is_said_once_where_few_samples_count(capsys):
    x = torch.linspace(-2, 2, 20).unsqueeze(1)
    rows = Batch({"x": x, "y": torch.arange(20) % 3})
    report = {"split": "test"} | evaluate(model(), rows, num_samples=200)
    print_report(report, "rows")
    assert "few samples count" not in capsys.readouterr().out
    for score, size in zip(report["log_likelihood"], (9.9, 10.1, 3.0), strict=True):
        score["effective_sample_size"] = size
    print_report(report, "rows")
    (said,) = (line for line in capsys.readouterr().out.splitlines() if "few samples count" in line)
    assert "few samples count for log p(x) and log p(x, y) (under 5 % effective)" in said
    assert "try --samples 2000" in said


# Other methods


@pytest.mark.parametrize("method", [BiVCCA, JMVAE, TELBO])
@pytest.mark.parametrize("weight", [1.0, 3.0])
def test_prediction_by_methods_of_two_modalities_is_the_exact_one(method, weight):
    # q(z | x) comes from the encoder of x: neither the label nor the joint encoder plays a part
    joint = [] if method is BiVCCA else [nn.Module()]
    other = method(model(weight).modalities, 1, *joint).eval()
    x = torch.tensor([[-2.0], [0.0], [0.7], [2.5]])
    for batch in (Batch({"x": x}), Batch({"x": x, "y": torch.tensor([2, 0, 1, 1])})):
        predicted = mvae.classify(other, batch, "y", estimator="importance", num_samples=100_000)
        torch.testing.assert_close(predicted, exact(x, weight), atol=8e-3, rtol=0)


def test_an_evaluation_asks_of_each_method_what_it_can_answer():
    two = ["log p(vector)", "log p(label)", "log p(vector, label)", "accuracy of label"]
    conditional = ["log p(vector | label)"]
    for method, expected in [
        (VAE, ["log p(vector)"]),
        (CVAE, conditional),
        *((m, two) for m in (BiVCCA, JMVAE, TELBO, MVAEQ)),
    ]:
        other = build(method).float().eval()
        rows = complete_rows(build(BiVCCA))
        report = evaluate(other, rows, num_samples=5)
        asked = []
        for score in report["log_likelihood"]:
            behind = f" | {', '.join(score['given'])}" if score["given"] else ""
            asked.append(f"log p({', '.join(score['targets'])}{behind})")
            estimate = mvae.log_likelihood(
                other, rows.only(other.names), score["targets"], score["given"], num_samples=5
            )
            assert score["nats"] == pytest.approx(estimate.mean())
            assert score["rows"] == len(rows)
        assert asked + [f"accuracy of {part['target']}" for part in report["accuracy"]] == expected


def test_an_evaluation_of_a_cvae_counts_the_rows_that_have_its_condition():
    other = build(CVAE).float().eval()
    (score,) = evaluate(other, rows_with_holes(other), num_samples=5)["log_likelihood"]
    assert score["rows"] == 2
