"""Converts official PyTorch checkpoints of MossFormer2 and MossFormer to our format, and ours back.

    python convert_torch_weights.py --input CHECKPOINT_FILE_OR_FOLDER --output MODEL_FOLDER
    python convert_torch_weights.py --to-torch --family A --input MODEL_FOLDER --output FOLDER

Every tensor must find its place, or nothing is written. docs/names.md lists the families and all names.
"""

import argparse
import dataclasses
import sys
from pathlib import Path

from mossformer_jax.model import PRESETS, ModelConfig
from mossformer_jax.weights.parameters import count_parameters
from mossformer_jax.weights.store import STORAGE_DTYPES, load_parameters, save_model
from mossformer_jax.weights.torch_checkpoints import load_torch_checkpoint, save_torch_checkpoint
from mossformer_jax.weights.torch_names import FAMILY_TITLES


def parse_flags(arguments: list[str] | None) -> argparse.Namespace:
    """Reads the command line."""
    summary, *details = (__doc__ or "").split("\n", 1)
    parser = argparse.ArgumentParser(
        description=summary, epilog="".join(details), formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--input", required=True, help="checkpoint file or folder (with --to-torch: our model folder)")
    add("--output", required=True, type=Path, help="folder to write; must be new or empty")
    add("--overwrite", action="store_true", help="write into an output folder that is not empty")
    add("--sample-rate", type=int, metavar="HZ", help="instead of the checkpoint family's")
    add(
        "--direct-decoding",
        action=argparse.BooleanOptionalAction,
        help="whether the mask net's output is decoded directly (the WHAMR! model); default: what config.json says",
    )
    add("--storage", choices=STORAGE_DTYPES, default="float32", help="how our folder stores numbers")
    add("--to-torch", action="store_true", help="the way back: our model folder to an official checkpoint")
    add("--family", choices=("A", "C"), default="A", help="with --to-torch: which official form to write")
    return parser.parse_args(arguments)


def describe(config: ModelConfig) -> str:
    """One line about a model: its preset, if it is one, and its sizes."""
    unlevelled = dataclasses.replace(config, output_gains=None)
    preset = next((name for name, known in PRESETS.items() if known == unlevelled), "no preset")
    version = "MossFormer v1 (no FSMN)" if config.fsmn_channels is None else "MossFormer2"
    decoding = ", decoded directly" if config.direct_decoding else ""
    return (
        f"{preset}: {version}, {config.num_sources} sources, {config.num_blocks} blocks, "
        f"{config.model_channels} channels, {config.sample_rate} Hz{decoding}, {count_parameters(config):,} parameters"
    )


def run(flags: argparse.Namespace) -> None:
    """Converts in the direction that the flags say."""
    if flags.output.is_dir() and any(flags.output.iterdir()) and not flags.overwrite:
        raise ValueError(f"{flags.output}: is not empty; give a new folder, or --overwrite")
    if flags.to_torch:
        config, parameters = load_parameters(flags.input)
        save_torch_checkpoint(flags.output, config, parameters, flags.family)
        print(f"model    {describe(config)}")
        print(f"wrote    {flags.output}: family {flags.family}, {FAMILY_TITLES[flags.family]}")
        back = load_torch_checkpoint(flags.output).config
        for field in ("sample_rate", "input_level_db"):
            if getattr(back, field) != getattr(config, field):
                print(
                    f"note     {field}={getattr(config, field)} is not part of that form: "
                    f"its readers assume {getattr(back, field)}"
                )
        if config.output_gains is not None:
            factors = ", ".join(f"{gain:.4g}" for gain in config.output_gains)
            print(f"note     output_gains is not part of that form: multiply the outputs there by {factors}")
        return
    checkpoint = load_torch_checkpoint(
        flags.input, sample_rate=flags.sample_rate, direct_decoding=flags.direct_decoding
    )
    save_model(flags.output, checkpoint.config, checkpoint.parameters, storage=flags.storage)
    print(f"read     family {checkpoint.family}, {FAMILY_TITLES[checkpoint.family]}")
    print(f"model    {describe(checkpoint.config)}\nwrote    {flags.output} ({flags.storage})")


def main(arguments: list[str] | None = None) -> int:
    """Runs the command; 0 if it succeeded."""
    flags = parse_flags(arguments)
    try:
        run(flags)
    except (ValueError, OSError) as error:
        print(f"convert_torch_weights.py: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
