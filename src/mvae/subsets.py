"""The ELBO terms of a training step: the joint, each modality alone, k random others (Eq. 5)."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["count_other_subsets", "distinct_terms", "draw_subsets"]


def draw_subsets(num_modalities: int, k: int = 0, generator: torch.Generator | None = None) -> Tensor:
    """The subsets of one training step (paper, Eq. 5): all modalities, each alone, and k random others.

    A random subset is drawn size first, uniformly from 2 to N - 1, then uniformly among those of its size; the k are
    distinct. Where fewer than k others exist, all of them are taken. The 2^N subsets are never listed.

    Args:
        num_modalities: N, at least 1.
        k: number of random subsets, at least 0.
        generator: a CPU generator; torch's own where None.

    Returns:
        Boolean `[S, N]` on the CPU. Row 0 is the joint, rows 1 to N are the singles in order, then the random ones.
        N = 1 has one row, since the joint is the single.

    Raises:
        ValueError: if N < 1 or k < 0.

    Example:
        >>> draw_subsets(3, k=1, generator=torch.Generator().manual_seed(0)).int().sum(1)
        tensor([3, 1, 1, 1, 2])
    """
    if num_modalities < 1 or k < 0:
        raise ValueError(f"expected at least 1 modality and k >= 0, got {num_modalities} modalities and k = {k}")
    joint, singles = torch.ones(1, num_modalities, dtype=torch.bool), torch.eye(num_modalities, dtype=torch.bool)
    if num_modalities == 1:
        return joint
    return torch.cat([joint, singles, _draw_others(num_modalities, k, generator)])


def count_other_subsets(num_modalities: int) -> int:
    """The number of subsets of at least two modalities, but not all: 2^N - N - 2.

    Example:
        >>> [count_other_subsets(n) for n in (2, 3, 19)]
        [0, 3, 524267]
    """
    return max(0, 2**num_modalities - num_modalities - 2)


def _draw_others(num_modalities: int, k: int, generator: torch.Generator | None) -> Tensor:
    k = min(k, count_other_subsets(num_modalities))
    drawn: dict[bytes, Tensor] = {}
    while len(drawn) < k:
        size = torch.randint(2, num_modalities, (k,), generator=generator)
        rank = torch.rand(k, num_modalities, generator=generator).argsort(1).argsort(1)
        for row in rank < size[:, None]:
            drawn.setdefault(row.numpy().tobytes(), row)
    return torch.stack(list(drawn.values())[:k]) if k else torch.empty(0, num_modalities, dtype=torch.bool)


def distinct_terms(subsets: Tensor, present: Tensor) -> Tensor:
    """The terms that count for each row, where rows lack modalities.

    A row's terms are the subsets without what it lacks. An empty one does not count, and of equal ones the first
    counts: for a row with only x1 the joint and the single of x1 are one term, which is trained once.

    Args:
        subsets: boolean `[S, N]`, the step's subsets, distinct.
        present: boolean `[B, N]`.

    Returns:
        Boolean `[S, B]` on the device of `present`.

    Example:
        >>> distinct_terms(draw_subsets(2), torch.tensor([[True, True], [True, False], [False, False]])).int()
        tensor([[1, 1, 0],
                [1, 0, 0],
                [1, 0, 0]], dtype=torch.int32)
    """
    subsets = subsets.to(present.device)
    alone = subsets.sum(1) == 1
    singles, others = alone.nonzero().flatten(), (~alone).nonzero().flatten()
    member = subsets[singles].int().argmax(1)  # the modality of each single
    has = present.T.to(torch.float32)  # [N, B]; sums of at most N ones are exact
    table = subsets[others].to(has.dtype)  # [M, N]
    single_first = torch.zeros_like(table)  # [M, N]: 1 where modality n's single comes before subset m
    single_first[:, member] = (singles[None] < others[:, None]).to(has.dtype)

    size = table @ has  # [M, B], what is left of each subset
    common = torch.einsum("mn,ln,nb->mlb", table, table, has)
    same = (common == size[:, None]) & (common == size[None])
    repeated = (same & _earlier(len(others), has.device)).any(1)
    one_left = size == 1
    lone = one_left & ((table * single_first) @ has != 1) & ~repeated  # equals a single that comes later, if any
    taken = (table * (1 - single_first)).T @ lone.to(has.dtype) > 0  # [N, B]

    counts = torch.zeros(len(subsets), len(present), dtype=torch.bool, device=has.device)
    counts[others] = ((size > 1) & ~repeated) | lone
    counts[singles] = (has.bool() & ~taken)[member]
    return counts


def _earlier(count: int, device: torch.device) -> Tensor:
    return torch.ones(count, count, dtype=torch.bool, device=device).tril(-1).unsqueeze(-1)
