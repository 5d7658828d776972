"""LibriMix from LibriSpeech itself: mixed as it is read, so that none of its 430 GB need be generated."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import soundfile
import soxr
from jaxtyping import Float
from scipy.signal import resample_poly

from mossformer_jax.audio.streams import unreadable
from mossformer_jax.data.layouts.options import check_choice
from mossformer_jax.data.records import Mixture, check_crop
from mossformer_jax.data.text_tables import read_csv
from mossformer_jax.data.utterances import damage

TASKS = ("mix_clean", "mix_both", "mix_single")
MODES = ("min", "max")
SAMPLE_RATES = (8000, 16000)

_STORED_RATE = 16000
# resample_poly's filter reaches ten samples of the lower rate to either side.
_FILTER_REACH = 10
_LARGEST_16_BIT = 1.0 - 2.0**-15
_GET_LIBRISPEECH = "unpack LibriSpeech there (OpenSLR, resource 12)"
_GET_NOISE = "unpack wham_noise there (the noise files of WHAM!)"
# What the official augmentation of the training noise appends to a file's name, and the speed it stands for.
_SPEEDS = {"sp08": 0.8, "sp12": 1.2}


@dataclass(frozen=True)
class _Part:
    path: str
    gain: float


@dataclass(frozen=True)
class _Recipe:
    """One row of the metadata."""

    id: str
    sources: tuple[_Part, ...]
    noise: _Part | None


class LibriSpeechMixtures:
    """The mixtures of Libri2Mix or Libri3Mix, mixed from LibriSpeech and LibriMix's metadata (a `MixtureSource`).

    To within one 16-bit step they are the files that LibriMix's generation script writes: every source is read at
    16 kHz, multiplied by its gain, resampled by `scipy.signal.resample_poly` and cut to the shortest (mode "min") or
    padded to the longest source (mode "max"), then summed. What would clip in a 16-bit file is clipped.

    The noise is the first channel of a WHAM! noise file; where that is shorter than the longest source, it goes on with
    itself over a cross-fade of half a second. So it never decides a length, and `mix_clean` needs no noise files.

    Training metadata name noise at 0.8 and 1.2 times its speed (`...sp08.wav`), which LibriMix makes beforehand with
    SoX. Where these files are missing they are resampled from the original as they are read: the same noise, but not
    the same samples to a 16-bit step.

    Attributes:
        num_sources: sources of every mixture: as many as the metadata have; 1 for `mix_single`.
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
        """Reads the metadata and checks that the folders they speak of are there; no audio file is touched.

        Args:
            librispeech: the folder with train-clean-360, dev-clean, ..., or the one that holds `LibriSpeech`.
            metadata: one of LibriMix's generation CSVs, as `libri2mix_train-clean-360.csv`.
            noise: the folder with tr, cv and tt, or the one that holds `wham_noise`; where the task has noise.
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
            raise ValueError(f"task={task!r} needs noise: give the wham_noise folder, or choose task='mix_clean'")
        self.sample_rate = sample_rate
        self._mode = mode
        self._recipes = _read_metadata(Path(metadata), with_noise=task != "mix_clean")
        self.num_sources = 1 if task == "mix_single" else len(self._recipes[0].sources)
        subsets = {_top_folder(part.path) for recipe in self._recipes for part in recipe.sources}
        self._librispeech = _find_folder(librispeech, "LibriSpeech", subsets, _GET_LIBRISPEECH)
        self._noise: Path | None = None
        if task != "mix_clean" and noise is not None:
            subsets = {_top_folder(recipe.noise.path) for recipe in self._recipes if recipe.noise}
            self._noise = _find_folder(noise, "wham_noise", subsets, _GET_NOISE)

    def __len__(self) -> int:
        """How many mixtures there are."""
        return len(self._recipes)

    def mixture_id(self, index: int) -> str:
        """LibriMix's name of a mixture: those of its utterances, joined."""
        return self._recipes[index].id

    def num_samples(self, index: int) -> int:
        """Length of a mixture, from the headers of its sources.

        Raises:
            FileNotFoundError, ValueError: a file is missing or corrupt; the message names it.
        """
        with ExitStack() as stack:
            return self._length([file.frames for file in self._open_sources(self._recipes[index], stack)])

    def read(self, index: int, start: int = 0, num_samples: int | None = None) -> Mixture:
        """Reads a mixture, or `num_samples` of it from `start`, decoding little else.

        Args:
            index: which mixture.
            start: the first sample to read; before the mixture's end.
            num_samples: how many to read, 1 or more; where the mixture ends earlier, what there is. None: all.

        Raises:
            FileNotFoundError, ValueError: a file is missing or corrupt; the message names it.
        """
        recipe = self._recipes[index]
        with ExitStack() as stack:
            files = self._open_sources(recipe, stack)
            longest = max(file.frames for file in files)
            length = self._length([file.frames for file in files])
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

    def _open_sources(self, recipe: _Recipe, stack: ExitStack) -> list[soundfile.SoundFile]:
        return [stack.enter_context(_open(self._librispeech / part.path, _GET_LIBRISPEECH)) for part in recipe.sources]

    @property
    def _factor(self) -> int:
        """Stored samples for one that is given."""
        return _STORED_RATE // self.sample_rate

    def _length(self, stored_lengths: Sequence[int]) -> int:
        stored = min(stored_lengths) if self._mode == "min" else max(stored_lengths)
        return -(-stored // self._factor)

    def _stored_range(self, start: int, stop: int, length: int) -> tuple[int, int]:
        """The stored samples, of `length`, that the samples from `start` to `stop` are made of."""
        first = max(0, start - _FILTER_REACH) * self._factor
        last = (stop + _FILTER_REACH) * self._factor
        return min(first, length), min(last, length)

    def _source(self, file: soundfile.SoundFile, gain: float, start: int, stop: int) -> np.ndarray:
        first, last = self._stored_range(start, stop, file.frames)
        return self._resample(_read(file, first, last) * gain, start, stop)

    def _read_noise(self, path: Path, gain: float, longest: int, start: int, stop: int) -> np.ndarray:
        first, last = self._stored_range(start, stop, longest)
        speed = _SPEEDS.get(path.stem[-4:])
        if speed is not None and not path.exists():
            with _open(path.with_stem(path.stem[:-4]), _GET_NOISE) as file:
                noise = soxr.resample(_read(file, 0, file.frames), round(speed * _STORED_RATE), _STORED_RATE)
            noise = _extend(noise, longest, path)[first:last]
        else:
            with _open(path, _GET_NOISE) as file:
                if file.frames >= longest:
                    noise = _read(file, first, last)
                else:
                    noise = _extend(_read(file, 0, file.frames), longest, path)[first:last]
        return self._resample(noise * gain, start, stop)

    def _resample(self, stored: np.ndarray, start: int, stop: int) -> np.ndarray:
        """The samples from `start` to `stop`, zeros beyond the end, of the stored range that they are made of."""
        resampled = np.zeros(stop - start, np.float32)
        if len(stored):
            there = resample_poly(stored, self.sample_rate, _STORED_RATE)[min(start, _FILTER_REACH) :][: stop - start]
            resampled[: len(there)] = there
        return resampled


def _read_metadata(path: Path, with_noise: bool) -> list[_Recipe]:
    columns, rows = read_csv(path, "name one of the CSVs in LibriMix's metadata folder, as libri2mix_dev-clean.csv")
    num_sources = 0
    while {f"source_{num_sources + 1}_path", f"source_{num_sources + 1}_gain"} <= set(columns):
        num_sources += 1
    needed = ["mixture_ID", *(["noise_path", "noise_gain"] if with_noise else [])]
    missing = [column for column in needed if column not in columns]
    if num_sources == 0 or missing:
        raise ValueError(
            f"{path}: has the columns {', '.join(columns) or '(none)'}; LibriMix's generation metadata (not its "
            f"_info.csv files) have {', '.join([*needed, 'source_1_path', 'source_1_gain', '...'])}"
        )
    if not rows:
        raise ValueError(f"{path}: has no row below its header; copy it again from LibriMix's metadata folder")
    return [_recipe(row, num_sources, with_noise, f"{path}, line {line}") for line, row in rows]


def _recipe(row: dict[str, str], num_sources: int, with_noise: bool, place: str) -> _Recipe:
    def part(name: str) -> _Part:
        path, gain = row[f"{name}_path"], row[f"{name}_gain"]
        try:
            number = float(gain)
        except ValueError:
            number = math.nan
        if not PurePosixPath(path).parts or not math.isfinite(number):
            raise ValueError(f"{place}: {name}_path={path!r} with {name}_gain={gain!r}; must be a path and a number")
        return _Part(str(PurePosixPath(path)), number)

    sources = tuple(part(f"source_{number + 1}") for number in range(num_sources))
    return _Recipe(row["mixture_ID"], sources, part("noise") if with_noise else None)


def _find_folder(root: str | os.PathLike[str], name: str, subsets: set[str], advice: str) -> Path:
    """The root, or the folder of the corpus's own name in it, whichever has the subsets."""
    folder = Path(root)
    if (folder / name).is_dir():
        folder = folder / name
    missing = sorted(subset for subset in subsets if not (folder / subset).is_dir())
    if missing:
        raise FileNotFoundError(f"{folder / missing[0]}: no such folder, and the metadata need it; {advice}")
    return folder


def _top_folder(path: str) -> str:
    return PurePosixPath(path).parts[0]


def _speaker(path: str) -> str:
    """LibriSpeech's files are named SPEAKER-CHAPTER-UTTERANCE."""
    return PurePosixPath(path).name.partition("-")[0]


def _open(path: Path, advice: str) -> soundfile.SoundFile:
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file, and the metadata need it; {advice}")
    try:
        file = soundfile.SoundFile(path)
    except soundfile.LibsndfileError as error:
        raise unreadable(path, error) from error
    if file.samplerate != _STORED_RATE or file.frames == 0:
        with file:
            raise ValueError(
                f"{path}: has {file.frames} samples at {file.samplerate} Hz; must have some, at {_STORED_RATE} Hz; "
                f"{advice}"
            )
    return file


def _read(file: soundfile.SoundFile, first: int, last: int) -> Float[np.ndarray, " t"]:
    """Reads the first channel from sample `first` to `last`."""
    try:
        file.seek(first)
        frames = file.read(last - first, dtype="float32", always_2d=True)
    except soundfile.LibsndfileError as error:
        raise ValueError(damage(file.name)) from error
    if len(frames) < last - first:
        raise ValueError(damage(file.name))
    return frames[:, 0]


def _extend(noise: Float[np.ndarray, " t"], length: int, path: Path) -> Float[np.ndarray, " {length}"]:
    """Lets noise go on with itself until it is long enough, over Hann cross-fades of half a second (and a sample)."""
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
    """What a 16-bit file would hold of it, but for the rounding."""
    return np.clip(waveform, -1.0, _LARGEST_16_BIT).astype(np.float32)
