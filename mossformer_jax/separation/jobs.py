"""Which recordings a run separates and which files it writes, planned before any work is done."""

from __future__ import annotations

import glob
import os
import re
import string
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from urllib.parse import urlsplit

from mossformer_jax.audio.download import file_name, is_url
from mossformer_jax.audio.files import AUDIO_SUFFIXES

NAME_TEMPLATE = "{stem}_s{source}"
NAME_FIELDS = ("stem", "suffix", "source", "folder")


@dataclass(frozen=True)
class Recording:
    """An input of a run.

    Attributes:
        location: path or URL.
        subfolder: where its sources go below the output folder: as it lies in the folder that was searched.
        found: whether a folder or a pattern led to it, not its own name.
    """

    location: str
    subfolder: Path = Path()
    found: bool = False


@dataclass(frozen=True)
class Job:
    """One recording to separate.

    Attributes:
        input: path or URL.
        outputs: one file a source.
        plot: the picture, or None.
    """

    input: str
    outputs: tuple[Path, ...]
    plot: Path | None = None

    @property
    def written(self) -> tuple[Path, ...]:
        """All files that it writes."""
        return self.outputs if self.plot is None else (*self.outputs, self.plot)

    def is_done(self) -> bool:
        """Whether all of its files exist."""
        return not self._missing()

    def lacks_only_the_plot(self) -> bool:
        """Whether the sources exist, and the picture of them does not."""
        return self._missing() == [self.plot]

    def check_nothing_is_replaced(self) -> None:
        """Refuses to write over files.

        Raises:
            ValueError: some of its files exist, but not all: they may be somebody's, or of another model.
        """
        missing = self._missing()
        if present := [path for path in self.written if path not in missing]:
            raise ValueError(
                f"{self.input}: not done, {present[0]} exists, {missing[0]} does not; move it away, give others with "
                "--name, or replace it with --overwrite"
            )

    def _missing(self) -> list[Path]:
        # Path.exists would raise for names that are too long, or in folders that may not be read.
        return [path for path in self.written if not os.path.exists(path)]


def find_recordings(inputs: Sequence[str], output_folder: Path | None = None) -> list[Recording]:
    """Looks up what the inputs of a run name.

    Folders are searched with their sub-folders (links to folders are not followed) for names that end like audio files;
    hidden ones are left out. Patterns (`*`, `?`, `[...]`, and `**` for any depth) are expanded alike, unless a file has
    that very name. What lies in an output folder inside the searched one is left out.

    Args:
        inputs: paths, patterns, http(s) URLs. Whether a named file exists is not looked at.
        output_folder: where the sources will go; None where they go beside their recordings.

    Returns:
        Each recording once, in the order of the inputs, those of a folder sorted by name.

    Raises:
        ValueError: a folder or a pattern leads to no audio.
        OSError: a folder cannot be read.
    """
    recordings: dict[str, Recording] = {}
    for text in inputs:
        for recording in _expand(text, output_folder):
            recordings.setdefault(_key(recording.location), recording)
    return list(recordings.values())


def plan_jobs(
    recordings: Sequence[Recording],
    num_sources: int,
    output_folder: Path | None = None,
    template: str = NAME_TEMPLATE,
    audio_format: str = "wav",
    plot: bool = False,
) -> list[Job]:
    """Decides which files are written.

    Recordings that are themselves sources that this run writes are left out: a folder that is done a second time holds
    them.

    Args:
        recordings: the inputs.
        num_sources: how many sources the model separates.
        output_folder: where the sources go; None puts them beside their recording, those of a URL into the current
            folder.
        template: their names without suffix, see `check_template`.
        audio_format: wav or flac.
        plot: whether each recording gets a picture.

    Returns:
        One job a recording, in their order.

    Raises:
        ValueError: two recordings would write the same file, or one would be overwritten.
    """
    planned = []
    for recording in recordings:
        fields = _fields(recording.location)
        folder = _beside(recording) if output_folder is None else output_folder / recording.subfolder
        names = [template.format(source=number, **fields) for number in range(1, num_sources + 1)]
        outputs = tuple(folder / f"{name}.{audio_format}" for name in names)
        picture = folder / f"{_without_source(template).format(**fields)}.png" if plot else None
        planned.append((recording, Job(recording.location, outputs, picture)))

    writers: dict[str, list[Job]] = {}
    for _, job in planned:
        for path in job.written:
            writers.setdefault(_key(path), []).append(job)
    jobs = [job for recording, job in planned if not _is_a_source(recording, job, writers)]
    if recordings and not jobs:
        raise ValueError(
            f"{recordings[0].location}: as all of the inputs, it would be overwritten by a source of another; give "
            "another folder with -o, or other names with --name"
        )
    _check_collisions(jobs)
    return jobs


