"""Training: the loop's hooks (Lightning), KL annealing, checkpoints, progress."""

from __future__ import annotations

import logging
import math
import signal
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint, EarlyStopping
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.trainer.states import TrainerStatus
from torch import Tensor
from tqdm import tqdm

from mvae.completion import complete
from mvae.data.batch import Batch
from mvae.data.loading import ShuffledBatches, grouped, seed_of, training_loader, whole_loader
from mvae.data.shards import ShardedBatches, Shards
from mvae.data.splits import Dataset
from mvae.models import MultimodalVAE, Objective
from mvae.specs import TrainingSpec

__all__ = ["NonFiniteLossError", "Training", "annealed_beta", "train"]

VALIDATION_BATCH = 1000
BEST, LAST = "best.ckpt", "last.ckpt"


class NonFiniteLossError(ArithmeticError):
    """The loss became infinite or NaN; the message names the modality, the step and what can be done."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.history: list[dict[str, float]] = []  # of the epochs before


def annealed_beta(step: int, annealing_steps: int) -> float:
    """beta of Eq. 1 at an optimiser step: from 0, in equal steps, to 1 at `annealing_steps` and after.

    Example:
        >>> [annealed_beta(step, 4) for step in (0, 1, 4, 9)], annealed_beta(0, 0)
        ([0.0, 0.25, 1.0, 1.0], 1.0)
    """
    return 1.0 if step >= annealing_steps else step / annealing_steps


def cosine_decay(step: int, total: int, lowest: float = 0.01) -> float:
    """The learning rate's factor: 1 for half of the steps, then down to `lowest` along half a cosine.

    Example:
        >>> [round(cosine_decay(step, 100), 3) for step in (0, 50, 75, 100)]
        [1.0, 1.0, 0.505, 0.01]
    """
    gone = max(0.0, 2 * step / total - 1)
    return lowest + (1 - lowest) * 0.5 * (1 + math.cos(math.pi * min(1.0, gone)))


def rank(record: dict[str, float]) -> tuple[float, float]:
    """What makes one epoch better than another: a later stage, then the validation ELBO."""
    return record.get("stage", 0), record["validation/elbo"]


class Training(LightningModule):
    """A model and what happens to it at each step and epoch.

    All randomness of a step (its draws of z, of subsets, of binarised pixels) starts from a seed made of the run's
    seed, the epoch and the step, so that a run that was killed and resumed repeats what it would have done. Validation
    draws the same numbers at every epoch.

    Args:
        model: what is trained.
        spec: how.
        dataset: the rows.
    """

    def __init__(self, model: MultimodalVAE, spec: TrainingSpec, dataset: Dataset[Any]) -> None:
        super().__init__()
        self.model, self.spec, self.dataset = model, spec, dataset
        self.history: list[dict[str, float]] = []
        self.latest: Objective | None = None
        self._sums: dict[str, Tensor] = {}
        self._batches = 0
        self._validation: list[Tensor] = []
        self._order: ShuffledBatches | ShardedBatches
        if isinstance(dataset.train, Shards):
            self._order = ShardedBatches(len(dataset.train), spec.batch_size, spec.seed)
        else:
            groups = grouped(dataset.train, model.names, spec.shares)
            self._order = ShuffledBatches(groups, spec.batch_size, spec.seed)

    def configure_optimizers(self) -> Any:
        optimiser = torch.optim.Adam(self.model.parameters(), lr=self.spec.learning_rate, fused=True)
        if self.spec.schedule == "constant":
            return optimiser
        total = self.spec.epochs * len(self._order)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: cosine_decay(step, total))
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def train_dataloader(self) -> Any:
        self._order.set_epoch(len(self.history))  # a resumed run starts at another than 0
        return training_loader(self._order, self.dataset.train)

    def val_dataloader(self) -> Any:
        return whole_loader(self.dataset.validation, VALIDATION_BATCH)

    @property
    def beta(self) -> float:
        """The weight of the KL terms now."""
        return annealed_beta(self.global_step, self.spec.annealing_epochs * len(self._order))

    @property
    def _stage(self) -> int:
        stages = self.model.num_stages
        return min(stages * self.current_epoch // self.spec.epochs, stages - 1)

    def on_train_epoch_start(self) -> None:
        self.model.enter_stage(self._stage)
        self._sums, self._batches = {}, 0

    def training_step(self, batch: Batch, index: int) -> Tensor:
        torch.manual_seed(seed_of(self.spec.seed, self.current_epoch, index))
        if self.dataset.transform is not None:
            batch = self.dataset.transform(batch)
        objective = self._finite(self.model.loss(batch, self.beta))
        self.latest = objective
        parts = {"loss": objective.loss, "elbo": objective.elbo.mean(), "kl": objective.kl[0].mean()}
        for name, part in parts.items():
            self._sums[name] = self._sums.get(name, 0.0) + part.detach()
        self._batches += 1
        completed = (
            complete(self.model, batch, self.spec.sharpness) if self.spec.completion and self.beta >= 1 else None
        )
        if not objective.loss.requires_grad:  # no row has anything: there is nothing to learn from this batch
            return objective.loss + 0 * next(self.model.parameters()).sum()
        if completed is None:
            return objective.loss
        share = self.spec.completion * len(completed) / len(batch)
        return objective.loss + share * self._finite(self.model.loss(completed, self.beta)).loss

    def _finite(self, objective: Objective) -> Objective:
        if torch.isfinite(objective.loss):
            return objective
        culprits = [
            f"log p({name} | z)" for name, part in objective.log_likelihood.items() if not part.isfinite().all()
        ]
        culprits += [] if objective.kl.isfinite().all() else ["the KL divergence"]
        place = f"step {self.global_step} (epoch {self.current_epoch + 1})"
        raise NonFiniteLossError(
            f"the loss is {objective.loss.item()} at {place}: {' and '.join(culprits)} went out of bounds. {_REMEDIES}"
        )

    def validation_step(self, batch: Batch, index: int) -> None:
        torch.manual_seed(seed_of(self.spec.seed, index))
        self._validation.append(self.model.elbo(batch))

    def on_validation_epoch_end(self) -> None:
        elbo = torch.cat(self._validation).mean()
        self._validation = []
        if not torch.isfinite(elbo):
            raise NonFiniteLossError(
                f"the validation ELBO after step {self.global_step} (epoch {self.current_epoch + 1}) is {elbo.item()}:"
                f" a step of this epoch spoilt the parameters. {_REMEDIES}"
            )
        self.log("validation/elbo", elbo)

    def on_train_epoch_end(self) -> None:
        means = {f"train/{name}": (total / self._batches).item() for name, total in self._sums.items()}
        self.log_dict(means)
        self.log("beta", self.beta)
        validation = self.trainer.callback_metrics.get("validation/elbo")
        if validation is not None:
            means["validation/elbo"] = validation.item()
        stage = {"stage": self._stage} if self.model.num_stages > 1 else {}
        self.history.append({"epoch": self.current_epoch + 1, **stage, "beta": self.beta, **means})

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["history"] = self.history

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.history = checkpoint["history"]


_REMEDIES = "Look for extreme values in that modality, scale its numbers, or lower the learning rate"


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
        if "validation/elbo" in latest and all(rank(latest) > rank(record) for record in earlier):
            trainer.save_checkpoint(self.folder / BEST)
        trainer.save_checkpoint(self.folder / LAST)


class Patience(EarlyStopping):
    """Ends a training whose validation ELBO has not risen for some epochs, counted in the last stage.

    Args:
        epochs: how many.
    """

    def __init__(self, epochs: int) -> None:
        super().__init__("validation/elbo", patience=epochs, mode="max")

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        latest = pl_module.history[-1]  # type: ignore[index, union-attr]
        if latest.get("stage", 0) == pl_module.model.num_stages - 1:  # type: ignore[union-attr, operator]
            super().on_train_epoch_end(trainer, pl_module)


class Progress(Callback):
    """One bar over the whole run: epoch, loss, joint ELBO, time left."""

    def __init__(self) -> None:
        self.bar: Any = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        total = int(trainer.num_training_batches) * (trainer.max_epochs or 0)
        interval = 0.1 if sys.stderr.isatty() else 10.0  # seconds; a log file wants few lines
        self.bar = tqdm(total=total, initial=trainer.global_step, unit="step", mininterval=interval, dynamic_ncols=True)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        latest = pl_module.latest
        if self.bar.update() and isinstance(latest, Objective):  # the bar was redrawn
            self.bar.set_description(f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}", refresh=False)
            elbo = latest.elbo.mean().item()
            self.bar.set_postfix_str(f"loss {latest.loss.item():.4g}, ELBO {elbo:.4g}", refresh=False)

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


def train(
    model: MultimodalVAE,
    dataset: Dataset[Any],
    spec: TrainingSpec,
    folder: Path,
    resume: bool = False,
    progress: bool | Callable[[int, int], None] = True,
) -> tuple[list[dict[str, float]], bool]:
    """Train a model in place, keeping checkpoints and a TensorBoard log in `folder`.

    The model ends with the weights that `spec.keep` names: of the epoch with the best validation ELBO, or of the last
    whole epoch, which is also what is kept where there are no validation rows.

    Args:
        model: what to train.
        dataset: the rows, such as `model.checked` returns.
        spec: how.
        folder: gets `checkpoints/` and `logs/`.
        resume: continue from the last checkpoint in `folder`, if there is one.
        progress: show a bar, or call this with the steps done and to do.

    Returns:
        One record an epoch, and whether training was interrupted by Ctrl-C.

    Raises:
        NonFiniteLossError: if the loss stops being finite; the checkpoints of the epochs before stay, and the model
            gets the best weights so far.
    """
    checkpoints = folder / "checkpoints"
    validated = len(dataset.validation) > 0
    callbacks: list[Callback] = [Checkpoints(checkpoints)]
    callbacks += [Reporter(progress)] if callable(progress) else [Progress()] if progress else []
    if spec.patience is not None and validated:
        callbacks.append(Patience(spec.patience))
    module = Training(model, spec, dataset)
    last = checkpoints / LAST
    interrupted = False
    with _Quiet():
        trainer = Trainer(
            max_epochs=spec.epochs,
            devices=1,
            precision="bf16-mixed" if spec.precision == "bfloat16" else "32-true",
            callbacks=callbacks,
            logger=TensorBoardLogger(folder, name="logs", version=""),
            limit_val_batches=None if validated else 0,
            num_sanity_val_steps=0,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
        )
        handler = signal.getsignal(signal.SIGINT)
        try:
            trainer.fit(module, ckpt_path=last if resume and last.exists() else None, weights_only=True)
        except NonFiniteLossError as error:
            error.history = module.history
            raise
        except SystemExit:  # how Lightning ends on Ctrl-C
            if trainer.state.status != TrainerStatus.INTERRUPTED:
                raise
            interrupted = True
        finally:
            signal.signal(signal.SIGINT, handler)
            kept = checkpoints / (BEST if validated and spec.keep == "best" else LAST)
            if kept.exists():
                state = torch.load(kept, weights_only=True, map_location="cpu")["state_dict"]
                module.load_state_dict(state)
            model.enter_stage(0)
            model.cpu().eval()
    return module.history, interrupted


class _Quiet:
    """Silence what Lightning says of itself; what concerns the user is said by the callers."""

    def __enter__(self) -> None:
        self.loggers = [logging.getLogger(n) for n in ("lightning.pytorch", "lightning.fabric")]
        self.levels = [logger.level for logger in self.loggers]
        for logger in self.loggers:
            logger.setLevel(logging.ERROR)
        self.filters = warnings.catch_warnings()
        self.filters.__enter__()
        warnings.filterwarnings("ignore", module="lightning")
        warnings.filterwarnings("ignore", ".*num_workers.*")

    def __exit__(self, *exception: Any) -> None:
        self.filters.__exit__(*exception)
        for logger, level in zip(self.loggers, self.levels, strict=True):
            logger.setLevel(level)
