"""Finds the recordings that the inputs of a run name, and files that look like recordings but cannot be read."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from urllib.parse import urlsplit

from mossformer_jax.audio.files import AUDIO_SUFFIXES
from mossformer_jax.audio.kinds import MEDIA_SUFFIXES, OTHER_MEDIA_SUFFIXES, looks_like_audio, media_kind
from mossformer_jax.audio.media import can_read_media
from mossformer_jax.cli.download import is_url, without_password

# Other files of a folder are opened to see whether they are recordings, except these.
# fmt: off
_NO_MEDIA_SUFFIXES = (
    ".bmp", ".cfg", ".cha", ".csv", ".db", ".doc", ".docx", ".eaf", ".gif", ".gz", ".html", ".ini", ".jpeg", ".jpg",
    ".json", ".jsonl", ".lab", ".log", ".md", ".npy", ".npz", ".pdf", ".png", ".pt", ".py", ".rttm", ".safetensors",
    ".scp", ".srt", ".svg", ".textgrid", ".tif", ".trs", ".tsv", ".txt", ".vtt", ".xls", ".xlsx", ".xml", ".yaml",
    ".yml", ".zip",
)
# fmt: on


@dataclass(frozen=True)
class InputRecording:
    """An input of a run.

    Attributes:
        location: path or URL.
        subfolder: sub-folder of the output folder for its sources: its place in the searched folder.
        found: whether it was found through a folder or a pattern; False if it was named itself.
        stem: stem of the sources' names; None takes that of the location.
        id: its name in a manifest, or None.
        duration: its length in seconds according to a manifest, or None.
    """

    location: str
    subfolder: Path = Path()
    found: bool = False
    stem: str | None = None
    id: str | None = None
    duration: float | None = None

    @property
    def name(self) -> str:
        """Its name on every machine: the id, the path below the searched folder, or the location as it was given."""
        if self.id is not None:
            return self.id
        return (self.subfolder / Path(self.location).name).as_posix() if self.found else self.location


@dataclass(frozen=True)
class LeftOut:
    """Something that is not separated.

    Attributes:
        location: a file that looks like a recording, or an input without any recording.
        reason: why it is skipped, one line that names it.
        is_file: whether it is such a file; False for an input.
    """

    location: str
    reason: str
    is_file: bool


def find_recordings(
    inputs: Sequence[str],
    output_folder: Path | None = None,
    left_out: list[LeftOut] | None = None,
    listed: Sequence[InputRecording] = (),
) -> list[InputRecording]:
    """Finds the recordings that the inputs of a run name.

    Folders are searched recursively for audio file suffixes; links to folders are not followed and hidden files are
    skipped. Patterns (`*`, `?`, `[...]`, and `**` for any depth) are expanded, unless a file has exactly that name.
    An output folder inside a searched folder is skipped.

    Args:
        inputs: paths, patterns, http(s) URLs. Named files are not checked for existence.
        output_folder: folder for the sources; None writes them next to their recordings.
        left_out: receives the files of a folder or a pattern that look like recordings but cannot be read, and the
            inputs without a recording; None: such an input is an error.
        listed: the recordings of a manifest, which come first.

    Returns:
        Each recording once, in the order of the inputs, those of a folder sorted by name.

    Raises:
        ValueError: a folder or a pattern contains no audio, or an address is not valid, and `left_out` is None.
        OSError: a folder cannot be read, and `left_out` is None.
    """
    recordings: dict[str, InputRecording] = {}
    others: dict[str, LeftOut] = {}
    entries: list[str | InputRecording] = [*listed, *inputs]
    for entry in entries:
        text = entry if isinstance(entry, str) else entry.location
        try:
            if not isinstance(entry, str) and is_url(text):
                _check_url(text)
            found = _expand(entry, output_folder, others) if isinstance(entry, str) else [entry]
            for recording in found:
                recordings.setdefault(key(recording.location), recording)
        except (OSError, ValueError) as error:
            if left_out is None:
                raise
            others.setdefault(text, LeftOut(text, str(error), is_file=False))
    if left_out is not None:
        left_out += others.values()
    return list(recordings.values())


def key(location: str | Path) -> str:
    """A normal form: the same text for all spellings of a path."""
    return str(location) if is_url(str(location)) else os.path.normcase(os.path.abspath(location))


def _expand(text: str, output_folder: Path | None, others: dict[str, LeftOut]) -> list[InputRecording]:
    if is_url(text):
        _check_url(text)
        return [InputRecording(text)]
    unread: list[OSError] = []
    if os.path.isdir(text):
        root, found = Path(text), list(_files_below(Path(text), unread))
    elif any(character in text for character in "*?[") and not os.path.lexists(text):
        root = Path(*takewhile(lambda part: not any(character in part for character in "*?["), Path(text).parts))
        matches = [Path(match) for match in sorted(glob.glob(text, recursive=True))]
        found = [path for match in matches for path in (_files_below(match, unread) if match.is_dir() else [match])]
    else:
        return [InputRecording(text)]
    if output_folder is not None and not _lies_in(root, output_folder):
        found = [path for path in found if not _lies_in(path, output_folder)]
    suffixes = AUDIO_SUFFIXES + (MEDIA_SUFFIXES if can_read_media() else ())
    paths = [path for path in found if path.name.lower().endswith(suffixes) and not path.name.startswith(".")]
    unreadable = list(_unreadable(found, suffixes))
    if not paths and unread:
        raise unread[0]
    for error in unread:
        others.setdefault(str(error.filename), LeftOut(str(error.filename), str(error), is_file=False))
    for file in unreadable:
        others.setdefault(key(file.location), file)
    if not paths and not unreadable:
        raise ValueError(
            f"{text}: no audio files found; their names must end in {', '.join(AUDIO_SUFFIXES[:7])} or similar"
        )
    return [InputRecording(str(path), path.parent.relative_to(root), found=True) for path in paths]


def _check_url(text: str) -> None:
    try:
        valid = urlsplit(text).hostname and urlsplit(text).port != 0
    except ValueError:
        valid = False
    if not valid:
        raise ValueError(f"{without_password(text)}: not a valid address; check the host and the port")


def _files_below(root: Path, unread: list[OSError]) -> Iterator[Path]:
    """All files that are not hidden; folders that cannot be read are added to `unread`."""
    for folder, subfolders, names in os.walk(root, onerror=unread.append):
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        yield from (Path(folder, name) for name in sorted(names) if not name.startswith("."))


def _unreadable(paths: Iterable[Path], read: tuple[str, ...]) -> Iterator[LeftOut]:
    """The files that look like recordings but are skipped; `read` are the suffixes of those that are not."""
    advice = "convert it to WAV or FLAC"
    if MEDIA_SUFFIXES[0] not in read:
        advice += ", or run: pip install 'mossformer-jax[video]'"
    for path in paths:
        suffix = path.suffix.lower()
        if path.name.startswith(".") or suffix in read or suffix in _NO_MEDIA_SUFFIXES:
            continue
        head = _head(path)
        readable = looks_like_audio(head) or (media_kind(head) is not None and MEDIA_SUFFIXES[0] in read)
        if readable and suffix not in OTHER_MEDIA_SUFFIXES:
            reason = "is audio, but its name does not end in .wav or similar; rename it, or name it as an input"
            yield LeftOut(str(path), f"{path}: {reason}", is_file=True)
        elif suffix in OTHER_MEDIA_SUFFIXES or media_kind(head) is not None:
            kind = media_kind(head) or f"{suffix} file"
            reason = f"looks like a recording, but cannot be read ({kind}); {advice}"
            yield LeftOut(str(path), f"{path}: {reason}", is_file=True)


def _head(path: Path) -> bytes:
    try:
        if not path.is_file():
            return b""
        with path.open("rb") as file:
            return file.read(16)
    except OSError:
        return b""


def _lies_in(path: Path, folder: Path) -> bool:
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))
