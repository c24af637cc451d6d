"""Damaged, foreign and hostile files of a run, through every command that reads one."""

import json
import os
import pickle
import random
import shutil
import struct
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from campaign.trial import Verdict, command, judged, lost, run
from campaign.world import FIT, RESUME, Case, World, kind, unreadable

COMMANDS: dict[str, tuple[str, ...]] = {
    "load": ("load", "run"),
    "resume": RESUME,
    "evaluate": ("evaluate", "run", "--split", "validation", "--samples", "2"),
    "sample": ("sample", "run", "--out", "s.csv", "--count", "2"),
    "impute": ("impute", "run", "people.csv", "--out", "f.csv", "--refine", "0", "--samples", "2"),
    "export": ("export", "run", "--out", "exported"),
}
COUNTS = {"load": 250, "resume": 150, "evaluate": 60, "sample": 60, "impute": 60, "export": 80}
ALWAYS = ("config.json", "config.json", "model.safetensors")
FILES = {
    "resume": ("checkpoints/last.*", "checkpoints/*", "metrics.json"),
    "export": ("metrics.json", "evaluation.json"),
}
VALUES: list[Any] = [
    *(10**9, 10**12, -1, 0, 2**63, 2**64, 1e308, -1e308, 1e-320, float("nan"), float("inf"), None, True, False),
    *(
        "",
        "x",
        "os.system",
        "../../../etc/passwd",
        "\0",
        "é" * 50,
        "builtins.eval",
        "{0.__class__}",
        "%s%n",
        "A" * 10**5,
    ),
    *([], {}, [[]], [None], {"a": 1}, [1] * 1000, [[[[[[[]]]]]]]),
]
NAMES = ("__class__", "class_path", "../x", "", "x" * 1000)
HEADERS: dict[str, list[Any]] = {
    "dtype": ["F64", "I8", "BF16", "OBJECT", "", "F" * 10**5],
    "shape": [[10**12], [-1], [], [2**63], [0]],
    "data_offsets": [[0, 2**50], [5, 1], [-1, 4]],
}
LINKS = {"a link": "/etc/passwd", "a dangling link": "/nonexistent/x", "a loop": "", "a device": "/dev/null"}


