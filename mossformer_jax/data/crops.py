"""Mixtures of a data set for training: random crops, every source at a speed of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from mossformer_jax.audio.resampling import resample, resampled_length
from mossformer_jax.data.drawing import check_speeds
from mossformer_jax.data.records import Mixture, MixtureSource

# What is left of a mixture without its sources and noise may have this share of its power, and on top of it the power
# of two steps of 16 bits: each of them may have been rounded, and all of them down.
_UNEXPLAINED_SHARE = 1e-3
_ROUNDING_POWER = 2.0**-28


class CroppedMixtures:
    """Random crops of the mixtures of a data set, each source at a speed of its own if asked for.

    Attributes:
        num_sources: that of the data set.
        sample_rate: that of the data set, in Hz.
    """

    def __init__(self, mixtures: MixtureSource, speeds: Sequence[int] = (95, 100, 105)):
        """Notes what to do.

        Args:
            mixtures: the data set.
            speeds: percentages, one of which is drawn for each source; (100,) leaves the mixtures as they are.

        Raises:
            ValueError: a speed is not positive.
        """
        check_speeds(speeds)
        self.mixtures, self.speeds = mixtures, speeds
        self.num_sources, self.sample_rate = mixtures.num_sources, mixtures.sample_rate

    def __len__(self) -> int:
        return len(self.mixtures)

    def draw(self, index: int, num_samples: int, rng: np.random.Generator) -> Mixture:
        """Draws a crop of mixture `index`."""
        speeds = rng.choice(self.speeds, self.num_sources).tolist()
        needed = max(resampled_length(num_samples, 100, speed) for speed in speeds)
        available = self.mixtures.num_samples(index)
        start = int(rng.integers(max(available - needed, 0) + 1))
        mixture = self.mixtures.read(index, start, min(needed, available))
        return mixture if set(speeds) == {100} else cut(perturb_speed(mixture, speeds), num_samples)


def perturb_speed(mixture: Mixture, speeds: Sequence[int]) -> Mixture:
    """Lets every source run at its own speed and mixes anew, as long as the shortest then is.

    Args:
        mixture: the mixture.
        speeds: of each source, in percent: 105 is faster, shorter and higher.

    Returns:
        A new mixture, to which the noise was added as it was.

    Raises:
        ValueError: the mixture is stored and holds more than its sources and its noise (reverberation, say, or noise
            that is not stored), which could not be added again.
    """
    if mixture.mixture is not None:
        rest = mixture.mixture - replace(mixture, mixture=None).mixed()
        if np.square(rest).mean() > _UNEXPLAINED_SHARE * np.square(mixture.mixture).mean() + _ROUNDING_POWER:
            raise ValueError(
                f"{mixture.id}: its mixture is not the sum of its sources and its noise, so that it cannot be mixed "
                "anew at other speeds; set speeds=(100,)"
            )
    rate = mixture.sample_rate
    sources = [resample(s, rate * speed, rate * 100) for s, speed in zip(mixture.sources, speeds, strict=True)]
    length = min(map(len, sources))
    if mixture.noise is not None:
        length = min(length, len(mixture.noise))
    sources_ct = np.stack([source[:length] for source in sources])
    return cut(replace(mixture, mixture=None, sources=sources_ct), length)


def cut(mixture: Mixture, num_samples: int) -> Mixture:
    """The first `num_samples` of a mixture, or all of it where it is shorter."""
    return replace(
        mixture,
        sources=mixture.sources[:, :num_samples],
        mixture=None if mixture.mixture is None else mixture.mixture[:num_samples],
        noise=None if mixture.noise is None else mixture.noise[:num_samples],
    )
