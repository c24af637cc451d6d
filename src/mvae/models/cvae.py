"""CVAE: one modality given others, p(x_1 | x_2), which has no joint distribution (Sohn, Lee & Yan, NeurIPS 2015)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Self

import torch
from torch import Tensor

from mvae.batch import Batch
from mvae.experts import Experts
from mvae.modality import Condition, Variable
from mvae.models.base import MultimodalVAE, Objective
from mvae.models.parts import Parts
from mvae.models.vae import VAE
from mvae.posteriors import Gaussian

__all__ = ["CVAE"]


class CVAE(MultimodalVAE):
    r"""The conditional VAE, which maximises a bound on log p(x_1 | x_2),

    .. math:: \mathbb E_{q(z \mid x_1, x_2)}\big[\lambda_1 \log p(x_1 \mid z, x_2)\big]
              - \beta\, \mathrm{KL}\big[q(z \mid x_1, x_2), p(z)\big],

    with the prior N(0, I) of the other models. It learns from complete rows only. Of its modalities one is a
    `Modality`, whose networks take the conditions too, the others are each a `Condition`.
    """

    takes_conditions = True
    needs_complete_rows = True
    options = VAE.options

    @classmethod
    def build(cls, parts: Parts, **options: Any) -> Self:
        target = options.get("target", parts.names[0])
        variables: dict[str, Variable] = {name: parts.condition(name) for name in parts.names if name != target}
        width = sum(condition.width for condition in variables.values() if isinstance(condition, Condition))
        variables[target] = parts.modality(target, width)
        return cls({name: variables[name] for name in parts.names}, parts.latent_dim)

    def __init__(self, modalities: Mapping[str, Variable], latent_dim: int) -> None:
        super().__init__(modalities, latent_dim)
        widths = [variable.width for variable in self.variables.values() if isinstance(variable, Condition)]
        modelled = self.modalities
        if len(modelled) != 1 or not widths:
            counts = f"{len(modelled)} and {len(widths)}"
            raise ValueError(f"a CVAE has one modality and at least one condition, got {counts}")
        ((self.target, modality),) = modelled.items()
        if modality.condition_width != sum(widths):
            raise ValueError(
                f"modality '{self.target}' takes conditions of {modality.condition_width} numbers, got {sum(widths)}"
            )

    def encode(self, batch: Batch, names: str | Iterable[str] | None = None) -> Experts:
        """A TypeError: there are no experts of single modalities."""
        raise TypeError("a CVAE has no expert a modality; see posterior")

    def loss(self, batch: Batch, beta: float = 1.0) -> Objective:
        return self._joint_bound(self._complete(batch), beta)

    def posteriors(self, batch: Batch, subsets: Tensor) -> Gaussian:
        """q(z | x_1, x_2) where both are given and observed; the prior elsewhere."""
        prior = torch.zeros(len(subsets), len(batch), self.latent_dim, device=self.device, dtype=self.dtype)
        return self._with_complete_rows((prior, prior), batch, subsets, self._encode_complete)

    def _encode_complete(self, batch: Batch) -> tuple[Tensor, Tensor]:
        return self.modalities[self.target].encoder(batch.values[self.target], self._features(batch))

    def _term_likelihoods(
        self, batch: Batch, z: Tensor, reconstruct: Tensor, counts: Tensor | None
    ) -> Iterator[tuple[tuple[str, ...], Tensor, Tensor, Tensor]]:
        """log p(x_1 | z, x_2), in complete rows."""
        if not (complete := self.usable(batch)).all():
            batch = batch.holding(batch.values, {name: batch.present[name] & complete for name in batch.values})
        return super()._term_likelihoods(batch, z, reconstruct, counts)

    def _decoder_input(self, batch: Batch | None, z: Tensor) -> Tensor:
        lacking = [name for name in self.conditions if batch is None or name not in batch.values]
        if batch is None or lacking:
            names = ", ".join(self.conditions)
            raise ValueError(f"this model generates '{self.target}' given {names}; give a value of each")
        condition = self._features(batch).to(z.dtype)
        return torch.cat([z, condition.expand(*z.shape[:-1], -1)], -1)

    def _features(self, batch: Batch) -> Tensor:
        """The conditions of each row as numbers, `[B, C]`; 0 where one is missing."""
        parts = []
        for name, variable in self.variables.items():
            if isinstance(variable, Condition):
                parts.append(variable.features(batch.filled(name)) * batch.present[name].unsqueeze(1))
        return torch.cat(parts, 1)
