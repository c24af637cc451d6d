"""Seeds: one from several numbers, so that every draw of a run can be repeated alone; and draws from one."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

__all__ = ["Drawing", "seed_of", "seeded", "undisturbed"]

# fmt: off
DRAWS = frozenset((
    "rand", "randn", "randint", "randperm", "rand_like", "randn_like", "normal", "bernoulli", "multinomial",
    "poisson", "binomial", "_standard_gamma", "_sample_dirichlet", "uniform_", "normal_", "exponential_",
    "bernoulli_", "random_", "cauchy_", "log_normal_", "geometric_",
))
# fmt: on
"""Names of torch's functions that take a generator."""


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
    gpus = [device] if device is not None and device.type == "cuda" else []
    with torch.random.fork_rng(devices=gpus):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed all GPUs too
        for gpu in gpus:
            with torch.cuda.device(gpu):
                torch.cuda.manual_seed(seed)
        yield


@contextmanager
def undisturbed() -> Iterator[None]:
    """Leave Python's random state as it was: packages draw from it when they are imported, as rich does."""
    state = random.getstate()
    try:
        yield
    finally:
        random.setstate(state)


class Drawing(TorchFunctionMode):
    """Within it this thread draws from a generator of its own, whatever other threads do, the same as `seeded` draws.

    Distributions take no generator; so the calls by which they draw are given one.
    """

    def __init__(self, seed: int, device: torch.device) -> None:
        super().__init__()
        self.generator = torch.Generator(device).manual_seed(seed)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        own = {"generator": self.generator} if func.__name__ in DRAWS else {}
        return func(*args, **{**own, **(kwargs or {})})
