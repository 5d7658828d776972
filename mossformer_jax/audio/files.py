"""Reading, down-mixing and writing whole recordings."""

from __future__ import annotations

import os

import numpy as np
from jaxtyping import Float

from mossformer_jax.audio.resampling import check_sample_rate, fit_length, resample
from mossformer_jax.audio.sources import AudioSource
from mossformer_jax.audio.streams import PCM_BITS, SUBTYPES, AudioReader, AudioWriter

__all__ = [
    "AUDIO_SUFFIXES",
    "PCM_BITS",
    "SUBTYPES",
    "check_sample_rate",
    "fit_length",
    "read_audio",
    "resample",
    "to_mono",
    "write_audio",
]

# Suffixes of the formats that libsndfile reads, except raw samples, which have no header.
# fmt: off
AUDIO_SUFFIXES = (
    ".wav", ".flac", ".ogg", ".opus", ".mp3", ".aiff", ".aif", ".aifc", ".au", ".avr", ".bwf", ".caf", ".ircam",
    ".nist", ".oga", ".rf64", ".sf", ".snd", ".sph", ".voc", ".w64", ".wave",
)
# fmt: on
_BLOCK_SAMPLES = 2**20


def read_audio(source: AudioSource) -> tuple[Float[np.ndarray, "channels t"], int]:
    """Reads a whole audio file (WAV, FLAC, Ogg, MP3 and the other formats of libsndfile).

    Args:
        source: a path, the content of a file (bytes), or an open binary file (such as `io.BytesIO`).

    Returns:
        The waveform (channels, t), float32, with integer formats scaled to +-1; and the sample rate in Hz.

    Raises:
        FileNotFoundError: there is no such file.
        PermissionError: read access is denied.
        ValueError: the file is a folder, is empty, is not audio, is damaged, or contains NaN or infinity.
    """
    with AudioReader(source) as reader:
        return np.concatenate(list(reader.blocks(_BLOCK_SAMPLES)), axis=1), reader.sample_rate


def to_mono(waveform: Float[np.ndarray, "channels t"]) -> Float[np.ndarray, " t"]:
    """The mean of the channels, (t,)."""
    return waveform.mean(axis=0)


def write_audio(
    path: str | os.PathLike[str], waveform: Float[np.ndarray, "*c t"], sample_rate: int, subtype: str = "PCM_16"
) -> None:
    """Writes an audio file atomically, in the format given by its suffix.

    Args:
        path: the file, ending in .wav or .flac, in an existing folder; an existing file is replaced.
        waveform: (t,) or (channels, t).
        sample_rate: in Hz.
        subtype: PCM_16, PCM_24, PCM_32 (within +-1) or FLOAT (any level).

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: the suffix or the subtype is unknown, the format does not support the subtype, the waveform contains
            NaN or infinity, or it exceeds +-1 and the subtype would clip it.
    """
    waveform = np.atleast_2d(waveform)
    with AudioWriter(path, sample_rate, subtype, len(waveform), waveform.shape[-1]) as writer:
        writer.write(waveform)
