"""The best one-to-one assignment of outputs to speakers, and by how much it is the best."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.optimize import linear_sum_assignment


def best_order(
    scores: Float[np.ndarray, "c c"],
    known: Bool[np.ndarray, " c"] | None = None,
    talking: Bool[np.ndarray, " c"] | None = None,
) -> tuple[Int[np.ndarray, " c"], float]:
    """Finds the order that maximises `sum_j scores[j, order[j]]`.

    Exact for any number of sources: the second best differs from the best in at least one pair, so it is the best of
    those where one of the chosen pairs is forbidden.

    Args:
        scores: how well speaker j (row) goes with output p (column).
        known: speakers of whom something has been heard; None: all. Which of the others is which makes no difference.
        talking: outputs that hold a voice; None: all. Which of the others goes where makes no difference.

    Returns:
        The order, and its sum's margin over that of the second-best order that makes a difference; infinite where
        there is none (a single source, for example).
    """
    num_sources = len(scores)
    known = np.ones(num_sources, bool) if known is None else known
    talking = np.ones(num_sources, bool) if talking is None else talking
    speakers, order = linear_sum_assignment(scores, maximize=True)
    best = scores[speakers, order].sum()
    # No sum of allowed scores is as low as one that holds this.
    forbidden_score = scores.min() - num_sources * (np.ptp(scores) + 1.0)
    second = -np.inf
    for speaker, output in enumerate(order):
        if not (known[speaker] or talking[output]):
            continue
        # A speaker may not go to this output, nor to one that would sound the same; nor may one who would be the same.
        speakers_alike = np.arange(num_sources) == speaker if known[speaker] else ~known
        outputs_alike = np.arange(num_sources) == output if talking[output] else ~talking
        forbidden = np.outer(speakers_alike, outputs_alike)
        rows, columns = linear_sum_assignment(np.where(forbidden, forbidden_score, scores), maximize=True)
        if not forbidden[rows, columns].any():
            second = max(second, scores[rows, columns].sum())
    return order, float(best - second)
