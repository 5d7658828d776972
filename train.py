"""Trains a model: from a config to weights, on all devices that there are, and on from where it was interrupted.

    python train.py --config configs/demo.py
    python train.py --config configs/libri2mix.py --workdir RUN --config.data.root=/data --config.train.lr=1e-4
    python train.py --config configs/libri2mix.py --compile_only=v5e

The same command resumes a run, and does nothing where it is finished. SIGTERM and Ctrl-C save and end it.
docs/training.md has everything else.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from mossformer_jax.cli.arguments import is_override
from mossformer_jax.cli.devices import add_device_options, add_host_options, join_hosts, prepare_jax
from mossformer_jax.cli.terminal import one_line


def parse_flags(arguments: Sequence[str] | None) -> tuple[argparse.Namespace, list[str]]:
    """Reads the command line: the flags, and the overrides of the config (--config.train.lr=1e-4)."""
    summary, *details = (__doc__ or "").split("\n", 1)
    parser = argparse.ArgumentParser(
        description=summary,
        epilog="".join(details),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--config", required=True, metavar="FILE[:VARIANT]", help="what to train; one of configs/, or your own")
    add("--workdir", type=_workdir, metavar="RUN", help="the run's folder (default: runs/ and the config's name)")
    add("--profile_steps", type=_steps, metavar="A:B", help="write a profile of these steps to RUN/profile")
    add(
        "--compile_only",
        metavar="CHIP[:TOPOLOGY]",
        help="compile the step for chips that are not there (v5e, v6e, v5p, h100; v5e:4x4 are 16), print what it takes "
        "of one, and the largest batch that fits; docs/accelerators.md",
    )
    add("--no_search", action="store_true", help="with --compile_only: the config's batch alone")
    add("--debug_nans", action="store_true", help="stop at the operation that makes the first NaN; slow")
    add_device_options(parser)
    add_host_options(parser)
    flags, overrides = parser.parse_known_args(arguments)
    wrong = [text for text in overrides if not is_override(text)]
    if wrong:
        parser.error(f"unrecognized arguments: {' '.join(wrong)}; overrides are written --config.train.lr=1e-4")
    if flags.workdir is None:
        file, _, variant = flags.config.partition(":")
        flags.workdir = Path("runs", "_".join(filter(None, [Path(file).stem, variant])))
    return flags, overrides


def _workdir(text: str) -> Path:
    if "://" in text:
        raise argparse.ArgumentTypeError(f"{text!r} is no folder; mount the bucket on every host, and name its folder")
    return Path(text)


def _steps(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+):(\d+)", text)
    if not match or not 1 <= int(match[1]) <= int(match[2]):
        raise argparse.ArgumentTypeError(f"{text!r} is not FIRST:LAST, such as 10:15 (counted from 1)")
    return int(match[1]), int(match[2])


def run(flags: argparse.Namespace, overrides: Sequence[str]) -> None:
    """Trains as the flags say."""
    if flags.compile_only:
        from mossformer_jax.accelerators import report_training

        report_training(flags.config, overrides, flags.compile_only, search=not flags.no_search)
        return
    import jax

    join_hosts(flags)
    prepare_jax(flags)
    jax.config.update("jax_debug_nans", flags.debug_nans)

    from mossformer_jax.configuration import load_config
    from mossformer_jax.training.loop import Training

    config = load_config(flags.config, overrides)
    Training(config, flags.workdir, flags.profile_steps).run()


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; 0 if the run is finished or was asked to stop, 1 if it could not go on."""
    flags, overrides = parse_flags(arguments)
    try:
        run(flags, overrides)
        return 0
    except KeyboardInterrupt:
        status = 130
    except ModuleNotFoundError as error:
        print(f"train.py: error: {error.name} is missing; run: pip install 'mossformer-jax[train]'", file=sys.stderr)
        status = 1
    # RuntimeError: what JAX raises where memory runs out, or another process is gone.
    except (ValueError, OSError, RuntimeError, MemoryError, FloatingPointError) as error:
        if flags.debug_nans and isinstance(error, FloatingPointError):
            raise  # the traceback is what was asked for
        print(f"train.py: error: {one_line(error)}", file=sys.stderr)
        status = 1

    from mossformer_jax.sharding import leave_others

    leave_others(status)
    return status


if __name__ == "__main__":
    sys.exit(main())
