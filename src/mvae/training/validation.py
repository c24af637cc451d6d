"""The scores of an epoch on validation rows."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _NormBase

from mvae.batch import Batch
from mvae.evaluation.classification import alike, guess
from mvae.fewlabels.completion import DRAWS
from mvae.models import MultimodalVAE
from mvae.posteriors import kl
from mvae.training.epochs import ACCURACY, ELBO, HELD
from mvae.training.spread import Group

__all__ = ["ValidationSums", "guessed_right", "share_statistics"]


class ValidationSums:
    """Sums over validation rows: the ELBO of all that is present in nats, for each string how many nats z holds of it
    alone, and in how many rows the category or string `best_by` is guessed right. The model is in evaluation mode.
    """

    def __init__(self, model: MultimodalVAE, best_by: str | None = None) -> None:
        self.model, self.best_by = model, best_by
        modalities = {} if model.conditions else model.modalities
        self.strings = [name for name, modality in modalities.items() if modality.is_string]
        names = [ELBO, *(f"{HELD}{name}" for name in self.strings), *([] if best_by is None else [ACCURACY])]
        self.sums = {name: torch.zeros(2, dtype=torch.float64) for name in names}
        """Each score's sum, and the number of rows in it."""

    @torch.no_grad()
    def add(self, batch: Batch) -> None:
        """Take in B rows as the model reads them."""
        self.sums[ELBO] += _sum(self.model.elbo(batch))
        for name in self.strings:
            if name in batch.values and batch.present[name].any():
                self.sums[f"{HELD}{name}"] += _sum(kl(self.model.q(batch[batch.present[name]], name)))
        if self.best_by is not None:
            self.sums[ACCURACY] += guessed_right(self.model, batch, self.best_by)

    def means(self, group: Group) -> dict[str, float]:
        """The means over the rows of all processes; scores that no row has are left out."""
        table = group.sum(torch.stack(list(self.sums.values()))).tolist()
        found = {name: total / count for name, (total, count) in zip(self.sums, table, strict=True) if count}
        if self.best_by is not None and ACCURACY not in found:
            raise ValueError(f"training.best_by: no validation row has '{self.best_by}' and something else")
        return found


def guessed_right(model: MultimodalVAE, batch: Batch, target: str) -> Tensor:
    """The number of rows in which a category or string is guessed right from the rest, and of those it can be: `[2]`.

    The guess is the decoder's on posterior draws; it can be made of rows that have the target and something else.
    """
    rest = [name for name in model.names if name != target and name in batch.values]
    fit = batch.presence([target]).all(1) & batch.presence(rest).any(1)
    if not fit.any():
        return torch.zeros(2, dtype=torch.float64)
    return _sum(alike(guess(model, batch[fit], target, rest, num_samples=DRAWS), batch.values[target][fit].cpu()))


def share_statistics(model: MultimodalVAE, group: Group) -> None:
    """Give all processes the mean of what each has gathered of its rows for batch normalisation."""
    for module in model.modules() if group.world > 1 else ():
        if isinstance(module, _NormBase):
            for buffer in filter(torch.is_floating_point, module.buffers()):
                buffer.copy_(group.sum(buffer.clone()) / group.world)


def _sum(values: Tensor) -> Tensor:
    return torch.tensor([values.double().sum().item(), len(values)], dtype=torch.float64)
