"""`mossformer-jax train`: trains the model of a config."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any

from mossformer_jax.cli.devices import add_device_options, add_host_options, join_hosts, prepare_jax
from mossformer_jax.cli.terminal import show_logged_warnings

EXAMPLES = """\
examples:
  mossformer-jax train --config demo
  mossformer-jax train --config libri2mix --workdir RUN --config.data.root=/data --config.train.lr=1e-4
  mossformer-jax train --config my_config.py --compile-only v5e

The same command resumes an interrupted run, and does nothing if the run is complete. SIGTERM and Ctrl-C save a
checkpoint and stop. docs/training.md describes the rest.
"""


def add_parser(commands: Any) -> None:
    """Adds the subcommand to the command's parser."""
    parser = commands.add_parser(
        "train",
        help="train a model, or resume a run",
        description="Trains the model that a config describes, on all available devices.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add(
        "--config",
        required=True,
        metavar="CONFIG[:VARIANT]",
        help="name of a shipped config, such as libri2mix, or a config file of your own; "
        "override its fields with --config.train.lr=1e-4",
    )
    add("--workdir", type=_workdir, metavar="RUN", help="the run's folder (default: runs/ and the config's name)")
    add("--print-config", action="store_true", help="print all fields with their descriptions, and exit")
    add("--profile-steps", type=_steps, metavar="A:B", help="write a profile of these steps to RUN/profile")
    add(
        "--compile-only",
        metavar="CHIP[:TOPOLOGY]",
        help="compile the training step for chips that this machine does not have (v5e, v6e, v5p, h100; v5e:4x4 is 16 "
        "of them), and print its memory, its time bounds and the largest batch that fits; see docs/accelerators.md",
    )
    add("--no-search", action="store_true", help="with --compile-only: compile only the config's batch size")
    add("--debug-nans", action="store_true", help="stop at the operation that produces the first NaN (slow)")
    add_device_options(parser)
    add_host_options(parser)
    parser.set_defaults(run=_train, takes_overrides=True, extras="train")


def _workdir(text: str) -> Path:
    if "://" in text:
        raise argparse.ArgumentTypeError(f"{text!r} is not a folder; mount the bucket on every host")
    return Path(text)


def _steps(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+):(\d+)", text)
    if not match or not 1 <= int(match[1]) <= int(match[2]):
        raise argparse.ArgumentTypeError(f"{text!r} is not FIRST:LAST, such as 10:15 (counted from 1)")
    return int(match[1]), int(match[2])


def _train(options: argparse.Namespace) -> int:
    if options.compile_only:
        from mossformer_jax.accelerators import report_training

        report_training(options.config, options.overrides, options.compile_only, search=not options.no_search)
        return 0
    if options.print_config:
        from mossformer_jax.training.initial_weights import load_sized_config
        from mossformer_jax.training.printed import config_lines

        print("\n".join(config_lines(load_sized_config(options.config, options.overrides, options.workdir))))
        return 0
    import jax

    join_hosts(options)
    prepare_jax(options)
    jax.config.update("jax_debug_nans", options.debug_nans)
    show_logged_warnings()

    from mossformer_jax.training.initial_weights import load_sized_config
    from mossformer_jax.training.loop import Training

    workdir = options.workdir
    if workdir is None:
        file, _, variant = options.config.partition(":")
        workdir = Path("runs", "_".join(filter(None, [Path(file).stem, variant])))
    config = load_sized_config(options.config, options.overrides, workdir)
    Training(config, workdir, options.profile_steps).run()
    return 0
