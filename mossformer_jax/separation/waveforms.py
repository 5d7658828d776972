"""The waveforms that can be separated: arrays of several types, and files."""

from __future__ import annotations

from typing import cast

import numpy as np
from jaxtyping import Float

from mossformer_jax.audio.files import read_audio
from mossformer_jax.audio.sources import AudioSource, is_audio_source

FULL_SCALE_INT16 = 32768.0
# 60 dB over full scale: most likely integer samples in a floating-point array.
MAX_PEAK = 1000.0
# For error messages: how to convert other integer samples to floating point within +-1.
_DIVISORS = {
    np.dtype(np.int32): "waveform / 2**31",
    np.dtype(np.uint8): "waveform / 128.0 - 1",
    np.dtype(np.int8): "waveform / 128",
}


def with_rate(waveform: np.ndarray | AudioSource, sample_rate: int | None) -> tuple[np.ndarray, int]:
    """The waveform and its sample rate; files are read.

    Raises:
        FileNotFoundError, PermissionError: the file is missing or cannot be opened.
        ValueError: the rate is missing or is not that of the file, or the file cannot be read as audio.
    """
    if is_audio_source(waveform):
        array, own_rate = read_audio(waveform)
        if sample_rate not in (None, own_rate):
            raise ValueError(f"the file has a sample rate of {own_rate} Hz, not {sample_rate}; omit sample_rate")
        return array, own_rate
    if sample_rate is None and isinstance(waveform, tuple):
        raise ValueError(
            "waveform is a tuple; give the waveform and its sample rate, for example: "
            "separator(*mossformer_jax.audio.read_audio(path)), or separator(path)"
        )
    if sample_rate is None:
        raise ValueError("sample_rate is missing; give it in Hz after the waveform: separator(waveform, 16000)")
    return cast(np.ndarray, waveform), sample_rate


def as_channels(waveform: np.ndarray) -> Float[np.ndarray, "channels t"]:
    """Converts a waveform to (channels, t) in float32.

    Raises:
        ValueError: its shape, dtype or content cannot be separated.
    """
    if is_audio_source(waveform):
        raise ValueError(
            "waveform is a file, not an array; read it first: waveform, sample_rate = "
            "mossformer_jax.audio.read_audio(path)"
        )
    waveform = np.asarray(waveform)
    if waveform.dtype in _DIVISORS:
        raise ValueError(
            f"waveform has dtype {waveform.dtype}, but must be floating point within about +-1, or int16; give "
            f"{_DIVISORS[waveform.dtype]}"
        )
    if waveform.dtype != np.int16 and not np.issubdtype(waveform.dtype, np.floating):
        raise ValueError(f"waveform has dtype {waveform.dtype}, but must be floating point within about +-1, or int16")
    if waveform.ndim not in (1, 2) or waveform.size == 0:
        raise ValueError(f"waveform has shape {waveform.shape}, but must be (t,) or (channels, t) and not empty")
    channels = np.atleast_2d(waveform)
    if len(channels) > channels.shape[1]:
        raise ValueError(f"waveform has shape {waveform.shape}, but must be (channels, t): transpose it")
    if waveform.dtype == np.int16:
        return channels / np.float32(FULL_SCALE_INT16)
    with np.errstate(over="ignore"):
        channels = channels.astype(np.float32)
    broken = ~np.isfinite(channels).all(axis=0)
    if broken.any():
        raise ValueError(
            f"waveform holds NaN or infinity in {broken.sum()} of {broken.size} samples, first at sample "
            f"{broken.argmax()}; repair or remove them first"
        )
    peak = np.abs(channels).max()
    if peak > MAX_PEAK:
        raise ValueError(
            f"waveform has a peak of {peak:.4g}, but must be within about +-1; divide it by its full scale"
        )
    return channels
