"""Statistics of a data set: levels, level differences, speaker overlap."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from mossformer_jax.data.records import Mixture

FRAME_SECONDS = 0.02
# A source is active in frames within this range of its loudest frame.
TALKING_DB = -30.0
# The difference between a mixture and the sum of its sources is rounding if it is this far below the sources.
ROUNDING_DB = 60.0


@dataclass(frozen=True)
class MixtureStatistics:
    """Statistics of a set of mixtures.

    Attributes:
        count: number of mixtures.
        seconds: length of each, (n,).
        speakers: names of all speakers.
        mixture_db: RMS level of each mixture, in dB of full scale, (n,).
        peak: largest sample of each mixture, (n,).
        num_active: number of sources of each that are not silent, (n,).
        level_difference_db: between the loudest and the faintest source of each that are not silent, (n,).
        snr_db: power of the sum of the sources relative to the rest of the mixture (noise, reverberation, distortion)
            of each, (n,); infinite if the mixture is the sum of its sources.
        overlap: fraction of the frames with speech in which more than one source is active, (n,).
    """

    count: int
    seconds: Float[np.ndarray, " n"]
    speakers: frozenset[str]
    mixture_db: Float[np.ndarray, " n"]
    peak: Float[np.ndarray, " n"]
    num_active: Float[np.ndarray, " n"]
    level_difference_db: Float[np.ndarray, " n"]
    snr_db: Float[np.ndarray, " n"]
    overlap: Float[np.ndarray, " n"]


def mixture_statistics(mixtures: Iterable[Mixture]) -> MixtureStatistics:
    """Measures mixtures, one after the other."""
    rows, speakers = [], set[str]()
    for mixture in mixtures:
        mixed = mixture.mixed()
        levels = [_level_db(source) for source in mixture.sources if source.any()]
        total = mixture.sources.sum(axis=0)
        snr_db = _level_db(total) - _level_db(mixed - total)
        rows.append(
            (
                len(mixed) / mixture.sample_rate,
                _level_db(mixed),
                np.abs(mixed).max(),
                len(levels),
                max(levels, default=0.0) - min(levels, default=0.0),
                snr_db if snr_db < ROUNDING_DB else np.inf,
                overlap(mixture.sources, mixture.sample_rate),
            )
        )
        speakers.update(mixture.speakers)
    columns = np.array(rows, np.float64).reshape(-1, 7).T
    return MixtureStatistics(len(rows), columns[0], frozenset(speakers), *columns[1:])


def overlap(sources_ct: Float[np.ndarray, "c t"], sample_rate: int) -> float:
    """Fraction of the frames with speech in which more than one source is active; 0 for silence."""
    frame = max(round(FRAME_SECONDS * sample_rate), 1)
    num_frames = sources_ct.shape[1] // frame
    framed = sources_ct[:, : num_frames * frame].reshape(len(sources_ct), num_frames, frame)
    power_cl = np.square(framed, dtype=np.float64).mean(axis=2)
    talking = power_cl > power_cl.max(axis=1, keepdims=True, initial=0.0) * 10 ** (TALKING_DB / 10)
    num_talking = talking.sum(axis=0)
    return float((num_talking > 1).sum() / max((num_talking > 0).sum(), 1))


def _level_db(signal: Float[np.ndarray, " t"]) -> float:
    """RMS level in dB of full scale; -200 dB for silence."""
    return float(20 * np.log10(max(np.sqrt(np.square(signal, dtype=np.float64).mean()), 1e-10)))
