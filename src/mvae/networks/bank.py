"""Banks: networks of one architecture, called together with their parameters stacked."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.func import functional_call

from mvae.batch import Batch, per_row
from mvae.networks.mlp import BatchNorm

__all__ = ["Bank", "Banked", "Stack", "architecture", "banks_of"]

PLAIN = (nn.Linear, nn.SiLU, nn.ReLU, nn.Tanh, nn.GELU, nn.Embedding, nn.Conv2d, nn.ConvTranspose2d, nn.Flatten)
"""Layers that treat each row alike whatever the others are, draw nothing and keep no statistics."""
CONTAINERS = (nn.Sequential, nn.ModuleList, nn.Unflatten)
OF_ANY_MODULE = vars(nn.Module()).keys()
"""Attributes that are no settings of a module's own."""

# Measured on a processor core, in nanoseconds; only what is called together depends on them, no result.
MOVING = 10.0
"""To move a number out of its row and back, forward and backward."""
EXTRA_CALL = 1.5e6
"""One more call of a stack, forward and backward."""


def architecture(module: nn.Module) -> str | None:
    """A key that modules share when they differ in their parameters alone; None where that is not certain.

    Only the layers of this package, and torch's plain ones, are known well enough.
    """
    for part in module.modules():
        known = type(part).__module__.startswith("mvae.") or type(part) in (*PLAIN, *CONTAINERS)
        if isinstance(part, BatchNorm) or not known:
            return None
    tensors = chain(module.named_parameters(), module.named_buffers())
    state = (f"{name} {tuple(value.shape)} {value.dtype}" for name, value in tensors)
    own = [{name: vars(part)[name] for name in vars(part).keys() - OF_ANY_MODULE} for part in module.modules()]
    settings = [sorted(some.items()) for some in own]  # not every module shows all of its settings
    return f"{type(module).__qualname__} {module!r} {settings} {' '.join(state)}"


class Bank:
    """A bank of one encoder or decoder, which is called as it is, by the name of its modality; `Stack` holds several.

    It is no `nn.Module`: its parameters would else be twice in the model's.
    """

    def __init__(self, modules: Mapping[str, nn.Module]) -> None:
        self.modules = dict(modules)
        self.parameters: dict[str, nn.Parameter] = {}
        """Stacked parameters `[G, ...]` by their name in each module; empty for a bank of one, which keeps its own."""

    def tie(self) -> None:
        """Stack the modules' parameters and make them views of the stacks; after anything that replaced a tensor."""

    def call(self, name: str, call: Callable[..., Tensor], *arguments: Tensor) -> Tensor:
        """`call(module, *arguments)` of one module, whose gradient comes to what is learned."""
        return call(self.modules[name], *arguments)

    def encode(self, batch: Batch, names: Sequence[str], latent_dim: int) -> tuple[Tensor, Tensor] | None:
        """The experts of some modalities, from one call of their encoders on the rows that have them.

        Args:
            batch: B rows.
            names: G modalities of the bank and the batch.
            latent_dim: D.

        Returns:
            Mean and log variance, each `[G, B, D]`; any finite numbers where missing. None where all are missing.
        """
        (name,) = names
        rows = batch.rows(name)
        if rows is None:
            mean, log_variance = self.modules[name](batch.values[name])
            return mean.unsqueeze(0), log_variance.unsqueeze(0)
        if not len(rows):
            return None
        some = self.modules[name](batch.values[name][rows])
        mean, log_variance = (
            part.new_zeros(1, len(batch), latent_dim).index_copy(1, rows, part[None]) for part in some
        )
        return mean, log_variance

    def score(
        self, batch: Batch, names: Sequence[str], z: Tensor, reconstruct: Tensor, counts: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor] | None:
        """log p(x_i | z_s) of some modalities, from few calls of their decoders, mostly one.

        Args:
            batch: B rows.
            names: G modalities of the bank and the batch.
            z: `[S, B, D]`.
            reconstruct: boolean `[S, G]`, which of them each term reconstructs; some term reconstructs each.
            counts: boolean `[S, B]`, which terms count for which row; all where None.

        Returns:
            For each pair the modality's number among the names, ascending, and the term, each `[P]`; and the values
            `[P, B]`, 0 where missing or not counted. None where all are missing.
        """
        (name,) = names
        terms = reconstruct[:, 0].nonzero().flatten().to(z.device)
        decoder, present = self.modules[name], batch.rows(name)
        if present is not None and not len(present):
            return None
        drawn = z if len(terms) == len(z) else z[terms]
        if present is None and counts is None:
            values = decoder(drawn).log_prob(batch.values[name])
        else:
            keep = batch.present[name] if counts is None else batch.present[name] & counts[terms]
            term, row = keep.expand(len(terms), -1).nonzero(as_tuple=True)
            part = decoder(drawn[term, row]).log_prob(batch.values[name][row])
            values = part.new_zeros(len(terms), len(batch)).index_put((term, row), part)
        return torch.zeros_like(terms), terms, values


