"""The base of JMVAE and TELBO: networks for q(z | x_1, x_2), q(z | x_1) and q(z | x_2)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from torch import Tensor, nn

from mvae.batch import Batch
from mvae.experts import at_least_float32, first_expert
from mvae.modality import Modality
from mvae.models.base import MultimodalVAE
from mvae.models.parts import Parts
from mvae.posteriors import Gaussian

__all__ = ["JointEncoderVAE"]


class JointEncoderVAE(MultimodalVAE):
    """A model of two modalities with an inference network for each subset of them, learned from complete rows only.

    Args:
        joint_encoder: module from the observations of both modalities, in order, to `(mean, log_variance)`, each
            `[B, D]` (`mvae.networks.joint.JointEncoder`).
    """

    needs_complete_rows = True

    @classmethod
    def build(cls, parts: Parts, **options: Any) -> Self:
        modalities = {name: parts.modality(name) for name in parts.names}
        return cls(modalities, parts.latent_dim, parts.joint_encoder(), **options)

    def __init__(self, modalities: Mapping[str, Modality], latent_dim: int, joint_encoder: nn.Module) -> None:
        super().__init__(modalities, latent_dim)
        self._expect_two()
        self.joint_encoder = joint_encoder

    @property
    def inference_networks(self) -> list[nn.Module]:
        return [*super().inference_networks, self.joint_encoder]

    def encode_jointly(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """q(z | x_1, x_2) of complete rows: mean and log variance, each `[B, D]`."""
        mean, log_variance = self.joint_encoder(*(batch.values[name] for name in self.names))
        return at_least_float32(mean), at_least_float32(log_variance)

    def posteriors(self, batch: Batch, subsets: Tensor) -> Gaussian:
        """q(z | x_1, x_2) where both are given and observed, else q(z | x_i) of the one, else the prior."""
        if subsets.all() and batch.has_all(self.names):
            mean, log_variance = self.encode_jointly(batch)
            return Gaussian(mean.expand(len(subsets), -1, -1), log_variance.expand(len(subsets), -1, -1))
        single = first_expert(*self._experts(batch, subsets))
        return self._with_complete_rows(single, batch, subsets, self.encode_jointly)
