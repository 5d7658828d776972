"""The records of a training run: log.txt, metrics.jsonl, TensorBoard's files and loss.png."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import json
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from mossformer_jax.atomic import write_atomically
from mossformer_jax.figures.curves import plot_training
from mossformer_jax.training.log import log_handlers
from mossformer_jax.training.loggers import Logger
from mossformer_jax.training.progress import LiveLine, is_live
from mossformer_jax.training.provenance import now
from mossformer_jax.training.records import RECORDS_FILE, read_metrics
from mossformer_jax.training.tensorboard import Example, TensorBoard

__all__ = ["Example", "Journal", "Progress"]

_logger = logging.getLogger(__name__)
_logger.setLevel(logging.DEBUG)
_NAMES = {"si_sdri": "SI-SDRi", "si_sdr": "SI-SDR"}


@dataclasses.dataclass(frozen=True)
class Progress:
    """The progress of the training, with averages over the steps since the previous record.

    Attributes:
        step: number of steps of the run so far.
        epoch: number of epochs so far.
        loss: mean loss in dB.
        learning_rate: mean learning rate.
        gradient_norm: mean global gradient norm before clipping.
        mixtures_per_second: throughput of all devices together.
        waiting_share: fraction of the time spent waiting for data.
        skipped: steps skipped in the run so far.
    """

    step: int
    epoch: float
    loss: float | np.floating
    learning_rate: float
    gradient_norm: float
    mixtures_per_second: float
    waiting_share: float
    skipped: int | np.integer


class Journal:
    """log.txt, metrics.jsonl, TensorBoard, loss.png and the terminal's progress line of a run.

    Records are in the files when a call returns, so a killed process leaves files that can be read and continued.
    Warnings of the package also go to log.txt and the terminal. On a full disk, calls raise an OSError that names
    the file.

    Args:
        workdir: the run's folder.
        total_steps: number of steps of the whole run.
        step: the step from which the run resumes. Records of later steps, left by a killed process, are dropped from
            metrics.jsonl and TensorBoard because those steps are repeated. log.txt keeps everything.
        terminal: whether to show a live line on a terminal. Otherwise, or if stdout is not a terminal, the lines of
            log.txt are printed.
        validated_step: step of the last validation that will not be repeated; `step` if None.
        si_sdri_db: SI-SDRi in dB of that validation, if there was one.
        loggers: functions that open further loggers, by name. If a logger fails later, a warning is logged.
        earlier: log records from before this journal was opened. The terminal has already shown them, so they
            are only written to log.txt.

    Raises:
        ValueError: metrics.jsonl is damaged; the message names the line.
    """

    def __init__(
        self,
        workdir: Path,
        *,
        total_steps: int,
        step: int = 0,
        terminal: bool = True,
        validated_step: int | None = None,
        si_sdri_db: float | None = None,
        loggers: Mapping[str, Callable[[], Logger]] | None = None,
        earlier: Sequence[logging.LogRecord] = (),
    ):
        self._workdir = Path(workdir)
        self._workdir.mkdir(parents=True, exist_ok=True)
        self._metrics_path = self._workdir / RECORDS_FILE
        self._total_steps = total_steps
        self._time_left = _TimeLeft(total_steps, step)
        self._last_validation = "" if si_sdri_db is None else _formatted("si_sdri_db", si_sdri_db)
        resumes = self._metrics_path.exists()
        last_steps = {"train": step, "validation": step if validated_step is None else validated_step}
        num_dropped = _drop_later_records(self._workdir, last_steps) if resumes else 0
        with contextlib.ExitStack() as opened:
            self._metrics = opened.enter_context(self._metrics_path.open("a", encoding="utf-8"))
            self._tensorboard = TensorBoard(self._workdir / "tensorboard", step)
            opened.callback(self._tensorboard.close)
            self._line = LiveLine(total_steps, step) if terminal and is_live() else None
            if self._line is not None:
                opened.callback(self._line.close)
            opened.enter_context(log_handlers(self._workdir / "log.txt", earlier, live=self._line is not None))
            self._loggers: dict[str, Logger] = {}
            for name, open_one in (loggers or {}).items():
                self._loggers[name] = open_one()
                opened.callback(self._loggers[name].close)
            self._opened = opened.pop_all()
        if resumes:
            self.note(
                f"resumed at step {step}"
                + (f"; dropped {num_dropped} records of later steps, which are repeated" if num_dropped else "")
            )

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # An error of the run takes precedence over one from closing the files on a full disk.
        with contextlib.nullcontext() if error is None else contextlib.suppress(OSError):
            self.close()

    def note(self, text: str) -> None:
        """Writes a line, with date and time, to log.txt and the terminal."""
        _logger.info("%s", text)

    def progress(self, record: Progress) -> None:
        """Writes a record of the training's progress to all outputs."""
        figures = dataclasses.asdict(record)
        self._record({"kind": "train", **figures})
        step = figures.pop("step")
        self._scalars(step, {f"train/{name}": value for name, value in figures.items()})
        parts = [
            f"loss {record.loss:.2f} dB",
            *filter(None, [self._last_validation]),
            f"lr {record.learning_rate:.2e}",
            f"gradient norm {record.gradient_norm:.2f}",
            f"{record.mixtures_per_second:.3g} mixtures/s",
            f"{record.waiting_share:.0%} waiting for data",
            f"{record.skipped} skipped",
        ]
        # At the level DEBUG, because a live line already shows this; the terminal then omits it.
        text = ", ".join([*parts, f"{self._time_left.after(step)} left"])
        _logger.debug("step %d/%d, epoch %.2f: %s", step, self._total_steps, record.epoch, text)
        if self._line is not None:
            self._line.update(step, "  ".join(parts))

    def validated(
        self,
        step: int,
        figures: Mapping[str, float | np.floating],
        *,
        best: bool,
        examples: Sequence[Example] = (),
        why_undefined: str = "",
    ) -> None:
        """Writes the result of a validation to all outputs.

        Args:
            step: steps of the run so far.
            figures: values by name, such as si_sdri_db, si_sdr_db, loss_db.
            best: whether it is the best validation so far.
            examples: mixtures for TensorBoard.
            why_undefined: the reason if the figures are not finite; they are then null in metrics.jsonl.
        """
        self._record({"kind": "validation", "step": step, "best": best, **figures})
        self._scalars(step, {f"validation/{name}": value for name, value in figures.items() if math.isfinite(value)})
        with _failure_as_warning("the examples could not be drawn"):
            self._tensorboard.examples(step, examples)
        for name, logger in self._loggers.items():
            with _failure_as_warning(f"{name}: the examples of step {step} could not be logged"):
                logger.examples(step, examples)
        parts = [_formatted(name, value) for name, value in figures.items() if math.isfinite(value)]
        if not parts:
            self._last_validation = ""
            self.note(f"validation at step {step}: SI-SDRi is undefined: {why_undefined}")
            return
        self._last_validation = next((text for text in parts if text.startswith("SI-SDRi")), "")
        self.note(f"validation at step {step}: {', '.join(parts)}{' (best so far)' if best else ''}")

    def close(self) -> None:
        """Draws loss.png and closes all files; a second call has no effect."""
        if not self._metrics.closed:
            with _failure_as_warning("loss.png could not be drawn"):
                plot_training(self._workdir / "loss.png", read_metrics(self._workdir))
            self._opened.close()

    def _scalars(self, step: int, values: Mapping[str, float | np.number]) -> None:
        with _named(self._workdir / "tensorboard"):
            self._tensorboard.scalars(step, values)
        for name, logger in self._loggers.items():
            with _failure_as_warning(f"{name}: the figures of step {step} could not be logged"):
                logger.scalars(step, values)

    def _record(self, record: Mapping[str, Any]) -> None:
        record = {**record, "time": now()}
        with _named(self._metrics_path):
            self._metrics.write(
                json.dumps({key: _plain(value) for key, value in record.items()}, allow_nan=False) + "\n"
            )
            self._metrics.flush()


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    """Adds the file's name to disk errors; those of files that are already open lack it."""
    try:
        yield
    except OSError as error:
        raise OSError(
            error.errno, f"{error.strerror} (fix this and run the same command again to resume)", str(path)
        ) from error


