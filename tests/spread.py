"""A training on rows in memory or on disk, over as many processes as asked; also a script, run by each process."""

import os
import sys
from dataclasses import replace
from pathlib import Path

import torch

import mvae
from mvae import Batch, Dataset
from mvae.config.folder import save_weights
from mvae.data.shards import open_shards
from mvae.files import write_json

NAMES = ("a", "b", "c", "d")
NUM_ROWS = 61
BATCH_SIZE = 12  # the last batch has one row


def config():
    """Four modalities of one architecture, which are trained as one stack, and a category."""
    dense = {"kind": "mlp", "hidden": [8]}
    vector = {"shape": [3], "likelihood": {"kind": "normal", "scale": None}, "encoder": dense, "decoder": dense}
    category = {
        "shape": [],
        "likelihood": {"kind": "categorical", "num_classes": 4},
        "encoder": {"kind": "embedding", "hidden": [8]},
        "decoder": dense,
    }
    return {
        "data": {},
        "model": {
            "latent_dim": 2,
            "random_subsets": 2,
            "modalities": {**dict.fromkeys(NAMES, vector), "class": category},
        },
        "training": {"epochs": 3, "batch_size": BATCH_SIZE, "learning_rate": 0.01, "annealing_epochs": 2},
    }


def rows(count, seed):
    """Rows with gaps of any pattern."""
    generator = torch.Generator().manual_seed(seed)
    values = {name: torch.randn(count, 3, generator=generator) for name in NAMES}
    values["class"] = torch.randint(0, 4, (count,), generator=generator)
    present = {name: torch.rand(count, generator=generator) < 0.5 for name in values}
    present["b"] |= ~torch.stack(list(present.values())).any(0)
    return Batch(values, present)


def write_shards(folder):
    """The rows in two Arrow files, what is absent as a null."""
    import pyarrow as pa

    whole = rows(NUM_ROWS, 0)
    folder.mkdir()
    for number, part in enumerate((whole[:20], whole[20:])):
        columns = {
            name: [value if there else None for value, there in zip(values.tolist(), part.present[name], strict=True)]
            for name, values in part.values.items()
        }
        table = pa.table(columns)
        with pa.OSFile(str(folder / f"{number}.arrow"), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)


def dataset(seen, huge_in_part=False, shards=None):
    """Rows to which each use adds noise; the numbers of those that count are added to `seen`.

    Args:
        seen: a list.
        huge_in_part: from the eleventh batch on, values of a part that does not start with the batch's first row
            become huge.
        shards: the folder that the rows lie in.
    """

    def transform(batch):
        noise = batch.drawn(torch.rand_like, batch.values["b"])
        if batch.part is not None and batch.part.counts:
            seen.append(batch.part.rows.tolist())
        factor = 1e25 if huge_in_part and batch.part is not None and batch.part.start and len(seen) > 10 else 1.0
        return Batch({**batch.values, "b": (batch.values["b"] + noise) * factor}, batch.present)

    if shards is not None:
        return replace(open_shards(shards), transform=transform)
    return Dataset("own", rows(NUM_ROWS, 0), rows(2500, 1), rows(10, 2), transform=transform)  # 3 validation batches


def fit(out, seen, huge_in_part=False, shards=None, **options):
    """Train, on one process or several."""
    return mvae.fit(dataset(seen, huge_in_part, shards), config=config(), out=out, progress=False, **options)


if __name__ == "__main__":
    folder, kind = Path(sys.argv[1]), sys.argv[2]
    rank, seen = int(os.environ.get("LOCAL_RANK", "0")), []
    shards = folder / "rows" if kind == "shards" else None
    model = fit(folder / "run", seen, kind == "huge", shards, devices=2)
    (folder / f"rank-{rank}").mkdir()
    save_weights(model, folder / f"rank-{rank}")
    write_json(folder / f"rank-{rank}" / "seen.json", seen)
