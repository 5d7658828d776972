"""Plans which recordings a run separates and which files it writes, before anything is separated."""

from __future__ import annotations

import os
import re
import string
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from mossformer_jax.cli.download import file_name, is_url
from mossformer_jax.cli.inputs import InputRecording, key

NAME_TEMPLATE = "{stem}_s{source}"
_LONGEST_WIDTH = 4  # such as 03d or >20
NAME_FIELDS = ("stem", "suffix", "source", "folder")


@dataclass(frozen=True)
class Job:
    """One recording to separate.

    Attributes:
        input: path or URL.
        outputs: one file per source.
        plot: file of the plot, or None.
        recording: the input that it was planned for.
    """

    input: str
    outputs: tuple[Path, ...]
    plot: Path | None = None
    recording: InputRecording | None = None

    @property
    def name(self) -> str:
        """The recording's name on every machine (`InputRecording.name`)."""
        return self.input if self.recording is None else self.recording.name

    @property
    def duration(self) -> float | None:
        """The recording's length in seconds according to a manifest, or None."""
        return None if self.recording is None else self.recording.duration

    @property
    def written(self) -> tuple[Path, ...]:
        """All files that the job writes."""
        return self.outputs if self.plot is None else (*self.outputs, self.plot)

    def is_done(self) -> bool:
        """Whether all of its files exist."""
        return not self._missing()

    def lacks_only_the_plot(self) -> bool:
        """Whether the sources exist and only the plot is missing."""
        return self._missing() == [self.plot]

    def check_nothing_is_replaced(self) -> None:
        """Refuses to overwrite files.

        Raises:
            FileExistsError: some of its files exist, but not all: they may be unrelated, or from another model.
        """
        missing = self._missing()
        if present := [path for path in self.written if path not in missing]:
            raise FileExistsError(
                f"{self.input}: not separated, because {present[0]} exists and {missing[0]} does not; move it, "
                "choose other names with --name, or replace it with --overwrite"
            )

    def _missing(self) -> list[Path]:
        # Path.exists raises for names that are too long, and in unreadable folders.
        return [path for path in self.written if not os.path.exists(path)]


def plan_jobs(
    recordings: Sequence[InputRecording],
    num_sources: int,
    output_folder: Path | None = None,
    template: str = NAME_TEMPLATE,
    audio_format: str = "wav",
    plot: bool = False,
) -> list[Job]:
    """Decides which files are written.

    Recordings that are themselves sources written by this run are skipped; they appear when a folder is separated a
    second time.

    Args:
        recordings: the inputs.
        num_sources: number of sources of the model.
        output_folder: folder for the sources; None writes them next to their recording, those of a URL to the current
            folder.
        template: file names of the sources without suffix, see `check_template`.
        audio_format: wav or flac.
        plot: whether each recording gets a plot.

    Returns:
        One job per recording, in their order.

    Raises:
        ValueError: two recordings would write the same file, or one would be overwritten.
    """
    planned = []
    for recording in recordings:
        fields = _fields(recording)
        folder = _beside(recording) if output_folder is None else output_folder / recording.subfolder
        names = [template.format(source=number, **fields) for number in range(1, num_sources + 1)]
        outputs = tuple(folder / f"{name}.{audio_format}" for name in names)
        picture = folder / f"{_without_source(template).format(**fields)}.png" if plot else None
        planned.append((recording, Job(recording.location, outputs, picture, recording)))

    writers: dict[str, list[Job]] = {}
    for _, job in planned:
        for path in job.written:
            writers.setdefault(key(path), []).append(job)
    jobs = [job for recording, job in planned if not _is_a_source(recording, job, writers)]
    if recordings and not jobs:
        raise ValueError(
            f"{recordings[0].location}: would be overwritten by a source of another input, as would all inputs; choose "
            "another folder with -o, or other names with --name"
        )
    _check_collisions(jobs)
    return jobs


def check_template(template: str) -> None:
    """Checks a template of file names.

    Args:
        template: {stem} is the recording's name without its suffix, {suffix} the suffix without its dot, {folder} the
            name of its folder (for a URL, the host), {source} the number of the source, from 1.

    Raises:
        ValueError: it has unknown fields, lacks {source}, or names a folder.
    """
    known = ", ".join(f"{{{name}}}" for name in NAME_FIELDS)
    try:
        parts = [part for part in string.Formatter().parse(template) if part[1] is not None]
        fields = [name for _, name, _, _ in parts]
        for _, name, width, _ in parts:
            # A huge width would fill the memory, and a nested field may hold one.
            if len(width or "") > _LONGEST_WIDTH or "{" in (width or ""):
                raise ValueError(f"the format {width!r} of {{{name}}} is too long")
        if unknown := [name for name in fields if name not in NAME_FIELDS]:
            raise ValueError(f"unknown field {{{unknown[0]}}}")
        names = {template.format(stem="a", suffix="b", folder="c", source=number) for number in (1, 2)}
    except ValueError as error:
        raise ValueError(f"{template!r} cannot be filled in ({error}); the fields are {known}") from error
    if len(names) == 1:
        raise ValueError(f"{template!r} gives every source the same name; add {{source}} to it")
    if "\0" in template:
        raise ValueError(f"{template!r} contains a null character, which file names cannot hold")
    if any(separator in template for separator in "/\\"):
        raise ValueError(f"{template!r} names a folder; use -o for the folder, and --name only for the file names")


def _fields(recording: InputRecording) -> dict[str, str]:
    location = recording.location
    if is_url(location):
        path, folder = Path(file_name(location)), urlsplit(location).hostname or ""
    else:
        path, folder = Path(location), Path(location).absolute().parent.name
    return {"stem": recording.stem or path.stem, "suffix": path.suffix.lstrip("."), "folder": folder}


def _beside(recording: InputRecording) -> Path:
    if recording.stem is not None:
        return recording.subfolder  # an output of a manifest
    return Path() if is_url(recording.location) else Path(recording.location).parent


def _without_source(template: str) -> str:
    """The template without the source's number: "{stem}_s{source}" becomes "{stem}"."""
    return re.sub(r"[ ._-]*\w*\{source[^}]*\}", "", template).strip(" ._-") or "{stem}"


def _is_a_source(recording: InputRecording, job: Job, writers: dict[str, list[Job]]) -> bool:
    """Whether the job's recording is a file that another job writes.

    Raises:
        ValueError: a recording that was named explicitly would be overwritten, or a job would overwrite its own input.
    """
    owners = writers.get(key(job.input), [])
    others = [owner for owner in owners if owner is not job]
    if others and (recording.found or others[0].is_done()):
        return True
    if owners:
        raise ValueError(
            f"{job.input}: would be overwritten by a source of {(others or owners)[0].input}; choose another folder "
            f"with -o, or other names with --name"
        )
    return False


def _check_collisions(jobs: Sequence[Job]) -> None:
    writers: dict[str, Job] = {}
    for job in jobs:
        for path in job.written:
            other = writers.setdefault(key(path), job)
            if other is not job:
                fields, others = (_fields(each.recording or InputRecording(each.input)) for each in (job, other))
                if fields["suffix"] != others["suffix"]:
                    advice = "use --name '{stem}_{suffix}_s{source}'"
                elif fields["folder"] != others["folder"]:
                    advice = "use --name '{folder}_{stem}_s{source}'"
                else:
                    advice = "separate them in two runs with different -o"
                raise ValueError(f"{other.input} and {job.input} would both be written to {path}; {advice}")
