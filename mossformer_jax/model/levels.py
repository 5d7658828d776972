"""The input level of a model, for batches in JAX and for signals read in blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from mossformer_jax.model.mossformer2 import MossFormer2


def separate_at_level(
    network: MossFormer2, mixture_bt: Float[Array | np.ndarray, "b t"], lengths_b: Int[Array | np.ndarray, " b"]
) -> Float[Array, "b c t"]:
    """Separates mixtures at the model's input level, as `Separator` does, and undoes the gain in the outputs.

    Args:
        network: the model; its `ModelConfig.input_level_db` is the level.
        mixture_bt: mixtures.
        lengths_b: true length of each mixture in samples.
    """
    gain_b1 = level_gain(mixture_bt, lengths_b, network.config.input_level_db)
    return network(mixture_bt * gain_b1, lengths_b) / gain_b1[:, :, None]


def level_gain(
    mixture_bt: Float[Array | np.ndarray, "b t"], lengths_b: Int[Array | np.ndarray, " b"], level_db: float | None
) -> Float[Array, "b 1"]:
    """The factors that bring mixtures to the input level of a model (`ModelConfig.input_level_db`).

    The level is the RMS of the samples louder than the mean power, so that pauses do not count. The factor of a silent
    mixture is 1.

    Args:
        mixture_bt: mixtures.
        lengths_b: true length of each mixture in samples.
        level_db: the level in dB; None: all factors are 1.
    """
    if level_db is None:
        return jnp.ones((mixture_bt.shape[0], 1), mixture_bt.dtype)
    counted_bt = jnp.arange(mixture_bt.shape[1]) < lengths_b[:, None]
    power_bt = jnp.where(counted_bt, jnp.square(mixture_bt), 0.0)
    threshold_b1 = power_bt.sum(axis=1, keepdims=True) / lengths_b[:, None]
    # Every sample of a square wave has the mean power, up to rounding: then all samples count.
    threshold_b1 = jnp.minimum(threshold_b1, power_bt.max(axis=1, keepdims=True))
    loud_bt = counted_bt & (power_bt >= threshold_b1)
    loudness_b1 = jnp.sqrt(jnp.mean(power_bt, axis=1, keepdims=True, where=loud_bt))
    heard_b1 = loudness_b1 > 0
    return jnp.where(heard_b1, 10 ** (level_db / 20) / jnp.where(heard_b1, loudness_b1, 1.0), 1.0)


def loudness(blocks: Callable[[], Iterable[Float[np.ndarray, "*rows t"]]]) -> float:
    """RMS of the samples whose power is above the mean, so that pauses do not count (as in ClearerVoice).

    Args:
        blocks: returns an iterator over the blocks of the signal; called twice. All rows have the same weight.
    """
    total, count, peak = 0.0, 0, 0.0
    for block in blocks():
        power = np.square(block.astype(np.float64))
        total, count, peak = total + power.sum(), count + power.size, max(peak, power.max(initial=0.0))
    # Every sample of a square wave has the mean power, up to rounding: then all samples count.
    threshold = min(total / count, peak)
    loud_total, loud_count = 0.0, 0
    for block in blocks():
        power = np.square(block.astype(np.float64))
        loud = power[power >= threshold]
        loud_total, loud_count = loud_total + loud.sum(), loud_count + loud.size
    return float(np.sqrt(loud_total / loud_count))


def input_gain(loudness: float, level_db: float | None) -> float:
    """The gain that brings a signal with this loudness (above 0) to a level in dB; 1 if the level is None."""
    return 1.0 if level_db is None else 10 ** (level_db / 20) / loudness
