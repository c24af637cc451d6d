"""Log-likelihoods, and variances of the log importance weights, of the models that the paper compares."""

import math
from collections.abc import Sequence
from typing import Any

import torch

from mvae.batch import Batch
from mvae.evaluation.likelihood import (
    LogLikelihood,
    LogMoments,
    conditional,
    importance_draws,
    marginal_likelihoods,
)
from mvae.models import MultimodalVAE
from mvae.posteriors import log_prior

IMAGE = ("image",)


def main_entries(estimates: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The estimates beside the paper's: by q(z | image), the conditional's second term from the prior."""
    chosen = {}
    for entry in estimates:
        own = entry["quantity"] == "conditional" and entry["second"] is None  # the CVAE's
        if own or (entry["proposal"] == ["image"] and entry["second"] in (None, "prior")):
            chosen[entry["quantity"]] = entry
    return list(chosen.values())


@torch.inference_mode()
def scores(model: MultimodalVAE, rows: Batch, count: int, prior_count: int) -> list[dict[str, Any]]:
    """All that Tables 2 and 3 ask of a model, from so many samples a row."""
    if model.conditions:
        (own,) = marginal_likelihoods(model, rows, [IMAGE], model.names, count)
        return [_entry("conditional", own)]
    label = tuple(name for name in model.names if name not in IMAGE)
    if not label:
        (own,) = marginal_likelihoods(model, rows, [IMAGE], IMAGE, count)
        return [_entry("marginal", own)]
    entries, joints = [], []
    for proposal in (IMAGE, IMAGE + label, label):
        image, joint, variance = _under(model, rows, label, proposal, count)
        entries += [] if proposal == label else [_entry("marginal", image), _entry("joint", joint)]
        entries += [_entry("conditional", variance, second="q(z | label)")] if proposal == IMAGE else []
        joints.append(joint)
    (from_prior,) = marginal_likelihoods(model, rows, [label], (), prior_count, seed=1)
    (from_label,) = marginal_likelihoods(model, rows, [label], label, count, seed=1)
    for joint in joints:
        entries.append(_entry("conditional", conditional(joint, from_prior), second="prior"))
        entries.append(_entry("conditional", conditional(joint, from_label), second="importance"))
    return entries


def _under(
    model: MultimodalVAE, rows: Batch, label: tuple[str, ...], proposal: tuple[str, ...], count: int
) -> tuple[LogLikelihood, LogLikelihood, LogLikelihood]:
    """log p(image), log p(image, label), and the weights p(image | z) q(z | label) / q(z | proposal), by one proposal.

    The last is a reading of Table 3's conditional weight p(x1, z | x2) / q(z | x1) in which the model's own q(z | x2)
    takes the place of p(z | x2). With the true p(z | x2) that weight is the joint's over the constant p(x2).
    """
    moments = [LogMoments(len(rows)) for _ in range(3)]
    checked = model.checked(rows)
    for draws in importance_draws(model, checked, IMAGE + label, proposal, count):
        z = draws.z.double()
        towards_label = model.q(checked[draws.rows], label).log_prob(z) - log_prior(z)
        alone = draws.log_weights(IMAGE)
        weights = alone, draws.log_weights(IMAGE + label), alone + towards_label
        for moment, weight in zip(moments, weights, strict=True):
            moment.add(draws.rows, weight)
    absent = torch.zeros(len(rows), dtype=torch.bool)
    image, joint, reading = (moment.estimate(proposal, count, absent) for moment in moments)
    return image, joint, reading


def _entry(quantity: str, estimate: LogLikelihood, second: str | None = None) -> dict[str, Any]:
    """An estimate as a JSON-ready record; `second` is how log p(label) of the conditional was found.

    The proposal is told by image and label, whatever the label is made of.
    """

    def error(values: torch.Tensor) -> float:
        return (values.std() / math.sqrt(len(values))).item()

    return {
        "quantity": quantity,
        "proposal": list(dict.fromkeys("image" if name in IMAGE else "label" for name in estimate.proposal)),
        "second": second,
        "samples": estimate.num_samples,
        "nats": estimate.mean(),
        "error": error(estimate.value),
        "monte_carlo_error": estimate.standard_error.square().sum().sqrt().item() / len(estimate.value),
        "variance": estimate.log_weight_variance.mean().item(),
        "variance_error": error(estimate.log_weight_variance),
        "effective_sample_size": estimate.effective_sample_size.mean().item(),
        "values": [round(value, 3) for value in estimate.value.tolist()],
    }
