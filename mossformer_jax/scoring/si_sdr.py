"""SI-SDR in dB, pairwise and permutation-invariant; the training loss and the reported scores share one function.

Le Roux, Wisdom, Erdogan, Hershey, "SDR - half-baked or well done?", ICASSP 2019, equation (3), on zero-mean signals:

    target = <estimate, reference> / ||reference||^2 * reference
    SI-SDR = 10 log10(||target||^2 / ||estimate - target||^2)

clipped to [MIN_DB, MAX_DB]: a silent estimate or reference gives MIN_DB, a perfect estimate MAX_DB. At the limits the
gradient is zero, never NaN.

SI-SDR is not defined for a silent reference. Training uses another measure there (`pit_training_score`); reported
scores exclude such references.
"""

from __future__ import annotations

import itertools
from typing import TypeAlias

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from mossformer_jax.scoring.metric import Metric

# Signals may come from a file (NumPy) or from a compiled program (JAX).
AnyArray: TypeAlias = Array | np.ndarray

SI_SDR = Metric("si_sdr", "SI-SDR", unit="dB", improves=True)
MIN_DB, MAX_DB = -100.0, 100.0
MAX_PERMUTED_SOURCES = 6
# In a mixture with a silent reference, training does not reward any source beyond this score.
SILENT_LIMIT_DB = 30.0
# Mean squares far below those of any audible signal (-200 dB), so that they do not change any score. The floor of the
# denominator is the larger one, so that a silent estimate of a silent reference gets the lowest score and not 0 dB.
_NUMERATOR_FLOOR, _DENOMINATOR_FLOOR = 1e-32, 1e-20