def check_template(template: str) -> None:
    """Refuses names that cannot be.

    Args:
        template: {stem} is the recording's name without its suffix, {suffix} that without its dot, {folder} the name
            of the folder (for a URL the host) that it lies in, {source} the number of the source, from 1.

    Raises:
        ValueError: there are other fields, {source} is missing, or it names a folder.
    """
    known = ", ".join(f"{{{name}}}" for name in NAME_FIELDS)
    try:
        fields = [name for _, name, _, _ in string.Formatter().parse(template) if name is not None]
        if unknown := [name for name in fields if name not in NAME_FIELDS]:
            raise ValueError(f"unknown field {{{unknown[0]}}}")
        names = {template.format(stem="a", suffix="b", folder="c", source=number) for number in (1, 2)}
    except ValueError as error:
        raise ValueError(f"{template!r} cannot be filled in ({error}); the fields are {known}") from error
    if len(names) == 1:
        raise ValueError(f"{template!r} gives every source the same name; it must hold {{source}}")
    if any(separator in template for separator in "/\\"):
        raise ValueError(f"{template!r} names a folder; give that with -o, and only the files' names here")


def _expand(text: str, output_folder: Path | None) -> list[Recording]:
    if is_url(text):
        return [Recording(text)]
    if os.path.isdir(text):
        root, paths = Path(text), list(_audio_below(Path(text)))
    elif any(character in text for character in "*?[") and not os.path.lexists(text):
        root = Path(*takewhile(lambda part: not any(character in part for character in "*?["), Path(text).parts))
        matches = [Path(match) for match in sorted(glob.glob(text, recursive=True))]
        paths = [path for match in matches for path in (_audio_below(match) if match.is_dir() else [match])]
        paths = [path for path in paths if _is_audio(path.name)]
    else:
        return [Recording(text)]
    if output_folder is not None and not _lies_in(root, output_folder):
        paths = [path for path in paths if not _lies_in(path, output_folder)]
    if not paths:
        raise ValueError(f"{text}: no audio there; names must end in {', '.join(AUDIO_SUFFIXES[:7])} or alike")
    return [Recording(str(path), path.parent.relative_to(root), found=True) for path in paths]


def _audio_below(root: Path) -> Iterator[Path]:
    def refuse(error: OSError) -> None:
        raise error

    for folder, subfolders, names in os.walk(root, onerror=refuse):
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        yield from (Path(folder, name) for name in sorted(names) if _is_audio(name))


def _is_audio(name: str) -> bool:
    return name.lower().endswith(AUDIO_SUFFIXES) and not name.startswith(".")


def _lies_in(path: Path, folder: Path) -> bool:
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))


def _key(location: str | Path) -> str:
    """The same text for all ways to write a path."""
    return str(location) if is_url(str(location)) else os.path.normcase(os.path.abspath(location))


def _fields(location: str) -> dict[str, str]:
    if is_url(location):
        path, folder = Path(file_name(location)), urlsplit(location).hostname or ""
    else:
        path, folder = Path(location), Path(location).absolute().parent.name
    return {"stem": path.stem, "suffix": path.suffix.lstrip("."), "folder": folder}


def _beside(recording: Recording) -> Path:
    return Path() if is_url(recording.location) else Path(recording.location).parent


def _without_source(template: str) -> str:
    """The template of a name for all sources together: "{stem}_s{source}" becomes "{stem}"."""
    return re.sub(r"[ ._-]*\w*\{source[^}]*\}", "", template).strip(" ._-") or "{stem}"


def _is_a_source(recording: Recording, job: Job, writers: dict[str, list[Job]]) -> bool:
    """Whether the job's recording is a file that another job writes.

    Raises:
        ValueError: it would be overwritten although it was named, or the job itself would do that.
    """
    owners = writers.get(_key(job.input), [])
    others = [owner for owner in owners if owner is not job]
    if others and (recording.found or others[0].is_done()):
        return True
    if owners:
        raise ValueError(
            f"{job.input}: would be overwritten by a source of {(others or owners)[0].input}; give another folder with "
            f"-o, or other names with --name"
        )
    return False


def _check_collisions(jobs: Sequence[Job]) -> None:
    writers: dict[str, Job] = {}
    for job in jobs:
        for path in job.written:
            other = writers.setdefault(_key(path), job)
            if other is not job:
                fields, others = _fields(job.input), _fields(other.input)
                if fields["suffix"] != others["suffix"]:
                    advice = "tell them apart with --name '{stem}_{suffix}_s{source}'"
                elif fields["folder"] != others["folder"]:
                    advice = "tell them apart with --name '{folder}_{stem}_s{source}'"
                else:
                    advice = "separate them one after the other, each with another -o"
                raise ValueError(f"{other.input} and {job.input} would both be written to {path}; {advice}")
