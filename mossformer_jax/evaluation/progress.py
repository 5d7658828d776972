"""The progress bar of an evaluation, with the mean SI-SDRi so far."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from mossformer_jax.evaluation.report import Row


class EvaluationBar:
    """A progress bar on stderr that counts utterances and shows their mean SI-SDRi; a context manager.

    Args:
        num_utterances: total number of utterances.
        shown: whether to show the bar; notes are always printed.
    """

    def __init__(self, num_utterances: int, shown: bool):
        self._sum, self._count = 0.0, 0
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("left"),
            console=Console(stderr=True, soft_wrap=True),
            transient=True,
            disable=not shown,
            speed_estimate_period=600,
        )
        self._task = self._progress.add_task("SI-SDRi", total=num_utterances)

    def __enter__(self) -> EvaluationBar:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._progress.stop()

    def note(self, text: str) -> None:
        """Prints a line above the bar."""
        self._progress.console.print(text, markup=False, highlight=False)

    def advance(self, rows: Sequence[Row]) -> None:
        """Advances the bar by these rows and updates the mean."""
        improvements = [value for row in rows if isinstance(value := row["si_sdri"], float)]
        self._sum, self._count = self._sum + sum(improvements), self._count + len(improvements)
        so_far = f"SI-SDRi {self._sum / self._count:.2f} dB" if self._count else "SI-SDRi"
        self._progress.update(self._task, advance=len(rows), description=so_far)
