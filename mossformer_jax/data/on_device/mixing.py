"""A compiled dynamic mixing: the steps of `DynamicMixing.draw`, in the same order, for one mixture."""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax, random
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int, Key

from mossformer_jax.data.mixing import (
    ATTEMPTS,
    FIRST_LEVEL_DB,
    LEVEL_RANGE_DB,
    PEAK,
    RELATIVE_LEVEL_DB,
    DynamicMixing,
)
from mossformer_jax.data.on_device import acoustics
from mossformer_jax.data.on_device.crops import Crops, draw_crops, most_pieces
from mossformer_jax.data.on_device.dice import Dice
from mossformer_jax.data.on_device.recordings import Recordings, hold, interpolation_filters
from mossformer_jax.sharding import place, replicated


class Held(NamedTuple):
    """The arrays in device memory.

    Attributes:
        speech: the utterances.
        log_chances: logarithm of the probability of each speaker.
        filters: `interpolation_filters` of the speeds.
        noise, recorded_noise, rooms, codes: noise at its stored level, `RecordedNoise`, `Reverberation` and the tables
            of `Channel`; None if not used.
    """

    speech: Recordings
    log_chances: Float[Array, " speakers"]
    filters: Float[Array, "speeds phases taps"] | None
    noise: Recordings | None
    recorded_noise: Recordings | None
    rooms: acoustics.Rooms | None
    codes: Float[Array, "codecs 65536"] | None


class DeviceMixing:
    """Draws mixtures like `DynamicMixing` from recordings in device memory.

    Args:
        mixtures: the options.
        num_samples: length of a mixture in samples; shorter ones are padded with zeros.
        mesh: the devices.

    Attributes:
        held: the arrays in device memory, an argument of `draw`.

    Raises:
        FileNotFoundError, ValueError: a file is missing or corrupt; the message names it.
    """

    def __init__(self, mixtures: DynamicMixing, num_samples: int, mesh: Mesh):
        self._mixtures, self._num_samples = mixtures, num_samples
        recorded, rooms, channel = mixtures.recorded_noise, mixtures.reverberation, mixtures.channel
        speech, filters = hold(mixtures.speech, mesh), interpolation_filters(mixtures.speeds)
        chances = mixtures.speaker_chances[np.unique(mixtures.speech.speakers)]
        self.held = Held(
            speech=speech,
            log_chances=place(np.log(np.maximum(chances, 1e-30)).astype(np.float32), replicated(mesh)),
            filters=None if filters is None else place(filters, replicated(mesh)),
            noise=None if mixtures.noise is None else hold(mixtures.noise, mesh),
            recorded_noise=None if recorded is None else hold(recorded.noise, mesh),
            rooms=None if rooms is None else acoustics.hold_rooms(rooms, mesh),
            codes=None if channel is None else acoustics.hold_codes(channel, mixtures.sample_rate, mesh),
        )
        lengths = np.asarray(speech.length).astype(np.int64) * 100 // max(mixtures.speeds)
        self._num_pieces = most_pieces(lengths, speech, num_samples) if mixtures.fill else 1
        self._longest_response = 0 if self.held.rooms is None else int(np.max(self.held.rooms.responses.length))

    def draw(self, held: Held, key: Key[Array, ""]) -> tuple[Float[Array, " t"], Float[Array, "c t"], Int[Array, ""]]:
        """Draws a mixture (t,), its sources (c, t) and its length in samples; for `jax.vmap` and `jax.jit`."""
        options, rate = self._mixtures, self._mixtures.sample_rate
        crops_key, dice_key, noise_key = random.split(key, 3)
        dice = Dice(dice_key, 2**13)
        crops = self._draw_audible_crops(held, crops_key)
        length = crops.length
        gains = 10 ** ((self._draw_levels(dice) - crops.levels) / 20)
        sources_ct = crops.waveforms * gains[:, None]
        is_kept = jnp.arange(options.num_sources) == dice.below(options.num_sources)
        sources_ct = jnp.where((is_kept | ~dice.falls(options.single_share))[:, None], sources_ct, 0.0)
        if options.level_drift is not None:
            drifted_ct = acoustics.drift(options.level_drift, sources_ct, length, rate, dice)
            sources_ct = jnp.where(dice.falls(options.level_drift.share), drifted_ct, sources_ct)
        heard_ct = sources_ct
        if options.reverberation is not None and held.rooms is not None:
            wet = acoustics.reverberate(held.rooms, self._longest_response, sources_ct, length, dice)
            is_wet = dice.falls(options.reverberation.share)
            heard_ct, sources_ct = (jnp.where(is_wet, each_ct, sources_ct) for each_ct in wet)

        clean = mixture = heard_ct.sum(axis=0)
        if held.noise is not None:
            mixture += acoustics.stored_noise(held.noise, crops.noise, len(clean), length)
        if options.noise_share > 0:
            hiss = acoustics.coloured_noise(clean, options.noise_snr_db, length, dice, noise_key)
            mixture += jnp.where(dice.falls(options.noise_share), hiss, 0.0)
        if options.recorded_noise is not None and held.recorded_noise is not None:
            noise = acoustics.recorded_noise(options.recorded_noise, held.recorded_noise, clean, length, dice)
            mixture += jnp.where(dice.falls(options.recorded_noise.share), noise, 0.0)
        if options.babble is not None:
            voices = acoustics.babble(options.babble, held.speech, clean, crops.speakers, length, dice)
            mixture += jnp.where(dice.falls(options.babble.share), voices, 0.0)

        peak = jnp.maximum(jnp.abs(mixture).max(), jnp.abs(sources_ct).max())
        scale = jnp.minimum(1.0, PEAK / jnp.maximum(peak, 1e-12))
        mixture, sources_ct = mixture * scale, sources_ct * scale
        if options.channel is not None and held.codes is not None:
            received = acoustics.transmit(options.channel, held.codes, mixture, length, rate, dice)
            mixture = jnp.where(dice.falls(options.channel.share), received, mixture)
        return mixture, sources_ct, length

    def _draw_audible_crops(self, held: Held, key: Key[Array, ""]) -> Crops:
        """Draws crops until all of them are above `min_level_db`; the last attempt counts in any case."""

        def draw(key: Key[Array, ""]) -> Crops:
            tables = held.speech, held.log_chances, held.filters, held.noise
            return draw_crops(self._mixtures, *tables, self._num_samples, self._num_pieces, key)

        def is_faint(state: tuple[Array, Crops]) -> Bool[Array, ""]:
            return (state[0] < ATTEMPTS) & (state[1].levels.min() <= self._mixtures.min_level_db)

        def draw_again(state: tuple[Array, Crops]) -> tuple[Array, Crops]:
            return state[0] + 1, draw(random.fold_in(key, state[0]))

        shapes = jax.eval_shape(draw, key)
        unset = jax.tree.map(lambda shape: jnp.zeros(shape.shape, shape.dtype), shapes)
        unset = unset._replace(levels=unset.levels - math.inf)
        return lax.while_loop(is_faint, draw_again, (jnp.zeros((), jnp.int32), unset))[1]

    def _draw_levels(self, dice: Dice) -> Float[Array, " c"]:
        first = jnp.clip(dice.normal(*FIRST_LEVEL_DB, (1,)), *LEVEL_RANGE_DB)
        shape, between = (self._mixtures.num_sources - 1,), self._mixtures.relative_range_db
        relative = dice.normal(*RELATIVE_LEVEL_DB, shape) if between is None else dice.uniform(*between, shape)
        return jnp.concatenate([first, jnp.clip(first + relative, *LEVEL_RANGE_DB)])
