"""Speech files with speaker labels, for dynamic mixing."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from mossformer_jax.audio.files import AUDIO_SUFFIXES as ALL_AUDIO_SUFFIXES
from mossformer_jax.audio.kinds import OTHER_MEDIA_SUFFIXES
from mossformer_jax.audio.opening import AudioFile
from mossformer_jax.audio.resampling import check_sample_rate, fit_length, resample, resampled_length
from mossformer_jax.data.damage import damage
from mossformer_jax.data.speech_manifests import read_manifest, write_manifest

AUDIO_SUFFIXES = (".flac", ".wav")
_MEDIA_SUFFIXES = (*ALL_AUDIO_SUFFIXES, *OTHER_MEDIA_SUFFIXES)
_logger = logging.getLogger(__name__)


class Utterances:
    """Speech files with their speakers. Files are opened only when needed.

    Attributes:
        paths: the files.
        sample_rate: sample rate of all waveforms returned, in Hz; files at other rates are resampled.
        speaker_names: names of all speakers, in alphabetical order.
        speakers: speaker of each file, as a position in `speaker_names`.
    """

    def __init__(
        self,
        paths: Sequence[str | os.PathLike[str]],
        speakers: Sequence[str],
        sample_rate: int,
        num_samples: Sequence[int] | None = None,
    ):
        """Stores the paths; no file is opened.

        Args:
            paths: the audio files; the channels of multi-channel files are averaged.
            speakers: name of the speaker of each file.
            sample_rate: the desired sample rate in Hz.
            num_samples: length of each file in samples at that rate; 0 or None: read from the header on demand.

        Raises:
            ValueError: there are no files, the arguments differ in length, or the rate is not a positive whole number.
        """
        check_sample_rate(sample_rate)
        if not len(paths) == len(speakers) == len(paths if num_samples is None else num_samples):
            raise ValueError(
                f"{len(paths)} paths and {len(speakers)} speakers; there must be one speaker (and length) per path"
            )
        if not paths:
            raise ValueError("no speech files; give a folder or a manifest that contains some")
        self.paths = [os.fspath(path) for path in paths]
        self.sample_rate = sample_rate
        names, numbers = np.unique(np.asarray(speakers, dtype=str), return_inverse=True)
        self.speaker_names: tuple[str, ...] = tuple(names.tolist())
        self.speakers = numbers.astype(np.int32)
        # Zero means not yet known.
        self._num_samples = np.asarray(np.zeros(len(paths)) if num_samples is None else num_samples, dtype=np.int64)

    @classmethod
    def from_folder(
        cls,
        root: str | os.PathLike[str],
        *,
        sample_rate: int,
        speaker_level: int = -2,
        suffixes: str | Sequence[str] = AUDIO_SUFFIXES,
    ) -> Utterances:
        """Finds all audio files in a folder and its subfolders.

        Args:
            root: the folder.
            sample_rate: the desired sample rate in Hz.
            speaker_level: which part of a file's path, relative to the root, names its speaker: 0 is the first folder
                (`root/SPEAKER/...`), -2 the folder that contains the file, -1 the file name.
            suffixes: file name suffix or suffixes to accept; upper and lower case are equivalent.

        Raises:
            FileNotFoundError: there is no such folder.
            ValueError: the folder contains no audio file, or the path of a file has no part at `speaker_level`.
        """
        root = Path(root)
        if not root.is_dir():
            raise FileNotFoundError(f"{root}: no such folder; check the path of the speech files")
        suffixes = (suffixes,) if isinstance(suffixes, str) else tuple(suffixes)
        paths, others = _audio_files(root, tuple(suffix.lower() for suffix in suffixes))
        if others:
            _logger.warning(
                "%s: %d files look like recordings but do not end in %s, and are not used: %s%s",
                *(
                    root,
                    len(others),
                    " or ".join(suffixes),
                    others[0],
                    f" and {len(others) - 1} more" * (len(others) > 1),
                ),
            )
        if not paths:
            raise ValueError(f"{root}: contains no file ending in {' or '.join(suffixes)}; give another folder")
        speakers = []
        for path in paths:
            parts = os.path.relpath(path, root).split(os.sep)
            if not -len(parts) <= speaker_level < len(parts):
                raise ValueError(
                    f"{path}: speaker_level={speaker_level} is not allowed: its path below {root} has {len(parts)} "
                    "part(s); 0 is the first folder, -2 the folder that contains the file"
                )
            speakers.append(parts[speaker_level])
        return cls(paths, speakers, sample_rate)

    @classmethod
    def from_librispeech(
        cls, root: str | os.PathLike[str], *, sample_rate: int, splits: Sequence[str] = ("train-clean-100",)
    ) -> Utterances:
        """Finds the utterances of LibriSpeech: `root/SPLIT/SPEAKER/CHAPTER/*.flac`.

        Args:
            root: the folder that contains the splits, or its parent.
            sample_rate: the desired sample rate in Hz.
            splits: for example train-clean-100, train-clean-360, dev-clean or test-clean.

        Raises:
            FileNotFoundError: a split is missing.
            ValueError: a split contains no FLAC file.
        """
        root = Path(root) / "LibriSpeech" if (Path(root) / "LibriSpeech").is_dir() else Path(root)
        paths, speakers = [], []
        for split in [splits] if isinstance(splits, str) else splits:
            if not (root / split).is_dir():
                raise FileNotFoundError(
                    f"{root / split}: no such folder; download {split}.tar.gz of LibriSpeech (OpenSLR 12) and unpack it"
                )
            found = cls.from_folder(root / split, sample_rate=sample_rate, speaker_level=0, suffixes=(".flac",))
            paths += found.paths
            speakers += [found.speaker_names[number] for number in found.speakers]
        return cls(paths, speakers, sample_rate)

    @classmethod
    def from_manifest(
        cls,
        path: str | os.PathLike[str],
        *,
        sample_rate: int,
        root: str | os.PathLike[str] | None = None,
        split: str | None = None,
    ) -> Utterances:
        """Reads a CSV file with the columns `path` and `speaker`.

        Optional columns:

        - `split`.
        - `num_samples` or `n_samples`: the lengths, so that the files need not be opened to find them. They are counted
          at the rate in the column `sample_rate`, or at the desired rate if there is no such column.
        - `speaker_known`: 0 for unidentified speakers. They all count as one speaker, so that no mixture contains the
          same voice twice.

        Args:
            path: the CSV file.
            sample_rate: the desired sample rate in Hz.
            root: the folder that relative paths refer to; None: the folder of the CSV file.
            split: use only the rows with this value in the column `split`; None: use all rows.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the file is not CSV in UTF-8, a column or the path or speaker of a row is missing, a length or
                rate is not a whole number, or no row belongs to the split.
        """
        paths, speakers, lengths = read_manifest(Path(path), sample_rate, None if root is None else Path(root), split)
        return cls(paths, speakers, sample_rate, lengths)

    def write_manifest(self, path: str | os.PathLike[str]) -> None:
        """Writes a CSV file for `from_manifest`, with the length of every file from its header.

        Raises:
            FileNotFoundError, ValueError: a file is missing or is not audio; the CSV file is then not written.
        """
        rows = [
            (
                os.path.abspath(audio),
                self.speaker_names[self.speakers[index]],
                self.num_samples(index),
                self.sample_rate,
            )
            for index, audio in enumerate(self.paths)
        ]
        write_manifest(Path(path), rows)

    def __len__(self) -> int:
        return len(self.paths)

    def name(self, index: int) -> str:
        """File name without its suffix."""
        return Path(self.paths[index]).stem

    def num_samples(self, index: int) -> int:
        """Length in samples at `sample_rate`; reads the file's header on the first call, unless the length is given.

        Raises:
            FileNotFoundError, ValueError: the file is missing, is not audio or is empty.
        """
        if not self._num_samples[index]:
            path = self.paths[index]
            with _open(path) as file:
                self._num_samples[index] = resampled_length(file.num_samples, file.sample_rate, self.sample_rate)
            if not self._num_samples[index]:
                raise ValueError(f"{path}: contains no audio; record or copy it again")
        return int(self._num_samples[index])

    def read(self, index: int, start: int = 0, num_samples: int | None = None) -> Float[np.ndarray, " t"]:
        """Reads an utterance, or `num_samples` of it from sample `start`, both at `sample_rate`.

        Returns:
            The waveform, (t,), float32, the mean of the file's channels.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the file is not audio, is damaged, is shorter than `start + num_samples`, or contains NaN or
                infinity.
        """
        path = self.paths[index]
        with _open(path) as file:
            rate = file.sample_rate
            if num_samples is None:
                num_samples = resampled_length(file.num_samples, rate, self.sample_rate) - start
            first = start * rate // self.sample_rate
            # A rounded-up length may exceed the end of the file by less than one sample.
            last = min(-(-(start + num_samples) * rate // self.sample_rate), file.num_samples)
            if last - first < resampled_length(num_samples, self.sample_rate, rate) - 1:
                raise ValueError(
                    f"{path}: has {file.num_samples} samples at {rate} Hz, fewer than expected; copy it again, or "
                    "correct its length in the manifest"
                )
            try:
                frames = file.read(first, last - first)
            except ValueError as error:
                raise ValueError(damage(path)) from error
        waveform = frames[:, 0] if frames.shape[1] == 1 else frames.mean(axis=1)
        if len(waveform) < last - first:
            raise ValueError(damage(path))
        if not np.isfinite(waveform).all():
            raise ValueError(f"{path}: contains NaN or infinity; write it again from a clean source")
        if rate == self.sample_rate:
            return waveform
        return fit_length(resample(waveform, rate, self.sample_rate), num_samples)


def _audio_files(folder: Path, suffixes: tuple[str, ...]) -> tuple[list[str], list[str]]:
    """The files with one of the suffixes, and files with suffixes of other formats, both sorted; skips hidden files."""
    found: list[str] = []
    others: list[str] = []
    for parent, _, files in os.walk(folder, followlinks=True):
        for name in files:
            if name.startswith("."):
                continue
            if name.lower().endswith(suffixes):
                found.append(os.path.join(parent, name))
            elif name.lower().endswith(_MEDIA_SUFFIXES):
                others.append(os.path.join(parent, name))
    return sorted(found), sorted(others)


def _open(path: str) -> AudioFile:
    try:
        return AudioFile(path)
    except (OSError, ValueError):
        # Checked only after a failure, because the check may be slow on a network file system.
        if not os.path.exists(path):
            raise FileNotFoundError(f"{path}: no such file; check the path, or copy it again") from None
        raise
