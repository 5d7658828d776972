"""Random crops of speech, drawn by a compiled program. The functions draw a single mixture."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax, random
from jaxtyping import Array, Bool, Float, Int, Key

from mossformer_jax.data.mixing import PARTIAL_LENGTHS, DynamicMixing
from mossformer_jax.data.on_device.dice import Dice
from mossformer_jax.data.on_device.recordings import Recordings, read_at_speed
from mossformer_jax.data.random_draws import FADE_SECONDS


class Crops(NamedTuple):
    """Crops of different speakers in a mixture.

    Attributes:
        waveforms: the crops at their place in the mixture; zero outside.
        levels: their `level_db`.
        speakers: their speakers, as positions in `Recordings.first`.
        length: length of the mixture in samples.
        noise: the recording of the noise at its stored level, and the start of its crop; unused without such noise.
    """

    waveforms: Float[Array, "c t"]
    levels: Float[Array, " c"]
    speakers: Int[Array, " c"]
    length: Int[Array, ""]
    noise: Int[Array, " 2"]


def draw_crops(
    mixtures: DynamicMixing,
    speech: Recordings,
    log_chances: Float[Array, " speakers"],
    filters: Float[Array, "speeds phases taps"] | None,
    noise: Recordings | None,
    num_samples: int,
    num_pieces: int,
    key: Key[Array, ""],
) -> Crops:
    """Draws crops like `DynamicMixing`.

    Args:
        mixtures: the options.
        speech: the utterances.
        log_chances: logarithm of the probability of each speaker.
        filters: `interpolation_filters` of the speeds.
        noise: noise at its stored level, which limits the length of the mixture.
        num_samples: longest length of the mixture in samples.
        num_pieces: number of utterances that are joined, at most, to fill the mixture.
        key: random key.
    """
    num_sources, rate = mixtures.num_sources, mixtures.sample_rate
    speaker_key, key = random.split(key)
    dice = Dice(key, 2**7 + 2 * num_sources * num_pieces)
    # Without replacement, by the Gumbel trick.
    speakers = lax.top_k(log_chances + random.gumbel(speaker_key, log_chances.shape), num_sources)[1]
    first = dice.below(speech.num_recordings[speakers])
    others = [dice.distinct(num_pieces - 1, speech.joinable[speakers[c]], [first[c]]) for c in range(num_sources)]
    pieces_ck = speech.first[speakers][:, None] + jnp.concatenate([first[:, None], jnp.stack(others)], axis=1)
    is_used_ck = jnp.arange(num_pieces) < jnp.maximum(speech.joinable[speakers], 1)[:, None]
    speed_c1 = dice.below(len(mixtures.speeds), (num_sources, 1))
    percent_c1 = jnp.asarray(mixtures.speeds, jnp.int32)[speed_c1]
    lengths_ck = jnp.where(is_used_ck, speech.length[pieces_ck] * 100 // percent_c1, 0)

    length = jnp.asarray(num_samples) if mixtures.fill else jnp.minimum(num_samples, lengths_ck[:, 0].min())
    noise_crop = jnp.zeros(2, jnp.int32)
    if noise is not None:
        index = dice.below(len(noise.length))
        length = jnp.minimum(length, noise.length[index])
        start = dice.below(noise.length[index] - length + 1)
        noise_crop = jnp.stack([index, start])

    ends_ck = jnp.minimum(jnp.cumsum(lengths_ck, axis=1), length)
    begins_ck = jnp.concatenate([jnp.zeros_like(ends_ck[:, :1]), ends_ck[:, :-1]], axis=1)
    needed_ck = jnp.minimum(-(-(ends_ck - begins_ck) * percent_c1 // 100), speech.length[pieces_ck])
    starts_ck = dice.below(speech.length[pieces_ck] - needed_ck + 1)
    total_c = ends_ck[:, -1]
    share_c = dice.uniform(*PARTIAL_LENGTHS, (num_sources,))
    is_partial = dice.falls(mixtures.partial_share)
    heard_c = jnp.where(is_partial, jnp.minimum(total_c, jnp.ceil(share_c * length).astype(jnp.int32)), total_c)

    place_c = dice.below(length - heard_c + 1)
    at_ct = jnp.arange(num_samples) - place_c[:, None]
    is_heard_ct = (at_ct >= 0) & (at_ct < heard_c[:, None])
    piece_ct = jnp.minimum((at_ct[:, None] >= ends_ck[..., None]).sum(axis=1), num_pieces - 1)
    begin_ct, end_ct, start_ct, index_ct = (
        jnp.take_along_axis(table, piece_ct, axis=1) for table in (begins_ck, ends_ck, starts_ck, pieces_ck)
    )
    hundredths_ct = 100 * start_ct + (at_ct - begin_ct) * percent_c1
    waveforms_ct = read_at_speed(speech, filters, index_ct, jnp.where(is_heard_ct, hundredths_ct, 0), speed_c1)
    is_joined_c1 = total_c[:, None] > ends_ck[:, :1]
    waveforms_ct *= _ramp(at_ct - begin_ct, end_ct - begin_ct, rate, is_joined_c1)
    waveforms_ct = jnp.where(is_heard_ct, waveforms_ct, 0.0)
    levels_c = 20 * jnp.log10(jnp.abs(waveforms_ct).sum(axis=1) / heard_c + 1e-12)
    waveforms_ct *= _ramp(at_ct, heard_c[:, None], rate, heard_c[:, None] < length)
    return Crops(waveforms_ct, levels_c, speakers, length.astype(jnp.int32), noise_crop)


def most_pieces(lengths: Int[np.ndarray, " n"], recordings: Recordings, num_samples: int) -> int:
    """The largest number of utterances of a speaker that are needed to fill a mixture.

    Args:
        lengths: lengths of the utterances at the highest speed, in the order of `recordings`.
        recordings: their speakers.
        num_samples: length of the mixture in samples.
    """
    most = 1
    tables = (np.asarray(table).tolist() for table in (recordings.first, recordings.joinable))
    for first, count in zip(*tables, strict=True):
        filled = np.cumsum(np.sort(lengths[first : first + count]))
        most = max(most, min(int(np.searchsorted(filled, num_samples)) + 1, count))
    return most


def _ramp(
    position: Int[Array, "c t"], length: Int[Array, "c _"], sample_rate: int, is_faded: Bool[Array, "c 1"]
) -> Float[Array, "c t"]:
    """Linear fades at both ends of a waveform, where it is faded."""
    num_faded = jnp.maximum(jnp.minimum(round(FADE_SECONDS * sample_rate), length // 2), 1)
    edge = jnp.minimum(position, length - 1 - position) / num_faded
    return jnp.where(is_faded, jnp.clip(edge, 0.0, 1.0), 1.0)
