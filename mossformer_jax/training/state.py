"""The training state that is carried from step to step and stored in checkpoints."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int, UInt32

from mossformer_jax.model import ModelConfig
from mossformer_jax.sharding import by_shape, place, replicated
from mossformer_jax.training.initial_weights import initial_weights
from mossformer_jax.training.optimizer import make_optimizer
from mossformer_jax.training.recipe import Recipe
from mossformer_jax.weights.parameters import buffer_names, parameter_shapes

Arrays = dict[str, Array]
"""Parameters by dotted name, as in a stored model."""


class TrainState(NamedTuple):
    """The training state; every field is an array or a pytree of arrays.

    Attributes:
        step: number of steps so far, including skipped ones.
        parameters: the trained parameters.
        buffers: the frequency tables, which are stored with the parameters and never change.
        optimizer: the state of the optimizer, such as Adam's moments.
        average: running average of the parameters; None without `ema_decay`.
        plateau_factor: factor on the learning rate (`Plateau.factor`).
        skipped: number of steps skipped because the loss or gradient was not finite, or the loss above `max_loss`.
        skipped_in_a_row: number of consecutive skipped steps up to now.
        key: data of the random key of dropout; each step folds its number into the key.
    """

    step: Int[Array, ""]
    parameters: Arrays
    buffers: Arrays
    optimizer: optax.OptState
    average: Arrays | None
    plateau_factor: Float[Array, ""]
    skipped: Int[Array, ""]
    skipped_in_a_row: Int[Array, ""]
    key: UInt32[Array, " 2"]

    @property
    def weights(self) -> Arrays:
        """The weights to validate and write: the parameters (or their average, if any) and the frequency tables."""
        return {**(self.parameters if self.average is None else self.average), **self.buffers}


def begin(config: ModelConfig, recipe: Recipe, mesh: Mesh) -> TrainState:
    """The state before the first step, placed on the mesh.

    Raises:
        FileNotFoundError, OSError, ValueError: the initial weights cannot be read or belong to another model.
    """
    weights = initial_weights(config, recipe)
    placed = {
        name: place(np.asarray(array, config.param_dtype), by_shape(mesh, array.shape))
        for name, array in weights.items()
    }
    like = abstract_state(config, recipe, mesh)
    where = jax.tree.map(lambda array: array.sharding, like)
    return jax.jit(_build, static_argnums=(0, 1), out_shardings=where)(config, recipe, placed)


def abstract_state(config: ModelConfig, recipe: Recipe, mesh: Mesh) -> TrainState:
    """Shapes, dtypes and shardings of a state, for restoring a checkpoint; allocates no arrays."""
    weights = {
        name: jax.ShapeDtypeStruct(shape, config.param_dtype) for name, shape in parameter_shapes(config).items()
    }
    state = jax.eval_shape(partial(_build, config, recipe), weights)
    return jax.tree.map(
        lambda array: jax.ShapeDtypeStruct(array.shape, array.dtype, sharding=by_shape(mesh, array.shape)), state
    )


def _build(config: ModelConfig, recipe: Recipe, weights: Arrays) -> TrainState:
    frozen = buffer_names(config)
    parameters = {name: array for name, array in weights.items() if name not in frozen}
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        parameters=parameters,
        buffers={name: array for name, array in weights.items() if name in frozen},
        optimizer=make_optimizer(recipe).init(parameters),
        average=None if recipe.ema_decay is None else jax.tree.map(jnp.copy, parameters),
        plateau_factor=jnp.ones((), jnp.float32),
        skipped=jnp.zeros((), jnp.int32),
        skipped_in_a_row=jnp.zeros((), jnp.int32),
        key=jax.random.key_data(jax.random.key(recipe.seed)),
    )


def to_arrays(state: TrainState) -> dict[str, Any]:
    """Flattens a state (or an abstract one) into a dict by name, the form stored in checkpoints."""
    return {_name(path): array for path, array in jax.tree_util.tree_leaves_with_path(state)}


def from_arrays(like: TrainState, arrays: Arrays) -> TrainState:
    """The inverse of `to_arrays`, for a state with the structure of `like`."""
    return jax.tree_util.tree_map_with_path(lambda path, _: arrays[_name(path)], like)


def _name(path: tuple) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")


def on_host(arrays: Arrays, mesh: Mesh) -> dict[str, np.ndarray]:
    """Gathers sharded arrays as NumPy arrays on every host; all processes must call it."""
    if not all(array.is_fully_replicated for array in arrays.values()):
        arrays = jax.jit(_whole, out_shardings=replicated(mesh))(arrays)
    return jax.device_get(arrays)


def _whole(arrays: Arrays) -> Arrays:
    """Identity; at module level so that it is compiled only once."""
    return arrays
