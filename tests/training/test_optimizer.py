"""The learning rate over a training, and the optimizer against PyTorch's."""

from __future__ import annotations

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mossformer_jax.training.optimizer import Plateau, learning_rate, make_optimizer
from mossformer_jax.training.recipe import Recipe


def rates(recipe: Recipe, total_steps: int, factor: float = 1.0) -> np.ndarray:
    """The learning rate of every step."""
    plateau_factor = jnp.float32(factor)
    return np.array([learning_rate(recipe, total_steps, step, plateau_factor) for step in jnp.arange(total_steps)])


def after(losses: list[float], recipe: Recipe, *, steps_per_epoch: int = 1) -> list[Plateau]:
    """The plateau after each validation, with one validation per epoch."""
    plateau, found = Plateau(), []
    for epoch, loss in enumerate(losses, 1):
        plateau = plateau.after(loss, epoch / steps_per_epoch, recipe)
        found.append(plateau)
    return found


def test_the_published_recipe_begins_and_stays_at_its_learning_rate():
    np.testing.assert_allclose(rates(Recipe(), 5), 15e-5, rtol=1e-6)


def test_warm_up_rises_linearly_to_the_learning_rate():
    np.testing.assert_allclose(rates(Recipe(lr=0.1, warmup_steps=4), 6), [0.025, 0.05, 0.075, 0.1, 0.1, 0.1], rtol=1e-6)


def test_decay_falls_linearly_towards_zero_at_the_end():
    expected = [0.1, 0.1, 0.1, 0.1, 0.075, 0.05, 0.025]
    np.testing.assert_allclose(rates(Recipe(lr=0.1, decay_steps=4), 7), expected, rtol=1e-6)


def test_plateaus_do_not_take_the_learning_rate_below_its_floor():
    recipe = Recipe(lr=0.1, min_lr=0.03)
    assert [round(float(rates(recipe, 1, factor)[0]), 6) for factor in (1, 0.5, 0.25, 0.125)] == [0.1, 0.05, 0.03, 0.03]


def test_the_learning_rate_falls_after_so_many_validations_without_improvement():
    recipe = Recipe(constant_epochs=0, patience=2, lr_factor=0.5)
    losses = [-1.0, -2.0, -1.5, -1.9, -1.9, -2.0, -3.0, -2.0, -3.0]
    assert [plateau.factor for plateau in after(losses, recipe)] == [1, 1, 1, 0.5, 0.5, 0.25, 0.25, 0.25, 0.125]


def test_an_improvement_resets_the_patience():
    recipe = Recipe(constant_epochs=0, patience=2)
    assert [plateau.waited for plateau in after([-1.0, 0.0, -2.0, 0.0], recipe)] == [0, 1, 0, 1]


def test_the_learning_rate_cannot_fall_while_it_is_constant():
    recipe = Recipe(constant_epochs=3, patience=1)
    # The third validation is the last one of the constant epochs.
    assert [plateau.factor for plateau in after([-1.0, 0.0, 0.0, 0.0], recipe)] == [1, 1, 1, 0.5]
    # With four validations per epoch, all of them are in the first epoch.
    assert [plateau.factor for plateau in after([-1.0, 0.0, 0.0, 0.0], recipe, steps_per_epoch=4)] == [1, 1, 1, 1]


def test_the_best_loss_of_the_constant_epochs_counts_afterwards():
    recipe = Recipe(constant_epochs=1, patience=1)
    assert [plateau.factor for plateau in after([-5.0, -4.0], recipe)] == [1, 0.5]


def test_a_loss_that_is_not_finite_is_not_an_improvement():
    recipe = Recipe(constant_epochs=0, patience=1)
    plateaus = after([-1.0, float("nan"), -2.0], recipe)
    assert [(plateau.factor, plateau.best_loss) for plateau in plateaus] == [(1, -1.0), (0.5, -1.0), (0.5, -2.0)]


def test_a_first_loss_that_is_not_finite_does_not_become_the_best():
    plateaus = after([float("nan"), -2.0], Recipe(constant_epochs=0, patience=2))
    assert plateaus[-1].best_loss == -2.0


