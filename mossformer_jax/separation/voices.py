"""Describes a talker by sums over the voiced frames: log-pitch and cepstra."""

from __future__ import annotations

import numpy as np
import scipy.fft
from jaxtyping import Float

FRAME_SECONDS = 0.04
HOP_SECONDS = 0.02
PITCH_HZ = (60, 400)
NUM_BANDS = 20
BANDS_HZ = (100.0, 3800.0)
NUM_CEPSTRA = 12
# A frame is used if the source is loud, periodic, and much louder than the other sources.
GATE_DB = -30.0
MIN_PERIODICITY = 0.5
MIN_DOMINANCE_DB = 6.0
# An octave of pitch must be worth this much periodicity: every multiple of a period is a period too.
OCTAVE_COST = 0.02
# From 213 speakers of English read speech at 8 kHz: variance of log-F0 and of the cepstra c1 to c12 between speakers,
# and from frame to frame of one speaker.
BETWEEN_SPEAKERS = np.array([0.07, 5.0, 1.4, 0.82, 0.63, 0.30, 0.26, 0.17, 0.20, 0.16, 0.15, 0.07, 0.06])
WITHIN_SPEAKER = np.array([0.95, 80.0, 94.0, 47.0, 26.0, 19.0, 13.0, 10.0, 7.6, 8.2, 7.8, 6.3, 6.0])
# A speaker's mean drifts over time, so frames beyond this number add little.
ENOUGH_FRAMES = 500
# The features are not independent, as the sum assumes; this factor calibrates the log-odds to the observed ones.
TEMPERATURE = 0.4
# Probability that a speaker does not sound like the same speaker at all.
ATYPICAL = 0.02


def voice_sums(
    sources: Float[np.ndarray, "c *channels t"], sample_rate: int, loudness: float
) -> Float[np.ndarray, "c k"]:
    """Computes the voice sums of each source. Sums of several segments add up; they do not depend on the level.

    Args:
        sources: separated sources, in one or more channels.
        sample_rate: in Hz.
        loudness: RMS of the loud parts of the whole mixture.

    Returns:
        For each source: the number of frames (20 ms apart) where it dominates, the number of those that are voiced, and
        the sums of log-pitch and of the cepstra over the voiced ones.
    """
    frame, hop = round(FRAME_SECONDS * sample_rate), round(HOP_SECONDS * sample_rate)
    if sources.shape[-1] < frame:
        return np.zeros((len(sources), 3 + NUM_CEPSTRA))
    window = np.hanning(frame + 2)[1:-1]
    frames = np.lib.stride_tricks.sliding_window_view(sources, frame, axis=-1)[..., ::hop, :]
    size = scipy.fft.next_fast_len(2 * frame, real=True)
    spectra = np.square(np.abs(scipy.fft.rfft(frames * window, size)))
    spectra = spectra.mean(axis=tuple(range(1, spectra.ndim - 2)))

    autocorrelation = scipy.fft.irfft(spectra, size)
    power = autocorrelation[..., 0] / np.square(window).sum()
    pitch, periodicity = _pitch(autocorrelation, window, sample_rate)
    bands = spectra @ _mel_bands(size, sample_rate)
    floor = 1e-4 * bands.mean(axis=-1, keepdims=True) + np.finfo(np.float32).tiny
    cepstra = scipy.fft.dct(np.log(bands + floor), norm="ortho")[..., 1 : 1 + NUM_CEPSTRA]

    dominant = power > loudness**2 * 10 ** (GATE_DB / 10)
    if len(sources) > 1:
        loudest_first = np.sort(power, axis=0)[::-1]
        others = np.where(power == loudest_first[0], loudest_first[1], loudest_first[0])
        dominant &= power > others * 10 ** (MIN_DOMINANCE_DB / 10)
    voiced = dominant & (periodicity > MIN_PERIODICITY)
    features = np.concatenate([np.ones_like(pitch)[..., None], np.log(pitch)[..., None], cepstra], axis=-1)
    return np.concatenate([dominant.sum(axis=1)[:, None], np.einsum("cl,clk->ck", voiced, features)], axis=1)


def voice_log_odds(voices: Float[np.ndarray, "a k"], others: Float[np.ndarray, "b k"]) -> Float[np.ndarray, "a b"]:
    """Compares talkers: log-odds that two are the same speaker.

    The difference of two means is normally distributed about 0: with the variance of the means for the same speaker,
    plus twice the between-speaker variance for different speakers. Few frames give small log-odds; no frames give 0.

    Args:
        voices: sums from `voice_sums`.
        others: sums from `voice_sums`.

    Returns:
        Log-odds in nats, positive where they sound alike.
    """
    frames_a, frames_b = np.maximum(voices[:, None, 1:2], 1e-9), np.maximum(others[None, :, 1:2], 1e-9)
    difference = voices[:, None, 2:] / frames_a - others[None, :, 2:] / frames_b
    same = WITHIN_SPEAKER * (1 / frames_a + 1 / frames_b + 2 / ENOUGH_FRAMES)
    different = same + 2 * BETWEEN_SPEAKERS
    log_odds = 0.5 * np.log(different / same) - 0.5 * difference**2 * (1 / same - 1 / different)
    return np.logaddexp(np.log1p(-ATYPICAL) + TEMPERATURE * log_odds.sum(axis=-1), np.log(ATYPICAL))


def _pitch(
    autocorrelation: Float[np.ndarray, "c l s"], window: Float[np.ndarray, " n"], sample_rate: int
) -> tuple[Float[np.ndarray, "c l"], Float[np.ndarray, "c l"]]:
    """The pitch in Hz, and the normalised autocorrelation there (1 for a periodic frame)."""
    lowest, highest = PITCH_HZ
    lags = np.arange(sample_rate // highest, -(-sample_rate // lowest) + 1)
    # The window tapers the autocorrelation; divided by the window's own, a periodic frame has 1 at its period.
    taper = np.correlate(window, window, "full")[len(window) - 1 :]
    power = np.maximum(autocorrelation[..., :1], np.finfo(np.float32).tiny)
    periodicity = autocorrelation[..., lags] / power * (taper[0] / taper[lags])
    best = (periodicity - OCTAVE_COST * np.log2(lags)).argmax(axis=-1)
    return sample_rate / lags[best], np.take_along_axis(periodicity, best[..., None], axis=-1)[..., 0]


def _mel_bands(size: int, sample_rate: int) -> Float[np.ndarray, "n m"]:
    """Overlapping triangular bands of equal width in mel; maps the power spectrum (n) to bands (m)."""

    def mel(hertz):
        return 2595 * np.log10(1 + hertz / 700)

    edges = np.linspace(mel(BANDS_HZ[0]), mel(BANDS_HZ[1]), NUM_BANDS + 2)
    position = mel(np.fft.rfftfreq(size, 1 / sample_rate))[:, None]
    rising = (position - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - position) / (edges[2:] - edges[1:-1])
    return np.maximum(0.0, np.minimum(rising, falling))
