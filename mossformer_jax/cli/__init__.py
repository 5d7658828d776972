"""The command `mossformer-jax`: one file a subcommand, assembled here."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from io import TextIOWrapper

from mossformer_jax import __version__
from mossformer_jax.cli import compare, convert, data, evaluate, info, score, separate, train
from mossformer_jax.cli.arguments import is_override
from mossformer_jax.cli.terminal import PROGRAM, complain, one_line

# Here and in the subcommands, JAX and the rooms that need it are imported inside the functions, so that --help and
# usage errors do not wait for it.


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command.

    Args:
        arguments: what follows the command's name; None takes them from the process.

    Returns:
        The exit status: 0; 1 where some input cannot be used; 130 where it was interrupted. Wrong usage exits with 2.
    """
    parser = make_parser()
    options, overrides = parser.parse_known_args(arguments)
    if overrides and not (hasattr(options, "takes_overrides") and all(map(is_override, overrides))):
        parser.error(f"unrecognized arguments: {' '.join(overrides)}")
    options.overrides = overrides
    if isinstance(sys.stdout, TextIOWrapper):
        # A file's name that the terminal's encoding lacks is no reason to stop.
        sys.stdout.reconfigure(errors="backslashreplace")
    if arguments is None:
        # What stops a run from outside (a batch system, a shutdown) is to clean up as Ctrl-C does.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return options.run(options)
    except BrokenPipeError:
        # The reader of our output has gone (`| head`). Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except ModuleNotFoundError as error:
        extras = getattr(options, "extras", None)
        if extras is None:
            raise
        complain(f"needs the package {error.name}; run: pip install 'mossformer-jax[{extras}]'")
    # RuntimeError: JAX raises it when memory runs out or another process has gone.
    except (ValueError, OSError, RuntimeError, MemoryError, FloatingPointError) as error:
        if isinstance(error, FloatingPointError) and getattr(options, "debug_nans", False):
            raise  # the traceback is what was asked for
        complain(one_line(error))
    except KeyboardInterrupt:
        if hasattr(options, "interrupted"):
            print(f"{PROGRAM}: interrupted; {options.interrupted}", file=sys.stderr)
        if arguments is None:
            # XLA may be in the middle of a computation, and crashes if Python shuts down meanwhile.
            sys.stdout.flush()
            os._exit(130)
        return 130
    if "jax" in sys.modules:
        from mossformer_jax import sharding

        sharding.leave_others(1)
    return 1


def make_parser() -> argparse.ArgumentParser:
    """The parser of the whole command line."""
    parser = argparse.ArgumentParser(prog=PROGRAM, description="MossFormer2 speech separation.")
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for command in (separate, train, evaluate, convert, score, compare, data, info):
        command.add_parser(commands)
    return parser
