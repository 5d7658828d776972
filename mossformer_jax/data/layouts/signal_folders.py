"""The files of a split that has one folder per signal, with the same file names in each."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

from mossformer_jax.data.layouts.files import FileMixtures, MixtureFiles


def open_signal_folders(
    root: Path,
    folder: Path,
    *,
    mixture: str,
    sources: list[str],
    sample_rate: int,
    utterance: re.Pattern[str],
    advice: str,
    noise: str | None = None,
    not_there: str | None = None,
) -> FileMixtures:
    """Opens a split with one folder per signal and checks that all folders have the same file names.

    Args:
        root: the folder of the data set, as the user gave it.
        folder: the folder of the split, which contains the folders of the signals.
        mixture: folder of the mixtures.
        sources: folders of the sources.
        sample_rate: sample rate of every file in Hz.
        utterance: matches the utterances in a file name, one per source; its first group is the speaker.
        advice: how to get the data set, the end of the error messages.
        noise: folder of the noise; None if there is none.
        not_there: a folder that would mean that there are more sources than `sources`.

    Returns:
        The mixtures, sorted by name. The speakers are empty where a file name has fewer utterances than sources.

    Raises:
        FileNotFoundError: a folder is missing.
        ValueError: there are more sources, no files, or the folders do not have the same file names.
    """
    signals = [mixture, *sources, *([noise] if noise else [])]
    for signal in signals:
        _check_folder(root, folder / signal, advice)
    if not_there and (folder / not_there).is_dir():
        raise ValueError(
            f"{folder / not_there}: exists, so there are more than num_sources={len(sources)} sources; increase "
            "num_sources"
        )
    names = _names(folder / mixture)
    if not names:
        raise ValueError(f"{folder / mixture}: contains no .wav or .flac file; {advice}")
    for signal in signals[1:]:
        _check_same_names(folder, mixture, names, signal)
    return FileMixtures(
        _SignalFolders(str(folder), mixture, tuple(sources), noise, names, utterance), len(sources), sample_rate
    )


@dataclass(frozen=True)
class _SignalFolders(Sequence[MixtureFiles]):
    """The files of a split. Only the file names are stored; paths are built on access."""

    folder: str
    mixture: str
    sources: tuple[str, ...]
    noise: str | None
    names: list[str]
    utterance: re.Pattern[str]

    def __len__(self) -> int:
        return len(self.names)

    @overload
    def __getitem__(self, index: int) -> MixtureFiles: ...
    @overload
    def __getitem__(self, index: slice) -> list[MixtureFiles]: ...
    def __getitem__(self, index: int | slice) -> MixtureFiles | list[MixtureFiles]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        name = self.names[index]
        stem = os.path.splitext(name)[0]
        speakers = tuple(self.utterance.findall(stem))[: len(self.sources)]
        return MixtureFiles(
            id=stem,
            sources=tuple(os.path.join(self.folder, source, name) for source in self.sources),
            mixture=os.path.join(self.folder, self.mixture, name),
            noise=os.path.join(self.folder, self.noise, name) if self.noise else None,
            speakers=speakers if len(speakers) == len(self.sources) else (),
        )


def _check_folder(root: Path, folder: Path, advice: str) -> None:
    if folder.is_dir():
        return
    if not root.is_dir():
        raise FileNotFoundError(f"{root}: no such folder; set root to the folder of the data set, or {advice}")
    above = next(parent for parent in folder.parents if parent.is_dir())
    found = sorted(path.name for path in above.iterdir() if path.is_dir())[:12]
    raise FileNotFoundError(f"{folder}: no such folder; {above} contains {', '.join(found) or 'no folders'}; {advice}")


def _check_same_names(folder: Path, mixture: str, names: list[str], signal: str) -> None:
    differing = set(names).symmetric_difference(_names(folder / signal))
    if differing:
        name = min(differing)
        lacking, having = (signal, mixture) if name in names else (mixture, signal)
        raise ValueError(
            f"{folder / lacking}: has no {name}, but {folder / having} has; {len(differing)} file name(s) differ; "
            "generate or copy the split again, or remove the extra files"
        )


def _names(folder: Path) -> list[str]:
    return sorted(name for name in os.listdir(folder) if name.endswith((".wav", ".flac")) and name[0] != ".")
