"""Helpers of the subcommands for reading the command line."""

from __future__ import annotations

import argparse
from collections.abc import Callable

# A literal, because --help must not wait for JAX, which the metrics import. A test compares it with their list.
METRICS_HELP = (
    "some of si_sdr, sdr, stoi, estoi, pesq, separated by commas; SI-SDR is always included (default: %(default)s)"
)


def whole_number(minimum: int) -> Callable[[str], int]:
    """An argparse `type` for whole numbers of at least `minimum`."""

    def read(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None
        if number < minimum:
            raise argparse.ArgumentTypeError(f"{text} must be {minimum} or more")
        return number

    return read


def is_override(argument: str) -> bool:
    """Whether an argument overrides a config field, such as --config.data.train.root=/speech."""
    return argument.startswith("--config.") and "=" in argument
