"""The optimizer and the learning rate schedule: warm-up, plateau, final decay."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterable
from functools import partial

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from mossformer_jax.training.recipe import DECAYS, Recipe

# Typical RMS of Adam's updates. Muon's are scaled to it, so that the same learning rates suit both (arXiv 2502.16982).
_ADAM_RMS = 0.2


def make_optimizer(recipe: Recipe) -> optax.GradientTransformation:
    """Clipping, the optimizer (Adam as in PyTorch by default) and decoupled weight decay.

    The caller multiplies the updates by the negative learning rate.
    """
    rules = {"adam": optax.scale_by_adam, "adamw": optax.scale_by_adam, "lion": optax.scale_by_lion, "muon": _muon}
    parts = [optax.clip_by_global_norm(recipe.clip_norm), rules[recipe.optimizer]()]
    if recipe.weight_decay:
        parts.append(optax.add_decayed_weights(recipe.weight_decay, mask=partial(_decayed, recipe.weight_decay_mask)))
    return optax.chain(*parts)


def _muon() -> optax.GradientTransformation:
    """Muon for the matrices of the mask net, Adam for everything else."""
    # Matrices of a stack of blocks have the block as first axis.
    axes = optax.contrib.MuonDimensionNumbers(reduction_axis=-2, output_axis=-1)
    orthogonal = optax.contrib.scale_by_muon(
        weight_dimension_numbers=lambda updates: jax.tree.map(lambda _: axes, updates)
    )
    scaled = optax.stateless_with_tree_map(lambda update, _: _ADAM_RMS * math.sqrt(max(update.shape[-2:])) * update)
    return optax.partition(
        {True: optax.chain(orthogonal, scaled), False: optax.scale_by_adam()}, param_labels=_matrices
    )


def _matrices(parameters: Iterable[str]) -> dict[str, bool]:
    """Which parameters are matrices of the mask net: no biases, gains, slopes, filterbanks and depthwise kernels."""
    return {
        name: name.startswith("mask_net.") and name.endswith(".kernel") and ".conv" not in name for name in parameters
    }


def _decayed(mask: str, parameters: Iterable[str]) -> dict[str, bool]:
    """Which parameters decay.

    Raises:
        ValueError: the mask matches no parameter.
    """
    if mask == "matrices":
        return _matrices(parameters)
    found = {name: mask == "all" or re.search(mask, name) is not None for name in parameters}
    if not any(found.values()):
        raise ValueError(
            f"config.train.weight_decay_mask={mask!r} matches no parameter; the names are those in model.safetensors, "
            f"such as {', '.join(sorted(found)[:2])}"
        )
    return found


def learning_rate(
    recipe: Recipe, total_steps: int, step: Int[Array, ""], plateau_factor: Float[Array, ""]
) -> Float[Array, ""]:
    """The learning rate of a step, counted from 0.

    Args:
        recipe: provides `lr`, `min_lr`, `schedule`, `warmup_steps`, `decay_steps` and `decay`.
        total_steps: length of the training in steps.
        step: the step.
        plateau_factor: factor from the plateaus so far (`Plateau.factor`).
    """
    rate = jnp.maximum(recipe.lr * plateau_factor, recipe.min_lr)
    if recipe.warmup_steps:
        rate = rate * jnp.minimum((step + 1) / recipe.warmup_steps, 1.0)
    shape, steps = recipe.decay, recipe.decay_steps
    if recipe.schedule in DECAYS:
        shape, steps = recipe.schedule, max(total_steps - recipe.warmup_steps, 1)
    if steps:
        remaining = jnp.clip((total_steps - step) / steps, 0.0, 1.0)
        rate = rate * (remaining if shape == "linear" else 0.5 - 0.5 * jnp.cos(math.pi * remaining))
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
        if epoch <= recipe.constant_epochs or recipe.schedule != "plateau":
            return self
        if self.waited + 1 < recipe.patience:
            return dataclasses.replace(self, waited=self.waited + 1)
        return Plateau(self.factor * recipe.lr_factor, self.best_loss, 0)
