"""Pairs the files of mixtures, references and estimates by name."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mossformer_jax.audio.files import AUDIO_SUFFIXES

_NUM_NAMED = 5
_FIELD = re.compile(r"\{(.*?)\}")


@dataclass(frozen=True)
class SeparatedFiles:
    """The files of one utterance.

    Attributes:
        id: id of the utterance.
        mixture: path of the mixture.
        references: paths of the true sources.
        estimates: paths of the separated sources, as many as references, in any order.
    """

    id: str
    mixture: str
    references: tuple[str, ...]
    estimates: tuple[str, ...]

    def paths(self) -> tuple[str, ...]:
        """The mixture, the references, the estimates."""
        return (self.mixture, *self.references, *self.estimates)


def pair_files(
    mixtures: str, references: Sequence[str], estimates: Sequence[str]
) -> tuple[list[SeparatedFiles], list[str]]:
    """Pairs files by name.

    Each argument is a folder, where the file names without suffix are the ids, or a path template such as
    'out/{id}_s{k}.wav', where {k} is the number of the source, from 1. References and estimates take one folder per
    source, or one template with {k} for all sources.

    Returns:
        The utterances, sorted by id, and one warning for each folder or template with files that match no mixture.

    Raises:
        FileNotFoundError: a folder does not exist, a template matches no file, or files are missing.
        ValueError: a template has other fields, two files have the same id, or the numbers of sources differ.
    """
    (mixture_place, mixture_files), *others = _look_up(mixtures)
    if others:
        raise ValueError(f"{mixtures}: the template of the mixtures must not have {{k}}, the number of a source")
    sources = [[place for text in texts for place in _look_up(text)] for texts in (references, estimates)]
    if len(sources[0]) != len(sources[1]):
        raise ValueError(
            f"found {len(sources[0])} sources in the references but {len(sources[1])} in the estimates; "
            "pass as many of each"
        )
    missing, extra = [], []
    for place, files in (*sources[0], *sources[1]):
        if absent := mixture_files.keys() - files.keys():
            missing.append(f"{place}: missing {_named(absent)}")
        if surplus := files.keys() - mixture_files.keys():
            extra.append(f"{place}: skipped {_named(surplus)}: no such mixture in {mixture_place}")
    if missing:
        raise FileNotFoundError(
            f"{'; '.join(missing)}. Files must be named as the mixtures; otherwise pass templates with {{id}}"
        )
    utterances = [
        SeparatedFiles(id, path, *(tuple(files[id] for _, files in places) for places in sources))
        for id, path in sorted(mixture_files.items())
    ]
    return utterances, extra


def _look_up(text: str) -> list[tuple[str, dict[str, str]]]:
    """Expands a folder or a template to one entry per source: its name and its files by id."""
    if "\0" in text:
        raise ValueError(f"{text!r}: contains a null character, which file names cannot hold")
    if "{" in text:
        return _match(os.path.normpath(text))  # without // and ./, like the paths that glob returns
    if not Path(text).is_dir():
        raise FileNotFoundError(f"{text}: no such folder; pass a folder or a path template with {{id}}")
    files: dict[str, str] = {}
    for path in sorted(Path(text).iterdir()):
        if path.suffix.lower() in AUDIO_SUFFIXES and not path.name.startswith("."):
            _add(files, path.stem, str(path))
    if not files:
        raise FileNotFoundError(f"{text}: no audio files in this folder; pass the folder that directly contains them")
    return [(text, files)]


def _match(template: str) -> list[tuple[str, dict[str, str]]]:
    fields = set(_FIELD.findall(template))
    if not {"id"} <= fields <= {"id", "k"}:
        raise ValueError(f"{template}: found the fields {_braced(fields)}; {{id}} is required and {{k}} is optional")
    pattern = re.escape(template)
    for field, expression in (("id", "[^/]+"), ("k", "[1-9][0-9]*")):
        pattern = pattern.replace(rf"\{{{field}\}}", f"(?P<{field}>{expression})", 1)
        pattern = pattern.replace(rf"\{{{field}\}}", f"(?P={field})")
    places: dict[int, dict[str, str]] = {}
    for path in sorted(glob.glob(_FIELD.sub("*", glob.escape(template)))):
        if match := re.fullmatch(pattern, path):
            found = match.groupdict()
            _add(places.setdefault(int(found.get("k", 1)), {}), found["id"], path)
    if not places:
        raise FileNotFoundError(f"{template}: no file matches this template; check it, and quote it in the shell")
    if sorted(places) != list(range(1, len(places) + 1)):
        raise ValueError(
            f"{template}: found {{k}} = {', '.join(map(str, sorted(places)))}; number the sources from 1 without gaps"
        )
    return [(template.replace("{k}", str(k)), files) for k, files in sorted(places.items())]


def _add(files: dict[str, str], id: str, path: str) -> None:
    if id in files:
        raise ValueError(f"{files[id]} and {path} have the same id {id!r}; remove one of them, or pass a template")
    files[id] = path


def _named(ids: set[str]) -> str:
    named = ", ".join(sorted(ids)[:_NUM_NAMED])
    more = f" and {len(ids) - _NUM_NAMED} more" if len(ids) > _NUM_NAMED else ""
    return f"{named}{more}"


def _braced(fields: set[str]) -> str:
    return ", ".join(f"{{{field}}}" for field in sorted(fields)) or "(none)"
