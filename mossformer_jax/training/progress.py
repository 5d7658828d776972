"""The live line that shows on a terminal how far a training has come."""

from __future__ import annotations

import sys

from rich.columns import Columns
from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

# Steps may take minutes: speed is measured over this time.
SPEED_SECONDS = 3600


class LiveLine:
    """A bar over the steps of a run, time left and a text, on stdout; several lines where the terminal is narrow.

    While it is shown, what is printed goes above it.

    Args:
        total_steps: length of the run.
        step: where it begins or goes on.
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
        """Shows a step and what is to be said of it."""
        self._bar.update(self._task, completed=step)
        self._text.plain = text

    def close(self) -> None:
        """Takes the line away."""
        self._live.stop()


def is_live() -> bool:
    """Whether stdout is a terminal on which a line can be drawn anew."""
    return sys.stdout.isatty() and not Console().is_dumb_terminal
