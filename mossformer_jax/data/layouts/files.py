"""Mixtures stored with one audio file per signal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from mossformer_jax.audio.opening import AudioFile
from mossformer_jax.data.damage import damage, unreadable
from mossformer_jax.data.records import Mixture, check_crop


@dataclass(frozen=True, slots=True)
class MixtureFiles:
    """The files of one mixture.

    Attributes:
        id: name of the mixture, unique in its data set.
        sources: paths of the sources.
        mixture: path of the mixture; None if it is the sum of the sources and the noise.
        noise: path of the noise; None if there is no noise file.
        speakers: speaker of each source; empty if unknown.
    """

    id: str
    sources: tuple[str, ...]
    mixture: str | None = None
    noise: str | None = None
    speakers: tuple[str, ...] = ()

    def paths(self) -> list[str]:
        """All existing paths: the mixture, the sources, the noise."""
        return [path for path in (self.mixture, *self.sources, self.noise) if path is not None]


class FileMixtures:
    """Random access to mixtures in mono audio files of equal length (a `MixtureSource`).

    Attributes:
        files: the paths of every mixture.
        num_sources: number of sources per mixture.
        sample_rate: sample rate of every file in Hz.
    """

    def __init__(self, files: Sequence[MixtureFiles], num_sources: int, sample_rate: int):
        """Stores the paths. Files are checked only when they are read."""
        self.files = files
        self.num_sources = num_sources
        self.sample_rate = sample_rate
        self._lengths: dict[int, int] = {}

    def __len__(self) -> int:
        """Number of mixtures."""
        return len(self.files)

    def mixture_id(self, index: int) -> str:
        """Name of a mixture, without reading audio."""
        return self.files[index].id

    def num_samples(self, index: int) -> int:
        """Length of a mixture, from the header of its first file, which is read once.

        Raises:
            FileNotFoundError, ValueError: the file is missing or corrupt; the message names it.
        """
        if index not in self._lengths:
            with _opened(self.files[index].paths()[0], self.sample_rate) as file:
                self._lengths[index] = file.num_samples
        return self._lengths[index]

    def read(self, index: int, start: int = 0, num_samples: int | None = None) -> Mixture:
        """Reads a mixture, or `num_samples` of it from `start`. Only this part is decoded.

        Args:
            index: index of the mixture.
            start: the first sample to read; must be before the mixture's end.
            num_samples: number of samples to read, 1 or more; fewer are returned at the mixture's end. None reads all.

        Raises:
            FileNotFoundError, ValueError: a file is missing or corrupt, or has a different sample rate, more than one
                channel, or a different length than the mixture's first file; the message names it.
        """
        files = self.files[index]
        first, *_ = paths = files.paths()
        waveforms, length = [], None
        for path in paths:
            with _opened(path, self.sample_rate) as file:
                length = length or file.num_samples
                if file.num_samples != length:
                    raise ValueError(
                        f"{path}: has {file.num_samples} samples, but {first} has {length}; a mixture and its sources "
                        "must be equally long: generate or copy them again"
                    )
                check_crop(path, length, start, num_samples)
                waveforms.append(_read(file, path, start, num_samples))
        return Mixture(
            id=files.id,
            mixture=waveforms.pop(0) if files.mixture is not None else None,
            noise=waveforms.pop() if files.noise is not None else None,
            sources=np.stack(waveforms),
            sample_rate=self.sample_rate,
            speakers=files.speakers,
        )


@contextmanager
def _opened(path: str, sample_rate: int) -> Iterator[AudioFile]:
    try:
        file = AudioFile(path)
    except (OSError, ValueError) as error:
        raise unreadable(path, error) from error
    with file:
        if file.sample_rate != sample_rate:
            raise ValueError(
                f"{path}: has a sample rate of {file.sample_rate} Hz, but sample_rate={sample_rate}; "
                "resample the files, or set sample_rate (in a config: config.model.sample_rate) to theirs"
            )
        if file.num_channels != 1:
            raise ValueError(f"{path}: has {file.num_channels} channels; must have one; convert it to mono")
        yield file


def _read(file: AudioFile, path: str, start: int, num_samples: int | None) -> Float[np.ndarray, " t"]:
    expected = min(num_samples or file.num_samples, file.num_samples - start)
    try:
        waveform = file.read(start, expected)[:, 0]
    except ValueError as error:
        raise ValueError(damage(path)) from error
    # For NaN, too, the message names the first one in the whole file.
    if len(waveform) < expected or not np.isfinite(waveform).all():
        raise ValueError(damage(path))
    return waveform
