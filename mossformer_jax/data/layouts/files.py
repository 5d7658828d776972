"""Mixtures whose every signal is an audio file of its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import soundfile
from jaxtyping import Float

from mossformer_jax.audio.streams import AudioReader, unreadable
from mossformer_jax.data.damage import damage
from mossformer_jax.data.records import Mixture, check_crop

_FRAMES_NOT_KNOWN = 2**63 - 1


@dataclass(frozen=True, slots=True)
class MixtureFiles:
    """Where the signals of one mixture lie.

    Attributes:
        id: name of the mixture, unique in its data set.
        sources: paths of the sources.
        mixture: path of the mixture; None where it is the sum of the sources and the noise.
        noise: path of the noise, where there is one.
        speakers: who talks in each source, where that is known; else empty.
    """

    id: str
    sources: tuple[str, ...]
    mixture: str | None = None
    noise: str | None = None
    speakers: tuple[str, ...] = ()

    def paths(self) -> list[str]:
        """The mixture, where there is one, then the sources, then the noise, where there is one."""
        return [path for path in (self.mixture, *self.sources, self.noise) if path is not None]


class FileMixtures:
    """Random access to mixtures in mono audio files of equal length; a `MixtureSource`.

    Attributes:
        files: the paths of every mixture.
        num_sources: sources of every mixture.
        sample_rate: of every file, in Hz.
    """

    def __init__(self, files: Sequence[MixtureFiles], num_sources: int, sample_rate: int):
        """Takes the paths as they are; what is wrong with a file shows when it is read."""
        self.files = files
        self.num_sources = num_sources
        self.sample_rate = sample_rate

    def __len__(self) -> int:
        """How many mixtures there are."""
        return len(self.files)

    def mixture_id(self, index: int) -> str:
        """Name of a mixture, without reading audio."""
        return self.files[index].id

    def num_samples(self, index: int) -> int:
        """Length of a mixture, from the header of its first file.

        Raises:
            FileNotFoundError, ValueError: the file is missing or corrupt; the message names it.
        """
        with _opened(self.files[index].paths()[0], self.sample_rate) as file:
            return file.frames

    def read(self, index: int, start: int = 0, num_samples: int | None = None) -> Mixture:
        """Reads a mixture, or `num_samples` of it from `start`, decoding nothing else.

        Args:
            index: which mixture.
            start: the first sample to read; before the mixture's end.
            num_samples: how many to read, 1 or more; where the mixture ends earlier, what there is. None: all.

        Raises:
            FileNotFoundError, ValueError: a file is missing or corrupt, has another sample rate, several channels, or
                another length than the mixture's first file; the message names it.
        """
        files = self.files[index]
        first, *_ = paths = files.paths()
        waveforms, length = [], None
        for path in paths:
            with _opened(path, self.sample_rate) as file:
                length = length or file.frames
                if file.frames != length:
                    raise ValueError(
                        f"{path}: has {file.frames} samples, but {first} has {length}; a mixture and its sources must "
                        "be equally long: generate or copy them again"
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
def _opened(path: str, sample_rate: int) -> Iterator[soundfile.SoundFile]:
    try:
        file = soundfile.SoundFile(path)
    except (soundfile.LibsndfileError, TypeError) as error:
        raise unreadable(path, error) from error
    with file:
        if not 0 < file.frames < _FRAMES_NOT_KNOWN:
            AudioReader(path)
        if file.samplerate != sample_rate:
            raise ValueError(
                f"{path}: is at {file.samplerate} Hz, not at sample_rate={sample_rate}; "
                "set sample_rate to the data's, or resample the files"
            )
        if file.channels != 1:
            raise ValueError(f"{path}: has {file.channels} channels; must have one: write it again in mono")
        yield file


def _read(file: soundfile.SoundFile, path: str, start: int, num_samples: int | None) -> Float[np.ndarray, " t"]:
    expected = min(num_samples or file.frames, file.frames - start)
    try:
        file.seek(start)
        waveform = file.read(expected, dtype="float32")
    except soundfile.LibsndfileError as error:
        raise ValueError(damage(path)) from error
    # Of NaN, too, the first in the file is named, whichever samples were asked for.
    if len(waveform) < expected or not np.isfinite(waveform).all():
        raise ValueError(damage(path))
    return waveform
