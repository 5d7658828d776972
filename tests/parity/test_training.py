"""Steps of training against the official network with PyTorch's own Adam and clipping."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np
import pytest
import torch

from mossformer_jax.data.batch import Batch
from mossformer_jax.sharding import make_mesh, place_rows
from mossformer_jax.training.recipe import Recipe
from mossformer_jax.training.state import begin
from mossformer_jax.training.step import make_train_step
from tests.parity import harness, oracle

pytestmark = pytest.mark.slow

CONFIG = dataclasses.replace(harness.small("mossformer2-2spk"), num_blocks=1, dropout=0.0, input_level_db=None)
RECIPE = Recipe(lr=1e-3)
STEPS = 4


def official_steps(network: torch.nn.Module, references: torch.Tensor) -> list[float]:
    """Trains the official network; the loss before each step."""
    # parameters() lists shared tensors once.
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    adam = torch.optim.Adam(parameters, lr=RECIPE.lr)
    losses = []
    for _ in range(STEPS):
        adam.zero_grad()
        loss = harness.official_pit_loss(network(references.sum(1)), references)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, RECIPE.clip_norm)
        adam.step()
        losses.append(loss.item())
    return losses


def our_steps(weights: dict[str, np.ndarray], references_bct: np.ndarray) -> tuple[list[float], dict[str, np.ndarray]]:
    """The same with ours, from the same weights."""
    rows, _, num_samples = references_bct.shape
    batch = Batch(references_bct.sum(1), references_bct, np.full(rows, num_samples, np.int32))
    with harness.precision(CONFIG):
        mesh = make_mesh()
        state = begin(CONFIG, RECIPE, mesh)
        state = state._replace(
            parameters=jax.device_put({name: weights[name] for name in state.parameters}),
            buffers=jax.device_put({name: weights[name] for name in state.buffers}),
        )
        step = make_train_step(CONFIG, RECIPE, STEPS, mesh)
        losses = []
        for _ in range(STEPS):
            state, metrics = step(state, place_rows(batch, mesh))
            losses.append(float(metrics[0]))
        return losses, jax.device_get(state.parameters)


def test_four_steps_are_those_of_the_official_network_in_pytorch():
    network = oracle.build(CONFIG, 0, torch.float64)
    weights = {name: array.copy() for name, array in harness.to_ours(network.state_dict(), CONFIG).items()}
    references_bct = harness.speakers(2, 2, 2400)
    losses, parameters = our_steps(weights, references_bct)
    official_losses = official_steps(network, torch.from_numpy(references_bct))

    assert len({round(loss, 2) for loss in official_losses}) == STEPS, "the loss did not change"
    np.testing.assert_allclose(losses, official_losses, rtol=2e-7)  # reported in float32
    official = harness.to_ours(network.state_dict(), CONFIG)
    for name, parameter in parameters.items():
        change, official_change = parameter - weights[name], official[name] - weights[name]
        # The learning rate is a float32 (5e-8 of it), clip_grad_norm_ adds 1e-6 to the norm, and Adam divides by the
        # size of a gradient, so that those near its epsilon are the least exact.
        assert harness.relative_error(change, official_change) <= 5e-6, name
