"""Terms that a step adds to a method's own loss where few rows have labels; none of them is in the paper."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from mvae.batch import Batch
from mvae.config.specs import TrainingSpec
from mvae.data.dataset import Dataset
from mvae.fewlabels.completion import complete
from mvae.fewlabels.propagation import guess_loss, propagated
from mvae.fewlabels.smoothness import roughness
from mvae.models import MultimodalVAE

__all__ = ["Term", "few_label_terms"]


@dataclass
class Term:
    """One addition to the loss, from the end of annealing on; its draws come from torch's global generator."""

    name: str
    weight: float
    of: Callable[[MultimodalVAE, Batch], Tensor | None]
    """The term of a batch in nats a row, a scalar; None where no row of it has one."""
    begin: Callable[[MultimodalVAE], None] = lambda model: None
    """Gets ready for an epoch; the model is in evaluation mode."""


def few_label_terms(spec: TrainingSpec, dataset: Dataset[Any]) -> list[Term]:
    """The terms that a spec asks for, in the order in which they draw."""

    def completed_loss(model: MultimodalVAE, batch: Batch) -> Tensor | None:
        completed = complete(model, batch, spec.sharpness)
        return None if completed is None else len(completed) / len(batch) * model.loss(completed).loss

    guesses: dict[str, Tensor] = {}

    def propagate(model: MultimodalVAE) -> None:
        options = spec.neighbours, spec.surest, dataset.transform
        for name, modality in model.modalities.items():
            if modality.num_classes:
                guesses[name] = propagated(model, dataset.train, name, *options)

    def propagated_loss(model: MultimodalVAE, batch: Batch) -> Tensor | None:
        assert batch.part is not None
        each = [guess_loss(model, batch, name, known[batch.part.rows]) for name, known in guesses.items()]
        found = [loss for loss in each if loss is not None]
        return sum(found[1:], start=found[0]) if found else None

    terms = [
        Term("completion", spec.completion, completed_loss),
        Term("propagation", spec.propagation, propagated_loss, propagate),
        Term("smoothness", spec.smoothness, lambda model, batch: roughness(model, batch, spec.radius)),
    ]
    return [term for term in terms if term.weight]
