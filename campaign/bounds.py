"""Sizes, bombs, inputs without an end, and servers that lie: refused within seconds and little memory."""

import gzip
import http.server
import json
import os
import signal
import time
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from campaign.damage import COMMANDS
from campaign.trial import Verdict, command, judged, lost, run
from campaign.world import FIT, RESUME, Case, World, kind

HUGE, BOMB, DEEP = 50 * 2**30, 2**29, 200_000
PATIENCE = 25
"""Seconds until a download that does not come, or hardly, has to be given up."""
BOMBS_MEMORY = 200
YAML = {
    "anchors in lists": "a0: &a0 [x, x]\n"
    + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12))
    + "model: *a11\n",
    "anchors in mappings": "a0: &a0 {x: 1}\n"
    + "".join(f"a{n}: &a{n} {{{', '.join(f'k{i}: *a{n - 1}' for i in range(9))}}}\n" for n in range(1, 12))
    + "model: *a11\n",
    "deep lists": "model: " + "[" * DEEP + "]" * DEEP,
    "deep mappings": "model: " + "{a: " * 20_000 + "}" * 20_000,
    "a list in itself": "model: &a [*a]\n",
    "a mapping in itself": "&a {model: *a, training: *a}\n",
    "merged with itself": "model: &a {<<: *a, latent_dim: 2}\n",
    "a number of 10^5 digits": f"model: {{latent_dim: {'9' * 10**5}}}\n",
}
READ_BY: dict[str, tuple[str, ...]] = {
    "run/config.json": COMMANDS["load"],
    "run/model.safetensors": COMMANDS["load"],
    "run/metrics.json": COMMANDS["export"],
    "run/evaluation.json": COMMANDS["export"],
    "run/checkpoints/last.safetensors": RESUME,
    "short.yaml": FIT,
    **{name: ("fit", name, "--out", "out") for name in ("people.csv", "t.jsonl", "t.parquet", "t.feather")},
}


@kind("sizes in a config: within 2 s and 100 MB of a bare load", 2)
def sizes(world: World) -> Iterator[tuple[str, Case]]:
    """Latent spaces, layers, modalities and categories that are far too many."""

    def networks(hidden: list[int], model: Any) -> None:
        for modality in model["modalities"].values():
            modality["encoder"]["hidden"] = modality["decoder"]["hidden"] = hidden

    def modalities(model: Any) -> None:
        one = next(iter(model["modalities"].values()))
        model["modalities"] |= {f"m{number}": one for number in range(2000)}

    def classes(model: Any) -> None:
        for modality in model["modalities"].values():
            for element in modality["likelihood"].get("elements", ()):
                element["num_classes"] = element["num_classes"] and 10**8

    changes: dict[str, Callable[[Any], Any]] = {
        "10^6 latent dimensions": lambda model: model.update(latent_dim=10**6),
        "layers of 30,000": partial(networks, [30_000, 30_000]),
        "3,000 layers": partial(networks, [8] * 3000),
        "2,000 modalities": modalities,
        "10^8 categories": classes,
    }

    def case(change: Callable[[Any], Any], words: tuple[str, ...], place: Path) -> Verdict:
        path = place / "run/config.json"
        content = json.loads(path.read_text(encoding="utf-8"))
        change(content["model"])
        path.write_text(json.dumps(content), encoding="utf-8")
        return judged(run(command(*words), place, processor=12), must="refused", bare=world.bare)

    for name, change in changes.items():
        for by in ("load", "evaluate", "resume"):
            yield f"{by}: {name}", partial(case, change, COMMANDS[by])


