"""Seeds: one from several numbers, so that every draw of a run can be repeated alone."""

from __future__ import annotations

__all__ = ["seed_of"]


def seed_of(*numbers: int) -> int:
    """One seed from several numbers (a run's seed, an epoch, a row), with no visible relation between neighbours."""
    state = 0x9E3779B97F4A7C15
    for number in numbers:  # the mixing steps of splitmix64
        state = (state + number * 0xBF58476D1CE4E5B9 + 0x94D049BB133111EB) % 2**64
        state = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        state = (state ^ (state >> 27)) * 0x94D049BB133111EB % 2**64
        state ^= state >> 31
    return state >> 1
