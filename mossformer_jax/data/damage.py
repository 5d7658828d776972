"""Error messages for damaged audio files."""

from __future__ import annotations

import os

from mossformer_jax.audio.opening import libsndfile_reason
from mossformer_jax.audio.streams import AudioReader

_DAMAGE_BLOCK = 2**12


def damage(path: str | os.PathLike[str]) -> str:
    """Describes why a part of a file could not be read.

    The file is read from its start, because libsndfile's message depends on the part read, and a bad file must count
    as only one failure.
    """
    try:
        with AudioReader(path) as reader:
            for _ in reader.blocks(_DAMAGE_BLOCK):
                pass
    except (OSError, ValueError) as error:
        return str(error)
    return f"{path}: is damaged or cut short: fewer samples than its header declares; copy or convert it again"


def unreadable(path: str | os.PathLike[str], error: Exception) -> OSError | ValueError:
    """The exception to raise for a file that could not be opened because of `error`.

    `AudioReader` is slower to open but gives a precise error. If it opens the file (network file systems may fail
    temporarily), an error is still returned.
    """
    try:
        with AudioReader(path):
            pass
    except (OSError, ValueError) as found:
        return found
    reason = libsndfile_reason(error.__cause__ if isinstance(error.__cause__, Exception) else error)
    return ValueError(f"{path}: could not be read at first ({reason}), but now it can; try again")
