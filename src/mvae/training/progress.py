"""The progress of a training: a bar on the terminal, or calls of a function."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping

from mvae.models import Objective
from mvae.training.epochs import held

__all__ = ["Silence", "shown_by"]


class Silence:
    """Shows nothing."""

    def step(self, done: int, epoch: int, objective: Objective) -> None:
        """After each optimiser step: how many there were in all, the epoch from 0, and what was minimised."""

    def validated(self, record: Mapping[str, float]) -> None:
        """After each validation."""

    def close(self) -> None:
        """After the last epoch, and when an error ends the training."""


class Bar(Silence):
    """One bar over the whole run: epoch, loss, joint ELBO, what z holds of strings after the last epoch, time left."""

    def __init__(self, total: int, done: int, epochs: int) -> None:
        from tqdm import tqdm

        interval = 0.1 if sys.stderr.isatty() else 10.0  # seconds; a log file wants few lines
        self.bar = tqdm(total=total, initial=done, unit="step", mininterval=interval, dynamic_ncols=True)
        self.epochs, self.held = epochs, ""
        self.latest: tuple[int, Objective] | None = None

    def step(self, done: int, epoch: int, objective: Objective) -> None:
        self.latest = epoch, objective
        if self.bar.update():  # it was redrawn
            self._say()

    def validated(self, record: Mapping[str, float]) -> None:
        each = [f"{name} {nats:.2f}" for name, nats in held(record).items()]
        self.held = f", z holds {', '.join(each)} nats" if each else ""
        self._say()

    def _say(self) -> None:
        """Settle what the bar shows when it is drawn the next time."""
        if self.latest is not None:
            epoch, objective = self.latest
            self.bar.set_description(f"epoch {epoch + 1}/{self.epochs}", refresh=False)
            shown = f"loss {objective.loss.item():.4g}, ELBO {objective.elbo.mean().item():.4g}{self.held}"
            self.bar.set_postfix_str(shown, refresh=False)

    def close(self) -> None:
        self.bar.close()


class Reporter(Silence):
    """Calls a function with how many steps of how many are done, some ten times an epoch."""

    def __init__(self, report: Callable[[int, int], None], total: int, an_epoch: int) -> None:
        self.report, self.total, self.every = report, total, max(1, an_epoch // 10)

    def step(self, done: int, epoch: int, objective: Objective) -> None:
        if done % self.every == 0:
            self.report(done, self.total)


def shown_by(progress: bool | Callable[[int, int], None], done: int, an_epoch: int, epochs: int) -> Silence:
    """A bar, or calls of a function, over all steps of a run of which some are done; or nothing."""
    if callable(progress):
        return Reporter(progress, epochs * an_epoch, an_epoch)
    return Bar(epochs * an_epoch, done, epochs) if progress else Silence()
