"""`mossformer-jax separate`: the speakers of a recording as files."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from mossformer_jax.cli.terminal import PROGRAM


def add_parser(commands: Any) -> None:
    """Adds the subcommand to the command's parser."""
    parser = commands.add_parser("separate", help="separate the speakers of a recording")
    parser.add_argument("mixture", metavar="IN.wav", help="recording, of any sample rate; channels are mixed down")
    parser.add_argument("-o", "--output", metavar="DIR", help="folder for IN_s1.wav, ... (default: beside IN.wav)")
    parser.add_argument("--model", default="default", help="folder of a stored model (default: the shipped one)")
    parser.add_argument(
        "--subtype",
        choices=("PCM_16", "PCM_24", "FLOAT"),
        default="PCM_16",
        help="sample format of the sources (default: %(default)s)",
    )
    parser.set_defaults(run=_separate)


def _separate(options: argparse.Namespace) -> None:
    from mossformer_jax.separation import Separator, separate_file

    separated = separate_file(
        Separator.from_pretrained(options.model), options.mixture, options.output, options.subtype
    )
    for path in separated.paths:
        print(path)
    timings = separated.timings
    print(
        f"{separated.duration:.2f} s of audio at {separated.sample_rate} Hz: "
        f"compiled in {timings.compile_seconds:.2f} s, run in {timings.run_seconds:.2f} s "
        f"(real-time factor {timings.run_seconds / separated.duration:.3f}), written as {options.subtype}"
    )
    if separated.gain < 1.0:
        print(
            f"{PROGRAM}: warning: {options.subtype} would have clipped; all sources were turned down to "
            f"{separated.gain:.3g} of their level (--subtype FLOAT keeps it)",
            file=sys.stderr,
        )
