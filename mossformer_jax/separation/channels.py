"""Puts the speakers into the same order in all channels, after each channel has been separated on its own."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from mossformer_jax.separation.assignment import best_order

FRAME_SECONDS = 0.02


def align_channels(sources_ckt: Float[np.ndarray, "c k t"], sample_rate: int) -> Float[np.ndarray, "c k t"]:
    """Orders the sources of every channel like those of the loudest channel (the first may be silent).

    Speakers reach the channels at different times and levels, so their envelopes are compared: the RMS of 20 ms frames,
    minus its mean.
    """
    num_channels = sources_ckt.shape[1]
    if num_channels == 1:
        return sources_ckt
    frame = max(round(FRAME_SECONDS * sample_rate), 1)
    num_frames = -(-sources_ckt.shape[-1] // frame)
    padded = np.pad(sources_ckt, ((0, 0), (0, 0), (0, num_frames * frame - sources_ckt.shape[-1])))
    power = np.square(padded, dtype=np.float64).reshape(*padded.shape[:2], num_frames, frame).mean(axis=-1)
    envelopes_ckl = np.sqrt(power) - np.sqrt(power).mean(axis=-1, keepdims=True)
    loudest = power.sum(axis=(0, 2)).argmax()
    aligned = sources_ckt.copy()
    for channel in range(num_channels):
        order, _ = best_order(envelopes_ckl[:, loudest] @ envelopes_ckl[:, channel].T)
        aligned[:, channel] = sources_ckt[order, channel]
    return aligned
