"""The parts that a method is built from."""

from __future__ import annotations

from typing import Protocol

from torch import nn

from mvae.modality import Condition, Modality

__all__ = ["Parts"]


class Parts(Protocol):
    """The parts that a spec describes; each call builds one with new parameters."""

    latent_dim: int
    names: tuple[str, ...]
    """Names of the modalities, in order."""

    def modality(self, name: str, condition_width: int = 0) -> Modality:
        """A modality, whose networks also take conditions of so many numbers."""

    def condition(self, name: str) -> Condition:
        """A modality that the model is given and does not model."""

    def joint_encoder(self) -> nn.Module:
        """A network from the observations of all modalities to q(z | all)."""
