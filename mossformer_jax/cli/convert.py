"""`mossformer-jax convert`: official PyTorch checkpoints of MossFormer2 and MossFormer to our format, and back."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mossformer_jax.model import ModelConfig

EXAMPLES = """\
examples:
  mossformer-jax convert --input CHECKPOINT_FILE_OR_FOLDER --output MODEL_FOLDER
  mossformer-jax convert --to-torch --family A --input MODEL_FOLDER --output FOLDER

Nothing is written unless every tensor of the input is used. docs/names.md lists the families and all names.
"""


def add_parser(commands: Any) -> None:
    """Adds the subcommand to the command's parser."""
    parser = commands.add_parser(
        "convert",
        help="convert official PyTorch weights to ours, or ours to PyTorch",
        description="Converts official PyTorch checkpoints of MossFormer2 and MossFormer to our format, and ours back.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--input", required=True, help="checkpoint file or folder (with --to-torch: our model folder)")
    add("--output", required=True, type=Path, help="folder to write; must be new or empty")
    add("--overwrite", action="store_true", help="write into an output folder that is not empty")
    add(
        "--sample-rate",
        type=int,
        metavar="HZ",
        help="sample rate of the model (default: that of the checkpoint's family)",
    )
    add(
        "--direct-decoding",
        action=argparse.BooleanOptionalAction,
        help="whether the mask net's output is decoded directly (the WHAMR! model); default: as in its config.json",
    )
    add(
        "--input-level",
        type=_level,
        metavar="DB",
        help="level that the model's input is brought to, such as -25, or none (default: that of the checkpoint's "
        "family). Pass none for a family A model that you trained with ClearerVoice-Studio, whose training leaves the "
        "level unchanged",
    )
    add(
        "--network",
        metavar="NAME",
        help="which network to take from a file with several (the error lists them)",
    )
    # The choices repeat `STORAGE_DTYPES`, whose module imports JAX; a test compares them.
    add("--storage", choices=("float32", "float16"), default="float32", help="number format of our model folder")
    add("--to-torch", action="store_true", help="convert our model folder to an official checkpoint")
    add("--family", choices=("A", "C"), default="A", help="with --to-torch: the official layout to write")
    parser.set_defaults(run=_convert, extras="convert")


def _level(text: str) -> float | str:
    if text == "none":
        return text
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is neither a number of dB nor none") from None


def describe(config: ModelConfig) -> str:
    """One line about a model: its preset, if it is one, and its sizes."""
    from mossformer_jax.model import PRESETS
    from mossformer_jax.weights.parameters import count_parameters

    official = dataclasses.replace(config, output_gains=None, shifts=1)
    preset = next((name for name, known in PRESETS.items() if known == official), "no preset")
    version = "MossFormer v1 (no FSMN)" if config.fsmn_channels is None else "MossFormer2"
    decoding = ", decoded directly" if config.direct_decoding else ""
    return (
        f"{preset}: {version}, {config.num_sources} sources, {config.num_blocks} blocks, "
        f"{config.model_channels} channels, {config.sample_rate} Hz{decoding}, {count_parameters(config):,} parameters"
    )


def _convert(flags: argparse.Namespace) -> int:
    from mossformer_jax.weights.store import load_parameters, save_model
    from mossformer_jax.weights.torch_checkpoints import load_torch_checkpoint, save_torch_checkpoint
    from mossformer_jax.weights.torch_names import FAMILY_TITLES

    if flags.output.is_dir() and any(flags.output.iterdir()) and not flags.overwrite:
        raise ValueError(f"{flags.output}: is not empty; name a new folder, or add --overwrite")
    if flags.to_torch:
        config, parameters = load_parameters(flags.input)
        save_torch_checkpoint(flags.output, config, parameters, flags.family)
        print(f"model    {describe(config)}")
        print(f"wrote    {flags.output}: family {flags.family}, {FAMILY_TITLES[flags.family]}")
        back = load_torch_checkpoint(flags.output).config
        for field in ("sample_rate", "input_level_db"):
            if getattr(back, field) != getattr(config, field):
                print(
                    f"note     {field}={getattr(config, field)} is not stored in this format: "
                    f"software that reads it assumes {getattr(back, field)}"
                )
        if config.output_gains is not None:
            factors = ", ".join(f"{gain:.4g}" for gain in config.output_gains)
            print(f"note     output_gains is not stored in this format: multiply the outputs by {factors}")
        if config.shifts > 1:
            print(f"note     shifts={config.shifts} is not stored in this format: average that many shifted copies")
        return 0
    checkpoint = load_torch_checkpoint(
        flags.input,
        sample_rate=flags.sample_rate,
        direct_decoding=flags.direct_decoding,
        input_level_db=flags.input_level,
        network=flags.network,
    )
    save_model(flags.output, checkpoint.config, checkpoint.parameters, storage=flags.storage)
    print(f"read     family {checkpoint.family}, {FAMILY_TITLES[checkpoint.family]}")
    if checkpoint.note:
        print(f"note     read {checkpoint.note}")
    print(f"model    {describe(checkpoint.config)}\nwrote    {flags.output} ({flags.storage})")
    return 0
