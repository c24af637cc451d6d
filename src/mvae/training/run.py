"""A run: a model, its rows and its folder, and how they are trained."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mvae.config.folder import CONFIG, METRICS, refuse_used, save_weights
from mvae.config.specs import RunSpec
from mvae.data.dataset import Dataset
from mvae.files import held, write_json
from mvae.models import MultimodalVAE
from mvae.training.loop import Loop, NonFiniteLossError
from mvae.training.spread import ALONE, Processes

__all__ = ["Outcome", "Run"]


@dataclass(frozen=True)
class Outcome:
    """The end of a training."""

    history: list[dict[str, float]]
    """One record an epoch: means over training batches, and the validation ELBO in nats."""
    kept: dict[str, float]
    """The record of the epoch whose weights the model has."""
    interrupted: bool
    """True if Ctrl-C or SIGTERM ended it."""


@dataclass(frozen=True)
class Run:
    """A run that is ready to train: everything has been read and checked."""

    spec: RunSpec
    dataset: Dataset[Any]
    model: MultimodalVAE
    folder: Path | None
    resume: bool = False
    processes: Processes = ALONE

    def train(self, progress: bool | Callable[[int, int], None] = True) -> Outcome:
        """Train, and write weights and metrics to the folder, also when Ctrl-C or a `NonFiniteLossError` ends it.

        Only the first of several processes writes. A `LostProcessError` leaves the checkpoints of complete epochs. A
        `RunError` names another process that trains in the folder.
        """
        if self.folder is None or not self.processes.first:
            return self._train(progress)
        self.folder.mkdir(parents=True, exist_ok=True)
        with held(self.folder):
            if not self.resume:
                refuse_used(self.folder)
            write_json(self.folder / CONFIG, self.spec.model_dump(mode="json"))
            return self._train(progress)

    def _train(self, progress: bool | Callable[[int, int], None]) -> Outcome:
        loop = Loop(self.model, self.spec.training, self.dataset, self.folder, progress, self.processes, self._advice)
        try:
            return self._saved(loop, interrupted=loop.run(self.resume))
        except NonFiniteLossError:
            self._saved(loop)
            raise

    def train_to_the_end(self, progress: bool | Callable[[int, int], None] = True) -> Outcome:
        """Train; a KeyboardInterrupt where Ctrl-C or SIGTERM cut it short, after what was learned has been saved."""
        outcome = self.train(progress)
        if outcome.interrupted:
            raise KeyboardInterrupt(f"stopped after epoch {len(outcome.history)}; a run in a folder can be resumed")
        return outcome

    @property
    def _advice(self) -> str:
        """The end of the message about a lost process: what to do."""
        if self.folder is None:
            return "; the run has no folder that it could be continued from"
        go_on = f"mvae fit {self.spec.data.source} --out {self.folder} --resume"
        go_on = "the same call with resume=True" if self.spec.data.source is None else go_on
        return f"; complete epochs are kept in {self.folder}/checkpoints; continue on any number of processes: {go_on}"

    def _saved(self, loop: Loop, interrupted: bool = False) -> Outcome:
        """The outcome of a training, written to the folder."""
        if self.folder is not None and loop.history and self.processes.first:
            write_json(self.folder / CONFIG, self.spec.model_dump(mode="json"))  # in case it was removed
            save_weights(self.model, self.folder)
            write_json(self.folder / METRICS, {"kept": loop.kept, "history": loop.history})
        return Outcome(loop.history, loop.kept, interrupted)
