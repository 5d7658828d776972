"""Which files belong together: mixtures, references and estimates, paired by name."""

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
        id: its name.
        mixture: path of the mixture.
        references: paths of the true sources.
        estimates: paths of as many separated sources, in any order.
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

    Each argument names a folder, whose files' names without suffix are the ids, or a template of paths such as
    'out/{id}_s{k}.wav', where {k} is the number of the source, from 1. References and estimates take a folder a source,
    or a template with {k} for all.

    Returns:
        The utterances, sorted by id, and a line for each place that has files which belong to no mixture.

    Raises:
        FileNotFoundError: a folder is not there, a template matches nothing, or files are missing, which are named.
        ValueError: a template has other fields, two files have the same id, or the numbers of sources differ.
    """
    (mixture_place, mixture_files), *others = _look_up(mixtures)
    if others:
        raise ValueError(f"{mixtures}: has {{k}}, the number of a source; there is one mixture of all sources")
    sources = [[place for text in texts for place in _look_up(text)] for texts in (references, estimates)]
    if len(sources[0]) != len(sources[1]):
        raise ValueError(
            f"the references have {len(sources[0])} sources, the estimates {len(sources[1])}; give as many"
        )
    missing, extra = [], []
    for place, files in (*sources[0], *sources[1]):
        if absent := mixture_files.keys() - files.keys():
            missing.append(f"{place}: {_named(absent)} missing")
        if surplus := files.keys() - mixture_files.keys():
            extra.append(f"{place}: {_named(surplus)} left out: there is no such mixture in {mixture_place}")
    if missing:
        raise FileNotFoundError(f"{'; '.join(missing)}. Names must match; if they differ, give templates with {{id}}")
    utterances = [
        SeparatedFiles(id, path, *(tuple(files[id] for _, files in places) for places in sources))
        for id, path in sorted(mixture_files.items())
    ]
    return utterances, extra


def _look_up(text: str) -> list[tuple[str, dict[str, str]]]:
    """The places that a folder or a template stands for, one a source, and the files of each by id."""
    if "{" in text:
        return _fill_in(os.path.normpath(text))  # as glob gives paths, without // and ./
    if not Path(text).is_dir():
        raise FileNotFoundError(f"{text}: no such folder; name a folder, or a template of paths with {{id}}")
    files: dict[str, str] = {}
    for path in sorted(Path(text).iterdir()):
        if path.suffix.lower() in AUDIO_SUFFIXES and not path.name.startswith("."):
            _add(files, path.stem, str(path))
    if not files:
        raise FileNotFoundError(f"{text}: no audio there; name the folder that holds the files themselves")
    return [(text, files)]


def _fill_in(template: str) -> list[tuple[str, dict[str, str]]]:
    fields = set(_FIELD.findall(template))
    if not {"id"} <= fields <= {"id", "k"}:
        raise ValueError(f"{template}: has the fields {_braced(fields)}; must have {{id}}, and may have {{k}}")
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
        raise FileNotFoundError(f"{template}: no file has such a name; check it, and quote it in a shell")
    if sorted(places) != list(range(1, len(places) + 1)):
        raise ValueError(f"{template}: {{k}} is {', '.join(map(str, sorted(places)))}; sources are numbered from 1")
    return [(template.replace("{k}", str(k)), files) for k, files in sorted(places.items())]


def _add(files: dict[str, str], id: str, path: str) -> None:
    if id in files:
        raise ValueError(f"{files[id]} and {path} have the same id {id!r}; leave one of them out, or give a template")
    files[id] = path


def _named(ids: set[str]) -> str:
    named = ", ".join(sorted(ids)[:_NUM_NAMED])
    more = f" and {len(ids) - _NUM_NAMED} more" if len(ids) > _NUM_NAMED else ""
    return f"{named}{more} {'is' if len(ids) == 1 else 'are'}"


def _braced(fields: set[str]) -> str:
    return ", ".join(f"{{{field}}}" for field in sorted(fields)) or "(none)"
