"""Resampling of waveforms, whole or in blocks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import soxr
from jaxtyping import Float

# soxr crashes on enormous rates. The bound is far above audio rates, because a change of speed to N percent resamples
# from N times to 100 times the rate.
_LARGEST_RATE = 10**9
# Approximate limit on the samples per channel of a resampled block.
_LARGEST_BLOCK = 2**20


def resample(waveform: Float[np.ndarray, "*c t"], from_rate: int, to_rate: int) -> Float[np.ndarray, "*c u"]:
    """Resamples the last axis with a linear-phase filter (soxr, very high quality), without delay.

    Args:
        waveform: (t,) or (channels, t), float32 or float64; the dtype is kept.
        from_rate: its sample rate in Hz.
        to_rate: the desired sample rate in Hz.

    Returns:
        The resampled waveform, with exactly round(t * to_rate / from_rate) samples (halves are rounded up). If the
        rates are equal, it is `waveform` itself, not a copy.

    Raises:
        ValueError: a rate is not a positive whole number.
    """
    check_sample_rate(from_rate)
    check_sample_rate(to_rate)
    if from_rate == to_rate:
        return waveform
    length = resampled_length(waveform.shape[-1], from_rate, to_rate)
    return fit_length(soxr.resample(waveform.T, from_rate, to_rate, quality="VHQ").T, length)


def resample_blocks(
    blocks: Iterable[Float[np.ndarray, "channels _"]], from_rate: int, to_rate: int
) -> Iterator[Float[np.ndarray, "channels u"]]:
    """Resamples a waveform in blocks. Concatenated, the result equals `resample` of the whole waveform.

    Args:
        blocks: the waveform in blocks of any length, with the same number of channels and dtype (float32 or float64).
        from_rate: its sample rate in Hz.
        to_rate: the desired sample rate in Hz.

    Yields:
        Blocks of any length, in total exactly round(t * to_rate / from_rate) samples (halves are rounded up).

    Raises:
        ValueError: a rate is not a positive whole number.
    """
    check_sample_rate(from_rate)
    check_sample_rate(to_rate)
    if from_rate == to_rate:
        yield from blocks
        return
    num_read = num_yielded = 0
    stream = None
    for block in blocks:
        if stream is None:
            stream = soxr.ResampleStream(from_rate, to_rate, len(block), dtype=block.dtype, quality="VHQ")
            no_samples = np.zeros((0, len(block)), block.dtype)
        num_read += block.shape[1]
        step = max(_LARGEST_BLOCK * from_rate // to_rate, 1)
        for start in range(0, block.shape[1], step):
            resampled = stream.resample_chunk(np.ascontiguousarray(block[:, start : start + step].T)).T
            num_yielded += resampled.shape[1]
            if resampled.size:
                yield resampled
    if stream is None:
        return
    rest = stream.resample_chunk(no_samples, last=True).T
    rest = fit_length(rest, resampled_length(num_read, from_rate, to_rate) - num_yielded)
    if rest.size:
        yield rest


def resampled_length(num_samples: int, from_rate: int, to_rate: int) -> int:
    """The number of samples after resampling: round(num_samples * to_rate / from_rate), halves rounded up."""
    return (2 * num_samples * to_rate + from_rate) // (2 * from_rate)


def fit_length(waveform: Float[np.ndarray, "*c t"], length: int) -> Float[np.ndarray, "*c u"]:
    """Cuts or zero-pads the end of the last axis to `length` samples; a waveform that is long enough is not copied."""
    missing = length - waveform.shape[-1]
    if missing <= 0:
        return waveform[..., :length]
    return np.pad(waveform, [(0, 0)] * (waveform.ndim - 1) + [(0, missing)])


def check_sample_rate(sample_rate: int) -> None:
    """Raises a ValueError unless `sample_rate` is a positive whole number up to 10**9."""
    if isinstance(sample_rate, bool) or not isinstance(sample_rate, int | np.integer) or sample_rate <= 0:
        raise ValueError(f"sample rate {sample_rate!r} is not allowed: must be a positive whole number of Hz")
    if sample_rate > _LARGEST_RATE:
        raise ValueError(f"sample rate {sample_rate:.4g} is not allowed: must be at most {_LARGEST_RATE:,} Hz")
