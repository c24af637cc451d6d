"""`python -m benchmarks`: measure, write `results/benchmarks/*.json` and the docs page, print what meets its target."""

from __future__ import annotations

import argparse
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from benchmarks import page
from benchmarks.measurements import MEASUREMENTS, Effort
from mvae.files import write_json, write_text
from mvae.training.compute import keep_memory
from paper.results import provenance

SHORT = Effort(repeats=5, seconds=0.2, steps=30, short=True)
RESULTS, PAGE = Path("results/benchmarks"), Path("docs/benchmarks.md")


def versions() -> dict[str, str]:
    """Of what is measured and what it runs on."""
    found = {}
    for name in ("torch", "numpy", "lightning", "multivae", "pythae"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def measure(name: str, effort: Effort) -> dict[str, Any]:
    """One measurement, as it is written."""
    torch.manual_seed(0)
    started = time.perf_counter()
    content = MEASUREMENTS[name](effort).content()
    made = provenance() | {"command": " ".join(["python -m benchmarks", *sys.argv[1:]]), "versions": versions()}
    effort_made = {"form": "short" if effort.short else "long", "took": round(time.perf_counter() - started, 1)}
    return {"provenance": made | effort_made, **content}


def main() -> None:
    """Measure what is named, or all; with --page only write the docs page from the files there are."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=main.__doc__)
    parser.add_argument("names", nargs="*", help=f"some of {', '.join(MEASUREMENTS)} (default: all)")
    parser.add_argument("--short", action="store_true", help="less time a round; under four minutes in all")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the JSON files (default: %(default)s)")
    parser.add_argument("--page", type=Path, nargs="?", const=PAGE, help="write the page of all files there and stop")
    options = parser.parse_args()
    unknown = set(options.names) - MEASUREMENTS.keys()
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    if options.page:
        write_text(options.page, page.page(page.read(options.out)))
        return
    torch.set_num_threads(options.threads)
    keep_memory()
    options.out.mkdir(parents=True, exist_ok=True)
    for name in options.names or MEASUREMENTS:
        content = measure(name, SHORT if options.short else Effort())
        write_json(options.out / f"{name}.json", content)
        print(f"\n{page.section(content)}", flush=True)
    found = page.read(options.out)
    if options.out == RESULTS:
        write_text(PAGE, page.page(found))
    print(f"\nAll\n\n{page.targets(found)}", flush=True)


if __name__ == "__main__":
    main()
