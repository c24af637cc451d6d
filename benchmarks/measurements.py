"""What is measured: one function a file of `results/benchmarks`."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

import mvae
from benchmarks import floor, models, peer
from benchmarks.comparison import Measurement, below, least_of, share_of, times_faster
from benchmarks.memory import MEBIBYTE, ROWS, in_fresh_process
from benchmarks.plain import reencoding_loss
from benchmarks.side_by_side import Sampler, calling, differing, in_turn, measured
from benchmarks.steps import fit_loop, peer_loop, peer_step, seeded, stepping
from mvae.batch import Batch
from mvae.evaluation.likelihood import log_likelihood
from mvae.models import MVAE
from mvae.subsets import draw_subsets

__all__ = ["MEASUREMENTS", "Effort"]

BFLOAT16 = torch.bfloat16


@dataclass(frozen=True)
class Effort:
    """How long to measure."""

    repeats: int = 7
    seconds: float = 1.0
    """That a way is called in a round."""
    steps: int = 60
    """Of the longer of two trainings, at 100 rows a step, beyond the shorter."""
    short: bool = False


def ours_step(model: MVAE, rows: Batch, bfloat16: bool = False) -> Callable[[], None]:
    """Our bare step, with the optimiser that `fit` uses."""
    return stepping(model.parameters(), lambda: model.loss(rows).loss, bfloat16, fused=True)


def plain_step(
    make_model: Callable[[], MVAE], rows: Batch, bfloat16: bool = False, decode_all: bool = False
) -> Callable[[], None]:
    """The step of the plain loop, with the same optimiser."""
    with models.unstacked():
        model = make_model()
    return stepping(
        model.parameters(), lambda: reencoding_loss(model, rows, decode_all=decode_all), bfloat16, fused=True
    )


def training(batch_size: int, effort: Effort) -> Measurement:
    """MNIST networks: the bare step, and whole training loops."""
    found = Measurement(
        f"Training on MNIST's shapes, {batch_size} rows a step",
        "Two modalities: a grey image of 28 x 28 and a label of 10, with the paper's networks (D = 64); three ELBO "
        "terms (Eq. 2), lambda and beta 1, Adam. The bare step is loss, gradients and update on one batch. The "
        "whole loop is `mvae.fit`, and the peer's `BaseTrainer` with its usual settings, each with its loader and "
        "progress bar: the difference between one epoch of many batches and one of few, so that what is done once "
        "an epoch (both keep the weights) does not count. In bfloat16 ours runs under its own setting, "
        "`precision='bfloat16'`; the peer has no such setting and is compared in float32.",
    )
    ours = models.mnist()
    rows = models.pictures(batch_size)
    products = floor.step_products(ours, rows.values, floor.decoder_terms(2, 0))
    steps = max(5, effort.steps * 100 // batch_size)
    few = max(2, steps // 6)
    ways: dict[str, Callable[[], object]] = {
        "step": ours_step(ours, rows),
        "re-encoding step": plain_step(models.mnist, rows),
        "floor": floor.run(products),
        "step, bfloat16": ours_step(models.mnist(), rows, bfloat16=True),
        "re-encoding step, bfloat16": plain_step(models.mnist, rows, bfloat16=True),
        "floor, bfloat16": floor.run(products, BFLOAT16),
    }
    loops = {
        "fit": fit_loop(batch_size, steps + few, "float32"),
        "fit, bfloat16": fit_loop(batch_size, steps + few, "bfloat16"),
    }
    if peer.available():
        ways["multivae step"] = peer_step(ours, rows)
        loops["multivae trainer"] = peer_loop(batch_size, steps + few)
    samplers: dict[str, Sampler] = {name: calling(way, effort.seconds) for name, way in ways.items()}
    samplers |= {name: differing(loop, few, few + steps) for name, loop in loops.items()}
    times = found.times = measured(samplers, effort.repeats)
    goals = (1.7, 2.3) if batch_size == 100 else (None, None)
    if peer.available():
        found.comparisons += [
            times_faster(times, "fit", "multivae trainer", goals[0]),
            times_faster(times, "fit, bfloat16", "multivae trainer", goals[1]),
            times_faster(times, "step", "multivae step"),
        ]
    found.comparisons += [
        times_faster(times, "step", "re-encoding step"),
        times_faster(times, "step, bfloat16", "re-encoding step, bfloat16"),
        least_of(times, "step", "floor", 1.35),
        least_of(times, "step, bfloat16", "floor, bfloat16", 1.35),
        share_of(times, "fit", "step", 1.06),
        share_of(times, "fit, bfloat16", "step, bfloat16", 1.06),
    ]
    found.facts = _rates(products, times["floor"]["least"], times["floor, bfloat16"]["least"])
    return found


def _rates(products: list[floor.Product], seconds: float, bfloat16: float | None = None) -> dict[str, float]:
    work = floor.work(products) / 1e9
    rates = {"GFLOP": work, "GFLOP a second": work / seconds}
    return rates if bfloat16 is None else rates | {"GFLOP a second, bfloat16": work / bfloat16}


def many_modalities(effort: Effort) -> Measurement:
    """CelebA19's networks."""
    found = Measurement(
        "19 modalities",
        "A picture of 3 x 64 x 64 and 18 binary attributes, each a modality, with the paper's networks (D = 100); 100"
        " rows a step, 21 ELBO terms a step: the joint, 19 singles and one random subset (k = 1). A call is several"
        " steps, from seeds for which the picture is in the random subset half of the times and the subset has 10"
        " members on average; the same seeds, and so subsets, for our step and the loop. The peer draws from all"
        " 524,267 subsets alike, which is a mean of 9.5 members; its seeds are chosen in the same manner. Every encoder"
        " runs once in ours and in 2.53 terms on average in the loop; every decoder runs on the rows of 2.53 terms in"
        " both. The step that decodes all is the loop with one `forward` for all terms, which decodes every modality,"
        " used by the term or not.",
    )
    rows = models.faces(100)
    ours = models.celeba19()
    number = 2 if effort.short else 4
    seeds, theirs = _seeds(19, number), _peer_seeds(19, number)
    products = floor.step_products(ours, rows.values, floor.decoder_terms(19, 1))
    multiply = floor.run(products)
    ways = {
        "step": seeded(ours_step(ours, rows), seeds),
        "re-encoding step": seeded(plain_step(models.celeba19, rows), seeds),
        "step that decodes all": seeded(plain_step(models.celeba19, rows, decode_all=True), seeds),
        "floor": seeded(multiply, seeds),
    }
    if peer.available():
        ways["multivae step"] = seeded(peer_step(ours, rows), theirs)
    times = found.times = _per_step(in_turn(ways, max(5, effort.repeats - 2), seconds=0.1), number)
    found.comparisons = [
        times_faster(times, "step", "re-encoding step", 4.0),
        times_faster(times, "step", "step that decodes all", 4.0),
    ]
    if peer.available():
        found.comparisons.append(times_faster(times, "step", "multivae step", 2.0))
    found.comparisons += [least_of(times, "step", "floor"), times_faster(times, "floor", "re-encoding step")]
    found.facts = _rates(products, times["floor"]["least"])
    return found


