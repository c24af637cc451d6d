"""Networks of one architecture as one batched call: their parameters stand stacked in one tensor each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from mvae.data.batch import Batch

__all__ = ["Stack", "Stacked", "architecture", "encode_together", "score_together", "stacks_of"]

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
    if not any(wanted):  # a gradient of zeros would let an optimiser's momentum move what is frozen
        return stacked.detach()
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


class Stacked(nn.Module):
    """A module with stacks among its parts: what is learned are the stacked parameters, wherever it goes."""

    @property
    def _stacks(self) -> list[Stack]:
        raise AttributeError("_stacks")  # of a subclass

    @property
    def sliced(self) -> list[str]:
        """Names of the parameters that are slices of stacked ones: in `state_dict`, not among those learned."""
        learned = {id(parameter) for _, parameter in self.named_parameters()}
        return [name for name, parameter in super().named_parameters() if id(parameter) not in learned]

    def named_parameters(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, nn.Parameter]]:
        """What is learned: of networks of one architecture the stacked parameters, once for all of them."""
        stacks = self._stacks
        sliced = {id(parameter) for stack in stacks for module in stack.modules for parameter in module.parameters()}
        for name, parameter in super().named_parameters(prefix, recurse, remove_duplicate):
            if id(parameter) not in sliced:
                yield name, parameter
        for number, stack in enumerate(stacks):
            for name, parameter in zip(stack.names, stack.parameters, strict=True):
                yield f"{prefix}{'.' if prefix else ''}stack {number}.{name}", parameter

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Stacked:
        super()._apply(fn, recurse)
        self._tie()
        return self

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._tie()

    def _tie(self) -> None:
        for stack in self._stacks:
            stack.tie()


def encode_together(
    stack: Stack, batch: Batch, names: Sequence[str], members: Sequence[str], latent_dim: int
) -> tuple[Tensor, Tensor]:
    """The experts of modalities of one architecture, from one call of their encoders.

    Args:
        stack: the encoders of `members`.
        batch: B rows.
        names: G of the members.
        members: names of what is stacked.
        latent_dim: D.

    Returns:
        Mean and log variance, each `[G, B, D]`, 0 where absent.
    """
    values, chosen = batch.block(names), _chosen(names, members, batch.device)
    if batch.whole(names):
        return stack(_encode, values, members=chosen)
    present = batch.presence(names).T  # [G, B]
    most = int(present.sum(1).max())
    if not most:
        zeros = torch.zeros(len(names), len(batch), latent_dim, device=batch.device, dtype=stack.parameters[0].dtype)
        return zeros, zeros
    here, row = present.sort(dim=1, descending=True, stable=True)  # the rows that have it first
    here, row = here[:, :most], row[:, :most]
    results = []
    for part in stack(_encode, _taken(values, row, here), members=chosen):
        some = torch.where(here.unsqueeze(-1), part, 0.0)
        whole = some.new_zeros(len(names), len(batch), latent_dim)
        results.append(whole.scatter_add(1, row.unsqueeze(-1).expand_as(some), some))
    return results[0], results[1]


def score_together(
    stack: Stack,
    batch: Batch,
    names: Sequence[str],
    members: Sequence[str],
    z: Tensor,
    reconstruct: Tensor,
    counts: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """log p(x_i | z_s) of modalities of one architecture, from one call that takes each pair (i, s) for a module.

    Args:
        stack: the decoders of `members`.
        batch: B rows.
        names: G of the members.
        members: names of what is stacked.
        z: `[S, B, D]`.
        reconstruct: boolean `[G, S]`: the P pairs.
        counts: boolean `[S, B]`, which terms count for which row; all where None.

    Returns:
        Of each pair the modality's number among the names, ascending, and the term, each `[P]`; and the values
        `[P, B]`, 0 where absent or not counted.
    """
    chosen = _chosen(names, members, batch.device)
    owner, terms = (index.to(z.device) for index in reconstruct.nonzero(as_tuple=True))
    values, drawn = batch.block(names)[owner], z[terms]  # [P, B, ...]
    modules = owner if chosen is None else chosen[owner]
    if counts is None and batch.whole(names):
        return owner, terms, stack(_score, drawn, values, members=modules)
    keep = batch.presence(names).T[owner]
    keep = keep if counts is None else keep & counts[terms]
    row = _padded(keep)  # [P, M], numbers of the kept rows
    here, row = row >= 0, row.clamp_min(0)
    drawn = drawn.gather(1, row.unsqueeze(-1).expand(-1, -1, drawn.shape[-1]))
    part = torch.where(here, stack(_score, drawn, _taken(values, row, here), members=modules), 0.0)
    return owner, terms, part.new_zeros(keep.shape).scatter_add(1, row, part)


def _encode(encoder: nn.Module, values: Tensor) -> Any:
    return encoder(values)


def _score(decoder: nn.Module, z: Tensor, values: Tensor) -> Tensor:
    return decoder(z).log_prob(values)


def _chosen(names: Sequence[str], members: Sequence[str], device: torch.device) -> Tensor | None:
    """The numbers of these among the members of a stack; None for all."""
    if len(names) == len(members):
        return None
    place = {name: number for number, name in enumerate(members)}
    return torch.tensor([place[name] for name in names], device=device)


def _taken(values: Tensor, row: Tensor, here: Tensor) -> Tensor:
    """The rows `[G, M]` of `[G, B, ...]`, 0 where not `here`: what stands where a value is absent may be NaN."""
    more = (1,) * (values.dim() - 2)
    taken = values.gather(1, row.reshape(*row.shape, *more).expand(-1, -1, *values.shape[2:]))
    return torch.where(here.reshape(*here.shape, *more), taken, 0)


def _padded(table: Tensor) -> Tensor:
    """Of each row of a boolean table the numbers of the true columns, ascending, filled up with -1."""
    row, column = table.nonzero(as_tuple=True)
    count = table.sum(1)
    start = count.cumsum(0) - count
    padded = table.new_full((len(table), max(1, int(count.max()))), -1, dtype=torch.long)
    padded[row, torch.arange(len(row), device=table.device) - start[row]] = column
    return padded
