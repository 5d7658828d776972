"""LibriMix mixed on the fly from LibriSpeech, without generating its 430 GB of files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path, PurePosixPath

import numpy as np
import scipy
import soxr
from jaxtyping import Float

from mossformer_jax.audio.opening import AudioFile
from mossformer_jax.data.damage import damage, unreadable
from mossformer_jax.data.layouts.options import check_choice
from mossformer_jax.data.librimix_metadata import MixtureRecipe, read_metadata
from mossformer_jax.data.records import Mixture, check_crop

TASKS = ("mix_clean", "mix_both", "mix_single")
MODES = ("min", "max")
SAMPLE_RATES = (8000, 16000)

_STORED_RATE = 16000
# resample_poly's filter reaches ten samples of the lower rate to either side.
_FILTER_REACH = 10
_LARGEST_16_BIT = 1.0 - 2.0**-15
_GET_LIBRISPEECH = "unpack LibriSpeech there (OpenSLR, resource 12)"
_GET_NOISE = "unpack wham_noise there (the noise files of WHAM!)"
# File name suffixes of the official noise augmentation, and the speed factors they denote.
_SPEEDS = {"sp08": 0.8, "sp12": 1.2}


class LibriSpeechMixtures:
    """The mixtures of Libri2Mix or Libri3Mix, mixed from LibriSpeech and LibriMix's metadata (a `MixtureSource`).

    They equal the files written by LibriMix's generation script to within one 16-bit step: every source is read at
    16 kHz, multiplied by its gain, resampled by `scipy.signal.resample_poly`, cut to the shortest (mode "min") or
    padded to the longest source (mode "max"), and summed. Values that would clip in a 16-bit file are clipped.

    The noise is the first channel of a WHAM! noise file. If it is shorter than the longest source, it is repeated with
    a cross-fade of half a second. The noise therefore never determines the length, and `mix_clean` needs no noise
    files.

    The training metadata refer to noise at 0.8 and 1.2 times its speed (`...sp08.wav`), which LibriMix generates
    beforehand with SoX. If these files are missing, they are resampled from the original on the fly; the samples then
    differ from SoX's by more than one 16-bit step.

    Attributes:
        num_sources: number of sources per mixture, as in the metadata; 1 for `mix_single`.
        sample_rate: in Hz.
    """

    def __init__(
        self,
        librispeech: str | os.PathLike[str],
        metadata: str | os.PathLike[str],
        noise: str | os.PathLike[str] | None = None,
        *,
        sample_rate: int = 8000,
        mode: str = "min",
        task: str = "mix_clean",
    ):
        """Reads the metadata and checks that the folders they refer to exist; no audio file is opened.

        Args:
            librispeech: the folder that contains train-clean-360, dev-clean, ..., or its parent `LibriSpeech`.
            metadata: one of LibriMix's generation CSVs, such as `libri2mix_train-clean-360.csv`.
            noise: the folder that contains tr, cv and tt, or the parent of `wham_noise`; needed for tasks with noise.
            sample_rate: 8000 or 16000 Hz.
            mode: "min" cuts every mixture to its shortest source, "max" pads to the longest.
            task: "mix_clean" sums the sources, "mix_both" adds noise, "mix_single" is the first source and noise.

        Raises:
            FileNotFoundError: the metadata or a folder is missing.
            ValueError: an option is unknown, or the metadata are not LibriMix's.
        """
        check_choice("sample_rate", sample_rate, SAMPLE_RATES)
        check_choice("mode", mode, MODES)
        check_choice("task", task, TASKS)
        if task != "mix_clean" and noise is None:
            raise ValueError(f"task={task!r} needs noise: set noise to the wham_noise folder, or use task='mix_clean'")
        self.sample_rate = sample_rate
        self._mode = mode
        self._recipes = read_metadata(Path(metadata), with_noise=task != "mix_clean")
        self.num_sources = 1 if task == "mix_single" else len(self._recipes[0].sources)
        subsets = {_top_folder(part.path) for recipe in self._recipes for part in recipe.sources}
        self._librispeech = _find_folder(librispeech, "LibriSpeech", subsets, _GET_LIBRISPEECH)
        self._noise: Path | None = None
        if task != "mix_clean" and noise is not None:
            subsets = {_top_folder(recipe.noise.path) for recipe in self._recipes if recipe.noise}
            self._noise = _find_folder(noise, "wham_noise", subsets, _GET_NOISE)

    def __len__(self) -> int:
        """Number of mixtures."""
        return len(self._recipes)

    def mixture_id(self, index: int) -> str:
        """LibriMix's name of a mixture: the names of its utterances, joined."""
        return self._recipes[index].id

    def num_samples(self, index: int) -> int:
        """Length of a mixture, from the headers of its sources.

        Raises:
            FileNotFoundError, ValueError: a file is missing or corrupt; the message names it.
        """
        with ExitStack() as stack:
            return self._length([file.num_samples for file in self._open_sources(self._recipes[index], stack)])

    def read(self, index: int, start: int = 0, num_samples: int | None = None) -> Mixture:
        """Reads a mixture, or `num_samples` of it from `start`, decoding little more than that.

        Args:
            index: index of the mixture.
            start: the first sample to read; must be before the mixture's end.
            num_samples: number of samples to read, 1 or more; fewer are returned at the mixture's end. None reads all.

        Raises:
            FileNotFoundError, ValueError: a file is missing or corrupt; the message names it.
        """
        recipe = self._recipes[index]
        with ExitStack() as stack:
            files = self._open_sources(recipe, stack)
            longest = max(file.num_samples for file in files)
            length = self._length([file.num_samples for file in files])
            check_crop(recipe.id, length, start, num_samples)
            stop = length if num_samples is None else min(length, start + num_samples)
            parts = list(zip(recipe.sources, files, strict=True))[: self.num_sources]
            sources_ct = np.stack([self._source(file, part.gain, start, stop) for part, file in parts])
        mixture_t, noise_t = sources_ct.sum(axis=0), None
        if self._noise is not None and recipe.noise is not None:
            noise_t = self._read_noise(self._noise / recipe.noise.path, recipe.noise.gain, longest, start, stop)
            mixture_t = mixture_t + noise_t
        return Mixture(
            id=recipe.id,
            sources=_clip(sources_ct),
            sample_rate=self.sample_rate,
            mixture=_clip(mixture_t),
            noise=None if noise_t is None else _clip(noise_t),
            speakers=tuple(_speaker(part.path) for part, _ in parts),
        )

    def _open_sources(self, recipe: MixtureRecipe, stack: ExitStack) -> list[AudioFile]:
        return [stack.enter_context(_open(self._librispeech / part.path, _GET_LIBRISPEECH)) for part in recipe.sources]

    @property
    def _factor(self) -> int:
        """Number of stored samples per output sample."""
        return _STORED_RATE // self.sample_rate

    def _length(self, stored_lengths: Sequence[int]) -> int:
        stored = min(stored_lengths) if self._mode == "min" else max(stored_lengths)
        return -(-stored // self._factor)

    def _stored_range(self, start: int, stop: int, length: int) -> tuple[int, int]:
        """The range of stored samples, out of `length`, needed for the output samples from `start` to `stop`."""
        first = max(0, start - _FILTER_REACH) * self._factor
        last = (stop + _FILTER_REACH) * self._factor
        return min(first, length), min(last, length)

    def _source(self, file: AudioFile, gain: float, start: int, stop: int) -> np.ndarray:
        first, last = self._stored_range(start, stop, file.num_samples)
        return self._resample(_read(file, first, last) * gain, start, stop)

    def _read_noise(self, path: Path, gain: float, longest: int, start: int, stop: int) -> np.ndarray:
        first, last = self._stored_range(start, stop, longest)
        speed = _SPEEDS.get(path.stem[-4:])
        if speed is not None and not path.exists():
            with _open(path.with_stem(path.stem[:-4]), _GET_NOISE) as file:
                noise = soxr.resample(_read(file, 0, file.num_samples), round(speed * _STORED_RATE), _STORED_RATE)
            noise = _extend(noise, longest, path)[first:last]
        else:
            with _open(path, _GET_NOISE) as file:
                if file.num_samples >= longest:
                    noise = _read(file, first, last)
                else:
                    noise = _extend(_read(file, 0, file.num_samples), longest, path)[first:last]
        return self._resample(noise * gain, start, stop)

    def _resample(self, stored: np.ndarray, start: int, stop: int) -> np.ndarray:
        """Output samples from `start` to `stop`, zero-padded at the end, from their range of stored samples."""
        resampled = np.zeros(stop - start, np.float32)
        if len(stored):
            there = scipy.signal.resample_poly(stored, self.sample_rate, _STORED_RATE)
            there = there[min(start, _FILTER_REACH) :][: stop - start]
            resampled[: len(there)] = there
        return resampled


def _find_folder(root: str | os.PathLike[str], name: str, subsets: set[str], advice: str) -> Path:
    """The folder that contains the subsets: `root` itself, or its subfolder `name`."""
    folder = Path(root)
    if (folder / name).is_dir():
        folder = folder / name
    missing = sorted(subset for subset in subsets if not (folder / subset).is_dir())
    if missing:
        raise FileNotFoundError(f"{folder / missing[0]}: no such folder, but the metadata refer to it; {advice}")
    return folder


def _top_folder(path: str) -> str:
    return PurePosixPath(path).parts[0]


def _speaker(path: str) -> str:
    """LibriSpeech's files are named SPEAKER-CHAPTER-UTTERANCE."""
    return PurePosixPath(path).name.partition("-")[0]


def _open(path: Path, advice: str) -> AudioFile:
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file, but the metadata refer to it; {advice}")
    try:
        file = AudioFile(path)
    except (OSError, ValueError) as error:
        raise unreadable(path, error) from error
    if file.sample_rate != _STORED_RATE:
        with file:
            raise ValueError(
                f"{path}: has {file.num_samples} samples at {file.sample_rate} Hz; must be non-empty, at "
                f"{_STORED_RATE} Hz; {advice}"
            )
    return file


def _read(file: AudioFile, first: int, last: int) -> Float[np.ndarray, " t"]:
    """Reads the first channel from sample `first` to `last`."""
    try:
        frames = file.read(first, last - first)
    except ValueError as error:
        raise ValueError(damage(file.name)) from error
    if len(frames) < last - first:
        raise ValueError(damage(file.name))
    return frames[:, 0]


def _extend(noise: Float[np.ndarray, " t"], length: int, path: Path) -> Float[np.ndarray, " {length}"]:
    """Repeats noise up to `length`, with Hann cross-fades of half a second plus one sample."""
    window = np.hanning(_STORED_RATE + 1)
    fade_in = window[: _STORED_RATE // 2 + 1]
    overlap = len(fade_in)
    if len(noise) < min(overlap + 1, length):
        raise ValueError(f"{path}: has {len(noise)} samples, too few to extend; must have more than {overlap}")
    extended = noise
    while len(extended) < length:
        cross_fade = extended[-overlap:] * fade_in[::-1] + noise[:overlap] * fade_in
        extended = np.concatenate([extended[:-overlap], cross_fade, noise[overlap:]])
    return extended[:length]


def _clip(waveform: np.ndarray) -> np.ndarray:
    """Clips a waveform to the range of a 16-bit file, without rounding."""
    return np.clip(waveform, -1.0, _LARGEST_16_BIT).astype(np.float32)
