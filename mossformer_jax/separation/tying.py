"""Keep each speaker in one output over a long recording whose windows came out in any order."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from mossformer_jax.separation.assignment import best_order
from mossformer_jax.separation.voices import voice_log_odds, voice_sums

FRAME_SECONDS = 0.02
# Frames of an overlap below this, relative to the loud parts of the recording, are no evidence.
GATE_DB = -40.0
MIN_OVERLAP_SECONDS = 0.1
# The log-odds of an overlap whose outputs agree perfectly, in nats.
OVERLAP_LOG_ODDS = 20.0
# Log-odds of the best order against the second best, in nats, from which it counts as decided.
DECIDED = 2.0
# An output that dominates in fewer frames (every 20 ms) holds no talker.
MIN_FRAMES = 10
MAX_SWEEPS = 20


@dataclass(frozen=True)
class Tie:
    """How a window was tied to what came before it.

    Attributes:
        margin: log-odds, in nats, of the chosen order of outputs against the second-best one that would sound
            different: about 0 for a toss-up, 2 for 9 in 10, 20 for a perfect overlap. 0.0 where nothing decided.
        evidence: what decided: "overlap" (both windows hold the same speech), "voice" (pitch and timbre of the
            speakers, over the whole recording), "none" (neither did: the outputs keep the order in which they came,
            and speakers may be swapped here), or "unneeded" (a single output, or silence before or after: no order
            sounds different).
    """

    margin: float
    evidence: str


class SpeakerTies:
    """Ties the speakers of a recording across windows.

    Windows whose overlap leaves no doubt are joined to runs. Runs, which begin and end where the overlap is silent or
    says too little, are put in order by how much their voices resemble those of all other runs. Of the windows, only
    the last one and a few sums a window are kept.

    Example:
        >>> ties = SpeakerTies(num_sources=2, sample_rate=8000, loudness=0.1)
        >>> for start, outputs_ct in windows:
        ...     ties.add(outputs_ct, start)
        >>> order, report = ties.solve()

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
        """Takes the next window's outputs.

        Args:
            sources: outputs of the window, in any order; perhaps in several channels, which count together.
            start: the window's first sample in the recording, after the previous window's.

        Raises:
            ValueError: the number of outputs is another, or the windows are not in order.
        """
        if len(sources) != self._num_sources:
            raise ValueError(f"window at sample {start} has {len(sources)} outputs, but must have {self._num_sources}")
        heard = 0
        if self._previous is not None:
            previous, previous_start = self._previous
            if start <= previous_start:
                raise ValueError(f"window at sample {start} follows one at {previous_start}; add them in their order")
            overlap = min(max(previous_start + previous.shape[-1] - start, 0), sources.shape[-1])
            before = previous[..., start - previous_start :][..., :overlap]
            self._overlaps.append(self._overlap_log_odds(before, sources[..., :overlap]))
            heard = overlap
        # What the previous window has told already must not count twice.
        self._voices.append(voice_sums(sources[..., heard:], self._sample_rate, self._loudness))
        self._previous = sources, start

    def solve(self) -> tuple[Int[np.ndarray, "w c"], list[Tie]]:
        """Finds the order of every window's outputs.

        Returns:
            order: `order[w, j]` is the output of window w that holds speaker j.
            ties: one for each window after the first.
        """
        order_wc = np.tile(np.arange(self._num_sources), (len(self._voices), 1))
        ties = [Tie(0.0, "unneeded")] * len(order_wc)
        starts = [0]
        for window, overlap in enumerate(self._overlaps, start=1):
            order_wc[window], margin = best_order(overlap[order_wc[window - 1]])
            if margin < DECIDED:
                starts.append(window)
            elif np.isfinite(margin):
                ties[window] = Tie(margin, "overlap")

        voices_wck = np.take_along_axis(np.stack(self._voices), order_wc[..., None], axis=1)
        runs = _Runs(
            voices_rck=np.add.reduceat(voices_wck, starts),
            links_rcc=[self._overlaps[w - 1][order_wc[w - 1]][:, order_wc[w]] for w in starts[1:]],
        )
        runs.settle()
        before = runs.margin(0)
        for run, (start, end) in enumerate(itertools.pairwise([*starts, len(order_wc)])):
            if run > 0:
                after = runs.margin(run)
                if not DECIDED <= after < np.inf:
                    # The position, among the run's outputs, of the output that each speaker had before.
                    runs.keep(run, np.argsort(order_wc[start])[order_wc[start - 1]])
                if np.isfinite(after):
                    # The run before may be the one that is in doubt.
                    margin = min(before, after)
                    ties[start] = Tie(margin, "voice") if margin >= DECIDED else Tie(0.0, "none")
                    before = after
            order_wc[start:end] = order_wc[start:end, runs.order_rc[run]]
        return order_wc, ties[1:]

    def _overlap_log_odds(
        self, before: Float[np.ndarray, "c *channels t"], after: Float[np.ndarray, "c *channels t"]
    ) -> Float[np.ndarray, "c c"]:
        """How well each output of a window (row) goes on in each output of the next (column).

        Inner products over the overlap, divided by its whole energy and not pair by pair: the order of the largest sum
        is then the one where the windows differ least, and the trace of a voice in a silent output weighs nothing.
        """
        frame = round(FRAME_SECONDS * self._sample_rate)
        num_frames = before.shape[-1] // frame
        shape = (self._num_sources, -1, num_frames, frame)
        before, after = (x[..., : num_frames * frame].astype(np.float64).reshape(shape) for x in (before, after))
        power_before, power_after = (np.square(x).mean(axis=(1, 3)).sum(axis=0) for x in (before, after))
        loud = np.minimum(power_before, power_after) > self._loudness**2 * 10 ** (GATE_DB / 10)
        if loud.sum() * FRAME_SECONDS < MIN_OVERLAP_SECONDS:
            return np.zeros((self._num_sources, self._num_sources))
        energy = frame * before.shape[1] * np.sqrt(power_before[loud].sum() * power_after[loud].sum())
        return OVERLAP_LOG_ODDS * np.einsum("pnls,qnls->pq", before[:, :, loud], after[:, :, loud]) / energy


