"""Traces the real training step and the real separation program, to compile them without the hardware."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import jax
import numpy as np
from jax.sharding import Mesh
from jax.stages import Traced

from mossformer_jax.data.batch import Batch
from mossformer_jax.model import ModelConfig
from mossformer_jax.sharding import by_rows, make_mesh, replicated
from mossformer_jax.weights.loaded import separation_program
from mossformer_jax.weights.parameters import skeleton

if TYPE_CHECKING:
    from mossformer_jax.training.recipe import Recipe


def training_step(config: ModelConfig, recipe: Recipe, mesh: Mesh, batch_size: int, num_samples: int) -> Traced:
    """Traces the training step with shapes in place of arrays.

    Args:
        config: the model's config.
        recipe: the training options.
        mesh: device mesh; the devices may be compile-only.
        batch_size: number of mixtures over all devices.
        num_samples: length of a mixture in samples.
    """
    from mossformer_jax.training.state import abstract_state
    from mossformer_jax.training.step import make_train_step

    rows = by_rows(mesh)
    batch = Batch(
        jax.ShapeDtypeStruct((batch_size, num_samples), np.float32, sharding=rows),
        jax.ShapeDtypeStruct((batch_size, config.num_sources, num_samples), np.float32, sharding=rows),
        jax.ShapeDtypeStruct((batch_size,), np.int32, sharding=rows),
    )
    # The learning-rate schedule needs a number of steps. It is a constant and does not change the cost.
    total_steps = recipe.steps or recipe.epochs
    return make_train_step(config, recipe, total_steps, mesh).trace(abstract_state(config, recipe, mesh), batch)


def separation(config: ModelConfig, devices: Sequence[jax.Device], batch: int, num_samples: int) -> Traced:
    """Traces the program that a `LoadedModel` runs on one device, with shapes in place of arrays."""
    here = replicated(make_mesh(devices=devices[:1]))
    graphdef, state = skeleton(config)
    placed = jax.tree.map(lambda array: jax.ShapeDtypeStruct(array.shape, array.dtype, sharding=here), state)
    mixture = jax.ShapeDtypeStruct((batch, num_samples), np.float32, sharding=here)
    lengths = jax.ShapeDtypeStruct((batch,), np.int32, sharding=here)
    return separation_program(graphdef).trace(placed, mixture, lengths)
