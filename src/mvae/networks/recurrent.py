"""Recurrent encoders and decoders of strings."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from mvae.sequences import lengths

__all__ = ["GRUDecoder", "GRUEncoder", "GRUFeatures"]


class GRUFeatures(nn.Module):
    """A string of symbols to numbers: an embedding and a bidirectional GRU, whose two last states are added.

    Each direction's last state has read the whole string.

    Args:
        num_symbols: how many symbols there are.
        embedding: width of the embedding.
        hidden: width of the GRU.
        end: the symbol that ends a string, after whose first nothing is read; None reads all there is.
    """

    def __init__(self, num_symbols: int, embedding: int = 200, hidden: int = 200, end: int | None = None) -> None:
        super().__init__()
        self.embedding = nn.Embedding(num_symbols, embedding)
        self.gru = nn.GRU(embedding, hidden, batch_first=True, bidirectional=True)
        self.end = end

    def forward(self, x: Tensor) -> Tensor:
        embedded: Any = self.embedding(x)
        if self.end is not None:
            embedded = pack_padded_sequence(
                embedded, lengths(x, self.end).cpu(), batch_first=True, enforce_sorted=False
            )
        _, last = self.gru(embedded)
        return last.sum(0)


class GRUEncoder(nn.Module):
    """A string of symbols `[B, length]` to a Gaussian expert. MultiMNIST in the paper: widths of 200.

    Args:
        num_symbols: how many symbols there are.
        latent_dim: D.
        embedding: width of the embedding.
        hidden: width of the GRU.
        end: as for `GRUFeatures`.
    """

    def __init__(
        self, num_symbols: int, latent_dim: int, embedding: int = 200, hidden: int = 200, end: int | None = None
    ) -> None:
        super().__init__()
        self.features = GRUFeatures(num_symbols, embedding, hidden, end)
        self.head = nn.Linear(hidden, 2 * latent_dim)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_variance = self.head(self.features(x)).chunk(2, -1)
        return mean, log_variance


class GRUDecoder(nn.Module):
    """The next symbol of a string, given those before it and z, which is beside every input and output.

    It is a `mvae.sequences.SymbolNetwork`. MultiMNIST in the paper: two layers, widths of 200, dropout 0.1.

    Args:
        latent_dim: D.
        num_symbols: V.
        embedding: width of the embedding.
        hidden: width of the GRU.
        layers: of the GRU.
        dropout: between the layers.
    """

    def __init__(
        self,
        latent_dim: int,
        num_symbols: int,
        embedding: int = 200,
        hidden: int = 200,
        layers: int = 2,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.layers = layers
        self.embedding = nn.Embedding(num_symbols + 1, embedding)  # and the start
        self.first = nn.Linear(latent_dim, hidden)
        between = dropout if layers > 1 else 0.0
        self.gru = nn.GRU(embedding + latent_dim, hidden, layers, batch_first=True, dropout=between)
        self.head = nn.Linear(hidden + latent_dim, num_symbols)

    def forward(self, previous: Tensor, z: Tensor) -> Tensor:
        logits, _ = self._read(previous, z, self.start(z))
        return logits

    def start(self, z: Tensor) -> Tensor:
        """The state before the first symbol, `[R, layers, hidden]`."""
        return self.first(z).unsqueeze(1).expand(-1, self.layers, -1)

    def step(self, previous: Tensor, z: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Logits `[R, V]` of the next symbol given the last one `[R]`, and the state after it."""
        logits, state = self._read(previous.unsqueeze(1), z, state)
        return logits.squeeze(1), state

    def _read(self, previous: Tensor, z: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        beside = z.unsqueeze(1).expand(-1, previous.shape[1], -1)
        inputs = torch.cat([nn.functional.silu(self.embedding(previous)), beside], -1)
        outputs, state = self.gru(inputs, state.transpose(0, 1).contiguous())
        return self.head(torch.cat([outputs, beside], -1)), state.transpose(0, 1)
