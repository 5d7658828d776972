"""Processes one recording of a run: downloads, separates and plots it, and catches its errors."""

from __future__ import annotations

import argparse
import shutil
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from mossformer_jax.audio.errors import AudioError
from mossformer_jax.audio.streams import read_header
from mossformer_jax.cli.claims import claimed
from mossformer_jax.cli.devices import prepare_jax
from mossformer_jax.cli.download import download, is_url, without_password
from mossformer_jax.cli.failures import DISK_FULL, error_class
from mossformer_jax.cli.jobs import Job
from mossformer_jax.cli.ledger import Ledger, open_ledger, stamp, verdict_on
from mossformer_jax.cli.progress import ProgressBar
from mossformer_jax.cli.results import Result
from mossformer_jax.cli.separate_options import load_separator, output_options
from mossformer_jax.cli.terminal import PROGRAM, one_line
from mossformer_jax.figures.spectrograms import plot_separation
from mossformer_jax.separation import OutputOptions, SeparatedFile, Separator, separate_file

# A disk with less free space than this counts as full, for any recording.
MIN_FREE_BYTES = 2**24


@dataclass(frozen=True)
class Attempts:
    """Separates recordings, one by one.

    Attributes:
        separator: the model.
        output: options of the sources.
        options: those of `mossformer-jax separate`.
        bar: the progress bar to update.
        ledger: where outcomes are recorded, or None.
        stopping: set to interrupt the attempts in other threads.
    """

    separator: Separator
    output: OutputOptions
    options: argparse.Namespace
    bar: ProgressBar
    ledger: Ledger | None = None
    stopping: threading.Event = field(default_factory=threading.Event)

    def __call__(self, job: Job, attempts: int = 1) -> Result:
        """Separates one recording, unless another process is separating it or has done so.

        Args:
            job: the recording and its files.
            attempts: number of attempts in this run, including this one.

        Returns:
            The outcome. Errors caused by the recording, a server or the machine are returned in it, not raised.
        """
        try:
            with claimed(job) as claim:
                if claim is None:
                    return Result(job, "skipped", warnings=("another process is separating it",), elsewhere=True)
                if self.ledger is not None:
                    self.ledger.refresh()
                verdict = verdict_on(job, self.ledger, overwrite=self.options.overwrite)
                known = self.ledger is not None and self.ledger.has_done(job)
                if verdict.result is not None and (known or not claim.was_interrupted):
                    result = verdict.result
                else:
                    may_replace = verdict.may_replace or claim.was_interrupted or self.options.overwrite
                    result = self._attempt(job, may_replace, claim.will_write)
                if self.ledger is not None:
                    self.ledger.add(result, attempts)
                return result
        except OSError as error:  # the claim or the line in the ledger could not be written
            return _failed(error, job)
        finally:
            self.bar.end(job)

    def _progress(self, seconds: float) -> None:
        if self.stopping.is_set():
            raise KeyboardInterrupt
        self.bar.advance(seconds)

    def _attempt(self, job: Job, may_replace: bool, will_write: Callable[[], None]) -> Result:
        found = stamp(job.input)
        try:
            if not is_url(job.input):
                separated = self._separate(job, job.input, may_replace, will_write)
            else:
                with tempfile.TemporaryDirectory(prefix=f"{PROGRAM}-") as folder:
                    path = download(job.input, Path(folder), max_bytes=int(self.options.max_download * 2**20))
                    try:
                        separated = self._separate(job, str(path), may_replace, will_write)
                    except ValueError as error:
                        # Name the URL that the user gave, not the temporary file.
                        message = str(error).replace(str(path), without_password(job.input))
                        kind = type(error) if isinstance(error, AudioError) else ValueError
                        raise kind(message) from error
        # RuntimeError: JAX raises it when memory runs out.
        except (ValueError, OSError, RuntimeError, MemoryError) as error:
            return replace(_failed(error, job), stamp=found)
        if separated is None:
            return Result(job, "done", stamp=found)
        warnings = tuple(one_line(warning) for warning in separated.warnings)
        if separated.gain < 1.0:
            warnings += (
                f"{separated.subtype} would have clipped; all sources were scaled by {separated.gain:.3g} "
                "(--subtype FLOAT keeps the level)",
            )
        return Result(job, "done", separated, warnings, stamp=found)

    def _separate(self, job: Job, path: str, may_replace: bool, will_write: Callable[[], None]) -> SeparatedFile | None:
        """Separates into files; returns None if the sources already existed and only the plot was missing."""
        self.bar.begin(job, path)
        if not may_replace:
            if job.plot is not None and job.lacks_only_the_plot():
                plot_separation(job.plot, path, job.outputs, self.options.track)
                return None
            job.check_nothing_is_replaced()
        will_write()
        if job.plot is not None:
            job.plot.unlink(missing_ok=True)  # the plot of earlier sources
        separated = separate_file(
            self.separator, path, job.outputs, self.output, progress=self._progress, track=self.options.track
        )
        if job.plot is not None:
            plot_separation(job.plot, path, job.outputs, self.options.track)
        return separated


def load_attempts(options: argparse.Namespace) -> Attempts:
    """Loads the model in a worker process, which has no progress bar of its own.

    Args:
        options: those of `mossformer-jax separate`.

    Raises:
        ValueError, OSError, RuntimeError: the model or the device cannot be used.
    """
    prepare_jax(options)
    separator = load_separator(options)
    bar = ProgressBar([], shown=False)
    return Attempts(separator, output_options(options), options, bar, open_ledger(options))


def _failed(error: Exception, job: Job) -> Result:
    kind = "disk_full" if _is_disk_full(error, job) else error_class(error, job.input)
    return Result(job, "failed", error=_reason(error, job), concerns_all=kind == "disk_full", error_class=kind)


def _reason(error: Exception, job: Job) -> str:
    reason, name = one_line(error), one_line(without_password(job.input))
    if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in reason:
        reason = f"out of memory ({reason}); use a smaller --memory or --window"
    return reason if reason.startswith(name) else f"{name}: {reason}"


def _is_disk_full(error: Exception, job: Job) -> bool:
    """Whether the disk is too full for the sources. libsndfile does not report it, so the free space is checked."""
    if getattr(error, "errno", None) in DISK_FULL:
        return True
    if "cannot be written" not in str(error):
        return False
    needed = MIN_FREE_BYTES
    if header := read_header(job.input):
        needed = max(needed, header.num_samples * header.num_channels * len(job.outputs) * 4)
    folder = next(folder for folder in job.outputs[0].absolute().parents if folder.exists())
    return shutil.disk_usage(folder).free < needed
