"""Several processes that train one model: how many there are, which of them this one is, what they cannot do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from mvae.models import MultimodalVAE

__all__ = ["ALONE", "LostProcessError", "Processes"]


class LostProcessError(RuntimeError):
    """One of the processes of a training ended before the training did; the message says which, and how."""


@dataclass(frozen=True)
class Processes:
    """How a training is spread: a process a device, on each of some machines.

    They change neither the batches nor the draws of a run, so they are no part of its config.

    Args:
        devices: processes on each machine: GPUs where it has any, else processes on its CPU.
        nodes: machines. Their processes are started from outside, by torchrun or Slurm.
        strategy: `"ddp"`: each process holds the whole model and they average gradients. `"fsdp"`: each holds a part
            of the parameters. `"ddp"` where None and there are several processes.
    """

    devices: int = 1
    nodes: int = 1
    strategy: Literal["ddp", "fsdp"] | None = None

    @property
    def world(self) -> int:
        """How many processes there are."""
        return self.devices * self.nodes

    @property
    def rank(self) -> int:
        """The number of this process among them, from 0."""
        if self.world == 1:
            return 0
        from lightning.fabric.utilities.rank_zero import rank_zero_only

        # Lightning reads it from what torchrun, Slurm or it itself has put into the environment.
        return rank_zero_only.rank  # type: ignore[attr-defined]

    @property
    def first(self) -> bool:
        """Whether this is the process that writes and speaks."""
        return self.rank == 0

    def check(self, model: MultimodalVAE, batch_size: int) -> None:
        """Refuse what cannot be trained so.

        Raises:
            ValueError: naming the option and what was expected.
        """
        if self.devices < 1 or self.nodes < 1:
            raise ValueError(f"expected at least one device and one node, got {self.devices} and {self.nodes}")
        if batch_size < self.world:
            raise ValueError(
                f"training.batch_size: expected at least a row for each of {self.world} processes, got {batch_size}"
            )
        gpus = torch.cuda.device_count()
        if gpus and self.devices > gpus:
            raise ValueError(f"devices: expected at most the {gpus} GPUs of this machine, got {self.devices}")
        if self.strategy == "fsdp":
            _check_fsdp(model, gpus)
        self._check_launch()

    def _check_launch(self) -> None:
        """Whether the processes that there are, or that this one would start, are those that are asked for."""
        started = torch.distributed.is_available() and torch.distributed.is_torchelastic_launched()
        if self.world == 1 and not started:
            return
        from lightning.fabric.plugins.environments.lightning import LightningEnvironment
        from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
        from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment

        import __main__

        outside = [kind for kind in (TorchElasticEnvironment, SLURMEnvironment) if kind.detect()]
        if outside:
            try:
                outside[0]().validate_settings(num_devices=self.devices, num_nodes=self.nodes)
            except RuntimeError as error:  # of how Slurm was asked
                raise ValueError(str(error)) from None
        elif self.nodes > 1:
            raise ValueError(
                f"nodes: {self.nodes} machines need their processes started by torchrun or Slurm's srun;"
                " this process was started by neither"
            )
        elif not (LightningEnvironment().creates_processes_externally or hasattr(__main__, "__file__")):
            raise ValueError(
                f"devices: {self.devices} processes run one script or command; this one was started from neither"
            )


ALONE = Processes()
"""One process on one device."""


def _check_fsdp(model: MultimodalVAE, gpus: int) -> None:
    if not gpus:
        raise ValueError("strategy: fsdp needs NVIDIA GPUs, and this machine has none; ddp works on CPUs too")
    if model.sliced:
        raise ValueError(
            "strategy: fsdp cannot divide networks of one architecture, which are trained as one stack (here"
            f" {model.sliced[0]} and others); ddp can train them"
        )
