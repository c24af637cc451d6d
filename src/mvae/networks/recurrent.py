"""Recurrent features and decoders of strings."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from mvae.networks.mlp import HeadBeside
from mvae.strings import lengths

__all__ = ["RecurrentDecoder", "RecurrentFeatures"]

CELLS = {"gru": nn.GRU, "lstm": nn.LSTM}


class RecurrentFeatures(nn.Module):
    """A string of symbols `[B, T]` to `[B, hidden]`: an embedding and a bidirectional GRU or LSTM.

    The last states of both directions, each of which has read the whole string, are added. MultiMNIST in the paper:
    widths of 200.

    Args:
        embedding: width of the embedding.
        hidden: width of the recurrent network.
        end: the symbol that ends a string, after whose first nothing is read; None reads all T.
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
            count = lengths(x, self.end).cpu()
            embedded = pack_padded_sequence(embedded, count, batch_first=True, enforce_sorted=False)
        _, last = self.recurrent(embedded)
        return (last[0] if isinstance(last, tuple) else last).sum(0)  # of an LSTM its output, not its memory


class RecurrentDecoder(nn.Module):
    """The next symbol of a string, given those before it and z, which is beside every input and output.

    It is a `mvae.strings.SymbolNetwork`. MultiMNIST in the paper: two layers, widths of 200, dropout 0.1.

    Args:
        embedding: width of the embedding.
        hidden: width of each of the `layers` of the recurrent network.
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
        return self._read(previous, z, self.start(z))[0]

    def start(self, z: Tensor) -> Tensor:
        """The state before the first symbol, `[R, layers, hidden]`, followed by an LSTM's memory of zeros."""
        state = self.first(z).unsqueeze(1).expand(-1, self.layers, -1)
        return state if self.cell == "gru" else torch.cat([state, torch.zeros_like(state)], 1)

    def step(self, previous: Tensor, z: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
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