class Stack(Bank):
    """A bank of at least two modules of one `architecture`, whose parameters are slices of stacked ones.

    An optimiser is given the stacked parameters. Each module keeps its own names and shapes, as views, so that
    `state_dict`, and calling one module, work as if nothing were stacked.
    """

    def __init__(self, modules: Mapping[str, nn.Module]) -> None:
        super().__init__(modules)
        self._place = {name: number for number, name in enumerate(modules)}
        first = next(iter(modules.values()))
        of = first.named_parameters()
        self.parameters = {name: nn.Parameter(torch.empty(0, device=one.device)) for name, one in of}
        self.cost = 60 + 0.07 * sum(parameter.numel() for parameter in first.parameters())
        """About how long a module takes for a row, forward and backward, in nanoseconds on a processor core."""
        self.tie()

    def tie(self) -> None:
        modules = list(self.modules.values())
        self.own = {name: [module.get_parameter(name) for module in modules] for name in self.parameters}
        for name, stacked in self.parameters.items():
            stacked.data = torch.stack([parameter.data for parameter in self.own[name]])
            for parameter, part in zip(self.own[name], stacked.data.unbind(), strict=True):
                parameter.data = part
        names = [name for name, _ in modules[0].named_buffers()]
        self.buffers = {name: torch.stack([module.get_buffer(name) for module in modules]) for name in names}
        self.template = deepcopy(modules[0]).requires_grad_(False).to("meta")

    def __call__(self, call: Callable[..., Any], *arguments: Tensor, members: Tensor | None = None) -> Any:
        """`call(module, *arguments)` of all modules, or `members`, at once: arguments and results are `[G, ...]`."""
        tensors = {name: _learned(stacked, self.own[name]) for name, stacked in self.parameters.items()} | self.buffers
        if members is not None:
            tensors = {name: tensor[members] for name, tensor in tensors.items()}

        def one(state: dict[str, Tensor], *parts: Tensor) -> Any:
            return call(lambda *inputs: functional_call(self.template, state, inputs), *parts)

        return torch.vmap(one)(tensors, *arguments)

    def call(self, name: str, call: Callable[..., Tensor], *arguments: Tensor) -> Tensor:
        own = self._chosen([name], arguments[0].device)
        return self(call, *(argument.unsqueeze(0) for argument in arguments), members=own).squeeze(0)

    def encode(self, batch: Batch, names: Sequence[str], latent_dim: int) -> tuple[Tensor, Tensor] | None:
        # Rows that lack a modality are left out where that saves more than it costs: in all but small networks.
        values, chosen = torch.stack([batch.values[name] for name in names]), self._chosen(names, batch.device)
        if batch.has_all(names):
            return self(operator.call, values, members=chosen)
        present = batch.presence(names).T  # [G, B]
        most = int(present.sum(1).max())
        if not most:
            return None
        if (len(batch) - most) * self.cost < most * latent_dim * MOVING:
            return self(operator.call, torch.where(per_row(present, values), values, 0), members=chosen)
        here, row = present.sort(dim=1, descending=True, stable=True)  # the rows that have it first
        here, row = here[:, :most], row[:, :most]
        results = []
        for part in self(operator.call, _taken(values, row, here), members=chosen):
            some = torch.where(here.unsqueeze(-1), part, 0.0)
            all_rows = some.new_zeros(len(names), len(batch), latent_dim)
            results.append(all_rows.scatter_add(1, row.unsqueeze(-1).expand_as(some), some))
        return results[0], results[1]

    def score(
        self, batch: Batch, names: Sequence[str], z: Tensor, reconstruct: Tensor, counts: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        # Each decoder gets all that it decodes, of whatever terms and rows, side by side. Where some get much more than
        # others, those that get about equally much are called together, so that little is filled up.
        owner, terms = (index.to(z.device) for index in reconstruct.T.nonzero(as_tuple=True))
        values, chosen = torch.stack([batch.values[name] for name in names]), self._chosen(names, batch.device)
        if counts is None and batch.has_all(names):  # a cell is all rows of a term: whose it is, and where its z stands
            cell_owner, place, drawn, pair, row = owner, terms, z, torch.arange(len(owner), device=z.device), None
        else:  # a cell is one row of a term
            keep = batch.presence(names).T[owner]
            pair, row = (keep if counts is None else keep & counts[terms]).nonzero(as_tuple=True)
            cell_owner, place, drawn = owner[pair], terms[pair] * len(batch) + row, z.flatten(0, 1)
        width = 1 if row is not None else len(batch)
        pieces, order = [], []
        for group, cells, number, slot in _alike(cell_owner, len(names), EXTRA_CALL / (self.cost * width)):
            some = None if len(group) == len(names) else group
            index = place[cells[slot == 0]].repeat(1 + int(slot.max()), 1).T.contiguous()  # fills up with what is there
            index[number, slot] = place[cells]
            if row is not None:
                data = values[group.unsqueeze(1), index % len(batch)]
            else:
                data = values if some is None else values[some]
                data = data.unsqueeze(1).expand(-1, index.shape[1], *data.shape[1:]).flatten(1, 2)
            part = self(_score, drawn[index].flatten(1, -2), data, members=_composed(chosen, some))
            part = part.reshape(-1, width)
            pieces.append(part if len(part) == len(cells) else part[number * index.shape[1] + slot])
            order.append(cells)
        if row is None and len(pieces) == 1:
            return owner, terms, pieces[0]
        scores = torch.zeros(len(owner), len(batch), device=z.device, dtype=pieces[0].dtype if pieces else z.dtype)
        if pieces:
            found, taken = torch.cat(pieces), torch.cat(order)
            where = (pair[taken],) if row is None else (pair[taken], row[taken])
            scores = scores.index_put(where, found if row is None else found.squeeze(1))
        return owner, terms, scores

    def _chosen(self, names: Sequence[str], device: torch.device) -> Tensor | None:
        """The numbers of these among the bank's; None for all."""
        if len(names) == len(self.modules):
            return None
        return torch.tensor([self._place[name] for name in names], device=device)


def _learned(stacked: Tensor, own: Sequence[Tensor]) -> Tensor:
    """The stacked parameter, without gradient where a module's own asks for none."""
    wanted = [parameter.requires_grad for parameter in own]
    if all(wanted):
        return stacked
    if not any(wanted):  # a gradient of zeros would let an optimiser's momentum move what is frozen
        return stacked.detach()
    return torch.where(per_row(torch.tensor(wanted, device=stacked.device), stacked), stacked, stacked.detach())


def banks_of(modules: Mapping[str, nn.Module]) -> list[Bank]:
    """Modules of one architecture in a `Stack`; then the others, each in a bank of one."""
    alike: dict[object, dict[str, nn.Module]] = {}
    for name, module in modules.items():
        kind = architecture(module) if any(True for _ in module.parameters()) else None
        alike.setdefault((name,) if kind is None else kind, {})[name] = module
    banks = [Stack(some) if len(some) > 1 else Bank(some) for some in alike.values()]
    return sorted(banks, key=lambda bank: len(bank.modules) == 1)


class Banked(nn.Module):
    """A module with `_banks`, whose parameters are the stacked ones in place of their slices."""

    _banks: list[Bank]

    def named_parameters(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, nn.Parameter]]:
        stacks = [bank for bank in self._banks if bank.parameters]
        sliced = {id(one) for stack in stacks for module in stack.modules.values() for one in module.parameters()}
        for name, parameter in super().named_parameters(prefix, recurse, remove_duplicate):
            if id(parameter) not in sliced:
                yield name, parameter
        for number, stack in enumerate(stacks):
            for name, parameter in stack.parameters.items():
                yield f"{prefix}{'.' if prefix else ''}stack {number}.{name}", parameter

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Banked:
        super()._apply(fn, recurse)
        self._tie()
        return self

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._tie()

    def _tie(self) -> None:
        for bank in self._banks:
            bank.tie()


