"""The docs page of the benchmarks, from their JSON files alone: `python -m benchmarks --page`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.measurements import MEASUREMENTS
from mvae.export import markdown_table
from mvae.files import read_json

__all__ = ["page", "read", "section", "targets"]

Content = dict[str, Any]

HEAD = """# Speed and memory

Made by `{commands}` on {machine}; mvae {mvae}, torch {torch}, multivae {multivae}, Python {python}, commit
{commit}. `make bench` makes the short form and sets up what it needs.

Everything is timed in one process, in turn, round after round, so that what disturbs the machine disturbs all of it; a
time is the median of at least five rounds, with the least and the most. A ratio is one of medians, with its least and
most over the rounds, and beside it that of processor times. Times of matrix products depend on the processor: bfloat16
in particular is faster than float32 only where the processor multiplies it faster. Freed memory is kept for the next
step, as `fit` has it, in what ours is compared with too. Against a target:

{targets}

The targets were set on another machine. No program that makes these products can beat the floor, so where what ours is
compared with takes less than the target times the floor, the target is out of reach on this machine: in bfloat16, whose
products are slower than float32's here, for 19 modalities (but for the step that decodes all) and for likelihoods. At
100 rows a step Adam, which passes over all parameters and their moments, takes a good part of what is above the floor.
Tables of small networks are bound by memory: a number is read and written some tens of times for a few multiplications,
and rows that lack half of their values save products while they add gathering.
[The last section](#where-the-time-of-a-step-goes) has the operators.

What ours is compared with:

- **multivae** is the peer library, called as its documentation says, with copies of our networks, on the same rows,
  with the same number of ELBO terms, likelihoods and batches. Its own Bernoulli refuses grey pixels, so it is given
  the same cross-entropy without that check. It imports torchvision, which cannot be imported beside a CPU build of
  torch; where that is so, an empty module stands in during the import, and nothing that is timed calls it.
- **The re-encoding step** is the usual way to write the loss, a plain loop over terms and modalities; on complete rows
  it gives the same number as ours (`tests/test_benchmarks.py`).
- **The floor** is the step's matrix products alone: forward, for the weights' gradients and for the inputs' (not of a
  first layer, whose input is data), with each row encoded once and each decoder run on the rows of the terms that hold
  its modality. Their number of operations is counted from the networks; the rate at which the machine makes them is
  that of the best round of products of the same shapes and type. Activations, likelihoods, the optimiser and Python
  come on top of it in any program.
"""


def read(folder: Path) -> list[Content]:
    """The files of a folder, in the order of `MEASUREMENTS`."""
    return [read_json(folder / f"{name}.json") for name in MEASUREMENTS if (folder / f"{name}.json").exists()]


def page(contents: list[Content]) -> str:
    """All of it, in Markdown."""
    made = [content["provenance"] for content in contents]

    def all_of(key: str) -> str:
        return ", ".join(dict.fromkeys(str(one[key]) for one in made))

    head = HEAD.format(
        commands="`, `".join(dict.fromkeys(one["command"] for one in made)),
        machine=all_of("machine"),
        mvae=all_of("mvae"),
        torch=all_of("torch"),
        python=all_of("python"),
        commit=all_of("commit"),
        multivae=", ".join(dict.fromkeys(one["versions"]["multivae"] for one in made)),
        targets=targets(contents),
    )
    return "\n".join([head, *(f"{section(content)}\n" for content in contents)])


def targets(contents: list[Content]) -> str:
    """Every comparison that has a target."""
    rows = [
        [content["title"], *_cells(found)]
        for content in contents
        for found in content["comparisons"]
        if found["target"] is not None
    ]
    return markdown_table(["measurement", *COLUMNS], rows)


def section(content: Content) -> str:
    """One measurement: what was compared, the times, and what else was found."""
    parts = [f"## {content['title']}", content["how"]]
    if content["comparisons"]:
        parts.append(markdown_table(COLUMNS, [_cells(found) for found in content["comparisons"]]))
    if content["seconds"]:
        rows = [
            [name, *(_milliseconds(found[key]) if key in found else "" for key in TIMES)]
            for name, found in content["seconds"].items()
        ]
        parts.append(markdown_table(["", "median ms", "least", "most", "processor ms"], rows))
    if content["facts"]:
        parts.append("\n".join(f"- {name}: {_said(fact)}" for name, fact in content["facts"].items()))
    return "\n\n".join(parts)


TIMES = ["median", "least", "most", "cpu"]
COLUMNS = ["", "ours", "other", "ratio", "least", "most", "of processor times", "target", ""]


def _cells(found: dict[str, Any]) -> list[str]:
    sizes = [found["ours"], found["other"]]
    shown = [_milliseconds(s) + " ms" for s in sizes] if found["unit"] == "s" else [f"{s:.0f} MiB" for s in sizes]
    spread = ["" if found[key] is None else f"{found[key]:.2f}" for key in ("least", "most", "processor")]
    goal = "" if found["target"] is None else f"{found['sense']} {found['target']:g}"
    verdict = {True: "met", False: "**not met**", None: ""}[found["met"]]
    return [found["what"], *shown, f"{found['ratio']:.2f}", *spread, goal, verdict]


def _milliseconds(seconds: float) -> str:
    return f"{1000 * seconds:.3g}" if seconds < 1 else f"{1000 * seconds:,.0f}"


def _said(fact: Any) -> str:
    if not isinstance(fact, dict):
        return f"{fact:,.1f}"
    if "error" in fact:
        return f"`{fact['error']}`" + (f" after {fact['after']:.0f} s" if "after" in fact else "")
    if "grown" in fact:
        return f"{fact['grown'] / 2**20:,.0f} MiB, {fact['seconds']:.2f} s"
    return ", ".join(f"{name} {value:,.1f}" for name, value in fact.items())
