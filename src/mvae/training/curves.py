"""The curves of a training, as TensorBoard reads them."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from socket import gethostname
from typing import Any

from mvae.files import named

__all__ = ["Curves"]


class Curves:
    """A file of events in `logs/` of a run's folder, by tensorboard's own writer; none where there is no folder.

    Its `EventFileWriter` opens the file again and again in a thread, whose faults nobody could catch.
    """

    def __init__(self, folder: Path | None) -> None:
        self.writer: Any = None
        if folder is not None:
            from tensorboard.compat.proto.event_pb2 import Event
            from tensorboard.summary.writer.record_writer import RecordWriter

            self.path = folder / "logs" / f"events.out.tfevents.{time.time_ns()}.{gethostname()}.{os.getpid()}"
            with named(self.path):
                self.path.parent.mkdir(exist_ok=True)
                self.writer = RecordWriter(self.path.open("wb"))
            self.writer.write(Event(wall_time=time.time(), file_version="brain.Event:2").SerializeToString())

    def add(self, record: Mapping[str, float], step: int) -> None:
        """One point of each curve."""
        if self.writer is None:
            return
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        values = [Summary.Value(tag=name, simple_value=value) for name, value in record.items()]
        event = Event(wall_time=time.time(), step=step, summary=Summary(value=values))
        with named(self.path):
            self.writer.write(event.SerializeToString())
            self.writer.flush()

    def close(self) -> None:
        """Write the rest, and end the file."""
        if self.writer is not None:
            with suppress(OSError):  # what could not be written has been said
                self.writer.close()
