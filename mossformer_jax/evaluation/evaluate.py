"""Scores every utterance of a data set once: in batches on the device, then one row per utterance on the host."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from mossformer_jax.scoring import pairwise_si_sdr, pit_si_sdr

AnyBatch = TypeVar("AnyBatch")


class Scores(NamedTuple):
    """Scores of a batch, one per reference.

    Attributes:
        si_sdr_bc: SI-SDR in dB; meaningless where the reference is silent.
        si_sdri_bc: SI-SDR improvement over the mixture in dB; meaningless where the reference is silent.
        permutation_bc: the estimate assigned to each reference, by the best mean SI-SDR.
        silent_bc: whether the reference is silent or constant, so that SI-SDR is undefined.
    """

    si_sdr_bc: Float[Array, "b c"]
    si_sdri_bc: Float[Array, "b c"]
    permutation_bc: Int[Array, "b c"]
    silent_bc: Bool[Array, "b c"]


@dataclass(frozen=True)
class UtteranceScores:
    """Scores of an utterance in dB; NaN for silent references, where they are undefined.

    Attributes:
        index: index of the mixture in the data set.
        si_sdr_db: mean SI-SDR over the sources; NaN if any reference is silent.
        si_sdri_db: mean SI-SDR improvement over the mixture; NaN if any reference is silent.
        source_si_sdr_db: SI-SDR of each source, in the order of the references.
        source_si_sdri_db: SI-SDR improvement of each source, in the order of the references.
        permutation: the estimate assigned to each reference.
        silent: whether each reference is silent.
    """

    index: int
    si_sdr_db: float
    si_sdri_db: float
    source_si_sdr_db: tuple[float, ...]
    source_si_sdri_db: tuple[float, ...]
    permutation: tuple[int, ...]
    silent: tuple[bool, ...]


def score_separation(
    estimates_bct: Float[Array | np.ndarray, "b c t"],
    sources_bct: Float[Array | np.ndarray, "b c t"],
    mixture_bt: Float[Array | np.ndarray, "b t"],
    lengths_b: Int[Array | np.ndarray, " b"],
) -> Scores:
    """SI-SDR and its improvement under the best permutation; can be called inside a compiled program.

    Args:
        estimates_bct: separated sources.
        sources_bct: true sources.
        mixture_bt: the mixtures that were separated.
        lengths_b: length of each mixture in samples; padding after it is ignored.
    """
    scores_bij = pairwise_si_sdr(estimates_bct, sources_bct, lengths_b)
    _, permutation_bc = pit_si_sdr(estimates_bct, sources_bct, lengths_b)
    si_sdr_bc = jnp.take_along_axis(scores_bij, permutation_bc[:, None], axis=1)[:, 0]
    baseline_bc = pairwise_si_sdr(mixture_bt[:, None], sources_bct, lengths_b)[:, 0]
    counted_b1t = (jnp.arange(sources_bct.shape[-1]) < lengths_b[:, None])[:, None]
    # By equality. A threshold on the power would fail: when the mean of a constant signal is removed, the rounding
    # error can exceed the threshold.
    silent_bc = jnp.all(~counted_b1t | (sources_bct == sources_bct[..., :1]), axis=-1)
    return Scores(si_sdr_bc, si_sdr_bc - baseline_bc, permutation_bc, silent_bc)


def evaluate(
    score_batch: Callable[[AnyBatch], tuple[Scores, Int[Array, " b"]]],
    batches: Iterable[AnyBatch],
    on_batch: Callable[[list[UtteranceScores]], None] | None = None,
) -> list[UtteranceScores]:
    """Scores every utterance of a data set.

    Args:
        score_batch: separates and scores a batch. Returns the `Scores` and the `index` of all rows. With several
            processes, each passes its part of the rows, and every process gets the results of all rows in the same
            order.
        batches: batches of `evaluation_batches`; with several processes, this process's part of them.
        on_batch: called with the rows of each batch.

    Returns:
        One row per utterance, in the order of the data set, the same in every process.
    """
    rows: list[UtteranceScores] = []
    for batch in batches:
        rows_of_batch = utterance_scores(*score_batch(batch))
        rows += rows_of_batch
        if on_batch is not None:
            on_batch(rows_of_batch)
    return sorted(rows, key=lambda row: row.index)


def utterance_scores(scores: Scores, index_b: Int[Array | np.ndarray, " b"]) -> list[UtteranceScores]:
    """One row per utterance of a batch, without the padding rows (index below 0)."""
    silent_bc, permutation_bc = np.asarray(scores.silent_bc), np.asarray(scores.permutation_bc)
    si_sdr_bc, si_sdri_bc = (
        np.where(silent_bc, math.nan, np.asarray(figures, np.float64))
        for figures in (scores.si_sdr_bc, scores.si_sdri_bc)
    )
    return [
        UtteranceScores(
            index=int(index),
            si_sdr_db=float(si_sdr_bc[row].mean()),
            si_sdri_db=float(si_sdri_bc[row].mean()),
            source_si_sdr_db=tuple(si_sdr_bc[row].tolist()),
            source_si_sdri_db=tuple(si_sdri_bc[row].tolist()),
            permutation=tuple(permutation_bc[row].tolist()),
            silent=tuple(silent_bc[row].tolist()),
        )
        for row, index in enumerate(np.asarray(index_b))
        if index >= 0
    ]


def mean_si_sdri_db(rows: Sequence[UtteranceScores]) -> float:
    """Mean SI-SDR improvement in dB over the utterances without a silent reference.

    NaN if there are no such utterances, or if the network's output for any of them is not finite.
    """
    improvements = [row.si_sdri_db for row in rows if not any(row.silent)]
    return float(np.mean(improvements)) if improvements else math.nan
