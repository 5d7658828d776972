"""A fixed set of mixtures drawn at random, for validation without a data set of mixtures."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from mossformer_jax.data.mixing import TrainingMixtures
from mossformer_jax.data.records import Mixture

_MOST_DRAWN = 1_000_000


class DrawnMixtures:
    """A fixed set of random mixtures, defined by a seed, for validation without a data set of mixtures.

    Attributes:
        num_sources: number of sources per mixture.
        sample_rate: in Hz.
    """

    def __init__(self, mixtures: TrainingMixtures, num_mixtures: int, max_samples: int, seed: int = 0):
        """Stores the options; each mixture is drawn when it is read.

        Args:
            mixtures: the mixtures to draw from.
            num_mixtures: number of mixtures in the set.
            max_samples: maximum length of a mixture in samples.
            seed: seed of the set.

        Raises:
            ValueError: `num_mixtures` or `max_samples` is below 1.
        """
        for name, number in (("num_mixtures", num_mixtures), ("max_samples", max_samples)):
            if number < 1:
                raise ValueError(f"{name}={number} is not allowed: must be 1 or more")
        if num_mixtures > _MOST_DRAWN:
            raise ValueError(f"num_mixtures={num_mixtures} is not allowed: must be at most {_MOST_DRAWN:,}")
        self.mixtures, self.num_mixtures, self.max_samples, self.seed = mixtures, num_mixtures, max_samples, seed
        self.num_sources, self.sample_rate = mixtures.num_sources, mixtures.sample_rate

    def __len__(self) -> int:
        return self.num_mixtures

    def mixture_id(self, index: int) -> str:
        """Number of the mixture and names of its utterances. This draws the mixture."""
        return self.read(index).id

    def num_samples(self, index: int) -> int:
        """Length of the mixture in samples. This draws the mixture."""
        return self.read(index).sources.shape[1]

    def read(self, index: int, start: int = 0, num_samples: int | None = None) -> Mixture:
        """Draws a mixture, or `num_samples` of it from `start`.

        Raises:
            FileNotFoundError, ValueError: a file is missing or corrupt; the message names it.
        """
        mixture = self.mixtures.draw(index, self.max_samples, np.random.default_rng((self.seed, index)))
        stop = None if num_samples is None else start + num_samples
        return replace(
            mixture,
            id=f"{index:05d}_{mixture.id}",
            sources=mixture.sources[:, start:stop],
            mixture=mixture.mixed()[start:stop],
            noise=None if mixture.noise is None else mixture.noise[start:stop],
        )