class _Runs:
    """Runs of windows, each of which is put in order by all the others.

    Args:
        voices_rck: the sums of `voice_sums` over each run, for each of its outputs.
        links_rcc: the overlap's log-odds of each run's outputs with those of the next.

    Attributes:
        order_rc: the output of run r that holds speaker c.
    """

    def __init__(self, voices_rck: Float[np.ndarray, "r c k"], links_rcc: list[np.ndarray]):
        self._voices_rck = voices_rck
        self._links_rcc = links_rcc
        self._placed = np.zeros(len(voices_rck), bool)
        self.order_rc = np.tile(np.arange(voices_rck.shape[1]), (len(voices_rck), 1))

    def settle(self) -> None:
        """Places the runs, those with most speech first, and again until nothing changes. Keeps the first as it is."""
        for run in np.argsort(-self._voices_rck[..., 0].sum(axis=1), kind="stable"):
            self.order_rc[run] = best_order(*self._evidence(run))[0]
            self._placed[run] = True
        for _ in range(MAX_SWEEPS):
            before = self.order_rc.copy()
            for run in range(len(self.order_rc)):
                self.order_rc[run] = best_order(*self._evidence(run))[0]
            if (self.order_rc == before).all():
                break
        self.order_rc = self.order_rc[:, np.argsort(self.order_rc[0])]

    def margin(self, run: int) -> float:
        """How sure the best order of this run is, given all other runs."""
        return best_order(*self._evidence(run))[1]

    def keep(self, run: int, order_c: Int[np.ndarray, " c"]) -> None:
        """Gives a run this order, as far as no output's evidence against it is strong."""
        scores, known, talking = self._evidence(run)
        scores[np.arange(len(order_c)), order_c] += DECIDED / 2
        self.order_rc[run] = best_order(scores, known, talking)[0]

    def _evidence(self, run: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The arguments of `best_order`: speakers as the other runs know them, against this run's outputs."""
        others = self._placed & (np.arange(len(self._placed)) != run)
        speakers_rck = np.take_along_axis(self._voices_rck[others], self.order_rc[others, :, None], axis=1)
        speakers_ck = speakers_rck.sum(axis=0)
        scores = voice_log_odds(speakers_ck, self._voices_rck[run])
        if run > 0 and others[run - 1]:
            scores += self._links_rcc[run - 1][self.order_rc[run - 1]]
        if run + 1 < len(others) and others[run + 1]:
            scores += self._links_rcc[run][:, self.order_rc[run + 1]].T
        return scores, speakers_ck[:, 0] >= MIN_FRAMES, self._voices_rck[run][:, 0] >= MIN_FRAMES
