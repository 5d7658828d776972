"""Levels of the network's input and of the sources, and detection of outputs without a speaker."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
from jaxtyping import Float

# Peak to which sources are scaled; leaves headroom for rounding and for the overshoot of a converter.
SAFE_PEAK = 0.99
# Peak of each source in the output of ModelScope's pipeline.
PIPELINE_PEAK = 0.5
# Outputs differ by up to 14 dB for two talkers (356 mixtures), and by 40 dB or more for one talker (90 % of them).
NEAR_SILENT_DB = -30.0
DUPLICATE_CORRELATION = 0.95


class SourceStatistics:
    """Peak, power and correlation of the sources of one recording, accumulated block by block.

    Args:
        num_sources: number of sources.

    Attributes:
        peak: of each source, (c,).
        num_samples: accumulated so far, over all channels.
    """

    def __init__(self, num_sources: int):
        self.peak = np.zeros(num_sources)
        self.num_samples = 0
        self._products = np.zeros((num_sources, num_sources))

    def add(self, sources: Float[np.ndarray, "c k t"]) -> None:
        """Adds the next block of the sources."""
        rows = sources.reshape(len(sources), -1).astype(np.float64)
        self.peak = np.maximum(self.peak, np.abs(rows).max(axis=1, initial=0.0))
        self.num_samples += rows.shape[1]
        self._products += rows @ rows.T

    @property
    def rms(self) -> Float[np.ndarray, " c"]:
        """Root of the mean power of each source."""
        return np.sqrt(np.diag(self._products) / max(self.num_samples, 1))

    @property
    def near_silent(self) -> np.ndarray:
        """Which sources are more than 30 dB below the loudest one, (c,)."""
        return self.rms <= self.rms.max() * 10 ** (NEAR_SILENT_DB / 20)

    def warnings(self) -> Iterator[str]:
        """Warns of sources that are nearly silent, or nearly copies of each other."""
        near_silent, rms = self.near_silent, self.rms
        if not rms.any():
            return  # the recording is silent; `Recording.warnings` reports it
        for source in np.flatnonzero(near_silent):
            below = f"{20 * np.log10(rms.max() / rms[source]):.0f} dB below the loudest" if rms[source] else "silent"
            yield f"source {source + 1} is {below}: fewer speakers than sources?"
        for first, second in itertools.combinations(np.flatnonzero(~near_silent), 2):
            correlation = abs(self._products[first, second]) / (rms[first] * rms[second] * self.num_samples)
            if correlation > DUPLICATE_CORRELATION:
                yield (
                    f"sources {first + 1} and {second + 1} are nearly identical (correlation {correlation:.2f}): "
                    "fewer speakers than sources?"
                )


def output_gains(
    scale: str, statistics: SourceStatistics, mixture_rms: float, input_gain: float
) -> Float[np.ndarray, " c"]:
    """The gain of each of the network's outputs.

    Args:
        scale: "mixture" undoes the gain on the input, so that sources have their level in the mixture; "peak" applies
            one gain to all, so that the loudest peaks just below full scale; "rms" brings each source to the mixture's
            RMS; "clearvoice" brings each to the RMS of the network's input, which is the normalised mixture;
            "modelscope" lets each peak at 0.5; "none" applies no gain. With "rms", "clearvoice" and "modelscope",
            near-silent sources are treated as with "mixture".
        statistics: of the network's outputs.
        mixture_rms: of the recording.
        input_gain: the gain that was applied to the network's input.
    """
    undone = np.full(len(statistics.peak), 1.0 / input_gain)
    if scale == "none":
        return np.ones_like(undone)
    if scale == "mixture" or not statistics.peak.any():
        return undone
    if scale == "peak":
        return np.full(len(undone), SAFE_PEAK / statistics.peak.max())
    if scale == "modelscope":
        wanted, levels = PIPELINE_PEAK, statistics.peak
    else:
        wanted, levels = mixture_rms * (input_gain if scale == "clearvoice" else 1.0), statistics.rms
    return np.where(statistics.near_silent, undone, wanted / np.where(levels > 0, levels, 1.0))
