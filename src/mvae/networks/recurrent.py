"""Recurrent encoders and decoders of strings."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from mvae.networks.mlp import HeadBeside
from mvae.strings import lengths

__all__ = ["RecurrentDecoder", "RecurrentEncoder", "RecurrentFeatures"]

CELLS = {"gru": nn.GRU, "lstm": nn.LSTM}


class RecurrentFeatures(nn.Module):
    """A string of symbols to numbers: an embedding and a bidirectional GRU or LSTM, whose two last states are added.

    Each direction's last state has read the whole string.

    Args:
        num_symbols: how many symbols there are.
        embedding: width of the embedding.
        hidden: width of the recurrent network.
        end: the symbol that ends a string, after whose first nothing is read; None reads all there is.
        cell: `"gru"` or `"lstm"`.
    """

    def __init__(
        self,
        num_symbols: int,
        embedding: int = 200,
        hidden: int = 200,
        end: int | None = None,
        cell: Literal["gru", "lstm"] = "gru",
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(num_symbols, embedding)
        self.recurrent = CELLS[cell](embedding, hidden, batch_first=True, bidirectional=True)
        self.end = end

    def forward(self, x: Tensor) -> Tensor:
        embedded: Any = self.embedding(x)
        if self.end is not None and len(x):  # no rows cannot be packed
            embedded = pack_padded_sequence(
                embedded, lengths(x, self.end).cpu(), batch_first=True, enforce_sorted=False
            )
        _, last = self.recurrent(embedded)
        return (last[0] if isinstance(last, tuple) else last).sum(0)  # of an LSTM what it gives, not its memory


class RecurrentEncoder(nn.Module):
    """A string of symbols `[B, length]` to a Gaussian expert. MultiMNIST in the paper: widths of 200.

    Args:
        num_symbols: how many symbols there are.
        latent_dim: D.
        embedding: width of the embedding.
        hidden: width of the recurrent network.
        end: as for `RecurrentFeatures`.
        cell: as for `RecurrentFeatures`.
    """

    def __init__(
        self,
        num_symbols: int,
        latent_dim: int,
        embedding: int = 200,
        hidden: int = 200,
        end: int | None = None,
        cell: Literal["gru", "lstm"] = "gru",
    ) -> None:
        super().__init__()
        self.features = RecurrentFeatures(num_symbols, embedding, hidden, end, cell)
        self.head = nn.Linear(hidden, 2 * latent_dim)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_variance = self.head(self.features(x)).chunk(2, -1)
        return mean, log_variance


class RecurrentDecoder(nn.Module):
    """The next symbol of a string, given those before it and z, which is beside every input and output.

    It is a `mvae.strings.SymbolNetwork`. MultiMNIST in the paper: two layers, widths of 200, dropout 0.1.

    Args:
        latent_dim: D.
        num_symbols: V.
        embedding: width of the embedding.
        hidden: width of the recurrent network.
        layers: of it.
        dropout: between the layers.
        cell: `"gru"` or `"lstm"`.
    """

    def __init__(
        self,
        latent_dim: int,
        num_symbols: int,
        embedding: int = 200,
        hidden: int = 200,
        layers: int = 2,
        dropout: float = 0.1,
        cell: Literal["gru", "lstm"] = "gru",
    ) -> None:
        super().__init__()
        self.layers, self.cell = layers, cell
        self.embedding = nn.Embedding(num_symbols + 1, embedding)  # and the start
        self.first = nn.Linear(latent_dim, hidden)
        between = dropout if layers > 1 else 0.0
        self.recurrent = CELLS[cell](embedding + latent_dim, hidden, layers, batch_first=True, dropout=between)
        self.head = HeadBeside(hidden, latent_dim, num_symbols)

    def forward(self, previous: Tensor, z: Tensor) -> Tensor:
        logits, _ = self._read(previous, z, self.start(z))
        return logits

    def start(self, z: Tensor) -> Tensor:
        """The state before the first symbol, `[R, layers, hidden]`; of an LSTM its memory, empty, comes after it."""
        state = self.first(z).unsqueeze(1).expand(-1, self.layers, -1)
        return state if self.cell == "gru" else torch.cat([state, torch.zeros_like(state)], 1)

    def step(self, previous: Tensor, z: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Logits `[R, V]` of the next symbol given the last one `[R]`, and the state after it."""
        logits, state = self._read(previous.unsqueeze(1), z, state)
        return logits.squeeze(1), state

    def _read(self, previous: Tensor, z: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        beside = z.unsqueeze(1).expand(-1, previous.shape[1], -1)
        inputs = torch.cat([nn.functional.silu(self.embedding(previous)), beside], -1)
        before = state.transpose(0, 1).contiguous()
        if self.cell == "gru":
            outputs, after = self.recurrent(inputs, before)
        else:
            outputs, both = self.recurrent(inputs, before.chunk(2))
            after = torch.cat(both)
        return self.head(outputs, z), after.transpose(0, 1)
