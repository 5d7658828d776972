"""The common form of the mixtures of all data set layouts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float


@dataclass(frozen=True)
class Mixture:
    """A mixture with its sources.

    Attributes:
        id: name of the mixture, unique in its data set.
        sources: the true sources, (c, t), float32.
        sample_rate: in Hz.
        mixture: the recorded mixture, (t,), float32; None if it is the sum of the sources and the noise.
        noise: the noise, (t,), float32; None if absent or unknown.
        speakers: the speaker of each source; empty if unknown.
    """

    id: str
    sources: Float[np.ndarray, "c t"]
    sample_rate: int
    mixture: Float[np.ndarray, " t"] | None = None
    noise: Float[np.ndarray, " t"] | None = None
    speakers: tuple[str, ...] = ()

    def mixed(self) -> Float[np.ndarray, " t"]:
        """The recorded mixture, or the sum of sources and noise, (t,)."""
        if self.mixture is not None:
            return self.mixture
        mixed = self.sources.sum(axis=0)
        return mixed if self.noise is None else mixed + self.noise


@runtime_checkable
class MixtureSource(Protocol):
    """Random access to the mixtures of a data set. It must be picklable, for worker processes.

    Attributes:
        num_sources: number of sources per mixture.
        sample_rate: sample rate of every mixture in Hz.
    """

    num_sources: int
    sample_rate: int

    def __len__(self) -> int:
        """Number of mixtures."""

    def mixture_id(self, index: int) -> str:
        """Name of a mixture; reads no audio."""

    def num_samples(self, index: int) -> int:
        """Length of a mixture in samples; decodes no audio."""

    def read(self, index: int, start: int = 0, num_samples: int | None = None) -> Mixture:
        """Reads a mixture, or `num_samples` of it from sample `start`; None reads to its end.

        Raises:
            FileNotFoundError, ValueError: a file is missing or corrupt; the message names it.
        """


def check_crop(name: str, length: int, start: int, num_samples: int | None) -> None:
    """Checks that a mixture or file of `length` samples can be read from sample `start`.

    Raises:
        ValueError: `start` is outside the file, or `num_samples` is below 1; the message names the file.
    """
    if not 0 <= start < length or (num_samples is not None and num_samples < 1):
        raise ValueError(f"{name}: start={start}, num_samples={num_samples} is out of range for {length} samples")
