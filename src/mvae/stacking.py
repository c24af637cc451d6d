"""Networks of one architecture as one batched call: their parameters stand stacked in one tensor each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

__all__ = ["Stack", "architecture", "stacks_of"]

PLAIN = (nn.Linear, nn.SiLU, nn.ReLU, nn.Tanh, nn.GELU, nn.Embedding, nn.Conv2d, nn.ConvTranspose2d, nn.Flatten)
"""Layers that do the same to each row whatever the others are, draw nothing and keep no statistics."""
CONTAINERS = (nn.Sequential, nn.ModuleList)


def architecture(module: nn.Module) -> str | None:
    """What two modules share when one may stand in for the other with its parameters; None where that is not certain.

    Only the layers of this package, and torch's plain ones, are known well enough.
    """
    for part in module.modules():
        ours = type(part).__module__.startswith("mvae.")
        if not ours and type(part) not in (*PLAIN, *CONTAINERS, nn.Unflatten):
            return None
    state = (f"{name} {tuple(value.shape)} {value.dtype}" for name, value in _tensors(module))
    return f"{type(module).__qualname__} {module!r} {' '.join(state)}"


class Stack:
    """Modules of one architecture, whose parameters are slices of stacked ones.

    The stacked parameters are what an optimiser is given. Each module keeps its own names and shapes, as views, so that
    `state_dict`, and calling one module, work as if nothing were stacked. It is no `nn.Module`: its parameters would
    else stand twice in the model's.

    Args:
        modules: at least two, of one `architecture`.
    """

    def __init__(self, modules: Sequence[nn.Module]) -> None:
        self.modules = list(modules)
        self.names = [name for name, _ in modules[0].named_parameters()]
        self.buffer_names = [name for name, _ in modules[0].named_buffers()]
        self.parameters = [nn.Parameter(torch.empty(0)) for _ in self.names]
        self.tie()

    def tie(self) -> None:
        """Stack what the modules hold now, and make it theirs; after anything that gave them new tensors."""
        self.own = [[module.get_parameter(name) for module in self.modules] for name in self.names]
        for own, stacked in zip(self.own, self.parameters, strict=True):
            stacked.data = torch.stack([parameter.data for parameter in own])
            for parameter, part in zip(own, stacked.data.unbind(), strict=True):
                parameter.data = part
        self.buffers = {
            name: torch.stack([module.get_buffer(name) for module in self.modules]) for name in self.buffer_names
        }
        template = deepcopy(self.modules[0]).requires_grad_(False)
        self.template = template.to("meta")

    def __call__(self, call: Callable[..., Any], *arguments: Tensor, members: Tensor | None = None) -> Any:
        """`call(module, *arguments)` of every module, or of `members`, at once.

        Args:
            call: from a module and tensors to tensors, e.g. `lambda encoder, x: encoder(x)`.
            arguments: one slice a module, `[G, ...]`.
            members: numbers of the modules; all where None.

        Returns:
            What `call` returns, with a first dimension G.
        """
        tensors = dict(zip(self.names, map(_learned, self.parameters, self.own), strict=True)) | self.buffers
        if members is not None:
            tensors = {name: tensor[members] for name, tensor in tensors.items()}

        def one(state: dict[str, Tensor], *parts: Tensor) -> Any:
            return functional_call(_Calling(self.template, call), {f"module.{n}": v for n, v in state.items()}, parts)

        return torch.vmap(one)(tensors, *arguments)


def _learned(stacked: Tensor, own: Sequence[Tensor]) -> Tensor:
    """The stacked parameter, without gradient where a module's own asks for none."""
    wanted = [parameter.requires_grad for parameter in own]
    if all(wanted):
        return stacked
    mask = torch.tensor(wanted, device=stacked.device).reshape(-1, *(1,) * (stacked.dim() - 1))
    return torch.where(mask, stacked, stacked.detach())


class _Calling(nn.Module):
    """A module called in a given way."""

    def __init__(self, module: nn.Module, call: Callable[..., Any]) -> None:
        super().__init__()
        self.module, self.call = module, call

    def forward(self, *arguments: Tensor) -> Any:
        return self.call(self.module, *arguments)


def _tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from module.named_parameters()
    yield from module.named_buffers()


def stacks_of(modules: Mapping[str, nn.Module]) -> list[tuple[tuple[str, ...], Stack]]:
    """Stack those of one architecture: their names, in order, and the stack. Those alone in theirs are left out."""
    found: dict[str, list[str]] = {}
    for name, module in modules.items():
        kind = architecture(module)
        if kind is not None and _has_parameters(module):
            found.setdefault(kind, []).append(name)
    return [(tuple(names), Stack([modules[n] for n in names])) for names in found.values() if len(names) > 1]


def _has_parameters(module: nn.Module) -> bool:
    return next(module.parameters(), None) is not None
