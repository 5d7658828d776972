"""The weights that a training starts from: random ones, or those of another model, as far as they fit."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from flax import nnx

from mossformer_jax.model import ModelConfig, MossFormer2
from mossformer_jax.model.filterbank import sinusoids
from mossformer_jax.training.configuration import MEASURED_FIELDS, TRAINING_FIELDS, load_config, read_saved_config
from mossformer_jax.training.recipe import Recipe
from mossformer_jax.training.workdir import CONFIG_FILE, has_begun
from mossformer_jax.weights import flatten, load_parameters
from mossformer_jax.weights.parameters import Parameters
from mossformer_jax.weights.store import model_folder, read_config

if TYPE_CHECKING:
    from ml_collections import ConfigDict

# Their first axis is the block of the stack.
_STACK = "mask_net.blocks."

_log = logging.getLogger(__name__)


def load_sized_config(path: str, overrides: Sequence[str] = (), workdir: Path | None = None) -> ConfigDict:
    """Reads a config (`load_config`) whose model has the sizes of its initial weights (`take_sizes`).

    Args:
        path: the config, as for `--config`.
        overrides: overrides of its fields; sizes of the model that are set here are kept.
        workdir: the run's folder, if there is one.

    Raises:
        FileNotFoundError, OSError, ValueError: the config is invalid, or the initial weights cannot be read.
    """
    config = load_config(path, overrides)
    fields = [override.partition("=")[0] for override in overrides]
    take_sizes(config, workdir, [field.removeprefix("--config.model.") for field in fields])
    return config


def take_sizes(config: ConfigDict, workdir: Path | None, overridden: Collection[str]) -> None:
    """Changes `config.model` to the model of `config.train.initial_weights`, if that is set.

    Options of the training alone (dropout, dtype, remat) keep their values. A run that has begun keeps its model, so
    the initial weights may be gone when it is resumed.

    Args:
        config: the config, changed in place; data sections that refer to `config.model` follow.
        workdir: the run's folder, if there is one.
        overridden: fields of `config.model` that keep their values because the user has set them.

    Raises:
        FileNotFoundError, OSError, ValueError: the initial weights, or the saved config, cannot be read.
    """
    source = config.get("train", {}).get("initial_weights")
    if source is None or "model" not in config:
        return
    if workdir is not None and has_begun(workdir):
        sizes = read_saved_config(workdir / CONFIG_FILE).model.to_dict()
    else:
        sizes = read_config(model_folder(source)).to_dict()
    keep = {*TRAINING_FIELDS, *MEASURED_FIELDS, *overridden}
    with config.unlocked():
        config.model.update({name: value for name, value in sizes.items() if name not in keep})


def initial_weights(config: ModelConfig, recipe: Recipe) -> Parameters:
    """Random weights, or those of `recipe.initial_weights`.

    With `recipe.partial`, parameters that the stored model does not have in the same shape are drawn at random; of a
    stack with another number of blocks, the first ones are taken. The log names what was drawn.

    Raises:
        FileNotFoundError, OSError, ValueError: the initial weights cannot be read or belong to another model; or the
            model's filterbank cannot be initialised with sinusoids.
    """
    if recipe.initial_weights is None:
        return _random_weights(config, recipe)
    stored_config, weights = load_parameters(recipe.initial_weights)
    ours, theirs = config.to_dict(), stored_config.to_dict()
    may_differ = (*TRAINING_FIELDS, *MEASURED_FIELDS)
    different = [name for name in ours if ours[name] != theirs[name] and name not in may_differ]
    if not different:
        return weights
    if recipe.partial:
        if config.sample_rate != stored_config.sample_rate:
            _log.warning(
                "%s: was trained at %d Hz; at %d Hz, its filters cover other frequencies and durations",
                recipe.initial_weights,
                stored_config.sample_rate,
                config.sample_rate,
            )
        return _combine(_random_weights(config, recipe), weights, recipe.initial_weights)
    seen = ", ".join(f"config.model.{name}={ours[name]}" for name in different)
    overrides = " ".join(f"--config.model.{name}={theirs[name]}" for name in different)
    raise ValueError(
        f"{recipe.initial_weights}: these weights do not fit {seen}; use {overrides}, or take the parameters that fit "
        "by --config.train.partial=true"
    )


def _random_weights(config: ModelConfig, recipe: Recipe) -> Parameters:
    drawn = flatten(nnx.state(MossFormer2(config, rngs=nnx.Rngs(recipe.seed))))
    if recipe.initial_filterbank == "random":
        return drawn
    kernel_tn = sinusoids(config.kernel_size, config.encoder_channels)
    return {**drawn, "encoder.kernel": kernel_tn, "decoder.kernel": kernel_tn.T}


def _combine(drawn: Parameters, stored: Parameters, source: str) -> Parameters:
    """The drawn parameters, replaced by the stored ones where these fit."""
    weights, fresh = {}, []
    for name, array in drawn.items():
        given, stacked = stored.get(name), name.startswith(_STACK)
        if given is None or given.shape[stacked:] != array.shape[stacked:]:
            weights[name] = array
            fresh.append(name)
        elif stacked:
            weights[name] = np.concatenate([given[: len(array)], array[len(given) :]])
        else:
            weights[name] = given
    if len(fresh) == len(drawn):
        raise ValueError(f"{source}: no parameter fits config.model; use other initial weights")
    blocks_drawn, blocks_stored = map(_num_blocks, (drawn, stored))
    if blocks_drawn > blocks_stored:
        fresh.append(f"blocks {blocks_stored + 1} to {blocks_drawn}")
    if fresh:
        _log.warning("%s: does not have these parameters, which are initialised randomly: %s", source, ", ".join(fresh))
    return weights


def _num_blocks(weights: Parameters) -> int:
    return next((len(array) for name, array in weights.items() if name.startswith(_STACK)), 0)
