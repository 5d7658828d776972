"""Separate an audio file into audio files, block by block: its length does not matter to memory."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mossformer_jax.audio.streams import PCM_BITS, AudioReader, AudioWriter
from mossformer_jax.separation.levels import SAFE_PEAK
from mossformer_jax.separation.mixture import BLOCK, Mixture
from mossformer_jax.separation.recording import Boundary
from mossformer_jax.separation.separator import Separator, Timings


@dataclass(frozen=True)
class SeparatedFile:
    """What was written.

    Attributes:
        paths: one file a source.
        sample_rate: in Hz.
        duration: of each file, in seconds.
        gain: factor on all of the sources, below 1 where the subtype would have clipped them.
        boundaries: where windows of a long recording meet; empty for one pass.
        warnings: what a listener should know, one line each.
        timings: what the separation took, reading and writing included.
    """

    paths: list[Path]
    sample_rate: int
    duration: float
    gain: float
    boundaries: tuple[Boundary, ...]
    warnings: tuple[str, ...]
    timings: Timings


def separate_file(
    separator: Separator,
    path: str | os.PathLike[str],
    outputs: Sequence[str | os.PathLike[str]] | None = None,
    *,
    subtype: str = "PCM_16",
    scale: str = "mixture",
    mixture_consistency: bool = False,
    channels: str = "mix",
    progress: Callable[[float], None] | None = None,
) -> SeparatedFile:
    """Separates a recording of any length into one file a source.

    The files appear under their names once all of them are complete. Where an integer subtype would clip one of them,
    all are turned down by one gain.

    Args:
        separator: the model to use.
        path: the recording.
        outputs: one .wav or .flac file a source, in folders that are made if need be; None writes NAME_s1.wav,
            NAME_s2.wav, ... beside the recording.
        subtype: sample format of the files, PCM_16, PCM_24, PCM_32 or FLOAT.
        scale: level of the sources, as in `Separator.__call__`.
        mixture_consistency: as there.
        channels: as there.
        progress: told how many seconds of audio have been separated since it was last told.

    Returns:
        The paths and figures.

    Raises:
        FileNotFoundError, ValueError: the recording cannot be read or separated, or the sources cannot be written.
    """
    start = time.perf_counter()
    path, num_sources = Path(path), separator.config.num_sources
    if outputs is None:
        outputs = [path.with_name(f"{path.stem}_s{number}.wav") for number in range(1, num_sources + 1)]
    paths = [Path(output) for output in outputs]
    if len(paths) != num_sources:
        raise ValueError(f"{path}: {len(paths)} output files are named, but the model gives {num_sources} sources")
    for folder in {output.parent for output in paths}:
        if folder.exists() and not folder.is_dir():
            raise ValueError(f"{folder}: is a file; name a folder for the sources")
    with AudioReader(path) as reader:
        try:
            recording = separator.recording(
                reader.blocks(BLOCK), reader.sample_rate, scale, mixture_consistency, channels
            )
        except ValueError as error:
            # The reader's own errors name the file.
            raise error if str(error).startswith(f"{path}: ") else ValueError(f"{path}: {error}") from error
        warnings = [] if reader.warning is None else [reader.warning.removeprefix(f"{path}: ")]
    # The files are opened before the work, so that what stands in their way shows at once.
    with _opened(paths, recording.mixture, subtype) as writers:
        ((recording, compile_seconds),) = separator.separate([recording], progress)
        gain = SAFE_PEAK / recording.peak if subtype in PCM_BITS and recording.peak > 1.0 else 1.0
        for sources_cku in recording.sources():
            for writer, source_ku in zip(writers, sources_cku * np.float32(gain), strict=True):
                writer.write(source_ku)
        for writer in writers:
            writer.close()
    return SeparatedFile(
        paths,
        recording.mixture.sample_rate,
        recording.mixture.duration,
        gain,
        recording.boundaries,
        (*warnings, *recording.warnings()),
        Timings(compile_seconds, time.perf_counter() - start - compile_seconds),
    )


@contextmanager
def _opened(paths: Sequence[Path], mixture: Mixture, subtype: str) -> Iterator[list[AudioWriter]]:
    """One writer a source; their files get their names at the end, or none of them does."""
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
                folder.rmdir()  # only what was made here, and is empty
        raise
