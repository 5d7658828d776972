"""What a training leaves behind to read: log.txt, metrics.jsonl, TensorBoard's files and loss.png."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import math
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from mossformer_jax.figures.curves import METRICS_FILE, plot_training, read_metrics
from mossformer_jax.training.progress import LiveLine, is_live
from mossformer_jax.training.tensorboard import Example, TensorBoard

__all__ = ["Example", "Journal", "Progress"]

# Every warning of the package comes by here, with the records of this module.
_package = logging.getLogger("mossformer_jax")
_logger = logging.getLogger(__name__)
_NAMES = {"si_sdri": "SI-SDRi", "si_sdr": "SI-SDR"}


@dataclasses.dataclass(frozen=True)
class Progress:
    """How the steps since the last one went.

    Attributes:
        step: steps of the run so far.
        epoch: the same in epochs.
        loss: mean, in dB.
        learning_rate: mean.
        gradient_norm: mean of the global norm, before clipping.
        mixtures_per_second: over all devices.
        waiting_share: of the time, for data.
        skipped: steps skipped in the run so far.
    """

    step: int
    epoch: float
    loss: float
    learning_rate: float
    gradient_norm: float
    mixtures_per_second: float
    waiting_share: float
    skipped: int


class Journal:
    """log.txt, metrics.jsonl, TensorBoard, loss.png and the terminal's progress line of a run.

    All of it is on disk when a call returns; a killed process leaves files that can be read and gone on with. Warnings
    of the package go to log.txt and the terminal, too. On a full disk, calls raise an OSError that names the file.

    Args:
        workdir: the run's folder.
        total_steps: length of the run.
        step: where the run goes on. Records of later steps, of a process that was killed, are dropped from
            metrics.jsonl and TensorBoard: those steps are done again. log.txt keeps everything.
        terminal: whether a terminal shows a live line; otherwise, as where stdout is a pipe, it gets the lines of
            log.txt.
        validated_step: the last validation that is not done again; that of `step`, if None.
        si_sdri_db: SI-SDRi of that validation, where there is one.

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
    ):
        self._workdir = Path(workdir)
        self._workdir.mkdir(parents=True, exist_ok=True)
        self._metrics_path = self._workdir / METRICS_FILE
        self._total_steps = total_steps
        self._last_validation = "" if si_sdri_db is None else _said("si_sdri_db", si_sdri_db)
        goes_on = self._metrics_path.exists()
        last_steps = {"train": step, "validation": step if validated_step is None else validated_step}
        num_dropped = _drop_later_records(self._workdir, last_steps) if goes_on else 0
        with contextlib.ExitStack() as opened:
            self._metrics = opened.enter_context(self._metrics_path.open("a", encoding="utf-8"))
            self._tensorboard = TensorBoard(self._workdir / "tensorboard", step)
            opened.callback(self._tensorboard.close)
            self._line = LiveLine(total_steps, step) if terminal and is_live() else None
            if self._line is not None:
                opened.callback(self._line.close)
            opened.enter_context(_handlers(self._workdir / "log.txt", live=self._line is not None))
            self._opened = opened.pop_all()
        if goes_on:
            self.note(
                f"goes on at step {step}"
                + (f"; {num_dropped} records of later steps are dropped, those are done again" if num_dropped else "")
            )

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # What the run has to say comes before what a full disk makes of closing.
        with contextlib.nullcontext() if error is None else contextlib.suppress(OSError):
            self.close()

    def note(self, text: str) -> None:
        """Writes a line to log.txt, with date and time, and to the terminal."""
        _logger.info("%s", text)

    def progress(self, record: Progress) -> None:
        """Writes how training goes, everywhere."""
        figures = dataclasses.asdict(record)
        self._record({"kind": "train", **figures})
        step = figures.pop("step")
        with _named(self._workdir / "tensorboard"):
            self._tensorboard.scalars(step, {f"train/{name}": value for name, value in figures.items()})
        said = [
            f"loss {record.loss:.2f} dB",
            *filter(None, [self._last_validation]),
            f"lr {record.learning_rate:.2e}",
            f"gradient norm {record.gradient_norm:.2f}",
            f"{record.mixtures_per_second:.3g} mixtures/s",
            f"{record.waiting_share:.0%} waiting for data",
            f"{record.skipped} skipped",
        ]
        # A live line says the same: DEBUG is for log.txt alone then.
        _logger.debug("step %d/%d, epoch %.2f: %s", step, self._total_steps, record.epoch, ", ".join(said))
        if self._line is not None:
            self._line.update(step, "  ".join(said))

    def validated(
        self, step: int, figures: Mapping[str, float], *, best: bool, examples: Sequence[Example] = ()
    ) -> None:
        """Writes the outcome of a validation, everywhere.

        Args:
            step: steps of the run so far.
            figures: such as si_sdri_db, si_sdr_db, loss_db.
            best: whether it is the best one so far.
            examples: what TensorBoard shows and plays.
        """
        self._record({"kind": "validation", "step": step, "best": best, **figures})
        with _named(self._workdir / "tensorboard"):
            self._tensorboard.scalars(step, {f"validation/{name}": value for name, value in figures.items()})
        with _no_harm("the examples"):
            self._tensorboard.examples(step, examples)
        said = [_said(name, value) for name, value in figures.items()]
        self._last_validation = next((text for text in said if text.startswith("SI-SDRi")), "")
        self.note(f"validation at step {step}: {', '.join(said)}{' (the best so far)' if best else ''}")

    def close(self) -> None:
        """Draws loss.png and closes all files; a second time does nothing."""
        if not self._metrics.closed:
            with _no_harm("loss.png"):
                plot_training(self._workdir / "loss.png", read_metrics(self._workdir))
            self._opened.close()

    def _record(self, record: Mapping[str, Any]) -> None:
        with _named(self._metrics_path):
            self._metrics.write(
                json.dumps({key: _plain(value) for key, value in record.items()}, allow_nan=False) + "\n"
            )
            self._metrics.flush()


