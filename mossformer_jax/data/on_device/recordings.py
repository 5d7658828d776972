"""Recordings in the memory of the devices."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import scipy
from jax import lax
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int

from mossformer_jax.data.speech import UNKNOWN_SPEAKER, Speech
from mossformer_jax.sharding import place, replicated

# Samples per row of the memory. Rows, because an index of 32 bits reaches only 2**31 samples: 75 hours at 8 kHz.
ROW = 2**11
_BYTES = 2
# Interpolation filters: taps, and positions between two samples; speeds are whole percentages.
TAPS, PHASES = 32, 100


class Recordings(NamedTuple):
    """Recordings as 16-bit samples, sorted by speaker.

    Attributes:
        samples: the recordings, each of which starts in a new row.
        scale: factor from the 16-bit samples of each recording to its waveform, a power of two for speech and noise.
        row: first row of each recording.
        length: length of each recording in samples.
        first: first recording of each speaker (or room).
        num_recordings: number of recordings of each speaker.
        joinable: number of recordings of each speaker that have the same voice: 1 for unknown speakers.
    """

    samples: Int[Array, "rows row"]
    scale: Float[Array, " n"]
    row: Int[Array, " n"]
    length: Int[Array, " n"]
    first: Int[Array, " speakers"]
    num_recordings: Int[Array, " speakers"]
    joinable: Int[Array, " speakers"]


def num_bytes(speech: Speech) -> int:
    """Device memory that the recordings will take, in bytes; the header of each file is read."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return sum(-(-length // ROW) for length in pool.map(speech.num_samples, range(len(speech)))) * ROW * _BYTES


def by_speaker(speech: Speech) -> Int[np.ndarray, " n"]:
    """The indices of the recordings in the order in which `Recordings` holds them."""
    return np.argsort(speech.speakers, kind="stable")


def hold(speech: Speech, mesh: Mesh) -> Recordings:
    """Reads all recordings into the memory of every device.

    A recording is scaled by a power of two to use the 16 bits, so that 16-bit files are held without a change.

    Raises:
        FileNotFoundError, ValueError: a file is missing or corrupt; the message names it.
    """
    order = by_speaker(speech)
    lengths = np.array([speech.num_samples(int(index)) for index in order])
    rows = -(-lengths // ROW)
    first_rows = np.cumsum(rows) - rows
    samples = np.zeros((rows.sum(), ROW), np.int16)
    scales = np.empty(len(order), np.float32)

    def read_one(number: int) -> None:
        waveform = speech.read(int(order[number]), 0, int(lengths[number]))
        peak = float(np.abs(waveform).max())
        exponent = max(math.ceil(math.log2(peak)), -15) if peak else 0
        scales[number] = 2.0 ** (exponent - 15)
        held = samples[first_rows[number] : first_rows[number] + rows[number]].reshape(-1)
        held[: lengths[number]] = np.clip(np.round(waveform / scales[number]), -(2**15), 2**15 - 1)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(read_one, range(len(order))))
    speakers, first, count = np.unique(speech.speakers[order], return_index=True, return_counts=True)
    unknown = np.array([speech.speaker_names[speaker] == UNKNOWN_SPEAKER for speaker in speakers])
    tables = (first_rows, lengths, first, count, np.where(unknown, 1, count))
    arrays = (samples, scales, *(table.astype(np.int32) for table in tables))
    return Recordings(*(place(array, replicated(mesh)) for array in arrays))


def read(
    recordings: Recordings, index: Int[Array, "*#shape"], position: Int[Array, "*#shape"]
) -> Float[Array, "*shape"]:
    """Samples of recordings at some positions; zero outside a recording."""
    inside = (position >= 0) & (position < recordings.length[index])
    position = jnp.where(inside, position, 0)
    sample = recordings.samples.at[recordings.row[index] + position // ROW, position % ROW].get(
        mode="promise_in_bounds"
    )
    return jnp.where(inside, sample * recordings.scale[index], 0.0)


def read_at_speed(
    recordings: Recordings,
    filters: Float[Array, "speeds phases taps"] | None,
    index: Int[Array, "*#shape"],
    hundredths: Int[Array, "*#shape"],
    speed: Int[Array, "*#shape"],
) -> Float[Array, "*shape"]:
    """Samples of recordings between their samples.

    Args:
        recordings: the recordings.
        filters: `interpolation_filters` of the speeds; None if the only speed is 100 %.
        index: the recordings.
        hundredths: the positions in hundredths of a sample.
        speed: the speeds at which the recordings are played, as positions in `filters`.
    """
    base, phase = hundredths // PHASES, hundredths % PHASES
    if filters is None:
        return read(recordings, index, base)

    def add_tap(tap: Int[Array, ""], total: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        weight = filters.at[speed, phase, tap].get(mode="promise_in_bounds")
        return total + weight * read(recordings, index, base + (tap - TAPS // 2 + 1))

    # A loop, because 32 unrolled taps take many seconds to compile.
    return lax.fori_loop(0, TAPS, add_tap, jnp.zeros(base.shape, jnp.float32))


def interpolation_filters(speeds: Sequence[int]) -> Float[np.ndarray, "speeds phases taps"] | None:
    """Windowed sincs that interpolate between `TAPS` samples, for each speed in percent; None if all are 100.

    For speeds above 100 the cutoff is lowered to prevent aliasing; speed 100 leaves signals unchanged.
    """
    if set(speeds) == {100}:
        return None
    window = scipy.signal.windows.kaiser(2001, 9.0)
    distance = np.arange(TAPS) - (TAPS // 2 - 1) - np.arange(PHASES)[:, None] / PHASES
    shape = np.interp(distance, np.linspace(-TAPS / 2, TAPS / 2, len(window)), window)
    filters = []
    for speed in speeds:
        cutoff = 1.0 if speed == 100 else 0.94 * min(1.0, 100 / speed)
        weights = np.sinc(cutoff * distance) * shape
        filters.append(weights / weights.sum(axis=1, keepdims=True))
    return np.stack(filters).astype(np.float32)
