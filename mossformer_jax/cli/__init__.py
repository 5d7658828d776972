"""The command `mossformer-jax`: one file a subcommand, assembled here."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from mossformer_jax import __version__
from mossformer_jax.cli import info, score, separate
from mossformer_jax.cli.devices import prepare_jax
from mossformer_jax.cli.terminal import PROGRAM, one_line

# Here and in the subcommands, JAX and the rooms that need it are imported inside the functions, so that --help and
# usage errors do not wait for it.


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command.

    Args:
        arguments: what follows the command's name; None takes them from the process.

    Returns:
        The exit status: 0, or 1 where the input cannot be used. Wrong usage exits with 2.
    """
    options = _parser().parse_args(arguments)
    try:
        prepare_jax()
        options.run(options)
    # RuntimeError: what JAX raises where memory runs out.
    except (ValueError, OSError, RuntimeError) as error:
        print(f"{PROGRAM}: error: {one_line(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=PROGRAM, description="MossFormer2 speech separation.")
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for command in (separate, score, info):
        command.add_parser(commands)
    return parser
