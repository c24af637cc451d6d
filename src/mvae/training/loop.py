"""Training: the loop's hooks (Lightning), in one process or several."""

from __future__ import annotations

import ctypes
import logging
import signal
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.trainer.states import TrainerStatus
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from mvae.batch import Batch
from mvae.config.specs import TrainingSpec
from mvae.data.dataset import Dataset
from mvae.data.loading import ShuffledBatches, grouped, training_loader, whole_loader
from mvae.data.sharded_order import ShardedBatches
from mvae.data.shards import Shards
from mvae.evaluation.classification import alike, guess
from mvae.fewlabels.completion import DRAWS, complete
from mvae.fewlabels.propagation import guess_loss, propagated
from mvae.fewlabels.smoothness import roughness
from mvae.modality import Decoder
from mvae.models import MultimodalVAE, Objective
from mvae.posteriors import kl
from mvae.seeds import seed_of
from mvae.training.callbacks import BEST, LAST, callbacks_of
from mvae.training.epochs import ACCURACY, ELBO, HELD
from mvae.training.launching import Watch, strategy_of
from mvae.training.processes import ALONE, Processes
from mvae.training.schedules import annealed_beta, cosine_decay

__all__ = ["NonFiniteLossError", "Training", "keep_memory", "train"]

VALIDATION_BATCH = 1000
LONG = 16
"""From so many symbols on batches are made of strings of about the same length."""