def _alike(owner: Tensor, count: int, least: float) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """Groups of owners of about equally many cells, where another group saves at least so many filled-up cells.

    Args:
        owner: `[C]`, the owner of each cell, ascending.
        count: number of owners.
        least: as above.

    Yields:
        Numbers of the owners in a group, ascending; numbers of their cells; for each cell the place of its owner in the
        group, and its own among its owner's.
    """
    number = owner.bincount(minlength=count)
    start = number.cumsum(0) - number
    slot = torch.arange(len(owner), device=owner.device) - start[owner]
    has, order = number.sort(descending=True)
    ranges = _ranges(has[has > 0].tolist(), least)
    if ranges == [(0, count)]:
        yield torch.arange(count, device=owner.device), torch.arange(len(owner), device=owner.device), owner, slot
        return
    for first, last in ranges:
        group = order[first:last].sort().values
        numbers = group.new_full((count,), -1)
        numbers[group] = torch.arange(len(group), device=group.device)
        cells = (numbers[owner] >= 0).nonzero().flatten()
        yield group, cells, numbers[owner[cells]], slot[cells]


def _ranges(sizes: Sequence[int], least: float, first: int = 0) -> list[tuple[int, int]]:
    """Ranges of falling sizes, cut where filling up to the first of a range would take more than `least`."""
    if not sizes:
        return []
    saved, cut = max(((sizes[0] - size) * (len(sizes) - place), place) for place, size in enumerate(sizes))
    if saved <= least:
        return [(first, first + len(sizes))]
    return _ranges(sizes[:cut], least, first) + _ranges(sizes[cut:], least, first + cut)


def _score(decoder: Callable[[Tensor], Distribution], z: Tensor, values: Tensor) -> Tensor:
    return decoder(z).log_prob(values)


def _taken(values: Tensor, row: Tensor, here: Tensor) -> Tensor:
    """The rows `[G, M]` of `[G, B, ...]`, 0 where not `here`: there may be NaN in place of missing values."""
    taken = values.gather(1, per_row(row, values).expand(-1, -1, *values.shape[2:]))
    return torch.where(per_row(here, taken), taken, 0)


def _composed(chosen: Tensor | None, some: Tensor | None) -> Tensor | None:
    """The numbers in a stack of some of those chosen from it."""
    return some if chosen is None else chosen if some is None else chosen[some]
