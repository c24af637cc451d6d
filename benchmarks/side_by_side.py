"""Timing of several ways to do the same, in turn, so that what disturbs the machine disturbs all of them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping

__all__ = ["Times", "in_turn"]

Times = dict[str, dict[str, float]]
"""Name to `median`, `least` and `most`, in seconds a call."""


def in_turn(ways: Mapping[str, Callable[[], object]], repeats: int = 5, seconds: float = 1.0) -> Times:
    """Time each way once a round, for several rounds.

    Args:
        ways: name to what is timed.
        repeats: rounds, at least 5 for a result to be kept.
        seconds: about how long a way is called in a round.
    """
    calls = {}
    for name, way in ways.items():
        way()  # caches and allocations
        started = time.perf_counter()
        way()
        calls[name] = max(1, round(seconds / (time.perf_counter() - started)))
    found: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, way in ways.items():
            started = time.perf_counter()
            for _ in range(calls[name]):
                way()
            found[name].append((time.perf_counter() - started) / calls[name])
    return {
        name: {"median": statistics.median(times), "least": min(times), "most": max(times)}
        for name, times in found.items()
    }
