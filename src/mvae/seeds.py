"""Seeds: one from several numbers, so that every draw of a run can be repeated alone; and draws from one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["seed_of", "seeded"]


def seed_of(*numbers: int) -> int:
    """One seed from several numbers (a run's seed, an epoch, a row), with no visible relation between neighbours."""
    state = 0x9E3779B97F4A7C15
    for number in numbers:  # the mixing steps of splitmix64
        state = (state + number * 0xBF58476D1CE4E5B9 + 0x94D049BB133111EB) % 2**64
        state = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        state = (state ^ (state >> 27)) * 0x94D049BB133111EB % 2**64
        state ^= state >> 31
    return state >> 1


@contextmanager
def seeded(seed: int, device: torch.device | None = None) -> Iterator[None]:
    """Draw from a seed, and leave the caller's generators as they were: the CPU's, and a GPU's if that is `device`."""
    with torch.random.fork_rng(devices=[] if device is None or device.type == "cpu" else None):
        torch.manual_seed(seed)
        yield
