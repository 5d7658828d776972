"""The best one-to-one assignment of outputs to speakers, and its margin over the second best."""

from __future__ import annotations

import numpy as np
import scipy  # loads scipy.optimize at its first use, because that takes a second
from jaxtyping import Bool, Float, Int


def best_order(
    scores: Float[np.ndarray, "c c"],
    known: Bool[np.ndarray, " c"] | None = None,
    talking: Bool[np.ndarray, " c"] | None = None,
) -> tuple[Int[np.ndarray, " c"], float]:
    """Finds the order that maximises `sum_j scores[j, order[j]]`.

    Exact for any number of sources: the second-best order lacks at least one pair of the best one. It is therefore
    found by forbidding each of these pairs in turn.

    Args:
        scores: how well speaker j (row) matches output p (column).
        known: speakers that have been heard; None: all. The others are interchangeable.
        talking: outputs that hold a voice; None: all. The others are interchangeable.

    Returns:
        The order, and the margin of its sum over that of the second-best order that sounds different; infinite if
        there is no such order (a single source, for example).
    """
    num_sources = len(scores)
    known = np.ones(num_sources, bool) if known is None else known
    talking = np.ones(num_sources, bool) if talking is None else talking
    speakers, order = scipy.optimize.linear_sum_assignment(scores, maximize=True)
    best = scores[speakers, order].sum()
    # Lower than any sum of allowed scores.
    forbidden_score = scores.min() - num_sources * (np.ptp(scores) + 1.0)
    second = -np.inf
    for speaker, output in enumerate(order):
        if not (known[speaker] or talking[output]):
            continue
        # Forbid this pair, and all pairs of interchangeable speakers and outputs that would sound the same.
        speakers_alike = np.arange(num_sources) == speaker if known[speaker] else ~known
        outputs_alike = np.arange(num_sources) == output if talking[output] else ~talking
        forbidden = np.outer(speakers_alike, outputs_alike)
        restricted = np.where(forbidden, forbidden_score, scores)
        rows, columns = scipy.optimize.linear_sum_assignment(restricted, maximize=True)
        if not forbidden[rows, columns].any():
            second = max(second, scores[rows, columns].sum())
    return order, float(best - second)
