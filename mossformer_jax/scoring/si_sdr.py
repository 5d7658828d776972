"""SI-SDR in dB, pairwise and permutation-invariant; the training loss and the reported figure are one function.

Le Roux, Wisdom, Erdogan, Hershey, "SDR - half-baked or well done?", ICASSP 2019, equation (3), on zero-mean signals:

    target = <estimate, reference> / ||reference||^2 * reference
    SI-SDR = 10 log10(||target||^2 / ||estimate - target||^2)

limited to [MIN_DB, MAX_DB]: a silent estimate or reference gives MIN_DB, a perfect estimate MAX_DB, and where the
limits hold the gradient is zero, never NaN.
"""

from __future__ import annotations

import itertools

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

MIN_DB, MAX_DB = -100.0, 100.0
MAX_PERMUTED_SOURCES = 6
# Mean squares far below those of any audible signal (-200 dB), so that they change no figure; the one under the
# fraction is the larger, so that silence over silence is the worst score and not 0 dB.
_NUMERATOR_FLOOR, _DENOMINATOR_FLOOR = 1e-32, 1e-20


def si_sdr(
    estimate: Float[Array, "... t"], reference: Float[Array, "... t"], lengths: Int[Array, ...] | None = None
) -> Float[Array, ...]:
    """SI-SDR of each estimate against its reference.

    Args:
        estimate: estimated signals, time last.
        reference: true signals; leading axes broadcast against the estimate's.
        lengths: number of samples that count (from the start), broadcast to the leading axes; None counts all.

    Returns:
        SI-SDR in dB within [MIN_DB, MAX_DB].

    Raises:
        ValueError: the signals differ in length.
    """
    if estimate.shape[-1] != reference.shape[-1]:
        raise ValueError(
            f"estimate has {estimate.shape[-1]} samples and reference {reference.shape[-1]}: cut or pad to one length"
        )
    num_samples = estimate.shape[-1]
    if lengths is None:
        mean = lambda x: jnp.mean(x, axis=-1, keepdims=True)  # noqa: E731
    else:
        counted = jnp.arange(num_samples) < jnp.asarray(lengths)[..., None]
        # Not by multiplication: what lies beyond a signal's end may be NaN.
        estimate, reference = (jnp.where(counted, x, 0.0) for x in (estimate, reference))
        mean = lambda x: jnp.sum(jnp.where(counted, x, 0.0), -1, keepdims=True) / counted.sum(-1, keepdims=True)  # noqa: E731

    estimate, reference = estimate - mean(estimate), reference - mean(reference)
    gain = mean(estimate * reference) / (mean(jnp.square(reference)) + _DENOMINATOR_FLOOR)
    target = gain * reference
    # A difference of logarithms: the quotient's derivative would square the floor, which underflows in float32.
    target_level = jnp.log10(mean(jnp.square(target)) + _NUMERATOR_FLOOR)
    error_level = jnp.log10(mean(jnp.square(estimate - target)) + _DENOMINATOR_FLOOR)
    return jnp.clip(10.0 * (target_level - error_level)[..., 0], MIN_DB, MAX_DB)


def pairwise_si_sdr(
    estimates_bct: Float[Array, "b c t"],
    references_bct: Float[Array, "b c2 t"],
    lengths_b: Int[Array, " b"] | None = None,
) -> Float[Array, "b c c2"]:
    """SI-SDR in dB of every estimate against every reference of the same mixture."""
    lengths = None if lengths_b is None else jnp.asarray(lengths_b)[:, None, None]
    return si_sdr(estimates_bct[:, :, None], references_bct[:, None], lengths)


def pit_si_sdr(
    estimates_bct: Float[Array, "b c t"],
    references_bct: Float[Array, "b c t"],
    lengths_b: Int[Array, " b"] | None = None,
) -> tuple[Float[Array, " b"], Int[Array, "b c"]]:
    """SI-SDR under the best assignment of estimates to references (PIT, Yu et al., ICASSP 2017).

    Returns:
        The mean over sources in dB a mixture, and the permutation: `permutation[b, j]` is the estimate that belongs to
        reference j.

    Raises:
        ValueError: the numbers of sources differ, or there are more than MAX_PERMUTED_SOURCES.
    """
    num_sources = references_bct.shape[1]
    if estimates_bct.shape[1] != num_sources:
        raise ValueError(f"{estimates_bct.shape[1]} estimates cannot be assigned to {num_sources} references")
    if num_sources > MAX_PERMUTED_SOURCES:
        raise ValueError(
            f"{num_sources} sources: all permutations are tried, of at most {MAX_PERMUTED_SOURCES} sources"
        )
    scores_bij = pairwise_si_sdr(estimates_bct, references_bct, lengths_b)
    permutations_pj = np.array(list(itertools.permutations(range(num_sources))))
    means_bp = jnp.mean(scores_bij[:, permutations_pj, np.arange(num_sources)], axis=-1)
    best_b = jnp.argmax(means_bp, axis=-1)
    return jnp.max(means_bp, axis=-1), jnp.asarray(permutations_pj)[best_b]


def pit_si_sdr_loss(
    estimates_bct: Float[Array, "b c t"],
    references_bct: Float[Array, "b c t"],
    lengths_b: Int[Array, " b"] | None = None,
    *,
    threshold_db: float = 30.0,
) -> Float[Array, ""]:
    """Negative PIT SI-SDR in dB, averaged over the mixtures that are not yet above `threshold_db` (0 if all are)."""
    scores_b, _ = pit_si_sdr(estimates_bct, references_bct, lengths_b)
    unsolved_b = scores_b < threshold_db
    return -jnp.sum(jnp.where(unsolved_b, scores_b, 0.0)) / jnp.maximum(jnp.sum(unsolved_b), 1)
