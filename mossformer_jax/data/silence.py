"""Refuses to train on silent data, such as the files of zeros that a failed conversion leaves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from mossformer_jax.data.crops import CroppedMixtures
from mossformer_jax.data.layouts.files import FileMixtures
from mossformer_jax.data.mixing import DynamicMixing, TrainingMixtures
from mossformer_jax.data.records import MixtureSource
from mossformer_jax.data.utterances import Utterances

# Reading stops at the first recording with sound, so that usually only one is read.
_MOST_READ = 16
_NUM_NAMED = 3


def check_sound(mixtures: TrainingMixtures | MixtureSource, part: str) -> None:
    """Checks that not all of the data are silent, by reading up to 16 of them, spread over the data set.

    Args:
        mixtures: the opened mixtures.
        part: their section of `config.data`, for the error.

    Raises:
        ValueError: the mixture, or every source, of all recordings that were read is silent; the message names some of
            their files.
    """
    if isinstance(mixtures, DynamicMixing):
        speech = mixtures.speech
        names = _silent(len(speech), lambda index: _is_silent(speech.read(index)))
        what, files = "utterances", [_utterance(speech, index) for index in names]
    else:
        source: Any = mixtures.mixtures if isinstance(mixtures, CroppedMixtures) else mixtures
        if not isinstance(source, MixtureSource):
            return

        def is_silent(index: int) -> bool:
            mixture = source.read(index)
            return _is_silent(mixture.mixed()) or all(map(_is_silent, mixture.sources))

        names = _silent(len(source), is_silent)
        what, files = "mixtures", list(dict.fromkeys(name for index in names for name in _mixture(source, index)))
    if files:
        more = ", ..." if len(files) > _NUM_NAMED else ""
        raise ValueError(
            f"config.data.{part}: the audio of all {len(names)} {what} that were checked is silent: "
            f"{', '.join(files[:_NUM_NAMED])}{more}; check the files and make or convert them again"
        )


def _silent(count: int, is_silent: Callable[[int], bool]) -> list[int]:
    """The recordings that were read if all of them are silent; otherwise an empty list."""
    read = []
    for index in np.unique(np.linspace(0, count - 1, min(count, _MOST_READ)).astype(int)).tolist():
        try:
            if not is_silent(index):
                return []
        except (OSError, ValueError):
            continue  # an unreadable file is counted when it is drawn
        read.append(index)
    return read


def _is_silent(waveform: np.ndarray) -> bool:
    return bool(np.ptp(waveform) == 0.0)


def _mixture(source: MixtureSource, index: int) -> list[str]:
    return source.files[index].paths() if isinstance(source, FileMixtures) else [source.mixture_id(index)]


def _utterance(speech: Any, index: int) -> str:
    return speech.paths[index] if isinstance(speech, Utterances) else speech.name(index)
