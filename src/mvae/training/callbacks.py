"""What happens beside a training: checkpoints, early stopping, a progress bar (Lightning's callbacks)."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint, EarlyStopping
from tqdm import tqdm

from mvae.config.specs import TrainingSpec
from mvae.models import Objective
from mvae.training.epochs import ACCURACY, ELBO, held, rank

__all__ = ["BEST", "LAST", "callbacks_of"]

BEST, LAST = "best.ckpt", "last.ckpt"


def callbacks_of(
    spec: TrainingSpec, checkpoints: Path, validated: bool, progress: bool | Callable[[int, int], None]
) -> list[Callback]:
    """Those of a training.

    Args:
        spec: how it trains.
        checkpoints: folder that gets them.
        validated: whether there are validation rows.
        progress: as for `train`.
    """
    callbacks: list[Callback] = [Checkpoints(checkpoints)]
    callbacks += [Reporter(progress)] if callable(progress) else [Progress()] if progress else []
    watched = ELBO if spec.best_by is None else ACCURACY
    return callbacks + ([Patience(spec.patience, watched)] if spec.patience is not None and validated else [])


class Checkpoints(Checkpoint):
    """After each epoch: the last state, and the best where rows are validated and this epoch is the best so far.

    What was best is read from the history, so that a folder can be moved between two parts of a run.

    Args:
        folder: gets `best.ckpt` and `last.ckpt`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        *earlier, latest = pl_module.history  # type: ignore[misc]
        if ELBO in latest and all(rank(latest) >= rank(record) for record in earlier):
            trainer.save_checkpoint(self.folder / BEST)
        trainer.save_checkpoint(self.folder / LAST)


class Patience(EarlyStopping):
    """Ends a training whose validation has not been better for some epochs, counted in the last stage.

    Args:
        epochs: how many.
        watched: `ELBO` or `ACCURACY`.
    """

    def __init__(self, epochs: int, watched: str) -> None:
        super().__init__(watched, patience=epochs, mode="max")

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        latest = pl_module.history[-1]  # type: ignore[index, union-attr]
        if latest.get("stage", 0) == pl_module.model.num_stages - 1:  # type: ignore[union-attr, operator]
            super().on_train_epoch_end(trainer, pl_module)


class Progress(Callback):
    """One bar over the whole run: epoch, loss, joint ELBO, what z held of strings after the last epoch, time left."""

    def __init__(self) -> None:
        self.bar: Any = None
        self.held = ""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        total = int(trainer.num_training_batches) * (trainer.max_epochs or 0)
        interval = 0.1 if sys.stderr.isatty() else 10.0  # seconds; a log file wants few lines
        self.bar = tqdm(total=total, initial=trainer.global_step, unit="step", mininterval=interval, dynamic_ncols=True)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        if self.bar.update():  # it was redrawn
            self._say(trainer, pl_module)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        each = [f"{name} {nats:.2f}" for name, nats in held(trainer.callback_metrics).items()]
        self.held = f", z holds {', '.join(each)} nats" if each else ""
        self._say(trainer, pl_module)

    def _say(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """What the bar shows when it is drawn the next time."""
        latest = pl_module.latest
        if isinstance(latest, Objective):
            self.bar.set_description(f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}", refresh=False)
            said = f"loss {latest.loss.item():.4g}, ELBO {latest.elbo.mean().item():.4g}{self.held}"
            self.bar.set_postfix_str(said, refresh=False)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.bar.close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        if self.bar is not None:
            self.bar.close()


class Reporter(Callback):
    """Tells a function how many steps of how many are done, some ten times an epoch.

    Args:
        report: called with both numbers.
    """

    def __init__(self, report: Callable[[int, int], None]) -> None:
        self.report = report

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        batches = int(trainer.num_training_batches)
        if trainer.global_step % max(1, batches // 10) == 0:
            self.report(trainer.global_step, batches * (trainer.max_epochs or 0))