class NonFiniteLossError(ArithmeticError):
    """The loss became infinite or NaN; the message names the modality, the step and what can be done."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.history: list[dict[str, float]] = []  # of the epochs before


class Training(LightningModule):
    """A model and what happens to it at each step and epoch.

    All randomness of a step (its draws of z, of subsets, of binarised pixels) starts from a seed made of the run's
    seed, the epoch and the step, so that a run that was killed and resumed repeats what it would have done. Validation
    draws the same numbers at every epoch.

    Of several processes each takes its part of every batch, with the numbers that its rows would have in one process
    (`Batch.drawn`). What is recorded, and what decides about an epoch, is of all parts together.

    Args:
        model: what is trained.
        spec: how.
        dataset: the rows.
        processes: which of several processes this is.
    """

    def __init__(
        self, model: MultimodalVAE, spec: TrainingSpec, dataset: Dataset[Any], processes: Processes = ALONE
    ) -> None:
        super().__init__()
        self.model, self.spec, self.dataset = model, spec, dataset
        self.rank, self.world = processes.rank, processes.world
        self.history: list[dict[str, float]] = []
        self.latest: Objective | None = None
        self._sums: dict[str, Tensor] = {}
        self._batches = 0
        self._validation: list[Tensor] = []
        self._guessed = torch.zeros(2)  # right, and all
        strings = [name for name, part in model.modalities.items() if part.is_string and not model.conditions]
        self._divergences = {name: torch.zeros(2) for name in strings}  # their sum, and of how many rows
        self._propagated: dict[str, Tensor] = {}  # a class for some of the training rows that lack one
        self._order: ShuffledBatches | ShardedBatches
        place = {"rank": self.rank, "world": self.world}
        if isinstance(dataset.train, Shards):
            self._order = ShardedBatches(len(dataset.train), spec.batch_size, spec.seed, **place)
        else:
            groups = grouped(dataset.train, model.names, spec.shares)
            place |= {"passes": spec.passes}
            lengths = _lengths(model, dataset.train)
            self._order = ShuffledBatches(groups, spec.batch_size, spec.seed, **place, lengths=lengths)
        # DDP finds parameters module by module, so the slices of stacked ones too, which never have a gradient. Buffers
        # it would copy from process 0 at each step, validation included, where processes have unequally many.
        buffers = [name for name, _ in model.named_buffers()]
        self._ddp_params_and_buffers_to_ignore = [f"model.{name}" for name in (*model.sliced, *buffers)]

    def named_parameters(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, nn.Parameter]]:
        """Those that the model says it learns."""
        if recurse:
            yield from self.model.named_parameters(f"{prefix}{'.' if prefix else ''}model", recurse, remove_duplicate)

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
        return whole_loader(self.dataset.validation, VALIDATION_BATCH, self.rank, self.world)

    @property
    def beta(self) -> float:
        """The weight of the KL terms now."""
        steps = self.spec.annealing_epochs * len(self._order)
        return annealed_beta(self.global_step, steps, self.spec.annealing_cycles)

    @property
    def _stage(self) -> int:
        stages = self.model.num_stages
        return min(stages * self.current_epoch // self.spec.epochs, stages - 1)

    def on_train_epoch_start(self) -> None:
        self.model.enter_stage(self._stage)
        self._sums, self._batches = {}, 0
        if self.spec.propagation and self.beta >= 1:
            self._propagate()

    def training_step(self, batch: Batch, index: int) -> Tensor:
        self._seed(self.current_epoch, index)
        share = 1.0 if batch.part is None else batch.part.share
        batch = self.model.read(batch)
        if self.dataset.transform is not None:
            batch = self.dataset.transform(batch)
        objective = self.model.loss(batch, self.beta)
        self.latest = objective
        parts = {"loss": objective.loss, "elbo": objective.elbo.mean(), "kl": objective.kl[0].mean()}
        for name, part in parts.items():
            self._sums[name] = self._sums.get(name, 0.0) + share * part.detach()
        self._batches += 1
        loss, objectives, annealed = objective.loss, [objective], self.beta >= 1
        if self.world > 1 and annealed:  # from here on no two processes shall draw alike
            self._seed(self.current_epoch, index, self.rank)
        completed = complete(self.model, batch, self.spec.sharpness) if self.spec.completion and annealed else None
        if completed is not None:
            objectives.append(self.model.loss(completed, self.beta))
            loss = loss + self.spec.completion * len(completed) / len(batch) * objectives[1].loss
        for name, guesses in self._propagated.items():
            assert batch.part is not None
            extra = guess_loss(self.model, batch, name, guesses[batch.part.rows])
            loss = loss if extra is None else loss + self.spec.propagation * extra
        rough = roughness(self.model, batch, self.spec.radius) if self.spec.smoothness and annealed else None
        if rough is not None:
            loss = loss + self.spec.smoothness * rough
        if not loss.requires_grad:  # no row has anything: there is nothing to learn from this batch
            loss = loss + 0 * next(self.model.parameters()).sum()
        self._check_finite(objectives)
        return self.world * share * loss  # of which DDP takes the mean over processes

    def _seed(self, *place: int) -> None:
        """What `torch.manual_seed` does, which notes the whole call stack for each kind of device that is not there."""
        seed = seed_of(self.spec.seed, *place)
        torch.default_generator.manual_seed(seed)
        if self.device.type == "cuda":
            torch.cuda.manual_seed(seed)

    def _propagate(self) -> None:
        """Look for the classes of this epoch."""
        self._seed(self.current_epoch, -1)  # no step's; the same in all processes
        self.model.eval()
        self._propagated = {
            name: propagated(
                self.model, self.dataset.train, name, self.spec.neighbours, self.spec.surest, self.dataset.transform
            )
            for name, modality in self.model.modalities.items()
            if modality.num_classes
        }
        self.model.train()

    def _check_finite(self, objectives: list[Objective]) -> None:
        """End the training in all processes if the loss of any of them is not finite."""
        wrong = next((objective for objective in objectives if not torch.isfinite(objective.loss)), None)
        told = self._any_tells(None if wrong is None else _what_is_wrong(wrong))
        if told is not None:
            place = f"step {self.global_step} (epoch {self.current_epoch + 1})"
            value, culprits = told
            raise NonFiniteLossError(f"the loss is {value} at {place}: {culprits} went out of bounds. {_REMEDIES}")

    def _any_tells(self, mine: tuple[float, str] | None) -> tuple[float, str] | None:
        """What this process has to tell or, where it has nothing, the first that has."""
        if self.world == 1 or not self._sum(torch.tensor(float(mine is not None))):
            return mine
        told: list[Any] = [None] * self.world
        torch.distributed.all_gather_object(told, mine)
        return next(one for one in told if one is not None)

    def _sum(self, value: Tensor) -> Tensor:
        """The sum over all processes."""
        if self.world > 1:
            value = value.to(self.device)
            torch.distributed.all_reduce(value)
        return value

    def _share_statistics(self) -> None:
        """Give all processes the mean of what each has gathered of its rows for batch normalisation."""
        for module in self.model.modules() if self.world > 1 else ():
            if isinstance(module, _NormBase):
                for buffer in filter(torch.is_floating_point, module.buffers()):
                    buffer.copy_(self._sum(buffer.clone()) / self.world)

    def on_validation_start(self) -> None:
        self._share_statistics()

    def validation_step(self, batch: Batch, index: int) -> None:
        number = index * self.world + self.rank  # among the batches of all processes
        if number * VALIDATION_BATCH < len(self.dataset.validation):
            self._seed(number)
            batch = self.model.read(batch)
            self._validation.append(self.model.elbo(batch))
            for name, sums in list(self._divergences.items()):
                here = batch.present[name].nonzero().flatten() if name in batch.present else ()
                if len(here):
                    divergence = kl(self.model.q(batch.only([name])[here]))
                    self._divergences[name] = sums + torch.tensor([float(divergence.sum()), float(len(here))])
            if self.spec.best_by is not None:
                self._guessed += guessed_right(self.model, batch, self.spec.best_by)

    def on_validation_epoch_end(self) -> None:
        elbo, guessed = self._validation_elbo(), self._sum(self._guessed)
        self._validation, self._guessed = [], torch.zeros(2)
        if not torch.isfinite(elbo):
            raise NonFiniteLossError(
                f"the validation ELBO after step {self.global_step} (epoch {self.current_epoch + 1}) is {elbo.item()}:"
                f" a step of this epoch spoilt the parameters. {_REMEDIES}"
            )
        self.log(ELBO, elbo)
        for name, sums in list(self._divergences.items()):
            total = self._sum(sums)
            if total[1]:
                self.log(f"{HELD}{name}", total[0] / total[1])
            self._divergences[name] = torch.zeros(2)
        if self.spec.best_by is not None:
            if not guessed[1]:
                raise ValueError(f"training.best_by: no validation row has '{self.spec.best_by}' and something else")
            self.log(ACCURACY, guessed[0] / guessed[1])

    def _validation_elbo(self) -> Tensor:
        """The mean over the rows of all processes."""
        if self.world == 1:
            return torch.cat(self._validation).mean()
        total = sum((part.double().sum() for part in self._validation), start=torch.zeros((), dtype=torch.float64))
        return (self._sum(total) / len(self.dataset.validation)).float()

    def on_train_epoch_end(self) -> None:
        self._share_statistics()
        means = {f"train/{name}": (self._sum(total) / self._batches).item() for name, total in self._sums.items()}
        self.log_dict(means)
        self.log("beta", self.beta)
        for name in (ELBO, ACCURACY, *(f"{HELD}{one}" for one in self._divergences)):
            if name not in self.trainer.callback_metrics:
                continue
            means[name] = self.trainer.callback_metrics[name].item()
        stage = {"stage": self._stage} if self.model.num_stages > 1 else {}
        self.history.append({"epoch": self.current_epoch + 1, **stage, "beta": self.beta, **means})

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["history"] = self.history

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.history = checkpoint["history"]


def guessed_right(model: MultimodalVAE, batch: Batch, target: str) -> Tensor:
    """Of how many rows a category or string is guessed right from the rest, and of how many it can be guessed: `[2]`.

    The guess is the decoder's on posterior draws; it can be made of rows that have the target and something else.
    """
    rest = [name for name in model.names if name != target and name in batch.values]
    fit = batch.presence([target]).all(1) & batch.presence(rest).any(1)
    if not fit.any():
        return torch.zeros(2)
    guesses = guess(model, batch[fit], target, rest, num_samples=DRAWS)
    right = alike(guesses, batch.values[target][fit].cpu())
    return torch.tensor([float(right.sum()), float(len(right))])


def _what_is_wrong(objective: Objective) -> tuple[float, str]:
    """The loss, and what of it is not finite."""
    culprits = [f"log p({name} | z)" for name, part in objective.log_likelihood.items() if not part.isfinite().all()]
    culprits += [] if objective.kl.isfinite().all() else ["the KL divergence"]
    return objective.loss.item(), " and ".join(culprits)


_REMEDIES = "Look for extreme values in that modality, scale its numbers, or lower the learning rate"


def train(
    model: MultimodalVAE,
    dataset: Dataset[Any],
    spec: TrainingSpec,
    folder: Path,
    resume: bool = False,
    progress: bool | Callable[[int, int], None] = True,
    processes: Processes = ALONE,
    advice: str = "",
) -> tuple[list[dict[str, float]], bool]:
    """Train a model in place, keeping checkpoints and a TensorBoard log in `folder`.

    The model ends with the weights that `spec.keep` names: of the epoch with the best validation (of equally good ones
    the last), or of the last whole epoch, which is also what is kept where there are no validation rows.

    Args:
        model: what to train.
        dataset: the rows, such as `model.checked` returns.
        spec: how.
        folder: gets `checkpoints/` and `logs/`.
        resume: continue from the last checkpoint in `folder`, if there is one.
        progress: show a bar, or call this with the steps done and to do.
        processes: how many processes train it together, each of which calls this. The first one writes, and all end
            with the same model; those on this machine are started by the first where torchrun or Slurm has not.
        advice: what a `LostProcessError` says after which process was lost.

    Returns:
        One record an epoch, and whether training was interrupted by Ctrl-C.

    Raises:
        NonFiniteLossError: if the loss stops being finite, in all processes; the checkpoints of the epochs before stay,
            and the model gets the best weights so far.
        LostProcessError: in the first process, if another one ends before the training does.
    """
    checkpoints = folder / "checkpoints"
    validated = len(dataset.validation) > 0
    callbacks = callbacks_of(spec, checkpoints, validated, progress if processes.first else False)
    divided = processes.strategy == "fsdp"
    module = Training(deepcopy(model) if divided else model, spec, dataset, processes)
    watch = Watch(processes, advice)
    last, kept = checkpoints / LAST, checkpoints / (BEST if validated and spec.keep == "best" else LAST)
    interrupted = False
    state: dict[str, Tensor] | None = None
    keep_memory()
    with _Quiet():
        trainer = Trainer(
            max_epochs=spec.epochs,
            devices=processes.devices,
            num_nodes=processes.nodes,
            strategy=strategy_of(processes, watch),
            precision="bf16-mixed" if spec.precision_here == "bfloat16" else "32-true",
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
            with _compiled(module.model) if spec.compile else nullcontext():
                trainer.fit(module, ckpt_path=last if resume and last.exists() else None, weights_only=True)
            watch.stop()
            if processes.world > 1:  # the others may not see the folder
                state = trainer.strategy.broadcast(_weights(kept) if processes.first else None)
        except NonFiniteLossError as error:
            watch.stop()
            error.history = module.history
            raise
        except (SystemExit, KeyboardInterrupt):  # how Lightning ends on Ctrl-C
            if trainer.state.status != TrainerStatus.INTERRUPTED:
                raise
            interrupted = True
        except Exception as error:
            if processes.world == 1:
                raise
            raise watch.explained(error) from error
        finally:
            signal.signal(signal.SIGINT, handler)
            if processes.first and state is None:
                state = _weights(kept)
            if state is not None:
                model.load_state_dict({name.removeprefix("model."): value for name, value in state.items()})
            model.enter_stage(0)
            model.cpu().eval()
    return module.history, interrupted


def _lengths(model: MultimodalVAE, rows: Batch) -> Tensor | None:
    """Of each row the longest of its long strings, so that those of a batch may be about as long; None without such."""
    found = None
    for name, variable in model.variables.items():
        if variable.is_string and variable.shape[0] >= LONG and name in rows.values:
            own = variable.lengths(rows.values[name])
            if own is not None:
                own = torch.where(rows.present[name], own, 0)
                found = own if found is None else found.maximum(own)
    return found


def _weights(checkpoint: Path) -> dict[str, Tensor] | None:
    """The parameters that a checkpoint holds, by their names in `Training`; None where there is no checkpoint."""
    if not checkpoint.exists():
        return None
    return torch.load(checkpoint, weights_only=True, map_location="cpu")["state_dict"]


@contextmanager
def _compiled(model: MultimodalVAE) -> Iterator[None]:
    """Compile the networks for as long as this lasts, for any number of rows."""
    from torch import _dynamo

    decoders = [modality.decoder for modality in model.modalities.values()]
    networks = [*model.inference_networks, *(part.network for part in decoders if isinstance(part, Decoder))]
    try:
        for network in networks:
            network.compile(dynamic=True)
        with _dynamo.config.patch(recompile_limit=8 * len(networks)):  # networks of one class count together
            yield
    except _dynamo.exc.TorchDynamoException as error:
        reason = str(error).strip().splitlines()[0]
        raise OSError(f"compiling the networks failed; train without it, or see to: {reason}") from error
    finally:
        for network in networks:
            network._compiled_call_impl = None


def keep_memory() -> None:
    """Have the C library keep freed memory for the next step: to get it from the system anew costs up to a tenth."""
    trim_threshold, mmap_threshold, most = -1, -3, 2**31 - 1  # their numbers in malloc.h
    with suppress(OSError, AttributeError):  # not the GNU C library
        library = ctypes.CDLL(None)
        library.mallopt(trim_threshold, most)
        library.mallopt(mmap_threshold, most)


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
