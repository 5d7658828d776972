"""`mossformer-jax info`: the published models, the config of a model, and its memory and time on an accelerator."""

from __future__ import annotations

import argparse
from typing import Any

from mossformer_jax.cli.devices import add_device_options, prepare_jax
from mossformer_jax.cli.terminal import print_table


def add_parser(commands: Any) -> None:
    """Adds the subcommand to the command's parser."""
    parser = commands.add_parser("info", help="list the published models, or print the config of a model")
    parser.add_argument(
        "model",
        nargs="?",
        help="folder, published name or OWNER/NAME (default: list the published models and those in the cache)",
    )
    group = parser.add_argument_group("accelerators without the hardware (docs/accelerators.md)")
    group.add_argument(
        "--compile-only",
        metavar="CHIP",
        help="compile the separation for a chip that this machine does not have (v5e, v6e, v5p, h100), and print its "
        "memory and time bounds; MODEL may also be a published size, such as mossformer2-2spk",
    )
    group.add_argument("--batch", type=int, metavar="N", help="mixtures per batch (default: the most that fit)")
    group.add_argument("--seconds", type=float, default=4.0, metavar="S", help="length of a mixture (default: 4)")
    group.add_argument("--dtype", metavar="DTYPE", help="compute dtype, such as bfloat16 (default: the model's)")
    add_device_options(parser)
    parser.set_defaults(run=_info)


def _info(options: argparse.Namespace) -> int:
    if options.compile_only:
        from mossformer_jax.accelerators import report_separation

        report_separation(
            options.model or "default", options.compile_only, options.batch, options.seconds, options.dtype
        )
        return 0
    if options.model is None:
        _list_models()
        return 0
    from mossformer_jax.weights import load_model

    prepare_jax(options)
    model = load_model(options.model)
    fields = {"parameters": f"{model.num_parameters:,}", **model.config.to_dict()}
    print_table([(name, str(value)) for name, value in fields.items()], left=2)
    return 0


def _list_models() -> None:
    from mossformer_jax.weights.hub_cache import cache_folder, cached_models
    from mossformer_jax.weights.published import PUBLISHED

    models = cached_models()
    cached = {(source["hub"], source["repository"]) for _, source in models}
    rows = [("name", "sources", "rate", "published SI-SDRi", "licence", "")]
    rows.append(("default", "2", "8000", "MODEL_CARD.md", "Apache-2.0", "shipped"))
    for model in PUBLISHED.values():
        state = "cached" if (model.hub, model.repository) in cached else ""
        figures = model.figure or "-", model.licence or "see its page"
        rows.append((model.name, str(model.num_sources), str(model.sample_rate), *figures, state))
    print_table(rows, left=6)
    print(f"\nGive a name to --model: it is downloaded and converted on first use. Cache: {cache_folder()}")
    for folder, source in models:
        print(f"  {source['hub']}  {source['repository']}  {folder.name}")
