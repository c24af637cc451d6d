"""The weight of the KL terms and the learning rate, step by step."""

from __future__ import annotations

import math

__all__ = ["annealed_beta", "cosine_decay"]


def annealed_beta(step: int, annealing_steps: int, cycles: int = 1) -> float:
    """beta of Eq. 1 at an optimiser step: from 0, in equal steps, to 1 at `annealing_steps` and after.

    In several cycles (Fu et al. 2019) it rises in the first half of each and stays at 1 in the second.

    Example:
        >>> [annealed_beta(step, 4) for step in (0, 1, 4, 9)], annealed_beta(0, 0)
        ([0.0, 0.25, 1.0, 1.0], 1.0)
        >>> [annealed_beta(step, 8, cycles=2) for step in range(9)]
        [0.0, 0.5, 1.0, 1.0, 0.0, 0.5, 1.0, 1.0, 1.0]
    """
    if step >= annealing_steps:
        return 1.0
    if cycles == 1:
        return step / annealing_steps
    return min(1.0, 2 * (step * cycles / annealing_steps % 1))


def cosine_decay(step: int, total: int, lowest: float = 0.01) -> float:
    """The learning rate's factor: 1 for half of the steps, then down to `lowest` along half a cosine.

    Example:
        >>> [round(cosine_decay(step, 100), 3) for step in (0, 50, 75, 100)]
        [1.0, 1.0, 0.505, 0.01]
    """
    gone = max(0.0, 2 * step / total - 1)
    return lowest + (1 - lowest) * 0.5 * (1 + math.cos(math.pi * min(1.0, gone)))
