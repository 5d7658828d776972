"""`mossformer-jax separate`: separates the speakers of recordings into files."""

from __future__ import annotations

import argparse
import importlib.util
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mossformer_jax.cli.devices import add_device_options, prepare_jax
from mossformer_jax.cli.results import Result, as_json, left_out_as_json, summary, unreadable_files
from mossformer_jax.cli.terminal import PROGRAM, complain, one_line, warn

if TYPE_CHECKING:
    from mossformer_jax.cli.inputs import InputRecording, LeftOut
    from mossformer_jax.cli.jobs import Job

UNITS = {"": 1e9, "m": 1e6, "mb": 1e6, "g": 1e9, "gb": 1e9, "mib": 2**20, "gib": 2**30}


def add_parser(commands: Any) -> None:
    """Adds the subcommand to the command's parser."""
    parser = commands.add_parser("separate", help="separate the speakers of recordings into files")
    parser.add_argument(
        "inputs",
        nargs="+",
        metavar="INPUT",
        help="audio file of any sample rate, folder (searched with its sub-folders), pattern ('calls/**/*.flac'), or "
        "http(s) URL",
    )
    parser.add_argument(
        "--model",
        default="default",
        help="folder of a stored model, the name of a published one (mossformer-jax info lists them), OWNER/NAME on "
        "Hugging Face, or modelscope:OWNER/NAME (default: the shipped one)",
    )
    parser.add_argument("--offline", action="store_true", help="do not download the model; use the cache")

    files = parser.add_argument_group("files")
    files.add_argument(
        "-o",
        "--output",
        metavar="DIR",
        help="folder for the sources; sub-folders of the inputs are kept (default: next to each recording; for URLs, "
        "the current folder)",
    )
    files.add_argument(
        "--name",
        default="{stem}_s{source}",
        metavar="TEMPLATE",
        help="file names of the sources, made of the recording's {stem}, {suffix} and {folder} and the number of the "
        "{source} (default: %(default)s)",
    )
    files.add_argument("--format", choices=("wav", "flac"), default="wav", help="default: %(default)s")
    files.add_argument(
        "--subtype",
        choices=("PCM_16", "PCM_24", "FLOAT"),
        help="sample format of the sources (default: the recording's bit depth: PCM_16, PCM_24 for 24 bits, FLOAT for "
        "32 bits and floating point, which FLAC stores as PCM_24)",
    )
    files.add_argument(
        "--overwrite",
        action="store_true",
        help="separate again and replace existing files (default: no file is replaced)",
    )
    files.add_argument(
        "--ignore-unreadable",
        action="store_true",
        help="exit with status 0 even if a folder contains recordings in formats that cannot be read, such as .m4a",
    )
    files.add_argument("--plot", action="store_true", help="also write a PNG with spectrograms next to the sources")
    files.add_argument(
        "--max-download",
        type=_megabytes,
        default=2048,
        metavar="MB",
        help="largest file to download from a URL (default: %(default)s)",
    )

    sound = parser.add_argument_group("separation")
    sound.add_argument(
        "--scale",
        choices=("mixture", "peak", "rms", "clearvoice", "modelscope", "none"),
        default="mixture",
        help="level of the sources. mixture: as in the recording; peak: one gain for all, so that the loudest peaks "
        "just below full scale; rms: each at the recording's RMS; clearvoice, modelscope: as these packages do; "
        "none: as the network returns them (default: %(default)s)",
    )
    sound.add_argument("--mixture-consistency", action="store_true", help="make the sources add up to the recording")
    sound.add_argument(
        "--channels",
        choices=("mix", "each"),
        default="mix",
        help="mix the channels down to mono, or separate each channel (default: %(default)s)",
    )
    sound.add_argument(
        "--memory",
        type=_bytes,
        metavar="SIZE",
        help="memory for the network's activations, such as 800MB or 2GB; longer recordings are separated in "
        "overlapping windows (default: 1GB on a CPU, half of the device's memory otherwise)",
    )
    sound.add_argument(
        "--window",
        type=_positive,
        default=8.0,
        metavar="SECONDS",
        help="length of the windows (default: %(default)g)",
    )

    printing = parser.add_argument_group("terminal output")
    printing.add_argument("--quiet", action="store_true", help="no progress bar, no names of written files")
    printing.add_argument("--json", action="store_true", help="print only one JSON object per recording")
    add_device_options(parser)
    parser.set_defaults(run=_separate, usage_error=parser.error)


