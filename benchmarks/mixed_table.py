"""`python -m benchmarks.mixed_table`: a table of 100,000 rows and 50 mixed columns, trained on and filled in.

Each command is a process of its own under a limit of its memory; what it took and the most it held are written down.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mvae.export import markdown_table
from mvae.files import write_json
from paper.results import provenance

KINDS = {"number": 18, "positive": 8, "count": 8, "category": 8, "yes-no": 5, "date": 3}
HIDDEN = 0.2
FACTORS = 6
"""What the columns share."""


def main() -> None:
    """Write a table with holes, train on it, fill it in, and write what that took."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.mixed_table", description=main.__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--limit", type=float, default=4.0, help="memory of each process, GiB (default: 4)")
    parser.add_argument("--out", type=Path, default=Path("results/benchmarks"))
    options = parser.parse_args()
    made_by = provenance() | {"command": " ".join(["python -m benchmarks.mixed_table", *sys.argv[1:]])}
    with tempfile.TemporaryDirectory(prefix="mvae-table-") as temporary:
        folder = Path(temporary)
        frame = table(options.rows)
        frame.to_csv(folder / "table.csv", index=False)
        commands = {
            "mvae fit": ["fit", "table.csv", "--out", "run"],
            "mvae impute": ["impute", "run", "table.csv", "--out", "filled.csv"],
        }
        limit = int(options.limit * 2**30)
        took = {name: run(arguments, folder, limit) for name, arguments in commands.items()}
    content = {"rows": options.rows, "columns": KINDS, "hidden": HIDDEN, "limit_bytes": limit, "processes": took}
    options.out.mkdir(parents=True, exist_ok=True)
    write_json(options.out / "mixed-table.json", {"provenance": made_by} | content)
    print(summary(content))


def table(rows: int) -> pd.DataFrame:
    """Columns that share a few factors, a share of the cells empty."""
    rng = np.random.default_rng(0)
    z = rng.normal(size=(rows, FACTORS))

    def signal() -> np.ndarray:
        return z @ rng.normal(size=FACTORS) / FACTORS**0.5 + 0.5 * rng.normal(size=rows)

    columns: dict[str, Any] = {}
    for kind, count in KINDS.items():
        for number in range(count):
            values: Any = signal()
            match kind:
                case "positive":
                    values = np.exp(1.5 * values).round(4)
                case "count":
                    values = rng.poisson(np.exp(np.clip(values, -3, 3)))
                case "category":
                    values = pd.Series(pd.qcut(values, 3 + 2 * number, labels=False)).map(lambda code: f"c{code}")
                case "yes-no":
                    values = np.where(values > 0, "yes", "no")
                case "date":
                    moments = pd.Timestamp("2020-01-01") + pd.to_timedelta((values * 300).round(), unit="D")
                    values = moments.strftime("%Y-%m-%d")
                case _:
                    values = values.round(4)
            columns[f"{kind} {number}"] = pd.Series(values, dtype=object)
    frame = pd.DataFrame(columns)
    return frame.mask(rng.random(frame.shape) < HIDDEN)


def run(arguments: list[str], folder: Path, limit: int) -> dict[str, Any]:
    """What a command took, in seconds and bytes."""

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))

    code = (
        "import json, resource, sys; from mvae.cli import main; status = main(sys.argv[1:])\n"
        "print(json.dumps(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss), file=sys.stderr); sys.exit(status)"
    )
    started = time.perf_counter()
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, cwd=folder, preexec_fn=limited, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - started
    lines = done.stderr.strip().splitlines()
    if done.returncode:
        raise RuntimeError(f"{' '.join(arguments)} ended with {done.returncode}: {lines[-1] if lines else ''}")
    return {"seconds": round(seconds, 1), "most_bytes": 1024 * int(lines[-1])}


def summary(content: dict[str, Any]) -> str:
    """What it took, as a table in Markdown."""
    rows = [
        [name, f"{took['seconds'] / 60:.1f}", f"{took['most_bytes'] / 2**30:.1f}"]
        for name, took in content["processes"].items()
    ]
    return markdown_table(
        [f"{content['rows']:,} rows of {sum(content['columns'].values())} columns", "minutes", "GiB"], rows
    )


if __name__ == "__main__":
    main()
