"""`mossformer-jax export`: a model as an ONNX graph or a StableHLO program."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from mossformer_jax.cli.arguments import whole_number

EXAMPLES = """\
examples:
  mossformer-jax export default separator.onnx
  mossformer-jax export --format stablehlo runs/libri2mix separator.stablehlo

docs/deployment.md shows how to run the files.
"""


def add_parser(commands: Any) -> None:
    """Adds the subcommand to the command's parser."""
    parser = commands.add_parser(
        "export",
        help="write a model for ONNX runtimes, or as a StableHLO program",
        description="Writes a model as an ONNX graph, or as a StableHLO program for CPU, CUDA and TPU.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("model", help="folder, training run or published name")
    add("output", type=Path, help="file to write; stablehlo also writes NAME.safetensors beside it")
    add("--format", choices=("onnx", "stablehlo"), default="onnx", help="default: onnx")
    add("--float16", action="store_true", help="store the weights in half precision; they are used in float32")
    add(
        "--shifts", type=whole_number(1), metavar="N", help="number of shifted copies to average (default: the model's)"
    )
    add("--overwrite", action="store_true", help="replace existing files")
    parser.set_defaults(run=_export, extras="onnx")


def _export(options: argparse.Namespace) -> int:
    from mossformer_jax.cli.convert import describe
    from mossformer_jax.export.loading import weights_file
    from mossformer_jax.weights import load_parameters

    files = [options.output]
    if options.format == "onnx":
        from mossformer_jax.export.onnx_model import export_onnx as write
    else:
        from mossformer_jax.export.stablehlo import export_stablehlo as write

        files.append(weights_file(options.output))
    for file in files:
        if file.exists() and not options.overwrite:
            raise ValueError(f"{file}: exists; name another file, or add --overwrite")
    config, parameters = load_parameters(options.model)
    config = config.with_shifts(options.shifts)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    write(options.output, config, parameters, float16=options.float16)
    print(f"model    {describe(config)}")
    for file in files:
        print(f"wrote    {file} ({file.stat().st_size / 1e6:.1f} MB)")
    return 0
