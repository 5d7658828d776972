"""Acoustic conditions and channels, drawn by a compiled program. They apply to one mixture.

Signals longer than the mixture are zero after its end.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.fft
from jax import random
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int, Key

from mossformer_jax.data.acoustics import Babble, LevelDrift, RecordedNoise, Reverberation
from mossformer_jax.data.channels import CODECS, TELEPHONE_BAND, Channel, band_pass_filter, coded
from mossformer_jax.data.on_device.dice import Dice
from mossformer_jax.data.on_device.recordings import Recordings, by_speaker, hold, read
from mossformer_jax.sharding import place, replicated

# Codecs that are a table from samples to samples. The others of libsndfile have a state and run on the host only.
TABLE_CODECS = ("mu-law", "a-law")


class Rooms(NamedTuple):
    """Room impulse responses.

    Attributes:
        responses: the responses, scaled to unit energy up to the end of their early part.
        direct: position of the direct sound in each of them.
        kept: end of the part that the target includes.
    """

    responses: Recordings
    direct: Int[Array, " n"]
    kept: Int[Array, " n"]


def hold_rooms(reverberation: Reverberation, mesh: Mesh) -> Rooms:
    """Reads all impulse responses into the memory of every device.

    Raises:
        FileNotFoundError, ValueError: a file is missing, corrupt or silent; the message names it.
    """
    order = by_speaker(reverberation.responses)
    parts = [reverberation.parts(int(index)) for index in order]
    direct, kept = (np.array([getattr(part, name) for part in parts], np.int32) for name in ("direct", "kept"))
    responses = hold(reverberation.responses, mesh)
    scale = np.asarray(responses.scale) / np.array([part.norm for part in parts], np.float32)
    placed = [place(array, replicated(mesh)) for array in (scale, direct, kept)]
    return Rooms(responses._replace(scale=placed[0]), *placed[1:])


def hold_codes(channel: Channel, sample_rate: int, mesh: Mesh) -> Float[Array, "codecs 65536"]:
    """For each of `TABLE_CODECS` in the channel, the decoded value of every 16-bit sample."""
    values = np.arange(-(2**15), 2**15) / 2**15
    names = [name for name in channel.codecs if name in TABLE_CODECS]
    tables = [coded(values, sample_rate, *CODECS[name][:2]) for name in names]
    return place(np.asarray(tables, np.float32).reshape(-1, 2**16), replicated(mesh))


def drift(
    options: LevelDrift, sources_ct: Float[Array, "c t"], length: Int[Array, ""], rate: int, dice: Dice
) -> Float[Array, "c t"]:
    """The sources (c, t) with drifting levels."""
    num_sources, num_samples = sources_ct.shape
    most = 2 + int(num_samples / (options.seconds * rate))
    points = jnp.minimum(2 + (length / (options.seconds * rate)).astype(jnp.int32), most)
    points_db = dice.uniform(-options.range_db, options.range_db, (num_sources, most))
    at = jnp.arange(num_samples) * ((points - 1) / jnp.maximum(length - 1, 1))
    left = jnp.clip(at.astype(jnp.int32), 0, most - 2)
    curves_db = points_db[:, left] + (points_db[:, left + 1] - points_db[:, left]) * jnp.minimum(at - left, 1.0)
    return sources_ct * 10 ** (curves_db / 20)


def reverberate(
    rooms: Rooms, longest: int, sources_ct: Float[Array, "c t"], length: Int[Array, ""], dice: Dice
) -> tuple[Float[Array, "c t"], Float[Array, "c t"]]:
    """The reverberant sources and the targets in a random room; `longest` is the length of the longest response."""
    num_sources, num_samples = sources_ct.shape
    responses = rooms.responses
    room = dice.below(len(responses.first))
    index_c1 = responses.first[room] + dice.distinct(num_sources, responses.num_recordings[room])[:, None]
    size = scipy.fft.next_fast_len(num_samples + longest, real=True)
    # Rotated to the direct sound, so that the output is aligned with it.
    position_ct = (jnp.arange(size) + rooms.direct[index_c1]) % size
    response_ct = read(responses, index_c1, position_ct)
    target_ct = jnp.where(position_ct < rooms.kept[index_c1], response_ct, 0.0)
    is_inside = jnp.arange(num_samples) < length
    reverberant_ct, targets_ct = (
        jnp.where(is_inside, _convolve(sources_ct, jnp.fft.rfft(each_ct), size), 0.0)
        for each_ct in (response_ct, target_ct)
    )
    return reverberant_ct, targets_ct


def stored_noise(
    noise: Recordings, crop: Int[Array, " 2"], num_samples: int, length: Int[Array, ""]
) -> Float[Array, " t"]:
    """Noise (t,) at its stored level; `crop` is its recording and start."""
    at = jnp.arange(num_samples)
    return jnp.where(at < length, read(noise, jnp.full_like(at, crop[0]), crop[1] + at), 0.0)


def coloured_noise(
    clean: Float[Array, " t"], snr_db: tuple[float, float], length: Int[Array, ""], dice: Dice, key: Key[Array, ""]
) -> Float[Array, " t"]:
    """Noise with a spectrum between white and pink, as `draw_noise` draws it."""
    num_samples = len(clean)
    spectrum = jnp.fft.rfft(random.normal(key, (num_samples,)))
    slope = dice.uniform(0.0, 0.5)
    spectrum *= jnp.maximum(jnp.arange(len(spectrum)), 1.0) ** -slope
    noise = jnp.where(jnp.arange(num_samples) < length, jnp.fft.irfft(spectrum, num_samples), 0.0)
    return _at_snr(noise, clean, snr_db, dice)


def recorded_noise(
    options: RecordedNoise,
    noise: Recordings,
    clean: Float[Array, " t"],
    length: Int[Array, ""],
    dice: Dice,
) -> Float[Array, " t"]:
    """A crop of recorded noise at a random SNR."""
    index = dice.below(len(noise.length))
    cropped = jnp.minimum(length, noise.length[index])
    start = dice.below(noise.length[index] - cropped + 1)
    crop = _repeated_crop(noise, index, start, jnp.zeros((), jnp.int32), len(clean), length)
    return _at_snr(crop, clean, options.snr_db, dice)


def babble(
    options: Babble,
    speech: Recordings,
    clean: Float[Array, " t"],
    targets: Int[Array, " c"],
    length: Int[Array, ""],
    dice: Dice,
) -> Float[Array, " t"]:
    """Voices of speakers that are not `targets`, at a random SNR to the sum of the sources."""
    low, high = options.num_speakers
    count = low + dice.below(high + 1 - low)
    speakers_v = dice.distinct(high, len(speech.first), targets)
    index_v = speech.first[speakers_v] + dice.below(speech.num_recordings[speakers_v])
    start_v = dice.below(speech.length[index_v] - jnp.minimum(length, speech.length[index_v]) + 1)
    shift_v = dice.below(length, (high,))

    def speak(index: Int[Array, ""], start: Int[Array, ""], shift: Int[Array, ""]) -> Float[Array, " t"]:
        voice = _repeated_crop(speech, index, start, shift, len(clean), length)
        return voice / jnp.maximum(jnp.sqrt(jnp.sum(jnp.square(voice)) / length), 1e-6)

    voices_vt = jax.vmap(speak)(index_v, start_v, shift_v)
    total = jnp.where(jnp.arange(high)[:, None] < count, voices_vt, 0.0).sum(axis=0)
    return _at_snr(total, clean, options.snr_db, dice)


def transmit(
    options: Channel,
    codes: Float[Array, "codecs 65536"],
    mixture: Float[Array, " t"],
    length: Int[Array, ""],
    rate: int,
    dice: Dice,
) -> Float[Array, " t"]:
    """The mixture after a random channel."""
    received, number = [], 0
    for name in options.codecs:
        if name == "telephone":
            taps = band_pass_filter(rate, TELEPHONE_BAND)
            size = scipy.fft.next_fast_len(len(mixture) + len(taps), real=True)
            centred = np.roll(np.pad(taps, (0, size - len(taps))), -(len(taps) // 2)).astype(np.float32)
            received.append(_convolve(mixture, jnp.fft.rfft(centred), size))
        else:
            steps = jnp.clip(jnp.round(mixture * 2**15), -(2**15), 2**15 - 1).astype(jnp.int32)
            received.append(codes[number][steps + 2**15])
            number += 1
    chosen = jnp.stack(received)[dice.below(len(received))]
    return jnp.where(jnp.arange(len(mixture)) < length, chosen, 0.0)


def _repeated_crop(
    recordings: Recordings,
    index: Int[Array, ""],
    start: Int[Array, ""],
    shift: Int[Array, ""],
    num_samples: int,
    length: Int[Array, ""],
) -> Float[Array, " t"]:
    """A crop of `length` samples, repeated if the recording is shorter, and rotated by `shift` samples."""
    cropped = jnp.minimum(length, recordings.length[index])
    at = jnp.arange(num_samples)
    position = start + (at - shift) % length % cropped
    return jnp.where(at < length, read(recordings, jnp.full_like(at, index), position), 0.0)


def _at_snr(
    noise: Float[Array, " t"], clean: Float[Array, " t"], snr_db: tuple[float, float], dice: Dice
) -> Float[Array, " t"]:
    """The noise at a random SNR relative to `clean`; silent if either of them is silent."""
    drawn_db = dice.uniform(*snr_db)
    wanted = jnp.sum(jnp.square(clean)) * 10 ** (-drawn_db / 10)
    return noise * jnp.sqrt(wanted / jnp.maximum(jnp.sum(jnp.square(noise)), 1e-12))


def _convolve(signal: Float[Array, "*c t"], spectrum: Array, size: int) -> Float[Array, "*c t"]:
    """The convolution with a filter of which `spectrum` is the Fourier transform over `size` samples."""
    return jnp.fft.irfft(jnp.fft.rfft(signal, size) * spectrum, size)[..., : signal.shape[-1]]
