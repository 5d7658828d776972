"""The bar that shows how far a run has come."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, Task, TextColumn, TimeRemainingColumn

from mossformer_jax.audio.streams import read_header
from mossformer_jax.separation.jobs import Job

NAME_WIDTH = 32


class ProgressBar:
    """A bar over the seconds of audio of a run, on stderr: current file, real-time factor, time left.

    Args:
        jobs: what will be done. The lengths of files are read from their headers; that of a URL counts once it is
            known.
        shown: whether to show it.
    """

    def __init__(self, jobs: Sequence[Job], shown: bool):
        self._durations = {job.input: _duration(job.input) for job in jobs} if shown else {}
        self._finished = 0.0
        # Lines that are printed meanwhile go above the bar; those for a pipe or a file must go there.
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %"),
            _RealTimeFactorColumn("", style="progress.data.speed"),
            TimeRemainingColumn(),
            TextColumn("left"),
            console=Console(stderr=True, soft_wrap=True),
            redirect_stdout=sys.stdout.isatty(),
            transient=True,
            disable=not shown,
            speed_estimate_period=600,
        )
        self._task = self._progress.add_task("", total=sum(self._durations.values()))

    def __enter__(self) -> ProgressBar:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._progress.stop()

    def begin(self, job: Job, path: str) -> None:
        """Names the job that is being done, and the local file that it reads."""
        if self._durations and not self._durations[job.input]:
            self._durations[job.input] = _duration(path)
        name = job.input.rstrip("/").replace("\\", "/").rpartition("/")[2]
        name = name if len(name) <= NAME_WIDTH else f"{name[: NAME_WIDTH // 2 - 1]}…{name[-NAME_WIDTH // 2 :]}"
        self._progress.update(self._task, description=name, total=sum(self._durations.values()))

    def advance(self, seconds: float) -> None:
        """Counts audio that has been separated."""
        self._progress.advance(self._task, seconds)

    def end(self, job: Job) -> None:
        """Counts the whole of a job, however far it came."""
        self._finished += self._durations.get(job.input, 0.0)
        self._progress.update(self._task, completed=self._finished)


class _RealTimeFactorColumn(TextColumn):
    def render(self, task: Task):
        """The seconds that a second of audio has taken so far."""
        self.text_format = f"{task.elapsed / task.completed:.2g} x real time" if task.elapsed and task.completed else ""
        return super().render(task)


def _duration(path: str) -> float:
    """Seconds of audio, as the header declares them; 0 where there is none that can be read."""
    header = read_header(path)
    return header.duration if header else 0.0
