"""Adam (Kingma & Ba 2015) by torch's function: constructing `torch.optim.Adam` would import torch's compiler."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor
from torch.optim.adam import adam

__all__ = ["Adam"]

FUSED = ("cpu", "cuda", "mps", "xpu")
"""Devices with one kernel for a step of a parameter."""


class Adam:
    """Steps of Adam on some parameters, bit for bit those of `torch.optim.Adam(..., fused=True)`.

    Args:
        parameters: floating-point leaves, on their device.
    """

    def __init__(self, parameters: Iterable[Tensor]) -> None:
        self.parameters = list(parameters)
        self._fused = all(parameter.device.type in FUSED for parameter in self.parameters)
        self._means = [torch.zeros_like(parameter) for parameter in self.parameters]
        self._squares = [torch.zeros_like(parameter) for parameter in self.parameters]
        self._steps = [torch.zeros((), device=parameter.device) for parameter in self.parameters]

    @torch.no_grad()
    def step(self, learning_rate: float) -> None:
        """Move every parameter that has a gradient."""
        some = [number for number, parameter in enumerate(self.parameters) if parameter.grad is not None]
        adam(
            [self.parameters[number] for number in some],
            [gradient for number in some if (gradient := self.parameters[number].grad) is not None],
            [self._means[number] for number in some],
            [self._squares[number] for number in some],
            [],
            [self._steps[number] for number in some],
            foreach=False,
            fused=self._fused,
            amsgrad=False,
            beta1=0.9,
            beta2=0.999,
            lr=learning_rate,
            weight_decay=0.0,
            eps=1e-8,
            maximize=False,
        )

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for parameter in self.parameters:
            parameter.grad = None

    def state(self) -> dict[str, Tensor]:
        """The tensors, not copies, that the next step depends on besides parameters and gradients."""
        parts = {"mean": self._means, "square": self._squares, "step": self._steps}
        return {f"{number}.{part}": value for part, values in parts.items() for number, value in enumerate(values)}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Take over the `state` of an Adam on parameters of the same shapes; else a ValueError, and no change."""
        own = self.state()
        if {n: value.shape for n, value in own.items()} != {n: value.shape for n, value in state.items()}:
            raise ValueError("expected the state of an Adam on parameters of the same shapes")
        for name, value in own.items():
            value.copy_(state[name])
