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


@dataclass(frozen=True)
class MixtureStatistics:
    """Statistics of a set of mixtures.

    Attributes:
        count: number of mixtures.
        seconds: length of each, (n,).
        speakers: names of all speakers.
        mixture_db: RMS level of each mixture, in dB of full scale, (n,).
        peak: largest sample of each mixture, (n,).
        level_difference_db: between the loudest and the faintest source of each, (n,).
        overlap: fraction of the frames with speech in which more than one source is active, (n,).
    """

    count: int
    seconds: Float[np.ndarray, " n"]
    speakers: frozenset[str]
    mixture_db: Float[np.ndarray, " n"]
    peak: Float[np.ndarray, " n"]
    level_difference_db: Float[np.ndarray, " n"]
    overlap: Float[np.ndarray, " n"]


def mixture_statistics(mixtures: Iterable[Mixture]) -> MixtureStatistics:
    """Measures mixtures, one after the other."""
    rows, speakers = [], set[str]()
    for mixture in mixtures:
        mixed = mixture.mixed()
        levels = _db(np.sqrt(np.square(mixture.sources, dtype=np.float64).mean(axis=1)))
        rows.append(
            (
                len(mixed) / mixture.sample_rate,
                _db(np.sqrt(np.square(mixed, dtype=np.float64).mean())),
                np.abs(mixed).max(),
                levels.max() - levels.min(),
                overlap(mixture.sources, mixture.sample_rate),
            )
        )
        speakers.update(mixture.speakers)
    columns = np.array(rows, np.float64).reshape(-1, 5).T
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


def _db(amplitude: Float[np.ndarray | np.floating, "*n"]) -> Float[np.ndarray | np.floating, "*n"]:
    return 20 * np.log10(np.maximum(amplitude, 1e-10))
