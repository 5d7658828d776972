"""The optimizer and the learning rate schedule: warm-up, plateau, final decay."""

from __future__ import annotations

import dataclasses
import math

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from mossformer_jax.training.recipe import Recipe


def make_optimizer(recipe: Recipe) -> optax.GradientTransformation:
    """Clipping and Adam as in PyTorch; the caller multiplies the updates by the negative learning rate."""
    return optax.chain(optax.clip_by_global_norm(recipe.clip_norm), optax.scale_by_adam())


def learning_rate(
    recipe: Recipe, total_steps: int, step: Int[Array, ""], plateau_factor: Float[Array, ""]
) -> Float[Array, ""]:
    """The learning rate of a step, counted from 0.

    Args:
        recipe: provides `lr`, `min_lr`, `warmup_steps` and `decay_steps`.
        total_steps: length of the training in steps.
        step: the step.
        plateau_factor: factor from the plateaus so far (`Plateau.factor`).
    """
    rate = jnp.maximum(recipe.lr * plateau_factor, recipe.min_lr)
    if recipe.warmup_steps:
        rate = rate * jnp.minimum((step + 1) / recipe.warmup_steps, 1.0)
    if recipe.decay_steps:
        rate = rate * jnp.clip((total_steps - step) / recipe.decay_steps, 0.0, 1.0)
    return jnp.asarray(rate, jnp.float32)


@dataclasses.dataclass(frozen=True)
class Plateau:
    """Lowers the learning rate when the validation loss stops improving; plain numbers, stored in checkpoints.

    Like PyTorch's ReduceLROnPlateau, but inactive during the first `constant_epochs` epochs.

    Attributes:
        factor: the learning rate is multiplied by this.
        best_loss: lowest validation loss in dB so far; None before the first validation.
        waited: validations since the best one, or since the learning rate was last lowered.
    """

    factor: float = 1.0
    best_loss: float | None = None
    waited: int = 0

    def after(self, loss: float, epoch: float, recipe: Recipe) -> Plateau:
        """The state after a validation with this loss in dB at `epoch` (fractional in the middle of an epoch)."""
        if math.isfinite(loss) and (self.best_loss is None or loss < self.best_loss):
            return Plateau(self.factor, loss, 0)
        if epoch <= recipe.constant_epochs:
            return self
        if self.waited + 1 < recipe.patience:
            return dataclasses.replace(self, waited=self.waited + 1)
        return Plateau(self.factor * recipe.lr_factor, self.best_loss, 0)
