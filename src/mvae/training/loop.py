"""The training loop: epochs of steps, validation, the best epoch kept; in one process or several."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mvae.adam import Adam
from mvae.batch import Batch
from mvae.config.specs import TrainingSpec
from mvae.data.dataset import Dataset
from mvae.models import MultimodalVAE, Objective
from mvae.seeds import seed_of, seeded
from mvae.training.batches import training_batches, validation_batches
from mvae.training.checkpoints import BEST, LAST, Checkpoint, Checkpoints
from mvae.training.compute import compiled, interruptible, keep_memory, lower_precision
from mvae.training.curves import Curves
from mvae.training.epochs import ELBO, patience_is_over, rank
from mvae.training.progress import Progress
from mvae.training.schedules import annealed_beta, cosine_decay
from mvae.training.spread import ALONE, Group, Processes
from mvae.training.terms import few_label_terms
from mvae.training.validation import ValidationSums, share_statistics

__all__ = ["Loop", "NonFiniteLossError"]

REMEDIES = "Look for extreme values in that modality, scale its numbers, or lower the learning rate"


class NonFiniteLossError(ArithmeticError):
    """The loss became infinite or NaN; the message names the modality, the step and what can be done."""


class Loop:
    """A training of a model, in place.

    All randomness of a step (its draws of z, of subsets, of binarised pixels) starts from a seed made of the run's
    seed, the epoch and the step, so that a run that was killed and resumed repeats what it would have done. Validation
    draws the same numbers at every epoch.

    Each of several processes has a loop of its own and takes its part of every batch, with the numbers that its rows
    would have in one process (`Batch.drawn`). The first one writes and shows; what is recorded, and what decides about
    an epoch, comes from all parts together; all end with the same model.

    Args:
        model: trained in place.
        spec: how.
        dataset: its rows, as the model can read them.
        folder: the run's, which gets `checkpoints/` and `logs/`; nothing is written where None.
        progress: show a bar, or call this with the steps done and to do.
        processes: those that train it together.
        advice: how a `LostProcessError` ends, after which process was lost.
    """

    def __init__(
        self,
        model: MultimodalVAE,
        spec: TrainingSpec,
        dataset: Dataset[Any],
        folder: Path | None = None,
        progress: bool | Callable[[int, int], None] = False,
        processes: Processes = ALONE,
        advice: str = "",
    ) -> None:
        self.model, self.spec, self.dataset = model, spec, dataset
        self.folder, self.progress, self.processes, self.advice = folder, progress, processes, advice
        self.history: list[dict[str, float]] = []
        """One record for each epoch that is done."""
        self.kept: dict[str, float] = {}
        """The record of the epoch whose weights the model has in the end; empty where no epoch was finished."""
        self.batches = training_batches(model, dataset, spec, processes.rank, processes.world)
        self.terms = few_label_terms(spec, dataset)
        self.steps = 0
        """Optimiser steps that are done."""

    def run(self, resume: bool = False) -> bool:
        """Train to the end, or on from the last checkpoint where `resume`; True if Ctrl-C or SIGTERM cut it short.

        The model gets the weights that `spec.keep` names, on the CPU, in evaluation mode: of the epoch with the best
        validation (of equally good ones the last), or of the last finished epoch, also where no rows are held out.
        So it does before a `NonFiniteLossError`. A `LostProcessError` is raised in the first process alone.
        """
        keep_memory()
        group = Group(self.processes, self.advice)
        kept = BEST if len(self.dataset.validation) and self.spec.keep == "best" else LAST
        checkpoints = Checkpoints(self.folder if self.processes.first else None)
        try:
            how = compiled(self.model) if self.spec.compile else nullcontext()
            with interruptible(), seeded(self.spec.seed, group.device), how:
                group.join()
                self._train(group, checkpoints, resume)
            group.watch.stop()
            self._keep(group.told(checkpoints.read(kept, self.model)))
        except KeyboardInterrupt:
            group.watch.kill()
            last = checkpoints.read(LAST)
            self.history = last.history if last else []
            self._keep(checkpoints.read(kept))
            return True
        except NonFiniteLossError:
            group.watch.stop()
            self._keep(checkpoints.read(kept))
            raise
        except Exception as error:
            if group.world == 1:
                raise
            raise group.watch.explained(error) from error
        finally:
            self.model.enter_stage(0)
            self.model.cpu().eval()
        return False

    def _train(self, group: Group, checkpoints: Checkpoints, resume: bool) -> None:
        model, spec = self.model.to(group.device), self.spec
        adam = Adam(model.parameters())
        start = group.told(
            (checkpoints.read(LAST, model) if resume else None) or Checkpoint(model.state_dict(), {}, [])
        )
        model.load_state_dict(start.weights)
        if start.adam:
            adam.load(start.adam)
        self.history, self.steps = start.history, len(start.history) * len(self.batches)
        first = group.rank == 0
        curves = Curves(self.folder if first else None)
        shown = Progress(first and self.progress, self.steps, len(self.batches), spec.epochs)
        try:
            while len(self.history) < spec.epochs:
                if spec.patience is not None and patience_is_over(self.history, spec.patience, model.num_stages):
                    break
                record = self._epoch(group, adam, shown) | self._validate(group)
                stage = {"stage": self.stage} if model.num_stages > 1 else {}
                record = {"epoch": len(self.history) + 1, **stage, "beta": self.beta, **record}
                shown.validated(record)
                curves.add(record, self.steps)
                self.history.append(record)
                best = ELBO in record and all(rank(record) >= rank(earlier) for earlier in self.history)
                if first and best:
                    checkpoints.save(BEST, Checkpoint(model.state_dict(), {}, self.history))
                if first:
                    checkpoints.save(LAST, Checkpoint(model.state_dict(), adam.state(), self.history))
        finally:
            shown.bar.close()
            curves.close()

    @property
    def beta(self) -> float:
        """The weight of the KL terms now (paper, Eq. 1)."""
        return annealed_beta(self.steps, self.spec.annealing_epochs * len(self.batches), self.spec.annealing_cycles)

    @property
    def stage(self) -> int:
        """The stage of the method's training, from 0, that the next epoch belongs to."""
        stages = self.model.num_stages
        return min(stages * len(self.history) // self.spec.epochs, stages - 1)

    def _epoch(self, group: Group, adam: Adam, shown: Progress) -> dict[str, float]:
        """One pass over the training rows; what is recorded of it."""
        epoch, total = len(self.history), self.spec.epochs * len(self.batches)
        self.model.enter_stage(self.stage)
        self.model.eval()
        for term in self.terms if self.beta >= 1 else ():
            self._seed(epoch, -1)  # no step's; the same in all processes
            term.begin(self.model)
        self.model.train()
        sums = torch.zeros(3, device=group.device)
        for index, batch in enumerate(self.batches.epoch(epoch)):
            loss, objective = self.step(batch.to(group.device), index, group)
            share = 1.0 if batch.part is None else batch.part.share
            adam.zero_grad()
            if loss.requires_grad:  # else no row has anything: there is nothing to learn from this batch
                (loss * share).backward()
            wrong = not bool(loss.detach().isfinite())
            if group.sum_gradients(adam.parameters, wrong):
                self._fail(group, objective if wrong else None)
            decay = cosine_decay(self.steps, total) if self.spec.schedule == "cosine" else 1.0
            adam.step(self.spec.learning_rate * decay)
            each = torch.stack([objective.loss, objective.elbo.mean(), objective.kl[0].mean()])
            sums += share * each.detach()
            self.steps += 1
            shown.step(self.steps, epoch, objective)
        means = group.sum(sums) / len(self.batches)
        return dict(zip(("train/loss", "train/elbo", "train/kl"), means.tolist(), strict=True))

    def step(self, batch: Batch, index: int, group: Group) -> tuple[Tensor, Objective]:
        """The loss of a batch, or of this process's part of it, and the method's own share of that."""
        epoch, model, beta = len(self.history), self.model, self.beta
        self._seed(epoch, index)
        with lower_precision(self.spec, group.device):
            batch = model.read(batch)
            if self.dataset.transform is not None:
                changed = self.dataset.transform(batch)
                batch = batch.holding(changed.values, changed.present)
            objective = model.loss(batch, beta)
            loss = objective.loss
            terms = self.terms if beta >= 1 else ()
            if terms and group.world > 1:  # from here on no two processes draw alike
                self._seed(epoch, index, group.rank)
            for term in terms:
                extra = term.of(model, batch)
                loss = loss if extra is None else loss + term.weight * extra
        return loss, objective

    def _validate(self, group: Group) -> dict[str, float]:
        """The scores on validation rows; nothing where there are none."""
        share_statistics(self.model, group)
        rows, sums = self.dataset.validation, ValidationSums(self.model, self.spec.best_by)
        self.model.eval()
        for number, batch in validation_batches(rows, group.rank, group.world):
            self._seed(number)
            with lower_precision(self.spec, group.device):
                sums.add(self.model.read(batch.to(group.device)))
        record = sums.means(group) if len(rows) else {}
        if not math.isfinite(record.get(ELBO, 0.0)):
            cause = f"is {record[ELBO]}: a step of this epoch spoilt the parameters"
            raise NonFiniteLossError(f"the validation ELBO after {self._place} {cause}. {REMEDIES}")
        return record

    def _fail(self, group: Group, wrong: Objective | None) -> None:
        """End the training in all processes, with the fault of the first that has one."""
        value, culprits = group.first_of(None if wrong is None else _what_is_wrong(wrong, self.terms))
        raise NonFiniteLossError(f"the loss is {value} at {self._place}: {culprits} went out of bounds. {REMEDIES}")

    @property
    def _place(self) -> str:
        return f"step {self.steps} (epoch {len(self.history) + 1})"

    def _seed(self, *place: int) -> None:
        """Seed torch; `torch.manual_seed` also notes the call stack for each kind of device that does not exist."""
        seed = seed_of(self.spec.seed, *place)
        torch.default_generator.manual_seed(seed)
        if torch.cuda.is_initialized():
            torch.cuda.manual_seed(seed)

    def _keep(self, checkpoint: Checkpoint | None) -> None:
        if checkpoint is not None:
            self.model.load_state_dict(checkpoint.weights)
            self.kept = checkpoint.history[-1]


def _what_is_wrong(objective: Objective, terms: list[Any]) -> tuple[float, str]:
    """The loss, and its parts that are not finite."""
    culprits = [f"log p({name} | z)" for name, part in objective.log_likelihood.items() if not part.isfinite().all()]
    culprits += [] if objective.kl.isfinite().all() else ["the KL divergence"]
    return objective.loss.item(), " and ".join(culprits or [term.name for term in terms])
