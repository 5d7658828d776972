"""The mean of the sources that a network finds in copies of a mixture, delayed by fractions of the encoder's stride."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from mossformer_jax.model.config import ModelConfig


def shift_delays(config: ModelConfig) -> Int[np.ndarray, " k"]:
    """The delays of the copies in samples: evenly spaced over one stride, the first is 0."""
    return np.arange(config.shifts) * config.stride // config.shifts


def source_orders(num_sources: int) -> Int[np.ndarray, "p c"]:
    """All orders of the sources."""
    return np.array(list(itertools.permutations(range(num_sources))))


def mean_over_shifts(
    separate: Callable[[Float[Array, "b u"], Int[Array, " b"], Int[Array, ""]], Float[Array, "b c u"]],
    mixture_bt: Float[Array | np.ndarray, "b t"],
    lengths_b: Int[Array | np.ndarray, " b"] | None,
    config: ModelConfig,
) -> Float[Array, "b c t"]:
    """Separates `config.shifts` delayed copies, undoes the delays, and averages the sources in the same order.

    The copies run one after the other in a single compiled loop: they take more time, but hardly more memory or
    compilation.

    Args:
        separate: the separation, given the delayed mixtures, their lengths and the delay in samples.
        mixture_bt: mixtures.
        lengths_b: true length of each mixture in samples; None: all are entire.
        config: the model's sizes and options.

    Returns:
        The sources, in the order of the copy without a delay. Those of each other copy get the order with the smallest
        squared difference from it.
    """
    batch, num_samples = mixture_bt.shape
    lengths_b = jnp.full(batch, num_samples) if lengths_b is None else jnp.asarray(lengths_b)
    delays = shift_delays(config)
    longest = int(delays[-1])
    padded_bt = jnp.pad(jnp.asarray(mixture_bt), ((0, 0), (longest, longest)))

    def separate_delayed(delay: Array) -> Array:
        delayed_bt = jax.lax.dynamic_slice_in_dim(padded_bt, longest - delay, num_samples + longest, axis=1)
        sources_bct = separate(delayed_bt, lengths_b + delay, delay)
        return jax.lax.dynamic_slice_in_dim(sources_bct, delay, num_samples, axis=2)

    sources_kbct = jax.lax.map(separate_delayed, jnp.asarray(delays))
    products_kbij = jnp.einsum("bit,kbjt->kbij", sources_kbct[0], sources_kbct)
    orders_pc = source_orders(config.num_sources)
    totals_kbp = products_kbij[:, :, np.arange(config.num_sources), orders_pc].sum(axis=-1)
    order_kbc = jnp.asarray(orders_pc)[jnp.argmax(totals_kbp, axis=-1)]
    return jnp.take_along_axis(sources_kbct, order_kbc[..., None], axis=2).mean(axis=0)
