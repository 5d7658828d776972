"""Processes one recording of a run: downloads, separates and plots it, and catches its errors."""

from __future__ import annotations

import argparse
import errno
import shutil
import tempfile
from pathlib import Path

from mossformer_jax.audio.streams import read_header
from mossformer_jax.cli.download import download, is_url, without_password
from mossformer_jax.cli.jobs import Job
from mossformer_jax.cli.progress import ProgressBar
from mossformer_jax.cli.results import Result
from mossformer_jax.cli.terminal import PROGRAM, one_line
from mossformer_jax.figures.spectrograms import plot_separation
from mossformer_jax.separation import OutputOptions, SeparatedFile, Separator, separate_file

DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
# A disk with less free space than this counts as full, for any recording.
MIN_FREE_BYTES = 2**24


def attempt(
    job: Job, separator: Separator, output: OutputOptions, options: argparse.Namespace, bar: ProgressBar
) -> Result:
    """Separates one recording as the options ask.

    Args:
        job: the recording and its files.
        separator: the model.
        output: options of the sources.
        options: those of `mossformer-jax separate`.
        bar: the progress bar to update.

    Returns:
        The outcome. Errors caused by the recording, a server or the machine are returned in it, not raised.
    """
    if not options.overwrite and job.is_done():
        return Result(job, "skipped")  # another run has written it since this one was planned
    try:
        if not is_url(job.input):
            separated = _separate(job, job.input, separator, output, bar, overwrite=options.overwrite)
        else:
            with tempfile.TemporaryDirectory(prefix=f"{PROGRAM}-") as folder:
                path = download(job.input, Path(folder), max_bytes=int(options.max_download * 2**20))
                try:
                    separated = _separate(job, str(path), separator, output, bar, overwrite=options.overwrite)
                except ValueError as error:
                    # Name the URL that the user gave, not the temporary file.
                    raise ValueError(str(error).replace(str(path), without_password(job.input))) from error
    # RuntimeError: JAX raises it when memory runs out.
    except (ValueError, OSError, RuntimeError, MemoryError) as error:
        return Result(job, "failed", error=_reason(error, job), concerns_all=_is_disk_full(error, job))
    finally:
        bar.end(job)
    if separated is None:
        return Result(job, "done")
    warnings = tuple(one_line(warning) for warning in separated.warnings)
    if separated.gain < 1.0:
        warnings += (
            f"{separated.subtype} would have clipped; all sources were scaled by {separated.gain:.3g} "
            "(--subtype FLOAT keeps the level)",
        )
    return Result(job, "done", separated, warnings)


def _separate(
    job: Job, path: str, separator: Separator, output: OutputOptions, bar: ProgressBar, *, overwrite: bool
) -> SeparatedFile | None:
    """Separates into files; returns None if the sources already existed and only the plot was missing."""
    bar.begin(job, path)
    if not overwrite:
        if job.plot is not None and job.lacks_only_the_plot():
            plot_separation(job.plot, path, job.outputs)
            return None
        job.check_nothing_is_replaced()
    separated = separate_file(separator, path, job.outputs, output, progress=bar.advance)
    if job.plot is not None:
        plot_separation(job.plot, path, job.outputs)
    return separated


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
