"""Who is a woman and who a man, as the corpora's own tables of speakers say."""

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
    """Reads F or M by speaker, in small letters, from LibriSpeech's SPEAKERS.TXT or WSJ0's spkrinfo.txt.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it names no speaker.
    """
    text = read_text(path, "name LibriSpeech's SPEAKERS.TXT or WSJ0's spkrinfo.txt")
    genders = {speaker.lower(): gender for speaker, gender in _LINE.findall(text)}
    if not genders:
        raise ValueError(f"{path}: names no speaker; each line must begin with a name and F or M, as in SPEAKERS.TXT")
    return genders


def find_genders(options: Mapping[str, Any]) -> dict[str, str]:
    """What is known of a data set's speakers from LibriSpeech's table, where the options name a folder that has it.

    Args:
        options: of `open_mixtures`.
    """
    for root in (options.get("librispeech"), options.get("root")):
        for folder in (Path(root), Path(root, "LibriSpeech")) if root else ():
            if (folder / _LIBRISPEECH_TABLE).is_file():
                return read_genders(folder / _LIBRISPEECH_TABLE)
    return {}
