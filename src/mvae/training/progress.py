"""The progress of a training: a bar on the terminal, or calls of a function."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any

from mvae.models import Objective
from mvae.training.epochs import held

__all__ = ["Progress"]


class Progress:
    """One bar over the whole run: epoch, loss, joint ELBO, what z holds of strings after the last epoch, time left.

    Args:
        shown: show the bar; or call this with the steps done and to do, some ten times an epoch.
        done: steps that are done already.
        an_epoch: steps an epoch.
        epochs: epochs in all.
    """

    def __init__(self, shown: bool | Callable[[int, int], None], done: int, an_epoch: int, epochs: int) -> None:
        from tqdm import tqdm

        self.report, self.every = shown if callable(shown) else None, max(1, an_epoch // 10)
        self.epochs, self.total, self.held = epochs, epochs * an_epoch, ""
        self.latest: tuple[int, Objective] | None = None
        interval = 0.1 if sys.stderr.isatty() else 10.0  # seconds; a log file wants few lines
        self.bar: Any = tqdm(
            total=self.total,
            initial=done,
            unit="step",
            mininterval=interval,
            dynamic_ncols=True,
            disable=callable(shown) or not shown,
        )

    def step(self, done: int, epoch: int, objective: Objective) -> None:
        """After each optimiser step: how many there were in all, the epoch from 0, and what was minimised."""
        if self.report is not None and done % self.every == 0:
            self.report(done, self.total)
        self.latest = epoch, objective
        if self.bar.update():  # it was redrawn
            self._describe()

    def validated(self, record: Mapping[str, float]) -> None:
        """After each validation."""
        each = [f"{name} {nats:.2f}" for name, nats in held(record).items()]
        self.held = f", z holds {', '.join(each)} nats" if each else ""
        self._describe()

    def _describe(self) -> None:
        """Settle what the bar shows when it is drawn the next time."""
        if self.latest is not None and not self.bar.disable:
            epoch, objective = self.latest
            self.bar.set_description(f"epoch {epoch + 1}/{self.epochs}", refresh=False)
            shown = f"loss {objective.loss.item():.4g}, ELBO {objective.elbo.mean().item():.4g}{self.held}"
            self.bar.set_postfix_str(shown, refresh=False)
