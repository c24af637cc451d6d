"""What running an experiment takes, whichever it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paper.results import Results
from paper.side_by_side import default_jobs, run_side_by_side

__all__ = ["Setup"]


@dataclass(frozen=True)
class Setup:
    """How much an experiment spends, where it reads and writes, and how many tasks it does at a time.

    Args:
        preset: the name of one of the experiment's presets.
        folder: of the results: the experiment NAME fills `folder/NAME/PRESET.json`.
        runs: folder of the trained models, which experiments share; one that is there is used.
        data_dir: where to look first for data files.
        jobs: how many tasks at a time; where None one a core, on a GPU up to six.
        resume: keep the finished cells of a file that is there.
    """

    preset: str
    folder: Path = Path("results")
    runs: Path = Path("runs/reproduce")
    data_dir: str | None = None
    jobs: int | None = None
    resume: bool = False

    def path(self, name: str) -> Path:
        """The JSON file of an experiment."""
        return self.folder / name / f"{self.preset}.json"

    def results(self, name: str, spent: Mapping[str, Any]) -> Results:
        """The cells of an experiment, those that are finished if they are to be kept.

        Args:
            name: of the experiment.
            spent: what the preset says.

        Raises:
            RunError: if the file is there and not to be resumed, or was made with other settings.
        """
        return Results(self.path(name), {"preset": self.preset, **spent}, self.resume)

    def side_by_side(self, work: Callable[..., Any], tasks: Sequence[Any]) -> Iterator[tuple[Any, Any]]:
        """Each task and what `work(task, setup, report)` makes of it, as it is finished.

        Raises:
            RuntimeError: after the last one, if some failed.
        """
        return run_side_by_side(work, tasks, self.jobs or default_jobs(), (self,))

    def finish(
        self, work: Callable[..., dict[str, Any]], tasks: Sequence[Any], results: Results
    ) -> Iterator[tuple[Any, dict[str, Any]]]:
        """The same, each kept among the results first."""
        for task, record in self.side_by_side(work, tasks):
            results.add(record)
            yield task, record