def si_sdr(
    estimate: Float[AnyArray, "... t"],
    reference: Float[AnyArray, "... t"],
    lengths: Int[AnyArray, ...] | None = None,
) -> Float[Array, ...]:
    """SI-SDR of each estimate against its reference.

    Args:
        estimate: estimated signals, time last.
        reference: true signals; leading axes broadcast against the estimate's.
        lengths: number of valid samples, from the start, broadcast to the leading axes; None means all.

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
        # Not by multiplication, because the padding after a signal's end may be NaN.
        estimate, reference = (jnp.where(counted, x, 0.0) for x in (estimate, reference))
        mean = lambda x: jnp.sum(jnp.where(counted, x, 0.0), -1, keepdims=True) / counted.sum(-1, keepdims=True)  # noqa: E731

    estimate, reference = estimate - mean(estimate), reference - mean(reference)
    gain = mean(estimate * reference) / (mean(jnp.square(reference)) + _DENOMINATOR_FLOOR)
    target = gain * reference
    # A difference of logarithms, because the derivative of the quotient squares the floor, which underflows in float32.
    target_level = jnp.log10(mean(jnp.square(target)) + _NUMERATOR_FLOOR)
    error_level = jnp.log10(mean(jnp.square(estimate - target)) + _DENOMINATOR_FLOOR)
    return jnp.clip(10.0 * (target_level - error_level)[..., 0], MIN_DB, MAX_DB)


def pairwise_si_sdr(
    estimates_bct: Float[AnyArray, "b c t"],
    references_bct: Float[AnyArray, "b c2 t"],
    lengths_b: Int[AnyArray, " b"] | None = None,
) -> Float[Array, "b c c2"]:
    """SI-SDR in dB of every estimate against every reference of the same mixture."""
    lengths = None if lengths_b is None else jnp.asarray(lengths_b)[:, None, None]
    return si_sdr(estimates_bct[:, :, None], references_bct[:, None], lengths)


def pit_si_sdr(
    estimates_bct: Float[AnyArray, "b c t"],
    references_bct: Float[AnyArray, "b c t"],
    lengths_b: Int[AnyArray, " b"] | None = None,
) -> tuple[Float[Array, " b"], Int[Array, "b c"]]:
    """SI-SDR under the best assignment of estimates to references (PIT, Yu et al., ICASSP 2017).

    Returns:
        The mean over the sources in dB, one per mixture, and the permutation: `permutation[b, j]` is the estimate
        assigned to reference j.

    Raises:
        ValueError: the numbers of sources differ, or there are more than MAX_PERMUTED_SOURCES.
    """
    return _best_assignment(pairwise_si_sdr(estimates_bct, references_bct, lengths_b))


def pit_training_score(
    estimates_bct: Float[AnyArray, "b c t"],
    references_bct: Float[AnyArray, "b c t"],
    lengths_b: Int[AnyArray, " b"] | None = None,
) -> Float[Array, " b"]:
    """The score that training maximises, in dB per mixture: PIT SI-SDR, or a level measure for silent references.

    For a mixture without silent references this is the score of `pit_si_sdr`. In other mixtures, an estimate assigned
    to a silent reference is scored by how far its level is below that of the other estimates:

        -10 log10(P / P_others + 10^(-SILENT_LIMIT_DB / 10))

    where P is the power of the estimate and P_others the total power of the other estimates. SI-SDR against the
    other references is clipped at SILENT_LIMIT_DB as well. As in SI-SDR, the score does not depend on the common level
    of the estimates. The floor is relative, as in the losses for silent sources of Wisdom et al. ("What's all the FUSS
    about free universal sound separation data?", ICASSP 2021), but to the estimates instead of the mixture. A mixture
    whose references are all silent scores MAX_DB with a gradient of zero.

    Raises:
        ValueError: see `pit_si_sdr`.
    """
    scores_bij = pairwise_si_sdr(estimates_bct, references_bct, lengths_b)
    counted_b1t = jnp.ones_like(references_bct[:, :1], bool)
    if lengths_b is not None:
        counted_b1t = (jnp.arange(references_bct.shape[-1]) < jnp.asarray(lengths_b)[:, None])[:, None]
    # By equality, as in evaluation. A threshold on the power would fail: when the mean of a constant signal is removed,
    # the rounding error can exceed the threshold.
    silent_bj = jnp.all(~counted_b1t | (references_bct == references_bct[..., :1]), axis=-1)

    power_bi = jnp.sum(jnp.square(jnp.where(counted_b1t, estimates_bct, 0.0)), -1) / counted_b1t.sum(-1)
    others_bi = jnp.sum(power_bi, axis=1, keepdims=True) - power_bi
    floor_bi = 10 ** (-SILENT_LIMIT_DB / 10) * others_bi
    # A difference of logarithms, as in si_sdr.
    below_db_bi = 10.0 * (
        jnp.log10(others_bi + _DENOMINATOR_FLOOR) - jnp.log10(power_bi + floor_bi + _DENOMINATOR_FLOOR)
    )
    with_silence_bij = jnp.where(silent_bj[:, None], below_db_bi[:, :, None], jnp.minimum(scores_bij, SILENT_LIMIT_DB))
    has_silence_b = silent_bj.any(axis=1)
    best_b, _ = _best_assignment(jnp.where(has_silence_b[:, None, None], with_silence_bij, scores_bij))
    return jnp.where(silent_bj.all(axis=1), MAX_DB, best_b)


def _best_assignment(scores_bij: Float[Array, "b c c2"]) -> tuple[Float[Array, " b"], Int[Array, "b c"]]:
    """The best mean score over the references j, and the index i of the estimate assigned to each."""
    num_estimates, num_sources = scores_bij.shape[1:]
    if num_estimates != num_sources:
        raise ValueError(
            f"{num_estimates} estimates cannot be assigned to {num_sources} references; pass as many of each"
        )
    if num_sources > MAX_PERMUTED_SOURCES:
        raise ValueError(
            f"{num_sources} sources are too many to try all permutations; at most {MAX_PERMUTED_SOURCES} are supported"
        )
    permutations_pj = np.array(list(itertools.permutations(range(num_sources))))
    means_bp = jnp.mean(scores_bij[:, permutations_pj, np.arange(num_sources)], axis=-1)
    best_b = jnp.argmax(means_bp, axis=-1)
    return jnp.max(means_bp, axis=-1), jnp.asarray(permutations_pj)[best_b]


def pit_si_sdr_loss(
    estimates_bct: Float[AnyArray, "b c t"],
    references_bct: Float[AnyArray, "b c t"],
    lengths_b: Int[AnyArray, " b"] | None = None,
    *,
    threshold_db: float = 30.0,
) -> Float[Array, ""]:
    """Negative `pit_training_score` in dB, averaged over the mixtures below `threshold_db`; 0 if there are none."""
    scores_b = pit_training_score(estimates_bct, references_bct, lengths_b)
    below_b = scores_b < threshold_db
    return -jnp.sum(jnp.where(below_b, scores_b, 0.0)) / jnp.maximum(jnp.sum(below_b), 1)
