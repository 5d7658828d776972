"""The command `mossformer-jax`. Each subcommand has its own file; this one combines them."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from io import TextIOWrapper

from mossformer_jax import __version__
from mossformer_jax.cli import (
    app,
    compare,
    convert,
    data,
    evaluate,
    export,
    info,
    page,
    push,
    report,
    score,
    separate,
    train,
)
from mossformer_jax.cli.arguments import is_override
from mossformer_jax.cli.terminal import PROGRAM, complain, one_line

# Here and in the subcommands, JAX and the packages that need it are imported inside the functions, so that --help and
# usage errors are fast.


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command.

    Args:
        arguments: what follows the command's name; None means `sys.argv[1:]`.

    Returns:
        The exit status: 0 for success, 1 if some input cannot be used, 130 if interrupted. Wrong usage exits with 2.
    """
    parser = make_parser()
    options, overrides = parser.parse_known_args(arguments)
    if overrides and not (hasattr(options, "takes_overrides") and all(map(is_override, overrides))):
        parser.error(f"unrecognized arguments: {' '.join(overrides)}")
    options.overrides = overrides
    if isinstance(sys.stdout, TextIOWrapper):
        # A file name that the terminal cannot encode must not stop the run.
        sys.stdout.reconfigure(errors="backslashreplace")
    if arguments is None:
        # SIGTERM (from a batch system or a shutdown) cleans up as Ctrl-C does.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return options.run(options)
    except BrokenPipeError:
        # The reader of our output has exited (`| head`). Python would raise again when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except ModuleNotFoundError as error:
        extras = getattr(options, "extras", None)
        if extras is None:
            raise
        complain(f"needs the package {error.name}; run: pip install 'mossformer-jax[{extras}]'")
    # RuntimeError: JAX raises it when memory runs out or another process has exited.
    except (ValueError, OSError, RuntimeError, MemoryError, FloatingPointError) as error:
        if isinstance(error, FloatingPointError) and getattr(options, "debug_nans", False):
            raise  # --debug-nans is about the traceback
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
    for command in (separate, train, evaluate, convert, export, page, app, score, compare, report, data, info, push):
        command.add_parser(commands)
    return parser
