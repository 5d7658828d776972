"""CSV files that list speech files with their speakers, and optionally their splits and lengths."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from mossformer_jax.atomic import write_atomically
from mossformer_jax.audio.resampling import resampled_length
from mossformer_jax.data.speech import UNKNOWN_SPEAKER
from mossformer_jax.data.text_tables import read_csv


def read_manifest(
    path: Path, sample_rate: int, root: Path | None, split: str | None
) -> tuple[list[Path], list[str], list[int] | None]:
    """Reads a CSV file in the format of `Utterances.from_manifest`, whose arguments and errors these are.

    Returns:
        The paths, their speakers, and their lengths in samples at `sample_rate`; None if there is no such column.
    """
    columns, rows = read_csv(path, "name the CSV file with the columns path and speaker")
    missing = {"path", "speaker", *(["split"] if split else [])} - set(columns)
    if missing:
        raise ValueError(
            f"{path}: has no column {', '.join(sorted(missing))}; its columns are {', '.join(columns) or '(empty)'}"
        )
    rows = [(line, row) for line, row in rows if split is None or row["split"] == split]
    if not rows:
        raise ValueError(f"{path}: has no row{f' with split {split!r}' if split else ''}; add rows to it")
    root = path.parent if root is None else root
    paths, speakers, lengths = [], [], []
    length_column = next((column for column in ("num_samples", "n_samples") if column in columns), None)
    for line, row in rows:
        speaker = row["speaker"] if row.get("speaker_known") != "0" else UNKNOWN_SPEAKER
        if not row["path"] or not speaker:
            raise ValueError(
                f"{path}, line {line}: has path {row['path']!r} and speaker {speaker!r}; fill in both, or set "
                "speaker_known to 0"
            )
        paths.append(root / row["path"])
        speakers.append(speaker)
        if length_column is not None:
            length = _whole_number(path, line, row, length_column, smallest=0)
            rate = _whole_number(path, line, row, "sample_rate", 1) if row.get("sample_rate") else sample_rate
            lengths.append(resampled_length(length, rate, sample_rate))
    return paths, speakers, lengths if length_column is not None else None


def write_manifest(path: Path, rows: Sequence[tuple[str, str, int, int]]) -> None:
    """Writes a CSV file with one row (path, speaker, num_samples, sample_rate) per speech file.

    Raises:
        OSError: the file cannot be written; an older file is then unchanged.
    """
    text = io.StringIO(newline="")
    csv.writer(text).writerows([("path", "speaker", "num_samples", "sample_rate"), *rows])
    write_atomically(path, text.getvalue().encode())


def _whole_number(path: Path, line: int, row: dict[str, str], column: str, smallest: int) -> int:
    try:
        number = int(row[column])
    except ValueError:
        number = smallest - 1
    if number < smallest:
        raise ValueError(f"{path}, line {line}: {column}={row[column]!r} must be a whole number, {smallest} or more")
    return number