def _places(content: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield at
    inner = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, value in inner:
        yield from _places(value, (*at, key))


def _changed(text: bytes, rng: random.Random, times: int = 1) -> bytes:
    """JSON with another value, without one, or with another name, somewhere."""
    content = json.loads(text)
    for _ in range(times):
        at, part, value = rng.choice([*_places(content), ()]), content, rng.choice(VALUES)
        for key in at[:-1]:
            part = part[key]
        match rng.choice(["value", "value", "value", "drop", "name"]):
            case _ if not at:
                content = value
            case "drop":
                del part[at[-1]]
            case "name" if isinstance(part, dict):
                part[rng.choice(NAMES)] = part.pop(at[-1])
            case _:
                part[at[-1]] = value
    return json.dumps(content).encode()


def _flipped(content: bytes, rng: random.Random) -> bytes:
    """Bytes with some bits flipped, cut short, with more of them, zeroed, or none."""
    data, at = bytearray(content), rng.randrange(len(content))
    match rng.choice(["bits", "bits", "head", "head", "cut", "tail", "zero", "grow", "empty"]):
        case ("bits" | "head") as where:
            for _ in range(rng.choice([1, 3, 20])):
                data[rng.randrange(len(data) if where == "bits" else min(len(data), 600))] ^= 1 << rng.randrange(8)
        case "zero":
            data[at : at + 4096] = bytes(len(data[at : at + 4096]))
        case "grow":
            data += rng.randbytes(1000)
        case other:
            data = {"cut": data[:at], "tail": data[at:], "empty": bytearray()}[other]
    return bytes(data)


def _raw(content: bytes, rng: random.Random) -> bytes:
    """Other texts than the JSON that was there."""
    odd = (b"\xef\xbb\xbf" + content, content.decode().encode("utf-16"), b"null", b"", b"[]", b"1", b"NaN", b"\xff\xfe")
    return rng.choice([*odd, b'{"format": ' + b"9" * 6000 + b"}", b"[" * 50_000])


def _header(content: bytes, rng: random.Random) -> bytes:
    """A safetensors file whose header says something else."""
    size = struct.unpack("<Q", content[:8])[0]
    if rng.random() < 0.2:
        return struct.pack("<Q", rng.choice([0, 2**40, 2**63, size + 1, size - 1])) + content[8:]
    header = json.loads(content[8 : 8 + size])
    about, what = header[rng.choice([key for key in header if key != "__metadata__"])], rng.choice([*HEADERS])
    about[what] = rng.choice(HEADERS[what])
    if rng.random() < 0.4 and "mvae" in header.get("__metadata__", {}):
        header = json.loads(content[8 : 8 + size])
        header["__metadata__"]["mvae"] = _changed(header["__metadata__"]["mvae"], rng).decode()
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + content[8 + size :]


def _damaged(name: str, seed: int, place: Path) -> Verdict:
    """One of the files that a command reads, damaged in one of many ways."""
    rng = random.Random(seed)
    path = rng.choice([p for part in (*ALWAYS, *FILES.get(name, ())) for p in sorted((place / "run").glob(part))])
    content, ways = path.read_bytes(), {"flipped": _flipped, "links": None}
    ways |= {".json": {"raw": _raw, "value": _changed, "values": partial(_changed, times=2)}}.get(path.suffix, {})
    ways |= {"header": _header} if path.suffix == ".safetensors" else {}
    what = rng.choice([way for way in ways for _ in range(1 if way == "links" else 4)])
    if what == "links":
        path.unlink()
        what = rng.choice([*LINKS, "a folder"])
        path.mkdir() if what == "a folder" else path.symlink_to(LINKS[what] or path.name)
    else:
        path.write_bytes(ways[what](content, rng))
    known = (path.name, "run: ", "model.", "data.", "training.", "run is", "run was", "run has", ".csv", "modality '")
    verdict = judged(run(command(*COMMANDS[name]), place), known)
    if verdict.outcome == "recovered" and (bad := [one for one in unreadable(place / "run") if path.name not in one]):
        verdict = lost(f"unreadable afterwards: {bad[0]}")
    return verdict if verdict.outcome != "lost" else lost(f"{path.name}, {what}: {verdict.why}")


def _damages(name: str) -> Callable[[World], Iterator[tuple[str, Case]]]:
    def cases(world: World) -> Iterator[tuple[str, Case]]:
        for _ in range(COUNTS[name]):
            seed = world.rng.randrange(2**32)
            yield f"damage {seed}", partial(_damaged, name, seed)

    cases.__name__ = f"damaged_{name}"
    return cases


for _name in COUNTS:
    kind(f"a damaged file of a run: {_name}", 5)(_damages(_name))


@kind("checkpoints and weights of wrong content", 4)
def wrong_content(world: World) -> Iterator[tuple[str, Case]]:
    """Whole files that hold something else: refused, never accepted."""
    last, histories = "run/checkpoints/last.safetensors", ("x", {}, [1], [{}], [{"epoch": True}], [{"epoch": 7}], None)
    if not (world.template / last).exists():
        return

    def weight(tensors: Any, adam: bool = False) -> str:
        found = sorted(key for key, value in tensors.items() if value.is_floating_point() and value.dim())
        return next(key for key in found if key.startswith("adam.") == adam)

    headers: dict[str, Callable[[Any], str]] = {
        "no header": lambda _: "",
        "a header that is no JSON": lambda _: "{",
        "a header without a history": lambda _: '{"loops": 1}',
        "epochs out of order": lambda header: json.dumps({"history": header["history"][::-1]}),
        **{f"history {one}": partial(lambda one, _: json.dumps({"history": one}), one) for one in histories},
    }
    tensors: dict[str, Callable[[Any], Any]] = {
        "a weight missing": lambda t: t.pop(weight(t)),
        "a weight more": lambda t: t.update({"model.more": torch.zeros(2)}),
        "a weight of another shape": lambda t: t.update({weight(t): torch.zeros(7, 3)}),
        "a weight of another type": lambda t: t.update({weight(t): t[weight(t)].double()}),
        "a weight that is NaN": lambda t: t.update({weight(t): t[weight(t)] * torch.nan}),
        "no optimiser": lambda t: [t.pop(key) for key in [*t] if key.startswith("adam.")],
        "a part of the optimiser missing": lambda t: t.pop(weight(t, True)),
        "a part of the optimiser of another shape": lambda t: t.update({weight(t, True): torch.zeros(7, 3)}),
    }

    def case(name: str, what: str, place: Path) -> Verdict:
        with safe_open(place / name, "pt") as file:
            text = (file.metadata() or {}).get("mvae", "")
            content = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        if what in tensors:
            tensors[what](content)
        text = headers[what](json.loads(text)) if what in headers else text
        save_file(content, place / name, {"mvae": text} if text else None)
        words = RESUME if name == last else COMMANDS["load"]
        return judged(run(command(*words), place), [Path(name).name], "refused")

    for what in (*headers, *tensors):
        yield what, partial(case, last, what)
    for what in (what for what in tensors if what.startswith("a weight")):
        yield f"weights: {what}", partial(case, "run/model.safetensors", what)
    other = world.folder / "other"
    place = world.place()
    run(command(*FIT, "--latent-dim", "3"), place)
    shutil.copytree(place / "out", other)

    def foreign(name: str, words: tuple[str, ...], place: Path) -> Verdict:
        shutil.copy(other / name, place / "run" / name)
        return judged(run(command(*words), place), [Path(name).name, "model.safetensors"], "refused")

    for name, words in {
        "model.safetensors": "load",
        "config.json": "load",
        "checkpoints/last.safetensors": "resume",
    }.items():
        yield f"another model's {name}", partial(foreign, name, COMMANDS[words])


@kind("flipped bits in tensors", 1)
def flipped_tensors(world: World) -> Iterator[tuple[str, Case]]:
    """Nothing but a checksum shows them: else they are other weights."""

    def case(name: str, words: tuple[str, ...], seed: int, place: Path) -> Verdict:
        path, rng = next(iter(place.glob(name))), random.Random(seed)
        data = bytearray(path.read_bytes())
        data[rng.randrange(len(data) // 2, len(data))] ^= 1 << rng.randrange(8)
        path.write_bytes(data)
        ended = run(command(*words), place)
        if f"{path.name}: damaged" in ended.said and "takes its place" in ended.said:  # the checkpoint before it
            return judged(ended, must="recovered")
        return judged(ended, [path.name], "refused")

    for _ in range(5):
        yield "last, resumed", partial(case, "run/checkpoints/last.*", RESUME, world.rng.randrange(2**32))
        yield "weights, loaded", partial(case, "run/model.safetensors", COMMANDS["load"], world.rng.randrange(2**32))


class _Payload:
    def __reduce__(self) -> Any:
        return os.system, ("touch canary",)


@kind("pickle payloads and code in YAML", 4)
def payloads(world: World) -> Iterator[tuple[str, Case]]:
    """Nothing that a file holds is ever run."""

    def case(name: str, how: Any, words: tuple[str, ...], place: Path) -> Verdict:
        path = place / name
        if how == "torch":
            torch.save(_Payload(), path)
        else:
            path.write_bytes(how if isinstance(how, bytes) else pickle.dumps(_Payload(), how))
        verdict = judged(run(command(*words), place), [path.name, "run"])
        return lost("code in a file was run") if [*place.rglob("canary")] else verdict

    for name in ("last.safetensors", "best.safetensors", "last.ckpt", "best.ckpt"):
        for how in (0, 2, 4, "torch"):
            yield f"{name}, {how}", partial(case, f"run/checkpoints/{name}", how, RESUME)
    for name in ("model.safetensors", "config.json", "metrics.json", "evaluation.json"):
        for by, words in COMMANDS.items():
            yield f"{name}, {by}", partial(case, f"run/{name}", world.rng.choice([0, 2, 4, "torch"]), words)
    for name in ("t.csv", "t.feather", "t.parquet", "t.jsonl", "t.arrow"):
        yield name, partial(case, name, 4, ("fit", name, "--out", "out", "--epochs", "1"))
    for tag in ("object/apply:os.system ['touch canary']", "object/new:os.system ['touch canary']", "name:os.system"):
        words = ("fit", "people.csv", "--config", "c.yaml", "--out", "out")
        yield f"--config {tag}", partial(case, "c.yaml", f"model: !!python/{tag}\n".encode(), words)


def as_arrow(place: Path, times: int = 1) -> Path:
    """The shards as Arrow streams, their rows several times over; the file of the training rows."""
    for part in ("validation", "train"):
        path = place / "shards" / part / "rows.parquet"
        table = pa.concat_tables([pq.read_table(path)] * times).combine_chunks()
        path.unlink()
        path = path.with_suffix(".arrow")
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
    return path


@kind("damaged Arrow, Parquet and Feather, lying metadata", 4)
def damaged_columns(world: World) -> Iterator[tuple[str, Case]]:
    """Read as shards and as tables."""

    def case(name: str, seed: int, place: Path) -> Verdict:
        rng, path = random.Random(seed), place / "shards/train/rows.parquet"
        words = ["fit", "shards", "--config", "shards.yaml", "--epochs", "1", "--out", "out"]
        if name == "shards, arrow":
            path = as_arrow(place)
        elif not name.startswith("shards"):
            path, frame = place / f"t.{name}", pd.read_csv(place / "people.csv")
            frame.to_parquet(path) if name == "parquet" else frame.to_feather(path)
            words[1], words[3] = path.name, "short.yaml"
        data, what = bytearray(path.read_bytes()), rng.choice(["head", "foot", "bits", "cut", "number"])
        low, high = {"head": (0, 800), "foot": (max(0, len(data) - 800), len(data))}.get(what, (0, len(data)))
        at = rng.randrange(low, min(high, len(data)) - 4)
        if what == "cut":
            del data[at:]
        elif what == "number":  # sizes and counts are little-endian numbers
            data[at : at + 4] = struct.pack("<I", rng.choice([0, 1, 2**31 - 1, 2**32 - 1, 10**6]))
        else:
            data[at] ^= 1 << rng.randrange(8)
        path.write_bytes(data)
        verdict = judged(run(command(*words), place), [path.name, "column", "the options", "model."])
        return verdict if verdict.outcome != "lost" else lost(f"{what}: {verdict.why}")

    for name in ("shards, arrow", "shards, parquet", "feather", "parquet"):
        for _ in range(25):
            yield name, partial(case, name, world.rng.randrange(2**32))


@kind("zips that climb out or hold strangers", 1)
def zip_slip(world: World) -> Iterator[tuple[str, Case]]:
    """Names in a zip are never followed."""

    def case(member: str, words: tuple[str, ...], place: Path) -> Verdict:
        inside = place / "a/b"
        inside.mkdir(parents=True)
        with zipfile.ZipFile(inside / "z.zip", "w") as archive:
            for path in (place / "run").glob("*.*"):
                archive.write(path, path.name)
            archive.writestr(member, b"evil")
        verdict = judged(run(command(*words), inside))
        evil = [path for path in place.rglob("*") if path.is_file() and path.read_bytes() == b"evil"]
        return lost(f"unpacked {evil[0].name}") if evil or Path("/tmp/campaign-evil").exists() else verdict

    for member in ("../evil", "../../evil", "/tmp/campaign-evil", "a/../../evil", "stranger.py", "config.json/evil"):
        yield f"load {member}", partial(case, member, ("load", "z.zip"))
        yield f"export {member}", partial(case, member, ("export", "z.zip", "--out", "exported"))
