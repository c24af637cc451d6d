"""The curves of a training, as TensorBoard reads them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["Curves"]


class Curves:
    """A file of events in `logs/` of a run's folder, by tensorboard's own writer; none where there is no folder."""

    def __init__(self, folder: Path | None) -> None:
        self.writer: Any = None
        if folder is not None:
            from tensorboard.summary.writer.event_file_writer import EventFileWriter

            self.writer = EventFileWriter(str(folder / "logs"))

    def add(self, record: Mapping[str, float], step: int) -> None:
        """One point of each curve."""
        if self.writer is None:
            return
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        values = [Summary.Value(tag=name, simple_value=value) for name, value in record.items()]
        self.writer.add_event(Event(wall_time=time.time(), step=step, summary=Summary(value=values)))

    def close(self) -> None:
        """Write the rest, and end the file."""
        if self.writer is not None:
            self.writer.close()
