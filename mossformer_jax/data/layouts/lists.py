"""Mixtures that a text file lists: ClearerVoice's .scp, and a CSV of one's own."""

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
    """Opens a ClearerVoice list: a line a mixture, `mixture.wav source1.wav source2.wav [duration]`.

    The fields are separated by spaces, so that a path with a space in it cannot be listed (the layout csv takes it). A
    duration is allowed and not used.

    Args:
        path: the list.
        num_sources: sources of a mixture, 1 or more.
        sample_rate: of every file, in Hz.
        root: what relative paths count from; by default the list's folder.

    Returns:
        The mixtures in the list's order, each under its file's name without suffix, or, where such names repeat, under
        its path as it is listed.

    Raises:
        FileNotFoundError: the list, or a file of its first line, is missing.
        ValueError: num_sources is less than 1, a line does not have that form, two lines have the same mixture, or
            there is no line.
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
                f"{path}, line {number}: has {len(fields)} paths between spaces; must be a mixture and "
                f"num_sources={num_sources} sources, then at most a duration; for paths with spaces use layout='csv'"
            )
        lines.append(number)
        found.append(MixtureFiles(id="", mixture=fields[0], sources=tuple(fields[1:])))
    return FileMixtures(_checked(path, root, lines, found), num_sources, sample_rate)


def csv_table(
    path: str | os.PathLike[str], sample_rate: int = 8000, root: str | os.PathLike[str] | None = None
) -> FileMixtures:
    """Opens a CSV of one's own: a row a mixture, its columns named in the first line, in any order.

    Columns: source_1, source_2, ... (paths); and, where wanted, mixture (a path; without it or where its cell is empty,
    the mixture is the sum of the sources and the noise), noise (a path, may be empty), id (unique) and speaker_1,
    speaker_2, ....

    Args:
        path: the CSV file, in UTF-8, separated by commas.
        sample_rate: of every file, in Hz.
        root: what relative paths count from; by default the CSV's folder.

    Returns:
        The mixtures in the CSV's order. Where there is no id, it is the name of the mixture's file without suffix, or
        of the sources' joined with _; or, where such names repeat, the same with the folders before it.

    Raises:
        FileNotFoundError: the CSV, or a file of its first row, is missing.
        ValueError: a column is unknown, missing or there twice, a cell of a source is empty, a quote is not closed, ids
            repeat, or there is no row.
    """
    columns, rows = read_csv(path, _SET_PATH)
    sources, speakers = _check_columns(path, columns)
    found = []
    for line, row in rows:
        empty = [source for source in sources if not row[source]]
        if empty:
            raise ValueError(f"{path}, line {line}: has an empty {empty[0]}; every source's cell must be filled")
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
        raise ValueError(f"{path}: lists no mixture; write one per line")
    folder = os.fspath(root) if root is not None else os.path.dirname(path)
    ids = _ids(found)
    first_line: dict[str, int] = {}
    for line, name in zip(lines, ids, strict=True):
        if name in first_line:
            raise ValueError(
                f"{path}, line {line}: is the mixture {name!r} of line {first_line[name]} again; every mixture must be "
                "listed once, under an id of its own"
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
                f"{audio}: no such file, though {path}, line {lines[0]}, names it; relative paths count from "
                f"{folder or 'the current folder'}: set root to another folder"
            )
    return full


def _ids(found: list[MixtureFiles]) -> list[str]:
    names = [_joined(files, os.path.basename) for files in found]
    counts = Counter(names)
    # Names of speaker7/mix.wav and speaker8/mix.wav repeat: their folders tell them apart.
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
