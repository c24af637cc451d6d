"""Fully connected encoders and decoders, and the encoder of a category."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import batch_norm, linear

__all__ = ["EmbeddingEncoder", "FeaturesEncoder", "Flat", "HeadBeside", "MLPDecoder", "MLPEncoder", "dense_layers"]


class BatchNorm(nn.BatchNorm1d):
    """Batch normalisation that takes a single row too: by what it has learned so far, as in evaluation.

    The last batch of an epoch may have one row, or one that has a modality.
    """

    def forward(self, x: Tensor) -> Tensor:
        if self.training and len(x) == 1:
            return batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        return super().forward(x)


def dense_layers(width: int, hidden: Sequence[int], normalise: bool = False, dropout: float = 0.0) -> nn.Sequential:
    """Linear layers, each followed by swish, x sigmoid(x), as everywhere in the paper."""
    layers: list[nn.Module] = []
    for out in hidden:
        layers += [nn.Linear(width, out), *([BatchNorm(out)] if normalise else []), nn.SiLU()]
        layers += [nn.Dropout(dropout)] if dropout else []
        width = out
    return nn.Sequential(*layers)


class Flat(nn.Module):
    """Observations of any shape to `[B, width]`; a single number becomes one column."""

    def forward(self, x: Tensor) -> Tensor:
        return x.unsqueeze(-1).flatten(1)


class FeaturesEncoder(nn.Module):
    """Features of an observation to a Gaussian expert: hidden layers and a linear head.

    Args:
        features: module from observations `[B, ...]` to `[B, width]`.
        hidden: widths of the hidden layers.
        batch_norm: batch normalisation before each of their activations.
        dropout: share of each hidden layer's outputs dropped in training.
        condition_width: C; `[B, C]` more numbers beside the features.
    """

    def __init__(
        self,
        features: nn.Module,
        width: int,
        latent_dim: int,
        hidden: Sequence[int] = (),
        batch_norm: bool = False,
        dropout: float = 0.0,
        condition_width: int = 0,
    ) -> None:
        super().__init__()
        self.features = features
        self.layers = dense_layers(width + condition_width, hidden, batch_norm, dropout)
        self.head = nn.Linear(hidden[-1] if hidden else width + condition_width, 2 * latent_dim)

    def forward(self, x: Tensor, *condition: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_variance = self.head(self.layers(torch.cat([self.features(x), *condition], -1))).chunk(2, -1)
        return mean, log_variance


class MLPEncoder(FeaturesEncoder):
    """Flattened observations of a shape to a Gaussian expert. MNIST in the paper: `hidden=(512, 512)`."""

    def __init__(
        self,
        shape: Sequence[int],
        latent_dim: int,
        hidden: Sequence[int] = (512, 512),
        batch_norm: bool = False,
        dropout: float = 0.0,
        condition_width: int = 0,
    ) -> None:
        super().__init__(Flat(), math.prod(shape), latent_dim, hidden, batch_norm, dropout, condition_width)


class EmbeddingEncoder(nn.Module):
    """A category to a Gaussian expert: an embedding, swish, then hidden layers. Labels in the paper: `(512, 512)`.

    `hidden` are the widths of the embedding and of the hidden layers.
    """

    def __init__(self, num_classes: int, latent_dim: int, hidden: Sequence[int] = (512, 512)) -> None:
        super().__init__()
        self.embedding = nn.Embedding(num_classes, hidden[0])
        self.layers = nn.Sequential(nn.SiLU(), *dense_layers(hidden[0], hidden[1:]))
        self.head = nn.Linear(hidden[-1], 2 * latent_dim)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_variance = self.head(self.layers(self.embedding(x))).chunk(2, -1)
        return mean, log_variance


class MLPDecoder(nn.Module):
    """z to the `num_parameters` numbers of a likelihood. In the paper: `hidden=(512, 512, 512)`."""

    def __init__(
        self, latent_dim: int, num_parameters: int, hidden: Sequence[int] = (512, 512, 512), dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.layers = dense_layers(latent_dim, hidden, dropout=dropout)
        self.head = nn.Linear(hidden[-1] if hidden else latent_dim, num_parameters)

    def forward(self, z: Tensor) -> Tensor:
        return self.head(self.layers(z))


class HeadBeside(nn.Linear):
    """A head on outputs `[R, T, H]` with z `[R, D]` beside each of the T; z's part is computed once a row."""

    def __init__(self, hidden: int, latent_dim: int, num_outputs: int) -> None:
        super().__init__(hidden + latent_dim, num_outputs)
        self.hidden = hidden

    def forward(self, outputs: Tensor, z: Tensor) -> Tensor:  # type: ignore[override]
        of_outputs = linear(outputs, self.weight[:, : self.hidden], self.bias)
        return of_outputs.add_(linear(z, self.weight[:, self.hidden :]).unsqueeze(1))
