"""A training's computations: compiled networks, lower precision, memory that is kept, and signals that end it."""

from __future__ import annotations

import ctypes
import signal
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress

import torch

from mvae.config.specs import TrainingSpec
from mvae.modality import Decoder
from mvae.models import MultimodalVAE

__all__ = ["compiled", "interruptible", "keep_memory", "lower_precision"]


def lower_precision(spec: TrainingSpec, device: torch.device) -> AbstractContextManager[object]:
    """Compute the networks' matrix products in bfloat16 where the spec says so."""
    if spec.precision_here != "bfloat16":
        return nullcontext()
    return torch.autocast(device.type, torch.bfloat16)


@contextmanager
def interruptible() -> Iterator[None]:
    """Let SIGTERM, by which clusters end a job, end a training as Ctrl-C does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, handler)


@contextmanager
def compiled(model: MultimodalVAE) -> Iterator[None]:
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
