"""The encoder of all modalities together, of which JMVAE and TELBO have one."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mvae.networks.mlp import dense_layers

__all__ = ["JointEncoder"]


class JointEncoder(nn.Module):
    """All modalities to one Gaussian expert: features of each side by side, one hidden layer (Table 1: 512), a head.

    Args:
        features: for each modality a module from observations `[B, ...]` to `[B, width]`.
        widths: those widths.
        hidden: width of the hidden layer.
    """

    def __init__(
        self, features: Sequence[nn.Module], widths: Sequence[int], latent_dim: int, hidden: int = 512
    ) -> None:
        super().__init__()
        self.features = nn.ModuleList(features)
        self.layers = dense_layers(sum(widths), [hidden])
        self.head = nn.Linear(hidden, 2 * latent_dim)

    def forward(self, *values: Tensor) -> tuple[Tensor, Tensor]:
        features = [part(x) for part, x in zip(self.features, values, strict=True)]
        mean, log_variance = self.head(self.layers(torch.cat(features, -1))).chunk(2, -1)
        return mean, log_variance
