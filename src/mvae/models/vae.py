"""VAE: one modality (Kingma & Welling, ICLR 2014)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

from mvae.batch import Batch
from mvae.experts import first_expert
from mvae.modality import Modality
from mvae.models.base import MultimodalVAE, Objective
from mvae.models.parts import Parts
from mvae.option import Option

__all__ = ["VAE"]


class VAE(MultimodalVAE):
    r"""The VAE of one modality, which maximises the paper's Eq. 1,

    .. math:: \mathbb E_{q(z \mid x)}\big[\lambda \log p(x \mid z)\big]
              - \beta\, \mathrm{KL}\big[q(z \mid x), p(z)\big] .

    The encoder gives q(z | x) itself: no prior expert is multiplied in.
    """

    combine = staticmethod(first_expert)
    options: ClassVar = {
        "target": Option("the modality that is modelled (default: the first)", str, said="of {}", names_modalities=True)
    }

    @classmethod
    def build(cls, parts: Parts, **options: Any) -> Self:
        target = options.get("target", parts.names[0])
        return cls({target: parts.modality(target)}, parts.latent_dim)

    def __init__(self, modalities: Mapping[str, Modality], latent_dim: int) -> None:
        super().__init__(modalities, latent_dim)
        if len(modalities) > 1:
            raise ValueError(f"a VAE has one modality, got {', '.join(modalities)}")

    def loss(self, batch: Batch, beta: float = 1.0) -> Objective:
        return self._joint_bound(batch, beta)
