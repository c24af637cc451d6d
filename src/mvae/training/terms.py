"""What a step adds to a method's own loss where few rows have labels; none of it is in the paper."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
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


class Term(ABC):
    """One addition to the loss, from the end of annealing on; its draws come from torch's global generator."""

    name: str

    def __init__(self, weight: float) -> None:
        self.weight = weight

    def begin(self, model: MultimodalVAE) -> None:  # noqa: B027  # most have nothing to get ready
        """Get ready for an epoch; the model is in evaluation mode."""

    @abstractmethod
    def __call__(self, model: MultimodalVAE, batch: Batch) -> Tensor | None:
        """The term of a batch in nats a row, a scalar; None where no row of it has one."""


class _Completion(Term):
    name = "completion"

    def __init__(self, weight: float, sharpness: float) -> None:
        super().__init__(weight)
        self.sharpness = sharpness

    def __call__(self, model: MultimodalVAE, batch: Batch) -> Tensor | None:
        completed = complete(model, batch, self.sharpness)
        return None if completed is None else len(completed) / len(batch) * model.loss(completed).loss


class _Propagation(Term):
    name = "propagation"

    def __init__(
        self,
        weight: float,
        rows: Batch,
        neighbours: int,
        surest: float,
        transform: Callable[[Batch], Batch] | None,
    ) -> None:
        super().__init__(weight)
        self.rows, self.neighbours, self.surest, self.transform = rows, neighbours, surest, transform
        self.guesses: dict[str, Tensor] = {}

    def begin(self, model: MultimodalVAE) -> None:
        self.guesses = {
            name: propagated(model, self.rows, name, self.neighbours, self.surest, self.transform)
            for name, modality in model.modalities.items()
            if modality.num_classes
        }

    def __call__(self, model: MultimodalVAE, batch: Batch) -> Tensor | None:
        assert batch.part is not None
        each = [guess_loss(model, batch, name, known[batch.part.rows]) for name, known in self.guesses.items()]
        found = [loss for loss in each if loss is not None]
        return sum(found[1:], start=found[0]) if found else None


class _Smoothness(Term):
    name = "smoothness"

    def __init__(self, weight: float, radius: float) -> None:
        super().__init__(weight)
        self.radius = radius

    def __call__(self, model: MultimodalVAE, batch: Batch) -> Tensor | None:
        return roughness(model, batch, self.radius)


def few_label_terms(spec: TrainingSpec, dataset: Dataset[Any]) -> list[Term]:
    """Those that a spec asks for, in the order in which they draw."""
    terms: list[Term] = []
    if spec.completion:
        terms.append(_Completion(spec.completion, spec.sharpness))
    if spec.propagation:
        more = dataset.train, spec.neighbours, spec.surest, dataset.transform
        terms.append(_Propagation(spec.propagation, *more))
    if spec.smoothness:
        terms.append(_Smoothness(spec.smoothness, spec.radius))
    return terms
