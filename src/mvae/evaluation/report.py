"""The scores of a trained model on held-out rows, as one JSON-ready record."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

from mvae.batch import Batch
from mvae.evaluation.classification import classify, proportion_interval
from mvae.evaluation.likelihood import log_likelihood
from mvae.models import MultimodalVAE

__all__ = ["CLASSIFICATION_SAMPLES", "evaluate"]

CLASSIFICATION_SAMPLES = 100
ESTIMATOR: Literal["importance", "decoder"] = "decoder"


def evaluate(
    model: MultimodalVAE, rows: Batch, num_samples: int = 1000, seed: int = 0, progress: bool = False
) -> dict[str, Any]:
    """Log-likelihood of each modality alone and of all together, and accuracy of each categorical one from the others.

    Args:
        model: any model.
        rows: held-out rows, best complete ones; modalities that the model does not know are left out.
        num_samples: importance samples of the log-likelihoods.
        seed: of the draws.
        progress: show bars.

    Returns:
        `log_likelihood`: for each set of targets (given the model's conditions, if any) the mean row in nats, its
        standard error over rows, its Monte Carlo error, and the means of the other parts of `LogLikelihood`;
            `prior_share` of the samples come from the prior, the others from q(z | proposal).
        `accuracy`: for each categorical modality the share of rows predicted right, with a 95 % interval.
    """
    rows = rows.only([name for name in rows.values if name in model.names])
    modalities = model.modalities
    targets = [(name,) for name in modalities] + ([tuple(modalities)] if len(modalities) > 1 else [])
    classes = [name for name, modality in modalities.items() if modality.num_classes and name in rows.values]
    names = [name for name in classes if len(modalities) > 1 and rows.present[name].any()]
    return {
        "rows": len(rows),
        "samples": num_samples,
        "seed": seed,
        "log_likelihood": [_score(model, rows, target, num_samples, seed, progress) for target in targets],
        "accuracy": [_accuracy(model, rows, name, seed, progress) for name in names],
    }


def _score(
    model: MultimodalVAE, rows: Batch, targets: Sequence[str], num_samples: int, seed: int, progress: bool
) -> dict[str, Any]:
    estimate = log_likelihood(
        model, rows, targets, model.conditions, num_samples=num_samples, seed=seed, progress=progress
    )
    question = {
        "targets": list(targets),
        "given": list(model.conditions),
        "proposal": list(estimate.proposal),
        "prior_share": estimate.from_prior / num_samples,
    }
    scored = ~estimate.value.isnan()
    value, count = estimate.value[scored], int(scored.sum())
    if not count:
        return {**question, "rows": 0}
    return {
        **question,
        "nats": value.mean().item(),
        "standard_error": (value.std() / math.sqrt(count)).item() if count > 1 else None,
        "monte_carlo_error": (estimate.standard_error[scored].square().sum().sqrt() / count).item(),
        "log_weight_variance": estimate.log_weight_variance[scored].mean().item(),
        "effective_sample_size": estimate.effective_sample_size[scored].mean().item(),
        "rows": count,
    }


def _accuracy(model: MultimodalVAE, rows: Batch, name: str, seed: int, progress: bool) -> dict[str, Any]:
    given = [other for other in model.names if other != name]
    known = rows.present[name].cpu()
    probabilities = classify(
        model, rows, name, given, estimator=ESTIMATOR, num_samples=CLASSIFICATION_SAMPLES, seed=seed, progress=progress
    )
    right, count = int((probabilities.argmax(1) == rows.values[name].cpu())[known].sum()), int(known.sum())
    return {
        "target": name,
        "given": given,
        "accuracy": right / count,
        "interval": list(proportion_interval(right, count)),
        "estimator": ESTIMATOR,
        "samples": CLASSIFICATION_SAMPLES,
        "rows": count,
    }
