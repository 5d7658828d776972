"""`mossformer-jax separate`: the speakers of recordings as files."""

from __future__ import annotations

import argparse
import importlib.util
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mossformer_jax.cli.devices import add_device_options, prepare_jax
from mossformer_jax.cli.results import Result, as_json, summary
from mossformer_jax.cli.terminal import PROGRAM, complain, one_line, warn

if TYPE_CHECKING:
    from mossformer_jax.separation.jobs import Job, Recording

UNITS = {"": 1e9, "m": 1e6, "mb": 1e6, "g": 1e9, "gb": 1e9, "mib": 2**20, "gib": 2**30}


def add_parser(commands: Any) -> None:
    """Adds the subcommand to the command's parser."""
    parser = commands.add_parser("separate", help="separate the speakers of recordings")
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
        help="folder of a stored model, or OWNER/NAME on Hugging Face (default: the shipped one)",
    )

    files = parser.add_argument_group("files")
    files.add_argument(
        "-o",
        "--output",
        metavar="DIR",
        help="folder for the sources; what lay in sub-folders will there, too (default: beside each recording, for "
        "URLs the current folder)",
    )
    files.add_argument(
        "--name",
        default="{stem}_s{source}",
        metavar="TEMPLATE",
        help="the sources' names, from {stem}, {suffix} and {folder} of the recording and the number of the {source} "
        "(default: %(default)s)",
    )
    files.add_argument("--format", choices=("wav", "flac"), default="wav", help="default: %(default)s")
    files.add_argument(
        "--subtype",
        choices=("PCM_16", "PCM_24", "FLOAT"),
        default="PCM_16",
        help="sample format of the sources (default: %(default)s)",
    )
    files.add_argument(
        "--overwrite",
        action="store_true",
        help="do recordings again whose files exist; without it no file is ever replaced",
    )
    files.add_argument("--plot", action="store_true", help="write a PNG with spectrograms beside the sources, too")
    files.add_argument(
        "--max-download",
        type=_positive,
        default=2048,
        metavar="MB",
        help="largest file to take from a URL (default: %(default)s)",
    )

    sound = parser.add_argument_group("separation")
    sound.add_argument(
        "--scale",
        choices=("mixture", "peak", "rms", "none"),
        default="mixture",
        help="level of the sources: as in the recording; all turned up or down together until the loudest peaks just "
        "below full scale; each at the recording's RMS; the network's own (default: %(default)s)",
    )
    sound.add_argument("--mixture-consistency", action="store_true", help="make the sources add up to the recording")
    sound.add_argument(
        "--channels",
        choices=("mix", "each"),
        default="mix",
        help="mix the channels down, or separate each on its own (default: %(default)s)",
    )
    sound.add_argument(
        "--memory",
        type=_bytes,
        metavar="SIZE",
        help="for the network's activations, like 800MB or 2GB; what needs more is separated in windows (default: 1GB "
        "on a CPU, a share of the device's elsewhere)",
    )
    sound.add_argument(
        "--window",
        type=_positive,
        default=8.0,
        metavar="SECONDS",
        help="length of these windows (default: %(default)g)",
    )

    told = parser.add_argument_group("what is told")
    told.add_argument("--quiet", action="store_true", help="no progress bar, no names of written files")
    told.add_argument("--json", action="store_true", help="print one JSON object a recording and nothing else")
    add_device_options(parser)
    parser.set_defaults(run=_separate, usage_error=parser.error)


def _separate(options: argparse.Namespace) -> int:
    _check_usage(options)
    from mossformer_jax.cli.attempt import attempt
    from mossformer_jax.cli.progress import ProgressBar
    from mossformer_jax.separation import Separator
    from mossformer_jax.separation.jobs import find_recordings, plan_jobs

    output = Path(options.output) if options.output else None
    recordings = find_recordings(options.inputs, output)
    prepare_jax(options)
    separator = Separator.from_pretrained(options.model, memory=options.memory, window_seconds=options.window)
    num_sources = separator.config.num_sources
    jobs = plan_jobs(recordings, num_sources, output, options.name, options.format, options.plot)
    _say_what_is_left_out(recordings, jobs)
    if output is not None:
        _make_folder(output)

    todo = [job for job in jobs if options.overwrite or not job.is_done()]
    waiting = {id(job) for job in todo}
    results: list[Result] = []
    try:
        with ProgressBar(todo, shown=sys.stderr.isatty() and not options.quiet) as bar:
            for job in jobs:
                result = attempt(job, separator, options, bar) if id(job) in waiting else Result(job, "skipped")
                results.append(result)
                _tell(result, options)
                if result.concerns_all:
                    break
    except KeyboardInterrupt:
        done = sum(result.status == "done" for result in results)
        print(f"{PROGRAM}: interrupted: {done} of {len(todo)} recordings done", file=sys.stderr)
        raise
    return _conclude(results, len(jobs), options)


def _check_usage(options: argparse.Namespace) -> None:
    """Ends the program where options do not go together.

    Raises:
        ValueError: a package that they need is missing.
    """
    from mossformer_jax.separation.jobs import check_template

    if (options.format, options.subtype) == ("flac", "FLOAT"):
        options.usage_error("--subtype FLOAT does not go with --format flac, which holds PCM_16 or PCM_24")
    try:
        check_template(options.name)
    except ValueError as error:
        options.usage_error(f"--name: {error}")
    if options.plot and importlib.util.find_spec("matplotlib") is None:
        raise ValueError("--plot needs matplotlib; run: pip install 'mossformer-jax[eval]'")


def _say_what_is_left_out(recordings: Sequence[Recording], jobs: Sequence[Job]) -> None:
    inputs = {job.input for job in jobs}
    if left_out := [named.location for named in recordings if not named.found and named.location not in inputs]:
        others = f" and {len(left_out) - 1} more" if len(left_out) > 1 else ""
        warn(f"{left_out[0]}{others}: left out, because this run writes sources of that name")


def _make_folder(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder}: is a file; name a folder for the sources")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"{folder}: cannot be made ({error.strerror}); name another folder with -o") from error


def _tell(result: Result, options: argparse.Namespace) -> None:
    from mossformer_jax.audio.download import without_password

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


def _conclude(results: Sequence[Result], planned: int, options: argparse.Namespace) -> int:
    failed = any(result.error is not None for result in results)
    if not options.json and (planned > 1 or not failed):
        print(summary(results, options.subtype), flush=True)
    if len(results) < planned:
        complain(f"stopped there, because it concerns all; {planned - len(results)} of {planned} recordings not begun")
    return 1 if failed else 0


def _positive(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no number") from None
    if not 0.0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} must be above 0")
    return number


def _bytes(text: str) -> float:
    match = re.fullmatch(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*([a-z]*)\s*", text.lower())
    if match is None or match[2] not in UNITS or float(match[1]) == 0.0:
        raise argparse.ArgumentTypeError(f"{text!r} is no size; write 800MB, 1.5GiB, or a plain number of GB")
    return float(match[1]) * UNITS[match[2]]