@pytest.mark.medium
def test_clipping_and_adam_are_those_of_pytorch(rng):
    torch = pytest.importorskip("torch")
    start, lr = rng.standard_normal((3, 5)).astype(np.float32), 0.01
    # The norm of the first is below 5, those of the others are above.
    gradients = [rng.standard_normal((3, 5)).astype(np.float32) * size for size in (0.3, 10.0, 1000.0)]

    theirs = torch.nn.Parameter(torch.from_numpy(start.copy()))
    adam = torch.optim.Adam([theirs], lr=lr)
    for gradient in gradients:
        theirs.grad = torch.from_numpy(gradient.copy())
        torch.nn.utils.clip_grad_norm_([theirs], 5.0)
        adam.step()

    optimizer = make_optimizer(Recipe())
    ours = jnp.asarray(start)
    state = optimizer.init(ours)
    for gradient in gradients:
        updates, state = jax.jit(optimizer.update)(jnp.asarray(gradient), state)
        ours = ours - lr * updates
    # Both in float32: some roundings of parameters of size 1. clip_grad_norm_ adds 1e-6 to the norm, a share of 2e-7.
    np.testing.assert_allclose(ours, theirs.detach().numpy(), atol=1e-6)


def parameters(rng) -> dict[str, np.ndarray]:
    """Parameters with the names of a model's: two matrices (one of a stack of blocks) and others."""
    shapes = {
        "encoder.kernel": (16, 8),
        "mask_net.blocks.attention.to_out.conv.kernel": (2, 17, 8),
        "mask_net.blocks.attention.to_out.linear.kernel": (2, 16, 8),
        "mask_net.blocks.attention.to_out.linear.bias": (2, 8),
        "mask_net.output.kernel": (8, 8),
    }
    return {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


MATRICES = ("mask_net.blocks.attention.to_out.linear.kernel", "mask_net.output.kernel")


def steps_of(recipe: Recipe, start: dict, gradients: list[dict], lr: float) -> dict[str, np.ndarray]:
    """The parameters after a step for each gradient."""
    optimizer, now = make_optimizer(recipe), start
    state = optimizer.init(now)
    for gradient in gradients:
        updates, state = jax.jit(optimizer.update)(gradient, state, now)
        now = jax.tree.map(lambda value, update: value - lr * update, now, updates)
    return jax.device_get(now)


@pytest.mark.medium
def test_adamw_is_that_of_pytorch_and_decays_matrices_only(rng):
    torch = pytest.importorskip("torch")
    start, lr, decay = parameters(rng), 0.01, 0.1
    gradients = [parameters(rng) for _ in range(3)]
    tensors = {name: torch.nn.Parameter(torch.from_numpy(value.copy())) for name, value in start.items()}
    groups = [
        {"params": [tensors[name] for name in start if (name in MATRICES) == decayed], "weight_decay": decay * decayed}
        for decayed in (False, True)
    ]
    adamw = torch.optim.AdamW(groups, lr=lr)
    for gradient in gradients:
        for name, tensor in tensors.items():
            tensor.grad = torch.from_numpy(gradient[name].copy())
        adamw.step()
    found = steps_of(Recipe(optimizer="adamw", weight_decay=decay, clip_norm=1e9), start, gradients, lr)
    for name, tensor in tensors.items():
        np.testing.assert_allclose(found[name], tensor.detach().numpy(), atol=1e-6, err_msg=name)


def test_lion_moves_every_parameter_by_the_learning_rate_against_its_gradient(rng):
    start, gradient = parameters(rng), parameters(rng)
    found = steps_of(Recipe(optimizer="lion", clip_norm=1e9), start, [gradient], 0.01)
    for name, value in start.items():
        np.testing.assert_allclose(found[name], value - 0.01 * np.sign(gradient[name]), atol=1e-6, err_msg=name)


def test_muon_orthogonalises_the_matrices_of_each_block_and_leaves_the_rest_to_adam(rng):
    start, gradients = parameters(rng), [parameters(rng) for _ in range(2)]
    muon, adam = (
        steps_of(Recipe(optimizer=name, clip_norm=1e9), start, gradients[:1], 0.01) for name in ("muon", "adam")
    )
    for name, value in start.items():
        if name not in MATRICES:
            np.testing.assert_allclose(muon[name], adam[name], atol=1e-6, err_msg=name)
            continue
        update = (value - muon[name]) / 0.01
        # All singular values are close to one another: five Newton-Schulz iterations leave them within 0.7 and 1.2.
        values = np.linalg.svd(update, compute_uv=False) / (0.2 * np.sqrt(max(value.shape[-2:])))
        assert 0.6 < values.min() <= values.max() < 1.3, name
        assert 0.1 < np.sqrt(np.mean(np.square(update))) < 0.3  # Adam's updates have an RMS of 0.2 to 0.4
        assert np.vdot(update, gradients[0][name]) > 0


def test_cosine_decay_falls_from_the_start_to_zero():
    expected = 0.1 * (0.5 - 0.5 * np.cos(np.pi * np.arange(8, 0, -1) / 8))
    np.testing.assert_allclose(rates(Recipe(lr=0.1, decay_steps=8, decay="cosine"), 8), expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"optimizer": "sgd"}, "optimizer='sgd' is not allowed: must be one of adam, adamw, lion, muon"),
        ({"decay": "steps"}, "decay='steps' is not allowed: must be one of linear, cosine"),
        ({"schedule": "step"}, "schedule='step' is not allowed: must be one of plateau, warmup-stable-decay, linear, "),
        ({"schedule": "cosine", "decay_steps": 5}, "decay_steps=5 is not allowed: must be 0 with schedule="),
        ({"schedule": "warmup-stable-decay"}, "decay_steps=0 is not allowed: must be 1 or more"),
        ({"weight_decay_mask": "("}, "must be matrices or all, or a regular expression"),
        ({"weight_decay": 0.1}, """weight_decay=0.1 is not allowed: must be 0 with optimizer="adam"; use "adamw\""""),
        ({"optimizer": "lion", "weight_decay": -1.0}, "weight_decay=-1.0 is not allowed: must be 0 or more"),
    ],
)
def test_optimizer_options_that_are_not_allowed_are_errors(options, message):
    with pytest.raises(ValueError, match=message):
        Recipe(**options)