def _per_step(times: dict, number: int) -> dict:
    divided = {}
    for name, found in times.items():
        divided[name] = {key: value / number for key, value in found.items() if key != "rounds"}
        divided[name]["rounds"] = [one / number for one in found["rounds"]]
    return divided


def _seeds(count: int, number: int) -> list[int]:
    """Seeds from which torch's generator draws typical subsets: in pairs, with the first modality and without it."""

    def members(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return draw_subsets(count, 1)[-1]

    return _typical(lambda seed: members(seed).tolist(), count, number)


def _peer_seeds(count: int, number: int) -> list[int]:
    """The same for numpy's generator and the peer's list: by size, each in lexicographic order."""
    from itertools import combinations

    subsets = [some for size in range(2, count) for some in combinations(range(count), size)]

    def members(seed: int) -> list[bool]:
        np.random.seed(seed)  # noqa: NPY002
        drawn = subsets[np.random.choice(np.arange(len(subsets)), size=1, replace=False)[0]]  # noqa: NPY002
        return [number in drawn for number in range(count)]

    return _typical(members, count, number)


def _typical(members: Callable[[int], list[bool]], count: int, number: int) -> list[int]:
    """In pairs: a seed with the first modality and one without, (count + 1) / 2 members each."""
    size, found = (count + 1) // 2, {True: [], False: []}
    seed = 0
    while min(map(len, found.values())) < number // 2:
        drawn = members(seed)
        if sum(drawn) == size:
            found[drawn[0]].append(seed)
        seed += 1
    return [seed for pair in zip(found[True], found[False], strict=False) for seed in pair][:number]


def tables(columns: int, effort: Effort) -> Measurement:
    """Many modalities of one architecture."""
    found = Measurement(
        f"A table of {columns:,} numbers",
        "Each number is a modality with an encoder and a decoder of one hidden layer of 16 units; D = 16, 100 rows a"
        f" step, {1 + columns + 4:,} ELBO terms: the joint, the singles and k = 4 random subsets. Ours runs networks of"
        " one architecture as one; beside it our own loop over modalities, with each encoder still run once, and the"
        " plain loop, which runs encoders and decoders again for each term. Memory is the peak of a process of its own"
        " above what it had before its first step, gradients and the optimiser's state included.",
    )
    model, rows = models.tables(columns), models.numbers(columns, 100)
    with models.unstacked():
        looped = models.tables(columns)
    products = floor.step_products(model, rows.values, floor.decoder_terms(columns, 4))
    ways = {
        "step": ours_step(model, rows),
        "loop over modalities": ours_step(looped, rows),
        "re-encoding step": plain_step(lambda: models.tables(columns), rows),
        "floor": floor.run(products),
    }
    times = found.times = in_turn(ways, effort.repeats, effort.seconds / 4)
    found.comparisons = [
        times_faster(times, "step", "loop over modalities", 20.0 if columns == 1000 else None),
        times_faster(times, "step", "re-encoding step", 20.0 if columns == 1000 else None),
        least_of(times, "step", "floor"),
    ]
    found.facts = _rates(products, times["floor"]["least"])
    for name, task in (("step", "step"), ("re-encoding step", "plain-step")):
        found.facts[f"memory, {name}, MiB"] = in_fresh_process(task, columns)["grown"] / MEBIBYTE
    return found


def peer_subsets(effort: Effort) -> Measurement:
    """Whether the peer's model can be made at all."""
    found = Measurement(
        "How many modalities the peer can start with",
        "multivae's MVAE lists all subsets of 2 to N - 1 modalities when it is made. Each N in a process of its own,"
        " which may have half of the machine's memory (in the short form 2 GiB) and ten minutes. Of ours, a whole first"
        " step with 1,000 modalities.",
    )
    limit = 2 * 2**30 if effort.short else os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    found.facts["limit, GiB"] = limit / 2**30
    for count in (10, 20, 30) if peer.available() else ():
        found.facts[f"multivae, N = {count}"] = in_fresh_process("peer-model", count, 600, limit)
    found.facts["mvae, N = 1000"] = in_fresh_process("step", 1000, 600, limit)
    return found


def absent(effort: Effort) -> Measurement:
    """Steps on rows that lack half of their values."""
    found = Measurement(
        "Half of the values absent",
        "Each value of 100 rows absent with probability 1/2, against complete rows: what a step takes of the time of"
        " one on complete rows. With all there is, half of the encoders' work is left, and of the decoders' less, since"
        " terms that become equal count once. multivae is given the same rows as its `IncompleteDataset`, whose values"
        " are 0 where absent; it encodes each row of a subset that has any of its modalities. The short"
        " form leaves it out with 19.",
    )
    ways: dict[str, Callable[[], object]] = {}
    _absent_pair(ways, "MNIST", models.mnist(), models.pictures(100))
    _absent_pair(ways, "table of 100", models.tables(100), models.numbers(100, 100), with_peer=False)
    _absent_pair(ways, "table of 1,000", models.tables(1000), models.numbers(1000, 100), with_peer=False)
    times = in_turn(ways, effort.repeats, effort.seconds / 2)
    many: dict[str, Callable[[], object]] = {}
    _absent_pair(many, "19 modalities", models.celeba19(), models.faces(100), with_peer=not effort.short)
    times |= _per_step(in_turn(many, max(5, effort.repeats - 2), 0.1), 2)
    found.times = times
    for what in ("MNIST", "19 modalities", "table of 100", "table of 1,000"):
        found.comparisons.append(share_of(times, f"{what}, half absent", f"{what}, complete", 0.65))
    for what in ("MNIST", "19 modalities"):
        if f"multivae {what}, complete" in times:
            found.comparisons.append(share_of(times, f"multivae {what}, half absent", f"multivae {what}, complete"))
    return found


def _absent_pair(
    ways: dict[str, Callable[[], object]], what: str, model: MVAE, rows: Batch, with_peer: bool = True
) -> None:
    some = models.half_absent(rows)
    many = len(model.names) == 19
    seeds = _seeds(19, 2) if many else None
    theirs = _peer_seeds(19, 2) if many and peer.available() else None

    def add(name: str, step: Callable[[], None], seeds: list[int] | None) -> None:
        ways[name] = step if seeds is None else seeded(step, seeds)

    add(f"{what}, complete", ours_step(model, rows), seeds)
    add(f"{what}, half absent", ours_step(model, some), seeds)
    if with_peer and peer.available():
        add(f"multivae {what}, complete", peer_step(model, rows), theirs)
        add(f"multivae {what}, half absent", peer_step(model, some, masked=True), theirs)


def likelihood(effort: Effort) -> Measurement:
    """Importance sampling with 1,000 samples."""
    count, samples = (8, 1000) if effort.short else (32, 1000)
    at_once = "compute_joint_nll, all at once"
    found = Measurement(
        "Log-likelihoods with 1,000 samples",
        f"log p(image, label) of {count} rows by importance sampling from q(z | image, label), MNIST networks, float32:"
        " `mvae.log_likelihood` and the peer's `compute_joint_nll`, with its usual 100 samples at a time and, its best"
        " setting, with all 1,000 at once (`batch_size_K=1000`). The floor is the decoders' products. Memory is the"
        " peak of a process of its own above what it had before the call, for"
        f" {ROWS} rows and the budget that was asked for.",
    )
    model, rows = models.mnist().eval(), models.pictures(count)
    products = floor.forward_products(model, samples)
    multiply = floor.run(products)

    def products_of_all() -> None:
        for _ in range(count):
            multiply()

    ways: dict[str, Callable[[], object]] = {
        "log_likelihood": lambda: log_likelihood(model, rows, ["image", "label"], num_samples=samples),
        "floor": products_of_all,
    }
    if peer.available():
        theirs, inputs = peer.peer_model(model), peer.peer_rows(model, rows.values)
        ways["compute_joint_nll"] = lambda: theirs.compute_joint_nll(inputs, K=samples)
        ways[at_once] = lambda: theirs.compute_joint_nll(inputs, K=samples, batch_size_K=samples)
    times = found.times = in_turn(ways, effort.repeats, effort.seconds / 2)
    if peer.available():
        for name in ("compute_joint_nll", at_once):
            found.comparisons.append(times_faster(times, "log_likelihood", name, 2.0))
    found.comparisons.append(least_of(times, "log_likelihood", "floor"))
    for budget in (64, 256, 1024):
        grown = in_fresh_process("likelihood", budget)["grown"] / MEBIBYTE
        found.comparisons.append(below(f"peak memory / budget of {budget:,} MiB", grown, budget, "MiB"))
    found.facts = {"rows a second": {name: count / one["median"] for name, one in times.items()}}
    found.facts |= _rates(products, times["floor"]["least"] / count)
    return found


def start(effort: Effort) -> Measurement:
    """How long commands take, as new processes."""
    found = Measurement(
        "Start",
        "New processes, from their start to their end: the package's import, the command's help, and a whole"
        " `mvae evaluate` of a model of the bundled digits that was trained for one epoch (1,000 samples a row).",
    )
    with _run() as folder:
        ways = {
            "python": _process("-c", "pass"),
            "import mvae": _process("-c", "import mvae"),
            "mvae --help": _process("-m", "mvae", "--help"),
            "mvae evaluate": _process("-m", "mvae", "evaluate", str(folder)),
        }
        times = found.times = in_turn(ways, max(5, effort.repeats - 2), 0.2)
    for one in times.values():
        del one["cpu"]  # of this process, which only waits
    for name, limit in (("import mvae", 0.3), ("mvae --help", 0.5), ("mvae evaluate", 10.0)):
        found.comparisons.append(below(f"{name} / {limit:g} s", times[name]["median"], limit))
    return found


@contextmanager
def _run() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        mvae.fit("digits", epochs=1, out=Path(folder) / "run", progress=False)
        yield Path(folder) / "run"


def _process(*command: str) -> Callable[[], object]:
    threads = str(torch.get_num_threads())
    environment = os.environ | {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
    return lambda: subprocess.run([sys.executable, *command], check=True, capture_output=True, env=environment)


def profiles(effort: Effort) -> Measurement:
    """Where the time of our steps goes, operator by operator."""
    found = Measurement(
        "Where the time of a step goes",
        "Share in per cent of a step's own time by operator, as `torch.profiler` has it, which adds to each of many"
        " small operators; the ten largest. Beside matrix products (mm, addmm, bmm) and convolutions stand Adam, which"
        " reads and writes every parameter and its two moments, and what goes through memory once an activation.",
    )
    cases: dict[str, tuple[Callable[[], MVAE], Batch]] = {
        "MNIST, 100 rows": (models.mnist, models.pictures(100)),
        "19 modalities": (models.celeba19, models.faces(100)),
        "table of 1,000": (lambda: models.tables(1000), models.numbers(1000, 100)),
        "table of 1,000, half absent": (
            lambda: models.tables(1000),
            models.half_absent(models.numbers(1000, 100)),
        ),
    }
    for name, (make_model, rows) in cases.items():
        step = ours_step(make_model(), rows)
        step()
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
            for _ in range(3 if effort.short else 10):
                step()
        spent = {event.key.removeprefix("aten::"): event.self_cpu_time_total for event in profile.key_averages()}
        total = sum(spent.values())
        largest = sorted(spent, key=lambda operator: -spent[operator])[:10]
        found.facts[name] = {operator: 100 * spent[operator] / total for operator in largest}
    return found


MEASUREMENTS: dict[str, Callable[[Effort], Measurement]] = {
    "training-100": lambda effort: training(100, effort),
    "training-512": lambda effort: training(512, effort),
    "modalities-19": many_modalities,
    "tables-10": lambda effort: tables(10, effort),
    "tables-100": lambda effort: tables(100, effort),
    "tables-1000": lambda effort: tables(1000, effort),
    "peer-subsets": peer_subsets,
    "half-absent": absent,
    "likelihood": likelihood,
    "start": start,
    "profiles": profiles,
}
