"""Where speech is heard: the random acoustics that dynamic mixing and crops of stored mixtures share."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from mossformer_jax.data.acoustics import Babble, LevelDrift, RecordedNoise, Reverberation
from mossformer_jax.data.random_draws import falls
from mossformer_jax.data.speech import Speech


def draw_scene(
    sources_ct: Float[np.ndarray, "c t"],
    level_drift: LevelDrift | None,
    reverberation: Reverberation | None,
    sample_rate: int,
    rng: np.random.Generator,
) -> tuple[Float[np.ndarray, "c t"], Float[np.ndarray, "c t"]]:
    """Applies level drift and a room, each with the probability of its `share`.

    Args:
        sources_ct: the dry sources.
        level_drift: None leaves the levels as they are.
        reverberation: None leaves the sources dry.
        sample_rate: in Hz.
        rng: for all draws.

    Returns:
        The sources as they are heard in the mixture, and as the network should return them: the same array without a
        room.
    """
    if level_drift is not None and falls(level_drift.share, rng):
        sources_ct = level_drift(sources_ct, sample_rate, rng)
    if reverberation is not None and falls(reverberation.share, rng):
        return reverberation(sources_ct, rng)
    return sources_ct, sources_ct


def draw_background(
    clean: Float[np.ndarray, " t"],
    recorded_noise: RecordedNoise | None,
    babble: Babble | None,
    voices: Speech | None,
    speakers: Sequence[int],
    rng: np.random.Generator,
) -> list[Float[np.ndarray, " t"]]:
    """Recorded noise and babble, each with the probability of its `share`.

    Args:
        clean: the sum of the sources as they are heard, to which SNRs are relative.
        recorded_noise: None adds no noise.
        babble: None adds no babble.
        voices: the speech that babble is made of.
        speakers: those of the mixture, who are not in the babble.
        rng: for all draws.
    """
    added = []
    if recorded_noise is not None and falls(recorded_noise.share, rng):
        added.append(recorded_noise(clean, rng))
    if babble is not None and voices is not None and falls(babble.share, rng):
        added.append(babble(clean, voices, speakers, rng))
    return added
