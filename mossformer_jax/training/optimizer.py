"""The optimizer, and the learning rate over a training: warm-up, plateau, final decay."""

from __future__ import annotations

import dataclasses
import math

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from mossformer_jax.training.recipe import Recipe


def make_optimizer(recipe: Recipe) -> optax.GradientTransformation:
    """Clipping and Adam as PyTorch has them; the updates are still to be multiplied by the negative learning rate."""
    return optax.chain(optax.clip_by_global_norm(recipe.clip_norm), optax.scale_by_adam())


def learning_rate(
    recipe: Recipe, total_steps: int, step: Int[Array, ""], plateau_factor: Float[Array, ""]
) -> Float[Array, ""]:
    """The learning rate of a step, counted from 0.

    Args:
        recipe: `lr` and `min_lr`, and over how many steps it warms up and decays.
        total_steps: length of the training.
        step: the step.
        plateau_factor: what the plateaus so far have made of it (`Plateau`).
    """
    rate = jnp.maximum(recipe.lr * plateau_factor, recipe.min_lr)
    if recipe.warmup_steps:
        rate = rate * jnp.minimum((step + 1) / recipe.warmup_steps, 1.0)
    if recipe.decay_steps:
        rate = rate * jnp.clip((total_steps - step) / recipe.decay_steps, 0.0, 1.0)
    return jnp.asarray(rate, jnp.float32)


@dataclasses.dataclass(frozen=True)
class Plateau:
    """Halves the learning rate when validation stops improving; plain numbers, to be kept in checkpoints.

    As PyTorch's ReduceLROnPlateau, but silent while `constant_epochs` last.

    Attributes:
        factor: what the learning rate is multiplied by.
        best_loss: the lowest validation loss in dB so far; None before the first.
        waited: validations since then, or since the learning rate last fell.
    """

    factor: float = 1.0
    best_loss: float | None = None
    waited: int = 0

    def after(self, loss: float, epoch: float, recipe: Recipe) -> Plateau:
        """What follows from a validation at the end of `epoch` (a fraction where it is in the middle of one)."""
        if math.isfinite(loss) and (self.best_loss is None or loss < self.best_loss):
            return Plateau(self.factor, loss, 0)
        if epoch <= recipe.constant_epochs:
            return self
        if self.waited + 1 < recipe.patience:
            return dataclasses.replace(self, waited=self.waited + 1)
        return Plateau(self.factor * recipe.lr_factor, self.best_loss, 0)
