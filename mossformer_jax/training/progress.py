"""The live progress line of a training on a terminal."""

from __future__ import annotations

import sys

from rich.columns import Columns
from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

# The speed is averaged over this time, because a step may take minutes.
SPEED_SECONDS = 3600


class LiveLine:
    """A progress bar, the time left and a text, on stdout; it wraps over several lines on a narrow terminal.

    Output printed meanwhile appears above it.

    Args:
        total_steps: length of the run in steps.
        step: the step from which the run starts or resumes.
    """

    def __init__(self, total_steps: int, step: int):
        console = Console(soft_wrap=True)
        self._bar = Progress(
            TextColumn("{task.completed:.0f}/{task.total:.0f}"),
            BarColumn(20),
            TimeRemainingColumn(),
            TextColumn("left"),
            console=console,
            speed_estimate_period=SPEED_SECONDS,
        )
        self._task = self._bar.add_task("", total=total_steps, completed=step)
        self._text = Text()
        self._live = Live(
            Columns([self._bar, self._text], padding=(0, 2)),
            console=console,
            refresh_per_second=2,
            redirect_stderr=sys.stderr.isatty(),
            transient=True,
        )
        self._live.start()

    def update(self, step: int, text: str) -> None:
        """Shows a step and a text."""
        self._bar.update(self._task, completed=step)
        self._text.plain = text

    def close(self) -> None:
        """Removes the line."""
        self._live.stop()


def is_live() -> bool:
    """Whether stdout is a terminal on which a line can be redrawn."""
    return sys.stdout.isatty() and not Console().is_dumb_terminal
