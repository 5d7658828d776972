"""Dynamic mixing on an accelerator: speech in its memory, and a compiled program that draws training batches.

The mixtures follow the same distribution as those of `mossformer_jax.data.mixing.DynamicMixing`. Of its options, those
of the default config are supported: speakers, speeds, levels, pauses, single talkers and noise.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax, random
from scipy.signal.windows import kaiser

from mossformer_jax.data.batch import Batch
from mossformer_jax.data.mixing import (
    FIRST_LEVEL_DB,
    LEVEL_RANGE_DB,
    PARTIAL_LENGTHS,
    PEAK,
    RELATIVE_LEVEL_DB,
    SILENCE_DB,
)
from mossformer_jax.data.random_draws import _fade
from mossformer_jax.data.utterances import UNKNOWN_SPEAKER, Utterances

TAPS, PHASES = 32, 100
FADE_SECONDS = 0.01


class Bank(NamedTuple):
    """Recordings in the accelerator's memory. A stream is the concatenated utterances of one speaker.

    Attributes:
        samples: all streams, one after another, (samples,), int16.
        offset: start of each stream in `samples`, (streams,).
        length: length of each stream in samples, (streams,).
        first: index of each speaker's first stream, (speakers,).
        num_streams: number of each speaker's streams, (speakers,).
        log_chance: logarithm of each speaker's probability, (speakers,).
        filters: interpolation filters of each speed, (speeds, phases, taps), float32.
    """

    samples: jax.Array
    offset: jax.Array
    length: jax.Array
    first: jax.Array
    num_streams: jax.Array
    log_chance: jax.Array
    filters: jax.Array


def interpolation_filters(speeds: Sequence[int]) -> np.ndarray:
    """Weights of the `TAPS` nearest samples at `PHASES` positions between two samples, for each speed in percent.

    A windowed sinc. For speeds above 100 its cutoff is lowered to avoid aliasing; speed 100 leaves signals unchanged.

    Returns:
        The weights, (speeds, phases, taps), float32.
    """
    taps = np.arange(TAPS) - (TAPS // 2 - 1)
    filters = np.empty((len(speeds), PHASES, TAPS), np.float32)
    window = kaiser(2001, 9.0)
    for number, speed in enumerate(speeds):
        cutoff = 1.0 if speed == 100 else 0.94 * min(1.0, 100 / speed)
        for phase in range(PHASES):
            distance = taps - phase / PHASES
            shape = np.interp(distance, np.linspace(-TAPS / 2, TAPS / 2, 2001), window)
            weights = cutoff * np.sinc(cutoff * distance) * shape
            filters[number, phase] = weights / weights.sum()
    return filters


def make_bank(
    speech: Utterances, speeds: Sequence[int], max_speaker_seconds: float | None, pool: ThreadPoolExecutor
) -> Bank:
    """Reads all recordings into the accelerator's memory.

    Args:
        speech: the recordings.
        speeds: speeds in percent, for `interpolation_filters`.
        max_speaker_seconds: makes the probability of a speaker proportional to the duration of their speech, up to this
            many seconds; None: without a limit.
        pool: threads that read the files.
    """
    waves = list(pool.map(lambda index: speech.read(index), range(len(speech))))
    streams: list[np.ndarray] = []
    first: list[int] = []
    count: list[int] = []
    seconds: list[float] = []
    for number, name in enumerate(speech.speaker_names):
        own = [waves[index] for index in np.flatnonzero(speech.speakers == number)]
        first.append(len(streams))
        seconds.append(sum(map(len, own)) / speech.sample_rate)
        if name == UNKNOWN_SPEAKER or len(own) == 1:  # unknown speakers may have different voices
            streams += own
        else:
            streams.append(np.concatenate([_fade(wave, speech.sample_rate) for wave in own]))
        count.append(len(streams) - first[-1])
    lengths = np.array([len(stream) for stream in streams])
    chance = np.minimum(seconds, max_speaker_seconds or math.inf)
    samples = np.concatenate(streams)
    samples = np.round(np.clip(samples, -1, 1 - 2**-15) * 2**15).astype(np.int16)

    def integers(numbers: Any) -> jax.Array:
        return jnp.asarray(np.asarray(numbers), jnp.int32)

    return Bank(
        jnp.asarray(samples),
        integers(np.concatenate([[0], np.cumsum(lengths)[:-1]])),
        integers(lengths),
        integers(first),
        integers(count),
        jnp.asarray(np.log(chance / chance.sum()), jnp.float32),
        jnp.asarray(interpolation_filters(speeds)),
    )


def read_crops(
    bank: Bank,
    stream: jax.Array,
    start: jax.Array,
    place_at: jax.Array,
    heard: jax.Array,
    speed_number: jax.Array,
    percent: jax.Array,
    num_samples: int,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Reads crops from their streams; all array arguments are (rows, c).

    Args:
        bank: the recordings.
        stream: index of the stream of each crop.
        start: first sample within the stream.
        place_at: first sample within the mixture.
        heard: length in samples.
        speed_number: index of the speed.
        percent: the speed in percent.
        num_samples: length of the mixture in samples.

    Returns:
        The crops, zero outside their range; the position of each sample within its crop; and whether it is inside; each
        of shape (rows, c, num_samples).
    """
    local = jnp.arange(num_samples) - place_at[..., None]
    inside = (local >= 0) & (local < heard[..., None])
    moved = jnp.where(inside, local, 0) * percent[..., None]
    base, phase = moved // 100, moved % 100
    begin_at, end_at = bank.offset[stream][..., None], (bank.offset[stream] + bank.length[stream])[..., None]
    middle = begin_at + start[..., None] + base
    total = jnp.zeros(inside.shape, jnp.float32)
    for tap in range(TAPS):
        index = middle + (tap - (TAPS // 2 - 1))
        sample = bank.samples[jnp.clip(index, begin_at, end_at - 1)].astype(jnp.float32) * 2.0**-15
        weight = bank.filters[speed_number[..., None], phase, tap]
        total += jnp.where((index >= begin_at) & (index < end_at), sample, 0.0) * weight
    return jnp.where(inside, total, 0.0), local, inside


def make_draw(
    data: Mapping[str, Any],
    speeds: Sequence[int],
    num_sources: int,
    num_samples: int,
    batch_size: int,
    noise_share: float,
    noise_snr: Sequence[float],
) -> Callable[[Bank, Bank | None, jax.Array], Batch]:
    """The function `(bank, noise bank or None, key) -> batch`, to be compiled.

    Args:
        data: options of `DynamicMixing`, as in the config's `data.train`.
        speeds: speeds in percent.
        num_sources: number of sources per mixture.
        num_samples: length of each mixture in samples.
        batch_size: number of mixtures.
        noise_share: fraction of the mixtures to which recorded noise is added.
        noise_snr: lowest and highest SNR of the recorded noise in dB.
    """
    rows = batch_size + max(2, batch_size // 8)  # spare ones, because crops below min_level_db are dropped
    single, partial = data.get("single_share", 0.0), data.get("partial_share", 0.0)
    relative = data.get("relative_range_db", None)
    made_share, made_snr = data.get("noise_share", 0.0), data.get("noise_snr_db", (20.0, 50.0))
    faintest, rate = data.get("min_level_db", SILENCE_DB), data["sample_rate"]
    percents = jnp.asarray(speeds, jnp.int32)
    shape = (rows, num_sources)

    def draw(bank: Bank, noises: Bank | None, key: jax.Array) -> Batch:
        keys = iter(random.split(key, 24))

        def falls(share: float) -> jax.Array:
            return random.uniform(next(keys), (rows,)) < share

        chances = bank.log_chance + random.gumbel(next(keys), (rows, len(bank.log_chance)))
        speakers = lax.top_k(chances, num_sources)[1]  # without replacement (Gumbel top-k)
        stream = bank.first[speakers] + random.randint(next(keys), shape, 0, bank.num_streams[speakers])
        number = random.randint(next(keys), shape, 0, len(percents))
        percent, length = percents[number], bank.length[stream]
        there = jnp.minimum(length * 100 // percent, num_samples)
        start = random.randint(next(keys), shape, 0, jnp.maximum(length - there * percent // 100, 0) + 1)
        share = random.uniform(next(keys), shape, minval=PARTIAL_LENGTHS[0], maxval=PARTIAL_LENGTHS[1])
        wanted = jnp.where(falls(partial)[:, None], jnp.ceil(share * num_samples).astype(jnp.int32), num_samples)
        heard = jnp.minimum(there, wanted)
        at = random.randint(next(keys), shape, 0, num_samples - heard + 1)
        sources, local, inside = read_crops(bank, stream, start, at, heard, number, percent, num_samples)

        level = 20 * jnp.log10(jnp.abs(sources).sum(-1) / heard + 1e-12)
        first = FIRST_LEVEL_DB[0] + FIRST_LEVEL_DB[1] * random.normal(next(keys), (rows, 1))
        first = jnp.clip(first, *LEVEL_RANGE_DB)
        if relative is None:
            others = RELATIVE_LEVEL_DB[0] + RELATIVE_LEVEL_DB[1] * random.normal(next(keys), (rows, num_sources - 1))
        else:
            others = random.uniform(next(keys), (rows, num_sources - 1), minval=relative[0], maxval=relative[1])
        wanted_level = jnp.concatenate([first, jnp.clip(first + others, *LEVEL_RANGE_DB)], 1)
        gain = 10 ** ((wanted_level - level) / 20)
        faded = jnp.minimum(round(FADE_SECONDS * rate), heard // 2)[..., None]
        edge = jnp.minimum(local, heard[..., None] - 1 - local) / jnp.maximum(faded, 1)
        ramp = jnp.where((heard < num_samples)[..., None], jnp.clip(edge, 0.0, 1.0), 1.0)
        sources = jnp.where(inside, sources * ramp * gain[..., None], 0.0)

        kept = random.randint(next(keys), (rows, 1), 0, num_sources) == jnp.arange(num_sources)
        sources = jnp.where((kept | ~falls(single)[:, None])[..., None], sources, 0.0)
        mixture = sources.sum(1)
        power = jnp.mean(mixture**2, -1)

        spectrum = jnp.fft.rfft(random.normal(next(keys), (rows, num_samples)))
        slope = random.uniform(next(keys), (rows, 1)) / 2
        spectrum *= jnp.maximum(jnp.arange(spectrum.shape[-1]), 1.0) ** -slope
        noise = at_ratio(jnp.fft.irfft(spectrum, num_samples), power, made_snr, next(keys))
        mixture = mixture + jnp.where(falls(made_share)[:, None], noise, 0.0)
        if noises is not None:
            which = random.randint(next(keys), (rows,), 0, len(noises.length))
            begins = random.randint(next(keys), (rows,), 0, jnp.maximum(noises.length[which] - num_samples, 0) + 1)
            index = (begins[:, None] + jnp.arange(num_samples)) % noises.length[which][:, None]
            recorded = noises.samples[noises.offset[which][:, None] + index].astype(jnp.float32)
            recorded = at_ratio(recorded, power, noise_snr, next(keys))
            mixture = mixture + jnp.where(falls(noise_share)[:, None], recorded, 0.0)
        peak = jnp.maximum(jnp.abs(mixture).max(-1), jnp.abs(sources).max((1, 2)))
        quieter = jnp.minimum(1.0, PEAK / jnp.maximum(peak, 1e-12))
        heard_well = jnp.all(level > faintest, axis=1)
        chosen = jnp.argsort(~heard_well, stable=True)[:batch_size]
        return Batch(
            (mixture * quieter[:, None])[chosen],
            (sources * quieter[:, None, None])[chosen],
            jnp.full(batch_size, num_samples, jnp.int32),
        )

    def at_ratio(noise: jax.Array, power: jax.Array, snr_db: Sequence[float], key: jax.Array) -> jax.Array:
        wanted = power * 10 ** (-random.uniform(key, power.shape, minval=snr_db[0], maxval=snr_db[1]) / 10)
        return noise * jnp.sqrt(wanted / jnp.maximum(jnp.mean(noise**2, -1), 1e-12))[:, None]

    return draw
