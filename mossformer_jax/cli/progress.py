"""The progress bar of a run."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, Task, TextColumn, TimeRemainingColumn

from mossformer_jax.audio.streams import read_header
from mossformer_jax.cli.jobs import Job

NAME_WIDTH = 32


class ProgressBar:
    """A bar over the seconds of audio of a run, on stderr: current file, real-time factor, time left.

    Args:
        jobs: the recordings. The durations of files are read from their headers; that of a URL is added once it has
            been downloaded.
        shown: whether to show the bar.
    """

    def __init__(self, jobs: Sequence[Job], shown: bool):
        self._durations = {job.input: _duration(job.input) for job in jobs} if shown else {}
        self._finished = 0.0
        # On a terminal, printed lines go above the bar; redirected output must stay redirected.
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
        """Shows the name of the current job; `path` is the local file that it reads."""
        if self._durations and not self._durations[job.input]:
            self._durations[job.input] = _duration(path)
        name = job.input.rstrip("/").replace("\\", "/").rpartition("/")[2]
        name = name if len(name) <= NAME_WIDTH else f"{name[: NAME_WIDTH // 2 - 1]}…{name[-NAME_WIDTH // 2 :]}"
        self._progress.update(self._task, description=name, total=sum(self._durations.values()))

    def advance(self, seconds: float) -> None:
        """Adds seconds of audio that have been separated."""
        self._progress.advance(self._task, seconds)

    def end(self, job: Job) -> None:
        """Counts the job's whole duration, also if it failed part-way."""
        self._finished += self._durations.get(job.input, 0.0)
        self._progress.update(self._task, completed=self._finished)


class _RealTimeFactorColumn(TextColumn):
    def render(self, task: Task):
        """The real-time factor so far: seconds of processing per second of audio."""
        self.text_format = f"{task.elapsed / task.completed:.2g} x real time" if task.elapsed and task.completed else ""
        return super().render(task)


def _duration(path: str) -> float:
    """Seconds of audio according to the header; 0 if the header cannot be read."""
    header = read_header(path)
    return header.duration if header else 0.0
