"""Training steps as they are timed: bare, and in the whole loop of each library."""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import mvae
from benchmarks import models
from benchmarks.peer import peer_model, peer_rows
from mvae.batch import Batch
from mvae.data.dataset import Dataset
from mvae.models import MVAE

__all__ = ["fit_loop", "peer_loop", "peer_step", "seeded", "stepping"]

LEARNING_RATE = 1e-3


def stepping(
    parameters: Iterable[nn.Parameter], loss: Callable[[], Tensor], bfloat16: bool = False, **options: Any
) -> Callable[[], None]:
    """One step of Adam on that loss; in bfloat16 as the trainers do it, the forward pass under autocast."""
    optimiser = torch.optim.Adam(parameters, lr=LEARNING_RATE, **options)

    def step() -> None:
        optimiser.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            value = loss()
        value.backward()
        optimiser.step()

    return step


def peer_step(ours: MVAE, rows: Batch, masked: bool = False) -> Callable[[], None]:
    """The peer's bare step on copies of our networks, with its own choice of optimiser, torch's default Adam."""
    model = peer_model(ours)
    inputs = peer_rows(ours, rows.values, rows.present if masked else None)
    return stepping(model.parameters(), lambda: model(inputs, epoch=1).loss)


def seeded(step: Callable[[], None], seeds: Sequence[int]) -> Callable[[], None]:
    """A step from each of these seeds, so that each call draws the same subsets."""

    def steps() -> None:
        for seed in seeds:
            torch.manual_seed(seed)
            np.random.seed(seed)  # noqa: NPY002  the peer draws from numpy's global generator
            step()

    return steps


def fit_loop(batch_size: int, steps: int, precision: str) -> Callable[[int], None]:
    """Our public `fit` for one epoch of so many batches (at most `steps`), with its bar."""
    rows = models.pictures(batch_size * steps)
    config = {"model": models.mnist_config(), "training": {"epochs": 1}}

    def run(count: int) -> None:
        dataset = Dataset("made-up rows", rows[: batch_size * count], rows[:0], rows[:0])
        with _quiet():
            mvae.fit(
                dataset,
                config=config,
                batch_size=batch_size,
                learning_rate=LEARNING_RATE,
                precision=precision,  # type: ignore[arg-type]
            )

    return run


def peer_loop(batch_size: int, steps: int) -> Callable[[int], None]:
    """The peer's `BaseTrainer` for one epoch of so many batches, with its usual settings."""
    ours = models.mnist()
    model = peer_model(ours)
    rows = models.pictures(batch_size * steps)
    from multivae.trainers import BaseTrainer, BaseTrainerConfig

    def run(count: int) -> None:
        data = peer_rows(ours, rows[: batch_size * count].values)
        with tempfile.TemporaryDirectory() as folder, _quiet():
            config = BaseTrainerConfig(
                output_dir=folder,
                per_device_train_batch_size=batch_size,
                num_epochs=1,
                learning_rate=LEARNING_RATE,
                no_cuda=True,
            )
            BaseTrainer(model, data, training_config=config).train()

    return run


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Bars and messages are made, as they usually are, and shown to nobody."""
    logging.disable(logging.INFO)
    try:
        with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(logging.NOTSET)
