"""Audio in and out: read, down-mix, resample, write."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import soundfile
import soxr
from jaxtyping import Float

PCM_BITS = {"PCM_16": 16, "PCM_24": 24, "PCM_32": 32}
SUBTYPES = (*PCM_BITS, "FLOAT")


def read_audio(path: str | os.PathLike[str]) -> tuple[Float[np.ndarray, "channels t"], int]:
    """Reads a whole audio file (WAV, FLAC, Ogg, MP3 and whatever else libsndfile knows).

    Args:
        path: the file.

    Returns:
        The waveform, float32, integer formats scaled to within +-1, and the sample rate in Hz.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is a folder, is empty, is no audio, is damaged, or holds NaN or infinity.
    """
    path = Path(path)
    if path.is_dir():
        raise ValueError(f"{path}: is a folder; name one audio file in it")
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file; check the path")
    if path.stat().st_size == 0:
        raise ValueError(f"{path}: is empty (0 bytes); record or copy it again")
    try:
        frames, sample_rate = soundfile.read(path, dtype="float32", always_2d=True)
    except soundfile.LibsndfileError as error:
        reason = error.error_string.strip().rstrip(".")
        raise ValueError(f"{path}: cannot be read as audio ({reason}); convert it to WAV or FLAC") from error
    if len(frames) == 0:
        raise ValueError(f"{path}: holds no audio (0 samples at {sample_rate} Hz); record or copy it again")
    broken = ~np.isfinite(frames).all(axis=1)
    if broken.any():
        raise ValueError(
            f"{path}: holds NaN or infinity in {broken.sum()} of {len(frames)} samples, first at sample "
            f"{broken.argmax()}; write it again from a clean source"
        )
    return np.ascontiguousarray(frames.T), sample_rate


def to_mono(waveform: Float[np.ndarray, "channels t"]) -> Float[np.ndarray, " t"]:
    """The mean of the channels."""
    return waveform.mean(axis=0)


def resample(waveform: Float[np.ndarray, "*c t"], from_rate: int, to_rate: int) -> Float[np.ndarray, "*c u"]:
    """Resamples the last axis with a linear-phase filter (soxr, very high quality), without delay.

    Args:
        waveform: (t,) or (channels, t), float32 or float64, which is kept.
        from_rate: its sample rate in Hz.
        to_rate: the wanted sample rate in Hz.

    Returns:
        The resampled waveform, exactly round(t * to_rate / from_rate) samples long (halves round up).

    Raises:
        ValueError: a rate is not a positive whole number.
    """
    check_sample_rate(from_rate)
    check_sample_rate(to_rate)
    if from_rate == to_rate:
        return waveform
    length = (2 * waveform.shape[-1] * to_rate + from_rate) // (2 * from_rate)
    return fit_length(soxr.resample(waveform.T, from_rate, to_rate, quality="VHQ").T, length)


def fit_length(waveform: Float[np.ndarray, "*c t"], length: int) -> Float[np.ndarray, "*c u"]:
    """Cuts the end of the last axis, or pads it with zeros, to `length` samples."""
    missing = max(length - waveform.shape[-1], 0)
    padding = [(0, 0)] * (waveform.ndim - 1) + [(0, missing)]
    return np.pad(waveform[..., :length], padding)


def write_audio(
    path: str | os.PathLike[str], waveform: Float[np.ndarray, "*c t"], sample_rate: int, subtype: str = "PCM_16"
) -> None:
    """Writes an audio file, in the format that its suffix names; a reader never sees half of it.

    Args:
        path: the file, in a folder that exists; it is replaced if it is there.
        waveform: (t,) or (channels, t).
        sample_rate: in Hz.
        subtype: PCM_16, PCM_24, PCM_32 (within +-1) or FLOAT (any level).

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: the suffix or the subtype is unknown, the two do not go together, the waveform holds NaN or
            infinity, or it goes beyond +-1 and the subtype would clip it.
    """
    path, waveform = Path(path), np.asarray(waveform)
    audio_format = path.suffix.lstrip(".").upper()
    if subtype not in SUBTYPES:
        raise ValueError(f"subtype {subtype!r} is unknown; choose one of {', '.join(SUBTYPES)}")
    if audio_format not in soundfile.available_formats() or not soundfile.check_format(audio_format, subtype):
        raise ValueError(f"{path}: cannot hold {subtype}; end its name in .wav, or in .flac for PCM_16 and PCM_24")
    check_sample_rate(sample_rate)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path}: not written, there is no folder {path.parent}; make it first")
    peak = np.abs(waveform).max(initial=0.0)
    if not np.isfinite(peak):
        raise ValueError(f"{path}: not written, the waveform holds NaN or infinity")
    if subtype in PCM_BITS and peak > 1.0:
        raise ValueError(f"{path}: not written, {subtype} would clip a peak of {peak:.3g}; scale it, or use FLOAT")
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        samples = _quantise(waveform, PCM_BITS[subtype]) if subtype in PCM_BITS else waveform
        soundfile.write(unfinished, samples.T, int(sample_rate), subtype=subtype, format=audio_format)
        os.replace(unfinished, path)
    except soundfile.LibsndfileError as error:
        raise ValueError(f"{path}: cannot be written ({error.error_string.strip()}); check the folder") from error
    finally:
        unfinished.unlink(missing_ok=True)


def _quantise(waveform: np.ndarray, bits: int) -> np.ndarray:
    """Rounds to the nearest step of `bits`-bit PCM, as int32; libsndfile by itself rounds down in WAV."""
    steps = 2.0 ** (bits - 1)
    levels = np.clip(np.rint(waveform.astype(np.float64) * steps), -steps, steps - 1)
    return (levels * 2.0 ** (32 - bits)).astype(np.int32)


def check_sample_rate(sample_rate: int) -> None:
    """Raises a ValueError unless `sample_rate` is a positive whole number."""
    if isinstance(sample_rate, bool) or not isinstance(sample_rate, int | np.integer) or sample_rate <= 0:
        raise ValueError(f"sample rate {sample_rate!r} is not allowed: must be a positive whole number of Hz")
