"""Separates an audio file into audio files, block by block, in memory that does not grow with its length."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from mossformer_jax.audio.errors import AudioError
from mossformer_jax.audio.streams import PCM_BITS, AudioReader, AudioWriter
from mossformer_jax.separation.levels import SAFE_PEAK
from mossformer_jax.separation.options import OutputOptions
from mossformer_jax.separation.recording import Boundary
from mossformer_jax.separation.resampled import BLOCK, ResampledRecording
from mossformer_jax.separation.separator import Separator, Timings

# Sample formats of recordings with more than 16 bits.
_24_BIT = ("PCM_24", "ALAC_20", "ALAC_24", "DWVW_24")
_FLOATING = ("PCM_32", "FLOAT", "DOUBLE", "ALAC_32")
# A source with a lower peak, in quantisation steps, is audibly distorted.
_FEWEST_STEPS = 10


@dataclass(frozen=True)
class SeparatedFile:
    """The files that were written.

    Attributes:
        paths: one file per source.
        sample_rate: in Hz.
        duration: of each file, in seconds.
        gain: factor on all sources, below 1 if the subtype would have clipped them.
        boundaries: where the windows of a long recording meet; empty if it was separated in one pass.
        warnings: possible problems of the separation, one line each.
        timings: run time, including reading and writing.
        subtype: sample format of the files.
    """

    paths: list[Path]
    sample_rate: int
    duration: float
    gain: float
    boundaries: tuple[Boundary, ...]
    warnings: tuple[str, ...]
    timings: Timings
    subtype: str = "PCM_16"


def separate_file(
    separator: Separator,
    path: str | os.PathLike[str],
    outputs: Sequence[str | os.PathLike[str]] | None = None,
    options: OutputOptions = OutputOptions(),
    *,
    progress: Callable[[float], None] | None = None,
    track: int = 1,
) -> SeparatedFile:
    """Separates a recording of any length into one file per source.

    The files get their names only when all of them are complete. If an integer subtype would clip one of them, all are
    scaled down by the same gain.

    Args:
        separator: the model to use.
        path: the recording.
        outputs: one .wav or .flac file per source; missing folders are created. None writes NAME_s1.wav,
            NAME_s2.wav, ... next to the recording.
        options: level, channels and sample format of the sources.
        progress: called with the seconds of audio separated since its last call.
        track: number of the audio track of a video, from 1.

    Returns:
        The paths and figures.

    Raises:
        FileNotFoundError, ValueError: the recording cannot be read or separated, or the sources cannot be written.
    """
    start = time.perf_counter()
    path, num_sources = Path(path), separator.config.num_sources
    if outputs is None:
        outputs = [path.with_name(f"{path.stem}_s{number}.{options.format}") for number in range(1, num_sources + 1)]
    paths = [Path(output) for output in outputs]
    if len(paths) != num_sources:
        raise ValueError(f"{path}: {len(paths)} output files are named, but the model has {num_sources} sources")
    for folder in {output.parent for output in paths}:
        if folder.exists() and not folder.is_dir():
            raise ValueError(f"{folder}: is a file; name a folder for the sources")
    with AudioReader(path, track) as reader:
        subtype = options.subtype or own_subtype(reader.subtype, paths)
        try:
            recording = separator.recording(reader.blocks(BLOCK), reader.sample_rate, options)
        except ValueError as error:
            # The reader's own errors name the file.
            if str(error).startswith(f"{path}: "):
                raise
            message = f"{path}: {error}"
            raise (error.renamed(message) if isinstance(error, AudioError) else ValueError(message)) from error
        warnings = [] if reader.warning is None else [reader.warning.removeprefix(f"{path}: ")]
    # Open the files before separating, so that they fail early if they cannot be written.
    with _opened(paths, recording.mixture, subtype) as writers:
        ((recording, compile_seconds),) = separator.separate([recording], progress)
        gain = SAFE_PEAK / recording.peak if subtype in PCM_BITS and recording.peak > 1.0 else 1.0
        for sources_cku in recording.sources():
            for writer, source_ku in zip(writers, sources_cku * np.float32(gain), strict=True):
                writer.write(source_ku)
        for writer in writers:
            writer.close()
        # If the process is killed before all files have their names, some are missing; no file is of an earlier run.
        for output in paths:
            output.unlink(missing_ok=True)
    return SeparatedFile(
        paths,
        recording.mixture.sample_rate,
        recording.mixture.duration,
        gain,
        recording.boundaries,
        (*warnings, *recording.warnings(), *_coarse(recording.peaks * gain, subtype)),
        Timings(compile_seconds, time.perf_counter() - start - compile_seconds),
        subtype,
    )


def own_subtype(subtype: str, outputs: Sequence[Path]) -> str:
    """The sample format that keeps the depth of a recording, as libsndfile names its format.

    Args:
        subtype: of the recording.
        outputs: the files to write; FLAC does not support FLOAT.
    """
    if subtype in _FLOATING and not any(output.suffix.lower() == ".flac" for output in outputs):
        return "FLOAT"
    return "PCM_24" if subtype in (*_FLOATING, *_24_BIT) else "PCM_16"


def _coarse(peaks: Float[np.ndarray, " c"], subtype: str) -> Iterator[str]:
    """Warns of sources that are so quiet that rounding to integers leaves a few steps of them."""
    if subtype not in PCM_BITS:
        return
    for number, steps in enumerate(peaks * 2.0 ** (PCM_BITS[subtype] - 1), start=1):
        if 0 < steps < _FEWEST_STEPS:
            yield (
                f"source {number} is so quiet that its peak is {steps:.1f} steps of {subtype}; rounding distorts it: "
                "write FLOAT or PCM_24 (--subtype), or raise its level (--scale peak)"
            )


@contextmanager
def _opened(paths: Sequence[Path], mixture: ResampledRecording, subtype: str) -> Iterator[list[AudioWriter]]:
    """One writer per source. All files get their names at the end, or no file does."""
    made = [folder for output in paths for folder in (output.parent, *output.parents) if not folder.exists()]
    try:
        with ExitStack() as stack:
            for output in paths:
                output.parent.mkdir(parents=True, exist_ok=True)
            yield [
                stack.enter_context(
                    AudioWriter(output, mixture.sample_rate, subtype, mixture.num_channels, mixture.duration_samples)
                )
                for output in paths
            ]
    except BaseException:
        for folder in sorted(set(made), key=lambda folder: -len(folder.parts)):
            with suppress(OSError):
                folder.rmdir()  # only empty folders that were created here
        raise
