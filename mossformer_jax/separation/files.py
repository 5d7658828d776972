"""Separate an audio file into audio files."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mossformer_jax.data.audio import PCM_BITS, read_audio, write_audio
from mossformer_jax.separation.separator import Separator, Timings

SAFE_PEAK = 0.99


@dataclass(frozen=True)
class SeparatedFile:
    """What was written.

    Attributes:
        paths: one file a source.
        sample_rate: in Hz.
        duration: of each file, in seconds.
        gain: factor on all of the sources, below 1 where the subtype would have clipped them.
        timings: what the separation took.
    """

    paths: list[Path]
    sample_rate: int
    duration: float
    gain: float
    timings: Timings


def separate_file(
    separator: Separator,
    path: str | os.PathLike[str],
    folder: str | os.PathLike[str] | None = None,
    subtype: str = "PCM_16",
) -> SeparatedFile:
    """Separates NAME.* into NAME_s1.wav, NAME_s2.wav, ...

    The sources keep their levels in the mixture. Where one of them would clip, all are turned down by one gain.

    Args:
        separator: the model to use.
        path: the mixture.
        folder: where the sources go; it is made if need be. None puts them beside the mixture.
        subtype: sample format of the files, PCM_16, PCM_24, PCM_32 or FLOAT.

    Returns:
        The paths and figures.

    Raises:
        FileNotFoundError, ValueError: the mixture cannot be read or separated, or the sources cannot be written.
    """
    path = Path(path)
    folder = path.parent if folder is None else Path(folder)
    waveform, sample_rate = read_audio(path)
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder}: is a file; name a folder for the sources")
    try:
        separation = separator(waveform, sample_rate)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    peak = float(np.abs(separation.sources).max())
    gain = SAFE_PEAK / peak if subtype in PCM_BITS and peak > 1.0 else 1.0
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{path.stem}_s{number}.wav" for number in range(1, len(separation.sources) + 1)]
    for source_path, source in zip(paths, separation.sources, strict=True):
        write_audio(source_path, source * np.float32(gain), sample_rate, subtype)
    return SeparatedFile(paths, sample_rate, waveform.shape[1] / sample_rate, gain, separation.timings)
