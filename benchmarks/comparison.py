"""A measurement as it is kept: times, what of them is compared with what, and which target that meets."""

from __future__ import annotations

import statistics
from dataclasses import asdict, dataclass, field
from typing import Any

from benchmarks.side_by_side import Times

__all__ = ["Comparison", "Measurement", "below", "least_of", "share_of", "times_faster"]


@dataclass(frozen=True)
class Comparison:
    """A number, what it should be, and whether it is."""

    what: str
    ours: float
    other: float | None
    """Of the peer, loop or floor; None where ours alone is looked at."""
    ratio: float
    least: float | None
    most: float | None
    """Spread of the ratio over the rounds."""
    target: float | None
    """None where the ratio is for information."""
    sense: str
    """`at least` or `at most`."""
    unit: str = "s"
    processor: float | None = None
    """The ratio of the processor times, which other programs disturb less."""

    @property
    def met(self) -> bool | None:
        """Whether the target is met."""
        if self.target is None:
            return None
        return self.ratio >= self.target if self.sense == "at least" else self.ratio <= self.target


@dataclass
class Measurement:
    """What one file of `results/benchmarks` holds, beside where it comes from."""

    title: str
    how: str
    times: Times = field(default_factory=dict)
    comparisons: list[Comparison] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)

    def content(self) -> dict[str, Any]:
        """As JSON takes it."""
        compared = [asdict(comparison) | {"met": comparison.met} for comparison in self.comparisons]
        return {
            "title": self.title,
            "how": self.how,
            "facts": self.facts,
            "comparisons": compared,
            "seconds": self.times,
        }


def times_faster(times: Times, ours: str, other: str, target: float | None = None) -> Comparison:
    """How many times as long the other takes."""
    return _compared(f"{other} / {ours}", times, ours, other, [other, ours], target, "at least")


def share_of(times: Times, ours: str, other: str, target: float | None = None) -> Comparison:
    """How many times as long as the other ours takes."""
    return _compared(f"{ours} / {other}", times, ours, other, [ours, other], target, "at most")


def least_of(times: Times, ours: str, floor: str, target: float | None = None) -> Comparison:
    """How many times as long as the floor at its best rate ours takes."""
    best, median = times[floor]["least"], times[ours]["median"]
    rounds = [one / best for one in times[ours]["rounds"]]
    processor = times[ours]["cpu"] / best
    return Comparison(
        f"{ours} / {floor}", median, best, median / best, min(rounds), max(rounds), target, "at most", "s", processor
    )


def below(what: str, found: float, limit: float, unit: str = "s") -> Comparison:
    """A number that should stay below a limit; the ratio is to that limit."""
    return Comparison(what, found, limit, found / limit, None, None, 1.0, "at most", unit)


def _compared(
    what: str, times: Times, ours: str, other: str, order: list[str], target: float | None, sense: str
) -> Comparison:
    above, under = (times[name]["rounds"] for name in order)
    processor = times[order[0]]["cpu"] / times[order[1]]["cpu"]
    ratios = [a / b for a, b in zip(above, under, strict=True)]
    return Comparison(
        what,
        times[ours]["median"],
        times[other]["median"],
        statistics.median(above) / statistics.median(under),
        min(ratios),
        max(ratios),
        target,
        sense,
        "s",
        processor,
    )
