"""One training step as one compiled program over the mesh."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jax.sharding import Mesh
from jaxtyping import Array, Float

from mossformer_jax.data.batch import Batch
from mossformer_jax.model import ModelConfig
from mossformer_jax.model.levels import level_gain
from mossformer_jax.programs import shared_program
from mossformer_jax.scoring import pit_training_score
from mossformer_jax.sharding import by_rows, replicated
from mossformer_jax.training.optimizer import learning_rate, make_optimizer
from mossformer_jax.training.recipe import Recipe
from mossformer_jax.training.state import Arrays, TrainState, abstract_state
from mossformer_jax.weights.parameters import assemble_network


class Metrics(NamedTuple):
    """The metrics of a step, in the order of the array in which they are fetched from the devices at once.

    Attributes:
        loss: loss in dB before the update; 0 if no mixture contributes.
        gradient_norm: global norm before clipping.
        learning_rate: learning rate of the step.
        skipped: number of skipped steps so far.
        skipped_in_a_row: number of consecutive skipped steps up to now.
        num_mixtures: number of mixtures in the loss; 0 if all are already above `threshold_db`.
    """

    loss: Any
    gradient_norm: Any
    learning_rate: Any
    skipped: Any
    skipped_in_a_row: Any
    num_mixtures: Any = 1.0  # missing in checkpoints of earlier versions


class _Sums(NamedTuple):
    """Sums over the mixtures that contribute to the loss: negative score in dB, its gradient, and their number."""

    loss: Float[Array, ""]
    gradients: Arrays
    num_mixtures: Float[Array, ""]


TrainStep = Callable[[TrainState, Batch], tuple[TrainState, Float[Array, " metrics"]]]


@shared_program
def make_train_step(config: ModelConfig, recipe: Recipe, total_steps: int, mesh: Mesh):
    """The jitted step `(state, batch) -> (state, metrics)`; the input state is donated.

    Forward and backward pass of the PIT SI-SDR loss (`pit_training_score`), gradient clipping, the optimizer, and the
    running average. If the loss or a gradient is not finite, or the loss is above `max_loss`, only the counters change.
    If every mixture is already above `threshold_db`, only the step number changes.

    Args:
        config: the model.
        recipe: the training options.
        total_steps: length of the training in steps.
        mesh: the devices on which the step runs.
    """
    optimizer = make_optimizer(recipe)

    def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, Float[Array, " metrics"]]:
        key = jax.random.fold_in(jax.random.wrap_key_data(state.key), state.step)
        sums = _accumulate(config, recipe, state, batch, key)
        count = jnp.maximum(sums.num_mixtures, 1.0)
        loss = sums.loss / count
        gradients = jax.tree.map(lambda gradient: gradient / count, sums.gradients)
        norm = optax.tree.norm(gradients)
        accepted = jnp.isfinite(loss) & jnp.isfinite(norm) & (loss <= recipe.max_loss)
        # Without any mixture in the loss, the optimizer would still move the parameters by its momentum.
        applied = accepted & (sums.num_mixtures > 0)

        rate = learning_rate(recipe, total_steps, state.step, state.plateau_factor)
        updates, moments = optimizer.update(gradients, state.optimizer, state.parameters)
        parameters = jax.tree.map(lambda value, update: value - rate * update, state.parameters, updates)
        average = state.average
        if average is not None and recipe.ema_decay is not None:
            # A smaller decay in the first steps, so that the initial weights do not dominate the average.
            decay = jnp.minimum(recipe.ema_decay, (1.0 + state.step) / (10.0 + state.step))
            average = jax.tree.map(lambda old, new: decay * old + (1.0 - decay) * new, average, parameters)

        kept = jax.tree.map(
            lambda new, old: jnp.where(applied, new, old),
            (parameters, moments, average),
            (state.parameters, state.optimizer, state.average),
        )
        new_state = state._replace(
            step=state.step + 1,
            parameters=kept[0],
            optimizer=kept[1],
            average=kept[2],
            skipped=state.skipped + ~accepted,
            skipped_in_a_row=jnp.where(accepted, 0, state.skipped_in_a_row + 1),
        )
        metrics = Metrics(loss, norm, rate, new_state.skipped, new_state.skipped_in_a_row, sums.num_mixtures)
        return new_state, jnp.stack([jnp.asarray(value, jnp.float32) for value in metrics])

    where = jax.tree.map(lambda array: array.sharding, abstract_state(config, recipe, mesh))
    return jax.jit(
        train_step,
        in_shardings=(where, by_rows(mesh)),
        out_shardings=(where, replicated(mesh)),
        # To find the source of a NaN, JAX repeats the step, so its inputs must not have been donated.
        donate_argnums=() if jax.config.jax_debug_nans else 0,  # type: ignore[attr-defined]
    )


def _accumulate(config: ModelConfig, recipe: Recipe, state: TrainState, batch: Batch, key: Array) -> _Sums:
    """Loss and gradients summed over the batch, one piece after another.

    Sums, divided once by the caller, because pieces may have different numbers of mixtures below the threshold.
    """
    if recipe.accumulation == 1:
        return _loss_and_gradients(config, recipe, state, batch, key)
    # Row r belongs to piece r mod n, so that every device splits its own rows.
    pieces = jax.tree.map(
        lambda rows: jnp.swapaxes(rows.reshape(-1, recipe.accumulation, *rows.shape[1:]), 0, 1), batch
    )

    def add(sums: _Sums, piece: tuple[Batch, Array]) -> tuple[_Sums, None]:
        rows, number = piece
        more = _loss_and_gradients(config, recipe, state, rows, jax.random.fold_in(key, number))
        return jax.tree.map(jnp.add, sums, more), None

    zero = jnp.zeros((), config.param_dtype)
    nothing = _Sums(zero, jax.tree.map(jnp.zeros_like, state.parameters), zero)
    return lax.scan(add, nothing, (pieces, jnp.arange(recipe.accumulation)))[0]


def _loss_and_gradients(config: ModelConfig, recipe: Recipe, state: TrainState, batch: Batch, key: Array) -> _Sums:
    def summed_loss(parameters: Arrays) -> tuple[Array, Array]:
        network = assemble_network(config, {**parameters, **state.buffers})
        gain_b1 = level_gain(batch.mixture, batch.lengths, config.input_level_db)
        # The score does not depend on the level of the estimates.
        estimates_bct = network(batch.mixture * gain_b1, batch.lengths, key=key if config.dropout else None)
        scores_b = pit_training_score(estimates_bct, batch.sources, batch.lengths)
        counts_b = scores_b < recipe.threshold_db
        # NaN compares as not below the threshold, but it must stay in the loss so that the step is skipped.
        counts_b = counts_b | jnp.isnan(scores_b)
        return -jnp.sum(jnp.where(counts_b, scores_b, 0.0)), jnp.sum(counts_b).astype(scores_b.dtype)

    (loss, count), gradients = jax.value_and_grad(summed_loss, has_aux=True)(state.parameters)
    return _Sums(loss, gradients, count)
