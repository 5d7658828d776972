"""Manifests: files that list the recordings of a run (`--manifest`)."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import Any

from mossformer_jax.cli.inputs import InputRecording
from mossformer_jax.data.text_tables import parse_csv, read_text

STANDARD_INPUT = "-"
SUFFIXES = (".csv", ".jsonl", ".txt")
FIELDS = ("path", "output", "id", "duration")
_ADVICE = "give a .csv, .jsonl or .txt file, or - for standard input"


def read_manifest(path: str) -> list[InputRecording]:
    """Reads a manifest.

    Relative paths start at the current folder. Columns and keys other than `FIELDS` are ignored.

    Args:
        path: a .txt file with one path or URL per line (empty lines are skipped), a .csv file with the column path, or
            a .jsonl file with the key path; "-" reads one of these from standard input, recognised by its first line.

    Returns:
        One recording per row. `output` is the path of the sources without their number and suffix, `id` the recording's
        name, `duration` its length in seconds.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file cannot be read as its kind, lists no recordings, or a row has no path, an output with
            "..", an id that occurs twice, or a duration that is not a number; the message names the line.
    """
    if path == STANDARD_INPUT:
        name = "standard input"
        try:
            text = sys.stdin.buffer.read().decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise ValueError(
                f"{name}: is not text in UTF-8 ({error.reason} at byte {error.start}); convert it to UTF-8"
            ) from error
        suffix = _recognise(text)
    else:
        name, suffix = path, Path(path).suffix.lower()
        if suffix not in SUFFIXES:
            raise ValueError(f"{path}: is not a manifest: its name must end in {', '.join(SUFFIXES)}; {_ADVICE}")
        text = read_text(path, _ADVICE)
    rows = {".csv": _csv_rows, ".jsonl": _json_rows, ".txt": _text_rows}[suffix](name, text)
    recordings = [_recording(f"{name}, line {line}", row) for line, row in rows]
    if not recordings:
        raise ValueError(f"{name}: lists no recordings; write one per line")
    _check_ids(name, recordings)
    return recordings


def _recognise(text: str) -> str:
    """The suffix of the kind of manifest that begins with the first line of the text."""
    first = text.lstrip().partition("\n")[0]
    if first.startswith("{"):
        return ".jsonl"
    return ".csv" if "path" in [cell.strip(' "\r') for cell in first.split(",")] else ".txt"


def _text_rows(name: str, text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    # Not splitlines(), which also splits at characters that file names may contain.
    for line, row in enumerate(text.split("\n"), start=1):
        if row.strip():
            yield line, {"path": row.removesuffix("\r")}


def _csv_rows(name: str, text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    columns, rows = parse_csv(name, text)
    if "path" not in columns:
        raise ValueError(
            f"{name}: has no column path, only {', '.join(columns) or 'no columns'}; name the column of the recordings "
            "path in the first line"
        )
    yield from rows


def _json_rows(name: str, text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    for line, row in enumerate(text.split("\n"), start=1):
        if not row.strip():
            continue
        try:
            fields = json.loads(row)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{name}, line {line}: is not JSON ({error}); write one object per line") from error
        if not isinstance(fields, dict):
            raise ValueError(f'{name}, line {line}: is not a JSON object; write {{"path": "a.wav"}}')
        yield line, fields


def _recording(place: str, row: dict[str, Any]) -> InputRecording:
    texts = {}
    for field in FIELDS[:3]:
        text = row.get(field)
        text = str(text) if isinstance(text, int) and field == "id" else text
        if text is not None and (not isinstance(text, str) or "\0" in text):
            raise ValueError(f"{place}: {field}={text!r} is not allowed: must be text without null characters")
        texts[field] = text or None
    if texts["path"] is None:
        raise ValueError(f"{place}: has no path; give the path or URL of a recording")
    output = None if texts["output"] is None else PurePath(texts["output"])
    if output is not None and (".." in output.parts or not output.name):
        raise ValueError(
            f"{place}: output={texts['output']!r} is not allowed: must be a path without '..', such as calls/0001, "
            "to which the number of the source and the suffix are added"
        )
    return InputRecording(
        texts["path"],
        Path() if output is None else Path(output.parent),
        stem=None if output is None else output.name,
        id=texts["id"],
        duration=_duration(place, row.get("duration")),
    )


def _duration(place: str, duration: Any) -> float | None:
    if duration is None or duration == "":
        return None
    try:
        seconds = math.nan if isinstance(duration, bool) else float(duration)
    except (TypeError, ValueError, OverflowError):
        seconds = math.nan
    if not 0.0 <= seconds < math.inf:
        raise ValueError(f"{place}: duration={duration!r} is not allowed: must be a number of seconds, 0 or more")
    return seconds


def _check_ids(name: str, recordings: list[InputRecording]) -> None:
    seen: dict[str, str] = {}
    for recording in recordings:
        if recording.id is not None and (other := seen.setdefault(recording.id, recording.location)) != (
            recording.location
        ):
            raise ValueError(
                f"{name}: {other} and {recording.location} have the same id {recording.id!r}; ids must be unique"
            )
