"""The encoder of several modalities together, which JMVAE and TELBO need beside those of one."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mvae.networks.mlp import dense_layers

__all__ = ["JointEncoder"]


class JointEncoder(nn.Module):
    """All modalities to one Gaussian: features of each side by side, one hidden layer, a head.

    In the paper's Table 1 the features are what the modality's own encoder has before its last hidden layer (of the
    convolutional one, after it), and the hidden layer has 512 units.

    Args:
        features: for each modality a module from observations `[B, ...]` to `[B, width]`.
        widths: those widths.
        latent_dim: D.
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