@kind("bombs and inputs without an end: within 2 s", 4)
def bombs(world: World) -> Iterator[tuple[str, Case]]:
    """Zips, gzip, YAML, JSON; FIFOs, devices and sparse files in place of a file."""

    def case(
        prepare: Callable[[Path], Any], words: tuple[str, ...], place: Path, must: str | None = "refused"
    ) -> Verdict:
        prepare(place)
        ended = run(command(*words), place, environment={"MVAE_DATA": str(place)}, processor=6)
        return judged(ended, must=must, bare=world.bare, memory=BOMBS_MEMORY)

    def put(name: str, how: str, place: Path) -> None:
        path = place / name
        path.unlink(missing_ok=True)
        if how == "fifo":
            os.mkfifo(path)
        elif how == "sparse":
            path.touch()
            os.truncate(path, HUGE)
        elif how == "deep":
            path.write_text("[" * DEEP + "]" * DEEP, encoding="ascii")
        elif how.startswith("/dev"):
            path.symlink_to(how)
        else:
            path.write_text(how, encoding="utf-8")

    def zipped(member: str, place: Path) -> None:
        with zipfile.ZipFile(place / "z.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            for path in (place / "run").glob("*.*"):
                if path.name != member:
                    archive.write(path, path.name)
            with archive.open(member, "w") as file:
                for _ in range(BOMB // 2**20):
                    file.write(b" " * 2**20)

    def packed(place: Path) -> None:
        (place / "mnist").mkdir()
        content = gzip.compress(b"\0\0\x08\x03" + bytes(BOMB), 1)
        for part in ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"):
            (place / "mnist" / f"{part}-ubyte.gz").write_bytes(content)

    for name, text in YAML.items():
        yield f"YAML: {name}", partial(case, partial(put, "short.yaml", text), FIT)
    for name, words in READ_BY.items():
        deep = ["deep"] if name.endswith(("json", "jsonl")) else []
        sparse = ["/dev/urandom", "sparse"] if name.startswith(("run", "short")) else []
        for how in ("fifo", "/dev/zero", *sparse, *deep):
            must = None if name.startswith("run/checkpoints") else "refused"  # the one before may take its place
            yield f"{name}: {how}", partial(case, partial(put, name, how), words, must=must)
    for member in ("config.json", "model.safetensors", "stranger.bin"):
        must = "recovered" if member == "stranger.bin" else "refused"
        for words in (("load", "z.zip"), ("export", "z.zip", "--out", "exported")):
            yield f"zip, {words[0]}: {member}", partial(case, partial(zipped, member), words, must=must)
    yield "IDX in gzip: check", partial(case, packed, ("data", "check", "mnist"))
    yield "IDX in gzip: fit", partial(case, packed, ("fit", "mnist", "--epochs", "1", "--out", "out"))


class _Liar(http.server.BaseHTTPRequestHandler):
    """A mirror whose first folder says how it lies."""

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        """Answer."""
        how, headers = self.path.split("/")[1], {}
        time.sleep(120 if how == "silent" else 0)
        if how in ("loop", "file"):
            headers = {"Location": self.path if how == "loop" else "file:///etc/passwd"}
        elif how in ("wrong", "short"):
            headers = {"Content-Length": "500" if how == "wrong" else "900"}
        self.send_response({"missing": 404, "loop": 302, "file": 302}.get(how, 200))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        bodies = {"wrong": b"hello" * 100, "short": b"hello" * 100, "bomb": gzip.compress(bytes(BOMB // 8), 1)}
        self.wfile.write(bodies.get(how, b""))
        while how in ("endless", "drip"):
            self.wfile.write(bytes(2**20) if how == "endless" else b"x")
            time.sleep(how == "drip")


@kind("downloads from servers that lie", 2)
def downloads(world: World) -> Iterator[tuple[str, Case]]:
    """Refused, with nothing left of them, and not after more bytes than were published."""

    def case(how: str, place: Path) -> Verdict:
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Liar)
        number = os.fork()
        if not number:
            server.handle_error = lambda *_: None  # type: ignore[method-assign]
            server.serve_forever()
        proxies = ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY")  # so that no published mirror is asked
        environment = dict.fromkeys(proxies, "http://127.0.0.1:9")
        environment |= {"no_proxy": "127.0.0.1", "MVAE_MIRROR": f"http://127.0.0.1:{server.server_port}/{how}"}
        words = ("data", "fetch", "mnist", "--data-dir", ".")
        ended = run(command(*words), place, environment=environment, idle=PATIENCE, processor=6)
        os.kill(number, signal.SIGKILL)
        os.waitpid(number, 0)
        server.server_close()
        left = [f"{path.name}, {path.stat().st_size} bytes" for path in (place / "mnist").glob("*")]
        verdict = judged(ended, ["train-images-idx3-ubyte.gz"], "refused", world.bare, memory=BOMBS_MEMORY)
        return lost(f"left behind: {left[0]}") if verdict.outcome == "refused" and left else verdict

    for how in ("wrong", "short", "missing", "loop", "file", "bomb", "endless", "silent", "drip"):
        yield how, partial(case, how)