@contextlib.contextmanager
def _failure_as_warning(what: str) -> Iterator[None]:
    """Logs a warning, instead of stopping the training, if a picture cannot be drawn or a service fails."""
    try:
        yield
    except Exception as error:
        _logger.warning("%s: %s: %s", what, type(error).__name__, error)


class _TimeLeft:
    """Estimates the time until the last step, including validations and checkpoints, from the steps so far."""

    def __init__(self, total_steps: int, step: int):
        self._total_steps = total_steps
        # The first estimate includes compilation. Later estimates count from the first record on.
        self._from: tuple[int, float] = (step, time.monotonic())
        self._first = True

    def after(self, step: int) -> datetime.timedelta:
        """The time from now until the last step, if `step` steps are done."""
        began, since = self._from
        clock = time.monotonic()
        seconds = (clock - since) / max(step - began, 1) * (self._total_steps - step)
        if self._first:
            self._from, self._first = (step, clock), False
        return datetime.timedelta(seconds=round(seconds))


def _drop_later_records(workdir: Path, last_steps: Mapping[str, int]) -> int:
    """Drops records after the last step of their kind, and counts them. An incomplete last line is also dropped."""
    path = workdir / RECORDS_FILE
    records = read_metrics(workdir)
    kept = [record for record in records if record["step"] <= last_steps[record["kind"]]]
    write_atomically(path, "".join(json.dumps(record) + "\n" for record in kept).encode())
    return len(records) - len(kept)


def _plain(value: Any) -> Any:
    """A JSON-compatible value: NumPy numbers as Python numbers, None for values that are not finite."""
    if isinstance(value, bool | int | str):
        return value
    return float(value) if math.isfinite(value) else None


def _formatted(name: str, value: float | np.floating) -> str:
    quantity = name.removesuffix("_db")
    return f"{_NAMES.get(quantity, quantity)} {value:.2f}{' dB' if quantity != name else ''}"
