"""`mossformer-jax info`: the config of a stored model, and its memory and time on an accelerator."""

from __future__ import annotations

import argparse
from typing import Any

from mossformer_jax.cli.devices import add_device_options, prepare_jax
from mossformer_jax.cli.terminal import print_table


def add_parser(commands: Any) -> None:
    """Adds the subcommand to the command's parser."""
    parser = commands.add_parser("info", help="print the config and parameter count of a stored model")
    parser.add_argument("model", nargs="?", default="default", help="folder (default: the shipped model)")
    group = parser.add_argument_group("accelerators without the hardware (docs/accelerators.md)")
    group.add_argument(
        "--compile-only",
        metavar="CHIP",
        help="compile the separation for a chip that this machine does not have (v5e, v6e, v5p, h100), and print its "
        "memory and time bounds; "
        "MODEL may also be a published size, such as mossformer2-2spk",
    )
    group.add_argument("--batch", type=int, metavar="N", help="mixtures per batch (default: the most that fit)")
    group.add_argument("--seconds", type=float, default=4.0, metavar="S", help="length of a mixture (default: 4)")
    group.add_argument("--dtype", metavar="DTYPE", help="compute dtype, such as bfloat16 (default: the model's)")
    add_device_options(parser)
    parser.set_defaults(run=_info)


def _info(options: argparse.Namespace) -> int:
    if options.compile_only:
        from mossformer_jax.accelerators import report_separation

        report_separation(options.model, options.compile_only, options.batch, options.seconds, options.dtype)
        return 0
    from mossformer_jax.weights import load_model

    prepare_jax(options)
    model = load_model(options.model)
    fields = {"parameters": f"{model.num_parameters:,}", **model.config.to_dict()}
    print_table([(name, str(value)) for name, value in fields.items()], left=2)
    return 0
