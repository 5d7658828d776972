"""Genders of the speakers, from the speaker tables of the corpora."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mossformer_jax.data.text_tables import read_text

# LibriSpeech's SPEAKERS.TXT has "14   | F | train-clean-360 | ...", WSJ0's spkrinfo.txt "001 F ...".
_LINE = re.compile(r"^[ \t]*(\w+)[ \t]*[| \t][ \t]*([FM])\b", re.MULTILINE)
_LIBRISPEECH_TABLE = "SPEAKERS.TXT"


def read_genders(path: str | os.PathLike[str]) -> dict[str, str]:
    """Reads the gender, F or M, of each speaker from LibriSpeech's SPEAKERS.TXT or WSJ0's spkrinfo.txt.

    Returns:
        F or M by speaker id in lower case.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the file has no line with a speaker.
    """
    text = read_text(path, "pass LibriSpeech's SPEAKERS.TXT or WSJ0's spkrinfo.txt")
    genders = {speaker.lower(): gender for speaker, gender in _LINE.findall(text)}
    if not genders:
        raise ValueError(
            f"{path}: no speakers found; lines must start with a speaker id and F or M, as in SPEAKERS.TXT"
        )
    return genders


def find_genders(options: Mapping[str, Any]) -> dict[str, str]:
    """Looks for LibriSpeech's speaker table in the folders that a data set's options name.

    Args:
        options: options of `open_mixtures`.

    Returns:
        F or M by speaker id in lower case; empty if there is no table.
    """
    for root in (options.get("librispeech"), options.get("root")):
        for folder in (Path(root), Path(root, "LibriSpeech")) if root else ():
            if (folder / _LIBRISPEECH_TABLE).is_file():
                return read_genders(folder / _LIBRISPEECH_TABLE)
    return {}