class _Formatter(logging.Formatter):
    """Date, time and message on one line; warnings are named so."""

    def format(self, record: logging.LogRecord) -> str:
        level = "warning: " if record.levelno >= logging.WARNING else ""
        return f"{self.formatTime(record, '%Y-%m-%d %H:%M:%S')} {level}{' '.join(record.getMessage().splitlines())}"


@contextlib.contextmanager
def _handlers(log_path: Path, *, live: bool) -> Iterator[None]:
    """Leads what the package logs to log.txt and to stdout alone."""
    if log_path.exists() and not log_path.read_bytes().endswith(b"\n"):
        with log_path.open("a", encoding="utf-8") as log:
            log.write("\n")
    terminal = logging.StreamHandler(sys.stdout)
    terminal.setLevel(logging.INFO if live else logging.DEBUG)
    handlers = (logging.FileHandler(log_path, encoding="utf-8"), terminal)
    propagate = _package.propagate
    # absl, which scripts use, writes what reaches the root logger to stderr: it would be said twice.
    _package.propagate = False
    _logger.setLevel(logging.DEBUG)
    for handler in handlers:
        handler.setFormatter(_Formatter())
        _package.addHandler(handler)
    try:
        yield
    finally:
        _package.propagate = propagate
        for handler in handlers:
            _package.removeHandler(handler)
            handler.close()


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    """Errors of the disk do not say by themselves which file they are about."""
    try:
        yield
    except OSError as error:
        raise OSError(
            error.errno, f"{error.strerror} (mend that and start the same command again)", str(path)
        ) from error


@contextlib.contextmanager
def _no_harm(picture: str) -> Iterator[None]:
    """A picture that cannot be drawn is a warning."""
    try:
        yield
    except Exception as error:
        _logger.warning("%s could not be drawn: %s: %s", picture, type(error).__name__, error)


def _drop_later_records(workdir: Path, last_steps: Mapping[str, int]) -> int:
    """Leaves whole records up to the last step of each kind; returns how many later ones there were."""
    path = workdir / METRICS_FILE
    records = read_metrics(workdir)
    kept = [record for record in records if record["step"] <= last_steps[record["kind"]]]
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with unfinished.open("w", encoding="utf-8") as lines:
            lines.writelines(json.dumps(record) + "\n" for record in kept)
            lines.flush()
            os.fsync(lines.fileno())
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
    return len(records) - len(kept)


def _plain(value: Any) -> Any:
    """As JSON knows it: numbers of numpy as Python's, None for what is not finite."""
    if isinstance(value, bool | int | str):
        return value
    return float(value) if math.isfinite(value) else None


def _said(name: str, value: float) -> str:
    quantity = name.removesuffix("_db")
    return f"{_NAMES.get(quantity, quantity)} {value:.2f}{' dB' if quantity != name else ''}"
