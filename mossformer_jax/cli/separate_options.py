"""The options of `mossformer-jax separate`."""

from __future__ import annotations

import argparse
import re
from dataclasses import fields
from typing import TYPE_CHECKING

from mossformer_jax.cli.arguments import whole_number
from mossformer_jax.cli.devices import add_device_options
from mossformer_jax.cli.shards import shard

if TYPE_CHECKING:
    from mossformer_jax.separation import OutputOptions, Separator

UNITS = {"": 1e9, "m": 1e6, "mb": 1e6, "g": 1e9, "gb": 1e9, "mib": 2**20, "gib": 2**30}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the inputs and the options."""
    parser.add_argument(
        "inputs",
        nargs="*",
        metavar="INPUT",
        help="audio file of any sample rate, or with the extra video also a video (.mp4, .m4a, .webm, ...); folder "
        "(searched with its sub-folders), pattern ('calls/**/*.flac'), or http(s) URL",
    )
    parser.add_argument(
        "--model",
        default="default",
        help="folder of a stored model, the name of a published one (mossformer-jax info lists them), OWNER/NAME on "
        "Hugging Face, or modelscope:OWNER/NAME (default: the shipped one)",
    )
    parser.add_argument("--offline", action="store_true", help="do not download the model; use the cache")

    archive = parser.add_argument_group("archives")
    archive.add_argument(
        "--manifest",
        metavar="FILE",
        help="file that lists recordings: .txt (one path per line), .csv with the column path or .jsonl with the key "
        "path, and optionally output, id and duration; - reads it from standard input",
    )
    archive.add_argument(
        "--shard",
        type=shard,
        metavar="K/N",
        help="separate only share K of N (1 to N) of the recordings, such as 3/20; auto takes K and N from a SLURM "
        "array or step, or from the cluster that JAX detects",
    )
    archive.add_argument(
        "--report",
        metavar="FILE",
        help="append one line of JSON per recording, such as report.jsonl; a rerun skips what is done and unchanged, "
        "and repeats what failed unless the recording itself is the cause (mossformer-jax report shows it)",
    )
    archive.add_argument(
        "--verify",
        action="store_true",
        help="with --report: compare recordings by SHA-256 instead of size and time; give it from the first run on",
    )
    archive.add_argument(
        "--jobs",
        type=whole_number(1),
        default=1,
        metavar="N",
        help="recordings at a time: processes with their own cores on a CPU, threads otherwise (default: %(default)s)",
    )
    archive.add_argument(
        "--retries",
        type=whole_number(0),
        default=0,
        metavar="N",
        help="further attempts at a recording whose error can pass: network, reading, writing, memory (default: 0)",
    )

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
        help="exit with status 0 even if a folder contains recordings in formats that cannot be read",
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
    sound.add_argument(
        "--track",
        type=whole_number(1),
        default=1,
        metavar="N",
        help="audio track of videos, from 1 (default: the first)",
    )
    sound.add_argument("--mixture-consistency", action="store_true", help="make the sources add up to the recording")
    sound.add_argument(
        "--channels",
        choices=("mix", "each"),
        default="mix",
        help="mix the channels down to mono, or separate each channel (default: %(default)s)",
    )
    sound.add_argument(
        "--shifts",
        type=whole_number(1),
        metavar="N",
        help="average the sources of N copies of the recording, shifted by fractions of a frame; takes N times as long "
        "(default: the model's)",
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


def output_options(options: argparse.Namespace) -> OutputOptions:
    """The options of the separated sources."""
    from mossformer_jax.separation import OutputOptions

    return OutputOptions(**{field.name: getattr(options, field.name) for field in fields(OutputOptions)})


def load_separator(options: argparse.Namespace) -> Separator:
    """The model with its options; errors as in `Separator.from_pretrained`."""
    from mossformer_jax.separation import Separator

    return Separator.from_pretrained(
        options.model, shifts=options.shifts, memory=options.memory, window_seconds=options.window
    )


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
