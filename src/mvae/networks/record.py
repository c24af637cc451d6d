"""The encoder of records, any element of which may be missing."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from mvae.networks.mlp import dense_layers
from mvae.records import Element

__all__ = ["RecordEncoder"]


class RecordEncoder(nn.Module):
    """A record to a Gaussian expert: its numbers, its categories one-hot, and which of them are observed.

    In training a random share of each record's elements is hidden from the encoder, so that it learns to use any part
    of a record; the decoder still has to reconstruct all that is observed.

    Args:
        hide: the mean share of elements hidden in training; each record's is uniform from 0 to twice that.
    """

    counts: Tensor
    centre: Tensor
    spread: Tensor

    def __init__(
        self,
        elements: Sequence[Element],
        latent_dim: int,
        hidden: Sequence[int] = (128, 128),
        hide: float = 0.3,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.hide = nn.Dropout(hide) if hide else None  # a layer, so that it is seen to draw; only its rate is used
        sizes = [element.num_parameters for element in elements]
        counts = [element.family in ("poisson", "negative-binomial") for element in elements]
        classes = [element.family == "categorical" for element in elements]
        scales = {part: [getattr(element, part) for element in elements] for part in ("centre", "spread")}
        for name, numbers in {"counts": counts, **scales}.items():
            self.register_buffer(name, torch.tensor(numbers), persistent=False)
        self.numbers = [place for place, is_class in enumerate(classes) if not is_class]
        self.categories = [(place, sizes[place]) for place, is_class in enumerate(classes) if is_class]
        width = len(elements) + len(self.numbers) + sum(size for _, size in self.categories)
        self.layers = dense_layers(width, hidden, dropout=dropout)
        self.head = nn.Linear(hidden[-1] if hidden else width, 2 * latent_dim)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        shown = ~x.isnan() & self._shown(x)
        known = torch.where(shown, x, 0.0)
        logs = (torch.where(self.counts, known, 0.0).log1p() - self.centre) / self.spread
        numbers = torch.where(shown, torch.where(self.counts, logs, known), 0.0)[:, self.numbers]
        parts = [numbers, shown.to(x.dtype)]
        for place, size in self.categories:
            parts.append(one_hot(known[:, place].long(), size).to(x.dtype) * shown[:, place, None])
        mean, log_variance = self.head(self.layers(torch.cat(parts, 1))).chunk(2, -1)
        return mean, log_variance

    def _shown(self, x: Tensor) -> Tensor:
        if not self.training or self.hide is None:
            return torch.ones_like(x, dtype=torch.bool)
        return torch.rand_like(x) >= 2 * self.hide.p * torch.rand_like(x[:, :1])