def _separate(options: argparse.Namespace) -> int:
    _check_usage(options)
    from mossformer_jax.cli.attempt import attempt
    from mossformer_jax.cli.inputs import find_recordings
    from mossformer_jax.cli.jobs import plan_jobs
    from mossformer_jax.cli.progress import ProgressBar
    from mossformer_jax.separation import OutputOptions, Separator

    output = OutputOptions(**{field.name: getattr(options, field.name) for field in fields(OutputOptions)})
    folder = Path(options.output) if options.output else None
    left_out: list[LeftOut] = []
    recordings = find_recordings(options.inputs, folder, left_out)
    _report_left_out(left_out, options)
    if not recordings:
        return _conclude([], left_out, 0, options)
    prepare_jax(options)
    if options.offline:
        os.environ["HF_HUB_OFFLINE"] = "1"
    separator = Separator.from_pretrained(options.model, memory=options.memory, window_seconds=options.window)
    num_sources = separator.config.num_sources
    jobs = plan_jobs(recordings, num_sources, folder, options.name, output.format, options.plot)
    _warn_of_skipped_sources(recordings, jobs)
    if folder is not None:
        _make_folder(folder)

    todo = [job for job in jobs if options.overwrite or not job.is_done()]
    to_do = {id(job) for job in todo}
    results: list[Result] = []
    try:
        with ProgressBar(todo, shown=sys.stderr.isatty() and not options.quiet) as bar:
            for job in jobs:
                result = attempt(job, separator, output, options, bar) if id(job) in to_do else Result(job, "skipped")
                results.append(result)
                _report(result, options)
                if result.concerns_all:
                    break
    except KeyboardInterrupt:
        done = sum(result.status == "done" for result in results)
        print(f"{PROGRAM}: interrupted: {done} of {len(todo)} recordings done", file=sys.stderr)
        raise
    return _conclude(results, left_out, len(jobs), options)


def _check_usage(options: argparse.Namespace) -> None:
    """Exits with a usage error if options contradict each other.

    Raises:
        ValueError: a package that an option needs is missing.
    """
    from mossformer_jax.cli.jobs import check_template

    if (options.format, options.subtype) == ("flac", "FLOAT"):
        options.usage_error(
            "--subtype FLOAT cannot be written with --format flac; use PCM_16 or PCM_24, or --format wav"
        )
    try:
        check_template(options.name)
    except ValueError as error:
        options.usage_error(f"--name: {error}")
    if options.plot and importlib.util.find_spec("matplotlib") is None:
        raise ValueError("--plot needs matplotlib; run: pip install 'mossformer-jax[eval]'")


def _warn_of_skipped_sources(recordings: Sequence[InputRecording], jobs: Sequence[Job]) -> None:
    inputs = {job.input for job in jobs}
    if left_out := [named.location for named in recordings if not named.found and named.location not in inputs]:
        others = f" and {len(left_out) - 1} more" if len(left_out) > 1 else ""
        warn(f"{left_out[0]}{others}: skipped, because this run writes a source with that name")


def _make_folder(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder}: is a file; name a folder for the sources")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"{folder}: cannot be created ({error.strerror}); name another folder with -o") from error


def _report(result: Result, options: argparse.Namespace) -> None:
    from mossformer_jax.cli.download import without_password

    name = without_password(result.job.input)
    for warning in result.warnings:
        warn(f"{one_line(name)}: {warning}")
    if result.error is not None:
        complain(result.error)
    if options.json:
        print(as_json(result), flush=True)
    elif result.status == "done" and not options.quiet:
        for path in result.job.written if result.separated else result.job.written[-1:]:
            print(path, flush=True)


def _report_left_out(left_out: Sequence[LeftOut], options: argparse.Namespace) -> None:
    """Reports inputs without recordings one by one, and files that cannot be read together, before separating."""
    from mossformer_jax.cli.download import without_password

    for each in left_out:
        if not each.is_file:
            complain(one_line(each.reason))
        if options.json:
            print(left_out_as_json(each), flush=True)
    files = [without_password(each.location) for each in left_out if each.is_file]
    if files:
        say = warn if options.ignore_unreadable else complain
        say(
            one_line(
                f"{unreadable_files(files)}; convert them to WAV or FLAC, for example: ffmpeg -i {files[0]} OUTPUT.wav"
            )
        )


def _conclude(results: Sequence[Result], left_out: Sequence[LeftOut], planned: int, options: argparse.Namespace) -> int:
    files = [each.location for each in left_out if each.is_file]
    failed = any(result.error is not None for result in results) or len(files) < len(left_out)
    if not options.json and (planned > 1 or files or not failed):
        print(summary(results, files), flush=True)
    if len(results) < planned:
        complain(
            f"stopped, because the other recordings would fail too; {planned - len(results)} of {planned} not started"
        )
    return 1 if failed or (files and not options.ignore_unreadable) else 0


def _positive(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None
    if not 0.0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} must be above 0")
    return number


def _megabytes(text: str) -> float:
    number = _positive(text)
    if number > 1e9:
        raise argparse.ArgumentTypeError(f"{text!r} must be at most 1e9")
    return number


def _bytes(text: str) -> float:
    match = re.fullmatch(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*([a-z]*)\s*", text.lower())
    if match is None or match[2] not in UNITS or float(match[1]) == 0.0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size; write 800MB, 1.5GiB, or a plain number of GB")
    return float(match[1]) * UNITS[match[2]]
