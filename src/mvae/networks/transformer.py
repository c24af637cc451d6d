"""Transformer features and decoders of strings, of PyTorch's own layers."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mvae.networks.mlp import HeadBeside
from mvae.strings import counted

__all__ = ["TransformerDecoder", "TransformerFeatures"]


def _layers(width: int, heads: int, layers: int, dropout: float) -> nn.TransformerEncoder:
    """Self-attention and a network four times as wide, each behind its own normalisation (Xiong et al. 2020)."""
    if width % heads:
        raise ValueError(f"width: expected a multiple of the {heads} heads, got {width}")
    layer = nn.TransformerEncoderLayer(width, heads, 4 * width, dropout, "gelu", batch_first=True, norm_first=True)
    return nn.TransformerEncoder(layer, layers, nn.LayerNorm(width), enable_nested_tensor=False)


class TransformerFeatures(nn.Module):
    """A string of symbols `[B, T]` to `[B, width]`: self-attention, and the mean over the symbols that are read.

    Args:
        length: T, the longest string.
        width: of embeddings and layers, a multiple of `heads`.
        heads: of attention.
        end: the symbol that ends a string, after whose first nothing is read; None reads all T.
    """

    def __init__(
        self,
        num_symbols: int,
        length: int,
        width: int = 256,
        heads: int = 4,
        layers: int = 2,
        dropout: float = 0.1,
        end: int | None = None,
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(num_symbols, width)
        self.position = nn.Embedding(length, width)
        self.layers = _layers(width, heads, layers, dropout)
        self.end = end

    def forward(self, x: Tensor) -> Tensor:
        places = torch.arange(x.shape[1], device=x.device)
        read = counted(x, self.end)
        found = self.layers(self.embedding(x) + self.position(places), src_key_padding_mask=~read)
        weights = read.unsqueeze(-1).to(found.dtype)
        return (weights * found).sum(1) / weights.sum(1)


class TransformerDecoder(nn.Module):
    """The next symbol of a string, given those before it and z, which is added to each of them and beside each output.

    It is a `mvae.strings.SymbolNetwork`, whose state is the symbols so far.

    Args:
        length: T, the longest string.
        width: of embeddings and layers, a multiple of `heads`.
        heads: of attention.
    """

    def __init__(
        self,
        latent_dim: int,
        num_symbols: int,
        length: int,
        width: int = 256,
        heads: int = 4,
        layers: int = 2,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(num_symbols + 1, width)  # and the start
        self.position = nn.Embedding(length, width)
        self.first = nn.Linear(latent_dim, width)
        self.layers = _layers(width, heads, layers, dropout)
        self.head = HeadBeside(width, latent_dim, num_symbols)

    def forward(self, previous: Tensor, z: Tensor) -> Tensor:
        places = torch.arange(previous.shape[1], device=previous.device)
        inputs = self.embedding(previous) + self.position(places) + self.first(z).unsqueeze(1)
        later = places > places.unsqueeze(1)  # [t, s]: at t nothing after t is looked at
        return self.head(self.layers(inputs, mask=later), z)

    def start(self, z: Tensor) -> Tensor:
        """No symbols yet, `[R, 0]`."""
        return torch.empty(len(z), 0, dtype=torch.long, device=z.device)

    def step(self, previous: Tensor, z: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        state = torch.cat([state, previous.unsqueeze(1)], 1)
        return self(state, z)[:, -1], state
