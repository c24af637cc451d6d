"""A run: a model, its rows and its folder, and how they are trained."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic

from typing_extensions import TypeVar

from mvae.config.folder import CONFIG, METRICS, save_weights
from mvae.config.specs import OwnRunSpec, RunSpec
from mvae.data.dataset import Dataset
from mvae.files import write_json
from mvae.models import MultimodalVAE
from mvae.training.epochs import ELBO, rank
from mvae.training.loop import Loop, NonFiniteLossError
from mvae.training.spread import ALONE, Processes

__all__ = ["Outcome", "Run"]


@dataclass(frozen=True)
class Outcome:
    """How a training ended."""

    history: list[dict[str, float]]
    """One record an epoch: means over training batches, and the validation ELBO in nats."""
    kept: dict[str, float]
    """The record of the epoch whose weights the model has."""
    interrupted: bool
    """Whether Ctrl-C ended it."""


Spec = TypeVar("Spec", RunSpec, OwnRunSpec, default=RunSpec)


@dataclass(frozen=True)
class Run(Generic[Spec]):
    """A run that is ready to train: everything has been read and checked."""

    spec: Spec
    dataset: Dataset[Any]
    model: MultimodalVAE
    folder: Path | None
    resume: bool = False
    processes: Processes = ALONE

    def train(self, progress: bool | Callable[[int, int], None] = True) -> Outcome:
        """Train, and write weights and metrics to the folder, also when Ctrl-C or a diverging loss ends it.

        Of several processes, the first one writes.

        Raises:
            NonFiniteLossError: if training diverges; the best weights so far are saved.
            LostProcessError: if one of several processes dies; the checkpoints of whole epochs stay.
        """
        if self.folder is not None and self.processes.first:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_json(self.folder / CONFIG, self.spec.model_dump(mode="json"))
        loop = Loop(self.model, self.spec.training, self.dataset, self.folder, progress, self.processes, self._advice)
        try:
            interrupted = loop.run(self.resume)
        except NonFiniteLossError:
            self._kept(loop.history)
            raise
        return self._kept(loop.history, interrupted)

    def train_to_the_end(self, progress: bool | Callable[[int, int], None] = True) -> Outcome:
        """As `train`, for callers that need a whole training.

        Raises:
            KeyboardInterrupt: if Ctrl-C or a signal to end cut it short; what was learned has been saved.
            NonFiniteLossError: as `train`.
        """
        outcome = self.train(progress)
        if outcome.interrupted:
            raise KeyboardInterrupt(f"stopped after epoch {len(outcome.history)}; a run in a folder can be resumed")
        return outcome

    @property
    def _advice(self) -> str:
        """What to do when a process is lost."""
        if self.folder is None:
            return "; the run has no folder that it could be continued from"
        go_on = f"mvae fit {self.spec.data.source} --out {self.folder} --resume"
        go_on = "the same call with resume=True" if self.spec.data.source is None else go_on
        return f"; whole epochs are kept in {self.folder}/checkpoints; continue on any number of processes: {go_on}"

    def _kept(self, history: list[dict[str, float]], interrupted: bool = False) -> Outcome:
        """The outcome of these epochs, written to the folder."""
        validated = [record for record in history if ELBO in record]
        best = self.spec.training.keep == "best" and validated
        kept = max(reversed(validated), key=rank) if best else history[-1] if history else {}
        if self.folder is not None and history and self.processes.first:
            save_weights(self.model, self.folder)
            write_json(self.folder / METRICS, {"kept": kept, "history": history})
        return Outcome(history, kept, interrupted)
