"""`python -m benchmarks`: measure, print ratios, write `results/benchmarks/*.json`."""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.plain import reencoding_loss
from benchmarks.side_by_side import in_turn
from mvae.building import build_model
from mvae.data.batch import Batch
from mvae.experiments.recipes import resolve
from mvae.experiments.results import markdown_table, provenance
from mvae.models import MVAE, MultimodalVAE, base
from mvae.specs import parse
from mvae.storage import write_json

BATCH = 100


def stepping(model: MultimodalVAE, loss: Callable[[], torch.Tensor]) -> Callable[[], None]:
    """One optimiser step on that loss."""
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)

    def step() -> None:
        optimiser.zero_grad()
        loss().backward()
        optimiser.step()

    return step


def mnist_step() -> dict[str, Any]:
    """A bare training step on MNIST-shaped rows, against re-encoding and against its matrix products alone."""
    rows = Batch({"image": torch.rand(BATCH, 1, 28, 28), "label": torch.randint(10, (BATCH,))})
    ours, plain = (build_model(resolve("mnist", None, {("model", "reconstruct"): "given"}).model) for _ in range(2))
    assert isinstance(plain, MVAE)
    return in_turn(
        {
            "mvae": stepping(ours, lambda: ours.loss(rows).loss),
            "re-encoding each term": stepping(plain, lambda: reencoding_loss(plain, rows)),
            "matrix products alone": matrix_products(ours),
        }
    )


def matrix_products(model: MultimodalVAE) -> Callable[[], None]:
    """The products of a step of two modalities and nothing else: each layer forward, and twice backward.

    Encoders see the rows once, decoders twice (the joint term and the modality's own).
    """
    products = []
    for modality in model.modalities.values():
        for network, count in ((modality.encoder, BATCH), (modality.decoder, 2 * BATCH)):
            for layer in network.modules():
                if isinstance(layer, nn.Linear):
                    weight = layer.weight.detach()
                    products.append((torch.rand(count, weight.shape[1]), weight, torch.rand(count, weight.shape[0])))

    def multiply() -> None:
        for x, weight, gradient in products:
            torch.mm(x, weight.T)
            torch.mm(gradient, weight)
            torch.mm(gradient.T, x)

    return multiply


def tables(count: int) -> dict[str, Any]:
    """A step on many numbers with networks of one architecture: in one call, and in a Python loop over them."""
    part = {"shape": [], "likelihood": {"kind": "normal"}, "encoder": {"kind": "mlp", "hidden": [16]}}
    part |= {"decoder": {"kind": "mlp", "hidden": [16]}}
    names = [f"x{number}" for number in range(count)]
    content = {"model": {"latent_dim": 16, "subsets": 4, "modalities": dict.fromkeys(names, part)}}
    spec = parse(content | {"training": {"epochs": 1}}, "benchmark").model
    rows = Batch({name: torch.randn(BATCH) for name in names})
    blocked = rows.blocked()
    some = Batch(rows.values, {name: torch.rand(BATCH) < 0.5 for name in names}).blocked()
    stacked = build_model(spec)
    stacks_of, base.stacks_of = base.stacks_of, lambda modules: []
    try:
        looped = build_model(spec)
    finally:
        base.stacks_of = stacks_of
    return in_turn(
        {
            "one call": stepping(stacked, lambda: stacked.loss(blocked).loss),
            "one call, half absent": stepping(stacked, lambda: stacked.loss(some).loss),
            "loop over modalities": stepping(looped, lambda: looped.loss(rows).loss),
        },
        seconds=0.5,
    )


def start() -> dict[str, Any]:
    """How long the package takes to start, as new processes."""

    def run(*command: str) -> Callable[[], object]:
        return lambda: subprocess.run([sys.executable, *command], check=True, capture_output=True)

    ways = {
        "python": run("-c", "pass"),
        "import mvae": run("-c", "import mvae"),
        "mvae --help": run("-m", "mvae", "-h"),
    }
    return in_turn(ways, seconds=0.2)


MEASUREMENTS: dict[str, Callable[[], dict[str, Any]]] = {
    "mnist-step": mnist_step,
    "tables-10": lambda: tables(10),
    "tables-100": lambda: tables(100),
    "tables-1000": lambda: tables(1000),
    "start": start,
}


def main() -> None:
    """Measure what is named, or all."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=main.__doc__)
    parser.add_argument("names", nargs="*", help=f"some of {', '.join(MEASUREMENTS)} (default: all)")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("results/benchmarks"))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    options.out.mkdir(parents=True, exist_ok=True)
    for name in options.names or MEASUREMENTS:
        torch.manual_seed(0)
        times = MEASUREMENTS[name]()
        write_json(options.out / f"{name}.json", {"provenance": provenance(), "seconds": times})
        first = next(iter(times.values()))["median"]
        rows = []
        for way, found in times.items():
            milliseconds = (f"{1000 * found[key]:.2f}" for key in ("median", "least", "most"))
            rows.append([way, *milliseconds, f"{found['median'] / first:.2f}"])
        print(f"{name}\n{markdown_table(['', 'median ms', 'least', 'most', 'ratio'], rows)}\n", flush=True)


if __name__ == "__main__":
    main()
