"""`python -m benchmarks.shards`: train on several times more data than memory allows, and write what it took.

Processes run one after another, each under the same limit: one that trains from disk, one that trains from disk on a
part of the files (so that memory can be seen not to grow), one that loads everything, which must fail; then one that
converts a Parquet file as large as the limit, and one that has `datasets` convert it.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mvae.config.recipes import recipe
from mvae.data.loading import ShardedBatches
from mvae.data.shards import open_shards
from mvae.export import markdown_table
from mvae.files import write_json
from mvae.training.prepare import prepare
from paper.results import provenance

PIXELS = 784
ROW_BYTES = 4 * PIXELS + 8
CGROUPS = Path("/sys/fs/cgroup/memory")
HIDDEN = [64]  # a small model: what is measured is reading


def main() -> None:
    """Generate files of rows, train on them under a memory limit, delete them."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.shards", description=main.__doc__)
    parser.add_argument("--limit", type=float, default=1.0, help="memory of the training process, GiB (default: 1)")
    parser.add_argument("--data", type=float, default=5.0, help="size of the files, GiB (default: 5)")
    parser.add_argument("--files", type=int, default=20, help="how many files (default: 20)")
    parser.add_argument("--small", action="store_true", help="1.5 GiB of files")
    parser.add_argument("--out", type=Path, default=Path("results/benchmarks"))
    parser.add_argument("--worker", nargs=3, metavar=("TASK", "FOLDER", "REPORT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.worker:
        return work(*options.worker)
    size = 1.5 if options.small else options.data
    made_by = provenance() | {"command": " ".join(["python -m benchmarks.shards", *sys.argv[1:]])}  # as it starts
    with tempfile.TemporaryDirectory(prefix="mvae-shards-") as folder:
        result = measure(Path(folder), int(options.limit * 2**30), int(size * 2**30), options.files)
    options.out.mkdir(parents=True, exist_ok=True)
    write_json(options.out / "shards.json", {"provenance": made_by} | result)
    print(table(result))
    return None


def measure(folder: Path, limit: int, size: int, files: int) -> dict[str, Any]:
    """Everything that is written down of a folder of generated files."""
    rows = size // ROW_BYTES // files
    generate(folder / "all", rows, files)
    part = folder / "part" / "train"
    part.mkdir(parents=True)
    for path in sorted((folder / "all" / "train").iterdir())[: max(1, files // 5)]:
        (part / path.name).symlink_to(path)
    written = sum(path.stat().st_size for path in (folder / "all").rglob("*.arrow"))
    parquet(folder / "parquet", limit // ROW_BYTES)
    tasks = {
        "train": folder / "all",
        "train on a fifth of the files": folder / "part",
        "load": folder / "all",
        "convert": folder / "parquet",
        "convert-with-datasets": folder / "parquet",
    }
    return {
        "limit_bytes": limit,
        "limited_by": limited_by(),
        "data_bytes": written,
        "times_the_limit": written / limit,
        "files": files,
        "rows": rows * files,
        "row": {"image": PIXELS, "label": 1},
        "processes": {name: run(name, where, limit, folder / "report.json") for name, where in tasks.items()},
        "milliseconds_a_batch": step_times(folder / "part"),
    }


def generate(folder: Path, rows: int, files: int) -> None:
    """Files of pictures and labels, a tenth of either null; one batch of rows in memory at a time."""
    import pyarrow as pa

    train = folder / "train"
    train.mkdir(parents=True)
    generator, batch = np.random.default_rng(0), 1000
    schema = pa.schema({"image": pa.list_(pa.float32()), "label": pa.int64()})
    for number in range(files):
        with pa.OSFile(str(train / f"{number:04}.arrow"), "wb") as sink, pa.ipc.new_stream(sink, schema) as writer:
            for start in range(0, rows, batch):
                count = min(batch, rows - start)
                pixels = pa.array(generator.random(count * PIXELS, dtype=np.float32))
                gone = pa.array(generator.random(count) < 0.1)
                offsets = pa.array(np.arange(count + 1, dtype=np.int32) * PIXELS)
                image = pa.ListArray.from_arrays(offsets, pixels, mask=gone)
                label = pa.array(generator.integers(0, 10, count), mask=generator.random(count) < 0.1)
                writer.write_batch(pa.record_batch([image, label], schema=schema))


def parquet(folder: Path, rows: int) -> None:
    """One Parquet file of pictures, in row groups of 50,000."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder.mkdir()
    schema, generator = pa.schema({"image": pa.list_(pa.float32())}), np.random.default_rng(0)
    with pq.ParquetWriter(folder / "rows.parquet", schema) as writer:
        for start in range(0, rows, 50_000):
            count = min(50_000, rows - start)
            offsets = pa.array(np.arange(count + 1, dtype=np.int32) * PIXELS)
            pixels = pa.array(generator.random(count * PIXELS, dtype=np.float32))
            writer.write_table(pa.table([pa.ListArray.from_arrays(offsets, pixels)], schema=schema))


def forget(folder: Path) -> None:
    """Drop files from the page cache, so that a limited process has to read them within its own limit."""
    for path in (*folder.rglob("*.arrow"), *folder.rglob("*.parquet")):
        with path.open("rb+") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


# Under a limit


def limited_by() -> str:
    """What holds a process to its memory here."""
    try:
        with _cgroup(2**30):
            return "cgroup (resident memory and page cache)"
    except OSError:
        return "RLIMIT_DATA (memory that is not mapped from a file), as `ulimit -d`"


@contextmanager
def _cgroup(limit: int) -> Iterator[Path]:
    group = CGROUPS / f"mvae-shards-{os.getpid()}"
    group.mkdir()
    try:
        (group / "memory.limit_in_bytes").write_text(str(limit))
        yield group
    finally:
        group.rmdir()


def run(task: str, folder: Path, limit: int, report: Path) -> dict[str, Any]:
    """Do a task in a process of its own, and say how it ended."""
    report.unlink(missing_ok=True)
    forget(folder)
    command = [
        sys.executable,
        "-m",
        "benchmarks.shards",
        "--worker",
        task.split(maxsplit=1)[0],
        str(folder),
        str(report),
    ]
    start = time.perf_counter()
    if limited_by().startswith("cgroup"):
        with _cgroup(limit) as group:
            tasks = str(group / "tasks")
            ended = _end(command, lambda: Path(tasks).write_text(str(os.getpid())))
            peak = {"peak_of_cgroup_bytes": int((group / "memory.max_usage_in_bytes").read_text())}
    else:
        ended, peak = _end(command, lambda: resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))), {}
    said = json.loads(report.read_text()) if report.exists() else {}
    how = {"ended": "well" if ended.returncode == 0 else f"status {ended.returncode}"}
    if ended.returncode:
        killed = ended.returncode == -signal.SIGKILL  # how a cgroup ends what needs more
        how["error"] = "killed for its memory" if killed else ended.stderr.strip().splitlines()[-1]
    return {**how, **peak, **said, "seconds": time.perf_counter() - start}


def _end(command: list[str], before: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False, preexec_fn=before)


def work(task: str, folder: str, report: str) -> None:
    """What a limited process does."""
    peak = _watch_memory()
    started = peak()
    if task == "load":
        batch = open_shards(folder).train[:]
        write_json(Path(report), {"rows": len(batch)})
        return
    if task.startswith("convert"):
        rows = convert(Path(folder), task == "convert")
        found = {"anonymous_bytes_at_start": started, "peak_anonymous_bytes": peak()}
        write_json(Path(report), {"rows": rows, **found})
        return
    prepared = prepare(folder, config=config(), options={})
    rows = len(prepared.dataset.train)
    start = time.perf_counter()
    prepared.train(progress=False)
    seconds = time.perf_counter() - start
    write_json(
        Path(report),
        {
            "rows": rows,
            "rows_a_second": rows / seconds,
            "anonymous_bytes_at_start": started,
            "peak_anonymous_bytes": peak(),
        },
    )


def convert(folder: Path, ours: bool) -> int:
    """Convert the Parquet file of a folder; gives its number of rows."""
    if ours:
        os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
        return len(open_shards(folder).train)
    from datasets import Dataset

    return len(Dataset.from_parquet(str(folder / "rows.parquet"), cache_dir=str(folder / "datasets")))


def config() -> dict[str, Any]:
    """One epoch of a small model of pictures and labels."""
    model = recipe("mnist")["model"]
    for modality in model["modalities"].values():
        modality["encoder"]["hidden"] = modality["decoder"]["hidden"] = HIDDEN
    return {"model": model, "training": {"epochs": 1, "batch_size": 100}}


def _watch_memory() -> Any:
    """A function that tells the most anonymous memory (that no file backs) this process has had since now."""
    page, most = os.sysconf("SC_PAGE_SIZE"), [0]

    def look() -> int:
        _, resident, shared, *_ = map(int, Path("/proc/self/statm").read_text().split())
        most[0] = max(most[0], (resident - shared) * page)
        return most[0]

    def keep_looking() -> None:
        while True:
            look()
            time.sleep(0.05)

    threading.Thread(target=keep_looking, daemon=True).start()
    return look


# Reading beside training


def step_times(folder: Path) -> dict[str, float]:
    """Median milliseconds of reading a batch of 100 rows (in the order of training) and of a step on it."""
    run = prepare(folder, config=config(), options={})
    whole = prepare(folder, config=config() | {"model": recipe("mnist")["model"]}, options={})
    train, order = run.dataset.train, iter(ShardedBatches(len(run.dataset.train), 100, 0))
    times: dict[str, list[float]] = {"read": [], "step of this model": [], "step of the mnist recipe's model": []}
    models = dict(zip(list(times)[1:], (run.model, whole.model), strict=True))
    optimisers = {name: torch.optim.Adam(model.parameters(), fused=True) for name, model in models.items()}
    for _ in range(200):
        start = time.perf_counter()
        batch = train[next(order)]
        times["read"].append(time.perf_counter() - start)
        for name, model in models.items():
            start = time.perf_counter()
            optimisers[name].zero_grad()
            model.loss(batch).loss.backward()
            optimisers[name].step()
            times[name].append(time.perf_counter() - start)
    return {name: 1000 * float(np.median(found)) for name, found in times.items()}


def table(result: dict[str, Any]) -> str:
    """The measurements in words."""
    rows = []
    for name, found in result["processes"].items():
        peak = found.get("peak_anonymous_bytes")
        rows.append(
            [
                name,
                found["ended"],
                f"{found['rows_a_second']:,.0f}" if "rows_a_second" in found else "",
                f"{peak / 2**20:,.0f}" if peak else "",
                f"{found['seconds']:.0f}",
            ]
        )
    head = ["", "ended", "rows a second", "peak anonymous MiB", "seconds"]
    limit = f"{result['data_bytes'] / 2**30:.2f} GiB of rows under {result['limit_bytes'] / 2**30:.2f} GiB"
    batch = ", ".join(f"{name} {time:.2f}" for name, time in result["milliseconds_a_batch"].items())
    return f"{limit}, by {result['limited_by']}\n{markdown_table(head, rows)}\nmilliseconds a batch of 100: {batch}"


if __name__ == "__main__":
    main()
