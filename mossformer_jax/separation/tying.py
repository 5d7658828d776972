"""Keeps each speaker in one output over a long recording whose windows have outputs in any order."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from mossformer_jax.separation.assignment import best_order
from mossformer_jax.separation.voices import voice_log_odds, voice_sums

FRAME_SECONDS = 0.02
# Frames of an overlap below this level, relative to the loud parts of the recording, are ignored.
GATE_DB = -40.0
MIN_OVERLAP_SECONDS = 0.1
# Log-odds, in nats, of an overlap whose outputs agree perfectly, and the duration at the power of the loud parts that
# gives half of them. Quieter overlaps may be noise, which can be in any output.
OVERLAP_LOG_ODDS = 20.0
ENOUGH_SECONDS = 0.05
# An order counts as decided from these log-odds, in nats, against the second best.
DECIDED = 2.0
# An output that dominates in fewer frames (20 ms apart) counts as having no talker.
MIN_FRAMES = 10
MAX_SWEEPS = 20


@dataclass(frozen=True)
class Tie:
    """How a window was tied to the windows before it.

    Attributes:
        margin: log-odds, in nats, of the chosen order of outputs against the second-best one that would sound
            different: about 0 for equal odds, 2 for 9 in 10, 20 for a perfect overlap. 0.0 if undecided.
        evidence: what decided: "overlap" (both windows hold the same speech), "voice" (pitch and timbre of the
            speakers), "none" (undecided: the outputs keep their order, and speakers may be swapped
            here), or "unneeded" (a single output, or silence before or after: no order sounds different).
    """

    margin: float
    evidence: str


class SpeakerTies:
    """Ties the speakers of a recording across windows.

    Windows whose overlap decides the order are joined into runs. A run ends where the overlap is silent or does not
    identify all speakers. The order of a run is chosen by the similarity of its voices to those of all other runs, and
    by the speakers that the overlap does identify. Only the last window and a few sums per window are kept.

    Example:
        >>> ties = SpeakerTies(num_sources=2, sample_rate=8000, loudness=0.1)
        >>> for start, outputs_ct in windows:
        ...     ties.add(outputs_ct, start)
        >>> order_wc, report = ties.solve()

    Args:
        num_sources: outputs of a window.
        sample_rate: in Hz.
        loudness: RMS of the loud parts of the whole mixture, on the scale of the windows.
    """

    def __init__(self, num_sources: int, sample_rate: int, loudness: float):
        self._num_sources = num_sources
        self._sample_rate = sample_rate
        self._loudness = loudness
        self._overlaps: list[np.ndarray] = []
        self._voices: list[np.ndarray] = []
        self._previous: tuple[np.ndarray, int] | None = None

    def add(self, sources: Float[np.ndarray, "c *channels t"], start: int) -> None:
        """Adds the outputs of the next window.

        Args:
            sources: outputs of the window, in any order, in one or more channels, which are evaluated together.
            start: the window's first sample in the recording, after the previous window's.

        Raises:
            ValueError: the number of outputs is wrong, or the windows are not in order.
        """
        if len(sources) != self._num_sources:
            raise ValueError(f"window at sample {start} has {len(sources)} outputs, but must have {self._num_sources}")
        heard = 0
        if self._previous is not None:
            previous, previous_start = self._previous
            if start <= previous_start:
                raise ValueError(
                    f"window at sample {start} follows one at {previous_start}; add windows in order of time"
                )
            heard = min(max(previous_start + previous.shape[-1] - start, 0), sources.shape[-1])
            before = previous[..., start - previous_start :][..., :heard]
            self._overlaps.append(self._overlap_log_odds(before, sources[..., :heard]))
        # The overlap was counted with the previous window.
        self._voices.append(voice_sums(sources[..., heard:], self._sample_rate, self._loudness))
        self._previous = sources, start

    def solve(self) -> tuple[Int[np.ndarray, "w c"], list[Tie]]:
        """Finds the order of every window's outputs; needs at least one window.

        Returns:
            order: `order[w, j]` is the output of window w that holds speaker j.
            ties: one for each window after the first.
        """
        runs, ties = _join(self._voices, self._overlaps)
        comparison = _RunComparison(runs, self._overlaps)
        comparison.settle()
        before = comparison.margin(0)
        for r, run in enumerate(runs[1:], start=1):
            after = comparison.margin(r)
            if not DECIDED <= after < np.inf:
                comparison.keep(r)
            if np.isfinite(after):
                # The previous run may be the uncertain one.
                margin = min(before, after)
                ties[run.start] = Tie(margin, "voice") if margin >= DECIDED else Tie(0.0, "none")
                before = after
        orders = [run.order_wc[:, order] for run, order in zip(runs, comparison.order_rc, strict=True)]
        return np.concatenate(orders), ties[1:]

    def _overlap_log_odds(
        self, before: Float[np.ndarray, "c *channels t"], after: Float[np.ndarray, "c *channels t"]
    ) -> Float[np.ndarray, "c c"]:
        """How well each output of a window (row) matches each output of the next (column) over their overlap.

        Inner products over the overlap, normalised by its total energy, not per pair: the order with the largest sum is
        then the one with the smallest difference, and a voice leaking into a silent output has no weight.
        """
        frame = round(FRAME_SECONDS * self._sample_rate)
        num_frames = before.shape[-1] // frame
        if num_frames * FRAME_SECONDS < MIN_OVERLAP_SECONDS:
            return np.zeros((self._num_sources, self._num_sources))
        shape = (self._num_sources, -1, num_frames, frame)
        before, after = (x[..., : num_frames * frame].astype(np.float64).reshape(shape) for x in (before, after))
        power_before, power_after = (np.square(x).mean(axis=(1, 3)).sum(axis=0) for x in (before, after))
        loud = np.minimum(power_before, power_after) > self._loudness**2 * 10 ** (GATE_DB / 10)
        if loud.sum() * FRAME_SECONDS < MIN_OVERLAP_SECONDS:
            return np.zeros((self._num_sources, self._num_sources))
        samples_of_frame = frame * before.shape[1]
        energy = samples_of_frame * np.sqrt(power_before[loud].sum() * power_after[loud].sum())
        enough = samples_of_frame * ENOUGH_SECONDS / FRAME_SECONDS * self._loudness**2
        products = np.einsum("pnls,qnls->pq", before[:, :, loud], after[:, :, loud])
        return OVERLAP_LOG_ODDS * products / (energy + enough)


@dataclass(frozen=True)
class _Run:
    """Consecutive windows, the orders that tie them, and their voice sums in these orders."""

    start: int
    order_wc: Int[np.ndarray, "w c"]
    voices_ck: Float[np.ndarray, "c k"]


def _join(voices: list[np.ndarray], overlaps: list[np.ndarray]) -> tuple[list[_Run], list[Tie]]:
    """Joins windows into runs where the overlap alone decides the order of all outputs.

    Returns:
        The runs, and a tie for each window; for now "unneeded" where a run begins.
    """
    order_wc = np.tile(np.arange(len(voices[0])), (len(voices), 1))
    ties = [Tie(0.0, "unneeded")] * len(voices)
    starts = [0]
    for window, overlap in enumerate(overlaps, start=1):
        order_wc[window], margin = best_order(overlap[order_wc[window - 1]])
        if margin < DECIDED:
            starts.append(window)
        elif np.isfinite(margin):
            ties[window] = Tie(margin, "overlap")
    voices_wck = np.take_along_axis(np.stack(voices), order_wc[..., None], axis=1)
    spans = itertools.pairwise([*starts, len(voices)])
    return [_Run(start, order_wc[start:end], voices_wck[start:end].sum(axis=0)) for start, end in spans], ties


class _RunComparison:
    """Finds the order of each run from all other runs.

    Args:
        runs: all runs of the recording.
        overlaps: log-odds of each window's outputs with those of the next, from their overlap.

    Attributes:
        order_rc: the output of run r that holds speaker c.
    """

    def __init__(self, runs: list[_Run], overlaps: list[np.ndarray]):
        self._runs = runs
        self._voices_rck = np.stack([run.voices_ck for run in runs])
        self._overlaps_rcc = [_overlap_of(left, right, overlaps) for left, right in itertools.pairwise(runs)]
        self._placed = np.zeros(len(runs), bool)
        self.order_rc = np.tile(np.arange(self._voices_rck.shape[1]), (len(runs), 1))

    def settle(self) -> None:
        """Orders the runs, those with most speech first, until nothing changes. The first run keeps its order."""
        for r in np.argsort(-self._voices_rck[..., 0].sum(axis=1), kind="stable").tolist():
            self.order_rc[r] = best_order(*self._evidence(r))[0]
            self._placed[r] = True
        for _ in range(MAX_SWEEPS):
            before = self.order_rc.copy()
            for r in range(len(self._runs)):
                self.order_rc[r] = best_order(*self._evidence(r))[0]
            if (self.order_rc == before).all():
                break
        self.order_rc = self.order_rc[:, np.argsort(self.order_rc[0])]

    def margin(self, r: int) -> float:
        """The margin of the best order of a run, given all other runs."""
        return best_order(*self._evidence(r))[1]

    def keep(self, r: int) -> None:
        """Keeps a run's outputs in the order of the previous run, unless there is strong evidence against it."""
        came_c = self._runs[r - 1].order_wc[-1][self.order_rc[r - 1]]
        kept_c = np.argsort(self._runs[r].order_wc[0])[came_c]
        scores, known, talking = self._evidence(r)
        scores[np.arange(len(kept_c)), kept_c] += DECIDED / 2
        self.order_rc[r] = best_order(scores, known, talking)[0]

    def _evidence(self, r: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The arguments of `best_order`: the speakers of all other runs against the outputs of this one."""
        others = self._placed & (np.arange(len(self._placed)) != r)
        speakers_rck = np.take_along_axis(self._voices_rck[others], self.order_rc[others, :, None], axis=1)
        overlap_cc = np.zeros((self.order_rc.shape[1],) * 2)
        if r > 0 and others[r - 1]:
            overlap_cc += self._overlaps_rcc[r - 1][self.order_rc[r - 1]]
        if r + 1 < len(others) and others[r + 1]:
            overlap_cc += self._overlaps_rcc[r][:, self.order_rc[r + 1]].T
        return _evidence(speakers_rck.sum(axis=0), self._voices_rck[r], overlap_cc)


def _overlap_of(left: _Run, right: _Run, overlaps: list[np.ndarray]) -> Float[np.ndarray, "c c"]:
    """Log-odds of the overlap of two consecutive runs, in their orders."""
    return overlaps[right.start - 1][left.order_wc[-1]][:, right.order_wc[0]]


def _evidence(
    speakers_ck: Float[np.ndarray, "c k"], outputs_ck: Float[np.ndarray, "c k"], overlap_cc: Float[np.ndarray, "c c"]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The arguments of `best_order`: log-odds from voices and overlap, known speakers, talking outputs."""
    known = (speakers_ck[:, 0] >= MIN_FRAMES) | (overlap_cc.max(axis=1) >= DECIDED)
    talking = (outputs_ck[:, 0] >= MIN_FRAMES) | (overlap_cc.max(axis=0) >= DECIDED)
    return voice_log_odds(speakers_ck, outputs_ck) + overlap_cc, known, talking
