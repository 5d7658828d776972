"""Mixtures listed in a text file: ClearerVoice's .scp lists, and CSV files."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Sequence

from mossformer_jax.data.layouts.files import FileMixtures, MixtureFiles
from mossformer_jax.data.layouts.options import nearest
from mossformer_jax.data.text_tables import read_csv, read_text

_SET_PATH = "set path to the list of mixtures"


def scp_list(
    path: str | os.PathLike[str],
    num_sources: int = 2,
    sample_rate: int = 8000,
    root: str | os.PathLike[str] | None = None,
) -> FileMixtures:
    """Opens a ClearerVoice list with one line per mixture: `mixture.wav source1.wav source2.wav [duration]`.

    The fields are separated by spaces, so paths must not contain spaces (use the layout csv for these). The duration is
    ignored.

    Args:
        path: the list.
        num_sources: number of sources per mixture, 1 or more.
        sample_rate: sample rate of every file in Hz.
        root: the folder that relative paths refer to; by default the folder of the list.

    Returns:
        The mixtures in the order of the list. The id of a mixture is its file name without suffix, or its path as
        listed if that name is not unique.

    Raises:
        FileNotFoundError: the list, or a file of its first line, is missing.
        ValueError: num_sources is below 1, a line does not have the right format, two lines have the same mixture, or
            the list is empty.
    """
    if num_sources < 1:
        raise ValueError(f"num_sources={num_sources!r} is not allowed: must be 1 or more")
    lines, found = [], []
    for number, line in enumerate(read_text(path, _SET_PATH).splitlines(), start=1):
        fields = line.split()
        if not fields:
            continue
        if _is_number(fields[-1]):
            fields.pop()
        if len(fields) != num_sources + 1:
            raise ValueError(
                f"{path}, line {number}: has {len(fields)} fields separated by spaces; must be a mixture, "
                f"num_sources={num_sources} sources and optionally a duration; for paths with spaces use layout='csv'"
            )
        lines.append(number)
        found.append(MixtureFiles(id="", mixture=fields[0], sources=tuple(fields[1:])))
    return FileMixtures(_checked(path, root, lines, found), num_sources, sample_rate)


def csv_table(
    path: str | os.PathLike[str], sample_rate: int = 8000, root: str | os.PathLike[str] | None = None
) -> FileMixtures:
    """Opens a CSV file with one row per mixture. The first line names the columns, in any order.

    Required columns: source_1, source_2, ... (paths). Optional columns: mixture (a path; if it is missing or empty, the
    mixture is the sum of the sources and the noise), noise (a path, may be empty), id (unique), and speaker_1,
    speaker_2, ....

    Args:
        path: the CSV file, in UTF-8, separated by commas.
        sample_rate: sample rate of every file in Hz.
        root: the folder that relative paths refer to; by default the folder of the CSV file.

    Returns:
        The mixtures in the order of the CSV file. The default id is the file name of the mixture without suffix, or
        those of the sources joined with _; if such names are not unique, they include the folders.

    Raises:
        FileNotFoundError: the CSV file, or a file of its first row, is missing.
        ValueError: a column is unknown, missing or repeated, a source is empty, a quote is not closed, ids are not
            unique, or there are no rows.
    """
    columns, rows = read_csv(path, _SET_PATH)
    sources, speakers = _check_columns(path, columns)
    found = []
    for line, row in rows:
        empty = [source for source in sources if not row[source]]
        if empty:
            raise ValueError(f"{path}, line {line}: {empty[0]} is empty; every source needs a path")
        who = tuple(row[speaker] for speaker in speakers)
        found.append(
            MixtureFiles(
                id=row.get("id") or "",
                mixture=row.get("mixture") or None,
                sources=tuple(row[source] for source in sources),
                noise=row.get("noise") or None,
                speakers=who if all(who) else (),
            )
        )
    return FileMixtures(_checked(path, root, [line for line, _ in rows], found), len(sources), sample_rate)


def _check_columns(path: str | os.PathLike[str], columns: Sequence[str]) -> tuple[list[str], list[str]]:
    count = sum(column.startswith("source_") for column in columns)
    sources = [f"source_{number}" for number in range(1, count + 1)]
    speakers = [f"speaker_{number}" for number in range(1, count + 1)]
    known = [*(sources or ["source_1"]), "mixture", "noise", "id", *speakers]
    for column in columns:
        if column not in known:
            raise ValueError(
                f"{path}: has an unknown column {column!r}; did you mean {nearest(column, known)!r}? "
                f"All: {', '.join(known)}"
            )
    if not sources:
        raise ValueError(f"{path}: has no column source_1; its first line must name the columns: {', '.join(known)}")
    return sources, [speaker for speaker in speakers if speaker in columns]


def _checked(
    path: str | os.PathLike[str],
    root: str | os.PathLike[str] | None,
    lines: list[int],
    found: list[MixtureFiles],
) -> list[MixtureFiles]:
    """Gives every mixture an id and full paths."""
    if not found:
        raise ValueError(f"{path}: lists no mixtures; write one per line")
    folder = os.fspath(root) if root is not None else os.path.dirname(path)
    ids = _ids(found)
    first_line: dict[str, int] = {}
    for line, name in zip(lines, ids, strict=True):
        if name in first_line:
            raise ValueError(
                f"{path}, line {line}: repeats the mixture {name!r} of line {first_line[name]}; every mixture must be "
                "listed once and have a unique id"
            )
        first_line[name] = line
    full = [
        MixtureFiles(
            id=name,
            mixture=os.path.join(folder, files.mixture) if files.mixture else None,
            sources=tuple(os.path.join(folder, source) for source in files.sources),
            noise=os.path.join(folder, files.noise) if files.noise else None,
            speakers=files.speakers,
        )
        for name, files in zip(ids, found, strict=True)
    ]
    for audio in full[0].paths():
        if not os.path.isfile(audio):
            raise FileNotFoundError(
                f"{audio}: no such file, but {path}, line {lines[0]}, refers to it; relative paths start at "
                f"{folder or 'the current folder'}; set root to change this"
            )
    return full


def _ids(found: list[MixtureFiles]) -> list[str]:
    names = [_joined(files, os.path.basename) for files in found]
    counts = Counter(names)
    # The names of speaker7/mix.wav and speaker8/mix.wav are equal, so their folders are added.
    return [
        files.id or (name if counts[name] == 1 else _joined(files, lambda path: re.sub(r"[/\\]", "_", path)))
        for files, name in zip(found, names, strict=True)
    ]


def _joined(files: MixtureFiles, shorten: Callable[[str], str]) -> str:
    paths = [files.mixture] if files.mixture else files.sources
    return "_".join(os.path.splitext(shorten(path))[0] for path in paths)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
