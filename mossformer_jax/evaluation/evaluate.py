"""Scores every utterance of a data set once: on the device for a batch, on the host for a row an utterance."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from mossformer_jax.scoring import pairwise_si_sdr, pit_si_sdr

if TYPE_CHECKING:
    # It needs Grain, which who scores files does not.
    from mossformer_jax.data.pipeline import Batch


class Scores(NamedTuple):
    """Figures of a batch, one a reference.

    Attributes:
        si_sdr_bc: SI-SDR in dB; without meaning where the reference is silent.
        si_sdri_bc: SI-SDR in dB above that of the mixture taken as the estimate; likewise.
        permutation_bc: the estimate that belongs to each reference, by the best mean SI-SDR.
        silent_bc: whether the reference is silent, or constant, so that SI-SDR is not defined against it.
    """

    si_sdr_bc: Float[Array, "b c"]
    si_sdri_bc: Float[Array, "b c"]
    permutation_bc: Int[Array, "b c"]
    silent_bc: Bool[Array, "b c"]


ScoreBatch: TypeAlias = "Callable[[Batch], tuple[Scores, Int[Array, ' b']]]"
"""A program that separates and scores a batch: its `Scores`, and its `index` by the same way, so that with several
processes both are those of all rows, in one order, whichever rows this process gave. Every process can read the
results."""


@dataclass(frozen=True)
class UtteranceScores:
    """Figures of an utterance, in dB; NaN where a reference is silent, so that they are not defined.

    Attributes:
        index: which mixture of the data set it is.
        si_sdr_db: mean over the sources; NaN as soon as one of them is.
        si_sdri_db: mean improvement over the mixture; likewise.
        source_si_sdr_db: of each reference.
        source_si_sdri_db: of each reference.
        permutation: the estimate that belongs to each reference.
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
    estimates_bct: Float[Array, "b c t"],
    sources_bct: Float[Array, "b c t"],
    mixture_bt: Float[Array, "b t"],
    lengths_b: Int[Array, " b"],
) -> Scores:
    """SI-SDR and its improvement under the best permutation; to be compiled as a part of a program.

    Args:
        estimates_bct: separated sources.
        sources_bct: the true ones.
        mixture_bt: what they were separated from.
        lengths_b: true length of each mixture in samples; what lies beyond does not count.
    """
    scores_bij = pairwise_si_sdr(estimates_bct, sources_bct, lengths_b)
    _, permutation_bc = pit_si_sdr(estimates_bct, sources_bct, lengths_b)
    si_sdr_bc = jnp.take_along_axis(scores_bij, permutation_bc[:, None], axis=1)[:, 0]
    baseline_bc = pairwise_si_sdr(mixture_bt[:, None], sources_bct, lengths_b)[:, 0]
    counted_b1t = (jnp.arange(sources_bct.shape[-1]) < lengths_b[:, None])[:, None]
    # By equality: what rounding leaves of a constant signal's mean is above any floor.
    silent_bc = jnp.all(~counted_b1t | (sources_bct == sources_bct[..., :1]), axis=-1)
    return Scores(si_sdr_bc, si_sdr_bc - baseline_bc, permutation_bc, silent_bc)


def evaluate(
    score_batch: ScoreBatch,
    batches: Iterable[Batch],
    on_batch: Callable[[list[UtteranceScores]], None] | None = None,
) -> list[UtteranceScores]:
    """Scores every utterance of a data set.

    Args:
        score_batch: separates and scores a batch; see `ScoreBatch`.
        batches: those of `evaluation_batches`; with several processes, this process's part of them.
        on_batch: told the rows of each batch as they come.

    Returns:
        One row an utterance, in the order of the data set, the same in every process.
    """
    rows: list[UtteranceScores] = []
    for batch in batches:
        rows_of_batch = utterance_scores(*score_batch(batch))
        rows += rows_of_batch
        if on_batch is not None:
            on_batch(rows_of_batch)
    return sorted(rows, key=lambda row: row.index)


def utterance_scores(scores: Scores, index_b: Int[Array, " b"]) -> list[UtteranceScores]:
    """One row an utterance of a batch, leaving out the rows that only fill it up (index below 0)."""
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

    NaN where there are none, and where the network's output for any of them is not finite.
    """
    improvements = [row.si_sdri_db for row in rows if not any(row.silent)]
    return float(np.mean(improvements)) if improvements else math.nan
