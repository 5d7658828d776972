"""`mossformer-jax info`: what a stored model is."""

from __future__ import annotations

import argparse
from typing import Any

from mossformer_jax.cli.devices import add_device_options, prepare_jax
from mossformer_jax.cli.terminal import print_table


def add_parser(commands: Any) -> None:
    """Adds the subcommand to the command's parser."""
    parser = commands.add_parser("info", help="configuration and parameter count of a stored model")
    parser.add_argument("model", nargs="?", default="default", help="folder (default: the shipped model)")
    add_device_options(parser)
    parser.set_defaults(run=_info)


def _info(options: argparse.Namespace) -> int:
    from mossformer_jax.weights import load_model

    prepare_jax(options)
    model = load_model(options.model)
    fields = {"parameters": f"{model.num_parameters:,}", **model.config.to_dict()}
    print_table([(name, str(value)) for name, value in fields.items()], left=2)
    return 0
