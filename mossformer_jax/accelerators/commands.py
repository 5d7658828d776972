"""The implementation of `mossformer-jax train --compile-only` and `mossformer-jax info --compile-only`."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

from mossformer_jax.accelerators.chips import compile_only_devices, parse_target, prepare_environment
from mossformer_jax.accelerators.programs import separation, training_step
from mossformer_jax.accelerators.report import print_report
from mossformer_jax.model import PRESETS, ModelConfig
from mossformer_jax.sharding import check_rows, make_mesh
from mossformer_jax.weights import load_parameters


def report_training(config_file: str, overrides: Sequence[str], chips: str, search: bool = True) -> None:
    """Prints the memory and time estimates of a config's training step per chip. Opens no data and writes no files.

    Args:
        config_file: the config, as for `--config`.
        overrides: overrides of its fields.
        chips: "CHIP" or "CHIP:TOPOLOGY".
        search: whether to search for the largest batch as well.

    Raises:
        FileNotFoundError, ValueError: the config is invalid, the chip or topology is unknown, its compiler is not
            installed, or the batch cannot be divided among the chips.
    """
    from mossformer_jax.training.configuration import resolve
    from mossformer_jax.training.initial_weights import load_sized_config

    target = parse_target(chips)
    prepare_environment()
    config, recipe, data = resolve(load_sized_config(config_file, overrides))
    devices = compile_only_devices(target)
    mesh = make_mesh(recipe.fsdp, devices)
    check_rows("config.data.batch_size", data.batch_size, mesh, recipe.accumulation)
    num_samples = round(data.seconds * config.sample_rate)
    sharing = f", state sharded over {recipe.fsdp}" if recipe.fsdp > 1 else ""
    pieces = f", accumulation={recipe.accumulation}" if recipe.accumulation > 1 else ""
    print(
        f"training step for {target}, {len(devices)} chip(s){sharing}: {_model_text(config)}, remat={config.remat}, "
        f"mixtures of {data.seconds:g} s{pieces}",
        flush=True,
    )
    print_report(
        lambda batch: training_step(config, recipe, mesh, batch * len(devices), num_samples),
        target,
        data.batch_size // len(devices),
        data.seconds,
        unit=recipe.accumulation,
        search=search,
    )


def report_separation(model: str, chips: str, batch: int | None, seconds: float, dtype: str | None = None) -> None:
    """Prints the memory and time estimates of a model's separation program on one chip.

    Args:
        model: a model folder, "default", or the name of a published size (`PRESETS`).
        chips: "CHIP" or "CHIP:TOPOLOGY"; the program runs on a single chip.
        batch: number of mixtures; None searches for the largest batch that fits.
        seconds: length of a mixture.
        dtype: compute dtype; None uses that of the model.

    Raises:
        FileNotFoundError, ValueError: the model, chip or topology is unknown, an option is out of range, or the chip's
            compiler is not installed.
    """
    target = parse_target(chips)
    prepare_environment()
    config = PRESETS[model] if model in PRESETS else load_parameters(model)[0]
    if dtype is not None:
        config = dataclasses.replace(config, dtype=dtype)
    if batch is not None and batch < 1:
        raise ValueError(f"--batch is {batch}; it must be 1 or more")
    if not math.isfinite(seconds):
        raise ValueError(f"--seconds is {seconds:g}; it must be a finite number")
    num_samples = round(seconds * config.sample_rate)
    if num_samples < config.kernel_size:
        raise ValueError(
            f"--seconds is {seconds:g}; it must be {config.kernel_size / config.sample_rate:g} or more "
            f"({config.kernel_size} samples)"
        )
    devices = compile_only_devices(target)
    print(f"separation on one chip of {target}: {_model_text(config)}, mixtures of {seconds:g} s", flush=True)
    print_report(
        lambda number: separation(config, devices, number, num_samples),
        dataclasses.replace(target, topology=target.chip.alone),
        batch or 1,
        seconds,
        search=batch is None,
    )


def _model_text(config: ModelConfig) -> str:
    return f"{config.num_blocks} blocks of {config.model_channels} channels, {config.dtype}"
