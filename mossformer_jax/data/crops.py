"""Random training crops of stored mixtures, with optional speed perturbation per source."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from mossformer_jax.audio.resampling import resample, resampled_length
from mossformer_jax.data.random_draws import check_speeds
from mossformer_jax.data.records import Mixture, MixtureSource

# After the sources and the noise are subtracted, the residual may have this fraction of the mixture's power, plus the
# power of two 16-bit steps, because every signal may have been rounded.
_UNEXPLAINED_SHARE = 1e-3
_ROUNDING_POWER = 2.0**-28


class CroppedMixtures:
    """Random crops of the mixtures of a data set, optionally with an independent random speed for each source.

    Attributes:
        num_sources: number of sources in the data set.
        sample_rate: sample rate of the data set in Hz.
    """

    def __init__(self, mixtures: MixtureSource, speeds: Sequence[int] = (95, 100, 105)):
        """Stores the options; nothing is read yet.

        Args:
            mixtures: the data set.
            speeds: speeds in percent, one of which is drawn for each source; (100,) disables speed perturbation.

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
    """Changes the speed of each source and mixes them again, cut to the shortest.

    Args:
        mixture: the mixture.
        speeds: speed of each source in percent: 105 is faster, shorter and higher.

    Returns:
        A new mixture, with the noise unchanged.

    Raises:
        ValueError: the stored mixture is not the sum of its sources and its noise (because of reverberation, or noise
            that is not stored), so it cannot be mixed again.
    """
    if mixture.mixture is not None:
        rest = mixture.mixture - replace(mixture, mixture=None).mixed()
        if np.square(rest).mean() > _UNEXPLAINED_SHARE * np.square(mixture.mixture).mean() + _ROUNDING_POWER:
            raise ValueError(
                f"{mixture.id}: the mixture is not the sum of its sources and noise, so it cannot be remixed at other "
                "speeds, with level drift or in rooms; set speeds=(100,), level_drift=None and reverberation=None"
            )
    rate = mixture.sample_rate
    sources = [resample(s, rate * speed, rate * 100) for s, speed in zip(mixture.sources, speeds, strict=True)]
    length = min(map(len, sources))
    if mixture.noise is not None:
        length = min(length, len(mixture.noise))
    return replace(
        mixture,
        mixture=None,
        sources=np.stack([source[:length] for source in sources]),
        noise=None if mixture.noise is None else mixture.noise[:length],
    )


def cut(mixture: Mixture, num_samples: int) -> Mixture:
    """The first `num_samples` of a mixture, or all of it if it is shorter."""
    return replace(
        mixture,
        sources=mixture.sources[:, :num_samples],
        mixture=None if mixture.mixture is None else mixture.mixture[:num_samples],
        noise=None if mixture.noise is None else mixture.noise[:num_samples],
    )
