"""Timing of several ways to do the same, in turn, so that what disturbs the machine disturbs all of them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["Sampler", "Times", "calling", "clocked", "differing", "in_turn", "measured"]

Sampler = Callable[[], tuple[float, float]]
"""Measures once; wall and processor time, in seconds a call."""
Times = dict[str, dict[str, Any]]
"""Name to `median`, `least` and `most` over the rounds, in seconds a call; `cpu`, the median of this process's own
processor time (well below the wall time, it says that other programs had the processor); and `rounds`, each one."""


def measured(samplers: Mapping[str, Sampler], repeats: int) -> Times:
    """Measure each once a round, for several rounds: at least 5 for a result to be kept."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in samplers}
    for _ in range(repeats):
        for name, sample in samplers.items():
            found[name].append(sample())
    return {name: _summary([w for w, _ in pairs], [c for _, c in pairs]) for name, pairs in found.items()}


def in_turn(ways: Mapping[str, Callable[[], object]], repeats: int = 5, seconds: float = 1.0) -> Times:
    """`measured` of ways that are called again and again for about so many seconds a round."""
    return measured({name: calling(way, seconds) for name, way in ways.items()}, repeats)


def clocked(way: Callable[[], object], times: int = 1) -> tuple[float, float]:
    """Wall and processor time of so many calls."""
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(times):
        way()
    return time.perf_counter() - wall, time.process_time() - cpu


def calling(way: Callable[[], object], seconds: float) -> Sampler:
    """The time of a call, from as many as take about so many seconds; what is called before fills caches."""
    first = clocked(way)[0]
    calls = max(1, round(seconds / clocked(way)[0])) if first < 2 * seconds else 1

    def sample() -> tuple[float, float]:
        wall, cpu = clocked(way, calls)
        return wall / calls, cpu / calls

    return sample


def differing(run: Callable[[int], object], few: int, many: int) -> Sampler:
    """The time of a step, from two runs of different length: what a run does once, at its start and end, cancels."""
    run(few)

    def sample() -> tuple[float, float]:
        (wall_few, cpu_few), (wall_many, cpu_many) = clocked(lambda: run(few)), clocked(lambda: run(many))
        return (wall_many - wall_few) / (many - few), (cpu_many - cpu_few) / (many - few)

    return sample


def _summary(wall: list[float], cpu: list[float]) -> dict[str, Any]:
    return {
        "median": statistics.median(wall),
        "least": min(wall),
        "most": max(wall),
        "cpu": statistics.median(cpu),
        "rounds": wall,
    }