@pytest.mark.parametrize("name", ["linear", "cosine", "warmup-stable-decay"])
def test_schedules_are_those_of_optax(name):
    steps, warmup, decay, lr = 20, 4, 6, 0.1
    recipe = Recipe(lr=lr, schedule=name, warmup_steps=warmup, decay_steps=decay * (name == "warmup-stable-decay"))
    falls = {
        "linear": optax.linear_schedule(lr, 0.0, steps - warmup),
        "cosine": optax.cosine_decay_schedule(lr, steps - warmup),
        "warmup-stable-decay": optax.join_schedules(
            [optax.constant_schedule(lr), optax.linear_schedule(lr, 0.0, decay)], [steps - warmup - decay]
        ),
    }
    expected = optax.join_schedules([optax.linear_schedule(0.0, lr, warmup), falls[name]], [warmup])
    # The warm-up reaches the learning rate in its last step, one step earlier than optax's.
    count = [step + 1 if step < warmup - 1 else max(step, warmup) for step in range(steps)]
    # Plateaus do not affect these schedules.
    np.testing.assert_allclose(rates(recipe, steps), [expected(step) for step in count], rtol=1e-5)
    losses = [-1.0] * 9
    recipe = dataclasses.replace(recipe, constant_epochs=0)
    assert [plateau.factor for plateau in after(losses, recipe)] == [1] * 9


@pytest.mark.parametrize("mask", ["all", "kernel$", "to_out.*bias"])
def test_a_mask_selects_the_parameters_that_decay(rng, mask):
    start = parameters(rng)
    recipe = Recipe(optimizer="adamw", weight_decay=0.1, weight_decay_mask=mask)
    still = {name: np.zeros_like(value) for name, value in start.items()}
    found = steps_of(recipe, start, [still], 0.01)
    for name, value in start.items():
        decays = mask == "all" or re.search(mask, name)
        np.testing.assert_allclose(found[name], value * (1 - 0.01 * 0.1 * bool(decays)), rtol=1e-6, err_msg=name)


def test_a_mask_that_matches_no_parameter_is_an_error(rng):
    optimizer = make_optimizer(Recipe(optimizer="adamw", weight_decay=0.1, weight_decay_mask="kernels"))
    with pytest.raises(ValueError, match=r"weight_decay_mask='kernels' matches no parameter.*such as encoder.kernel"):
        optimizer.init(parameters(rng))
