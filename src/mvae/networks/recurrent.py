"""Recurrent encoders of strings."""

from __future__ import annotations

from torch import Tensor, nn

__all__ = ["GRUEncoder", "GRUFeatures"]


class GRUFeatures(nn.Module):
    """A string of symbols to numbers: an embedding and a bidirectional GRU, whose two last states are added.

    Each direction's last state has read the whole string.

    Args:
        num_symbols: how many symbols there are.
        embedding: width of the embedding.
        hidden: width of the GRU.
    """

    def __init__(self, num_symbols: int, embedding: int = 200, hidden: int = 200) -> None:
        super().__init__()
        self.embedding = nn.Embedding(num_symbols, embedding)
        self.gru = nn.GRU(embedding, hidden, batch_first=True, bidirectional=True)

    def forward(self, x: Tensor) -> Tensor:
        _, last = self.gru(self.embedding(x))
        return last.sum(0)


class GRUEncoder(nn.Module):
    """A string of symbols `[B, length]` to a Gaussian expert. MultiMNIST in the paper: widths of 200.

    Args:
        num_symbols: how many symbols there are.
        latent_dim: D.
        embedding: width of the embedding.
        hidden: width of the GRU.
    """

    def __init__(self, num_symbols: int, latent_dim: int, embedding: int = 200, hidden: int = 200) -> None:
        super().__init__()
        self.features = GRUFeatures(num_symbols, embedding, hidden)
        self.head = nn.Linear(hidden, 2 * latent_dim)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_variance = self.head(self.features(x)).chunk(2, -1)
        return mean, log_variance
