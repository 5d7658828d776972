"""Error messages for damaged audio files."""

from __future__ import annotations

import os

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
    except ValueError as error:
        return str(error)
    return f"{path}: is damaged or cut short: fewer samples than its header declares; copy or convert it again"
