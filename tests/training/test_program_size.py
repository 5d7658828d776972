"""The program of a step has no more operations than after the last optimisation, so that a regression is noticed.

Counted in the program that JAX hands to XLA, which is the same on every machine. Where a change adds operations on
purpose, measure it (benchmarks/train_step.py) and write the new figures here; where it saves some, too.
"""

import collections
import dataclasses
import re

import jax
import numpy as np
import pytest

from mossformer_jax.data.batch import Batch
from mossformer_jax.sharding import make_mesh
from mossformer_jax.training.recipe import Recipe
from mossformer_jax.training.state import abstract_state
from mossformer_jax.training.step import make_train_step
from mossformer_jax.weights.parameters import assemble_network

# On a CPU, the most expensive operations besides the matrix products are copies and sums of products.
RECORDED_STEP = {"dot_general": 96, "convolution": 0, "transpose": 56, "concatenate": 27, "pad": 54, "reduce": 295}
RECORDED_STEP |= {"slice": 816, "dynamic_update_slice": 18, "while": 9}
RECORDED_SEPARATION = {"dot_general": 20, "convolution": 0, "transpose": 19, "concatenate": 5, "pad": 12, "reduce": 21}
RECORDED_SEPARATION |= {"slice": 247, "dynamic_update_slice": 0, "while": 1}


def operations(lowered) -> collections.Counter:
    """The number of occurrences of each operation in a program. A scanned block counts once, at any depth."""
    return collections.Counter(re.findall(r"stablehlo\.(\w+)", lowered.as_text()))


def within(counted: collections.Counter, recorded: dict[str, int]) -> dict[str, tuple[int, int]]:
    """The operations that have become more: the numbers counted and recorded."""
    return {name: (counted[name], limit) for name, limit in recorded.items() if counted[name] > limit}


@pytest.fixture(scope="module")
def config(tiny_config):
    return dataclasses.replace(tiny_config, dropout=0.1, remat="products", num_blocks=3)


def lower_step(config):
    mesh, recipe = make_mesh(), Recipe()
    batch = Batch(
        jax.ShapeDtypeStruct((2, 1600), np.float32),
        jax.ShapeDtypeStruct((2, 2, 1600), np.float32),
        jax.ShapeDtypeStruct((2,), np.int32),
    )
    return make_train_step(config, recipe, 10, mesh).lower(abstract_state(config, recipe, mesh), batch)


@pytest.mark.medium
def test_the_step_has_no_more_operations_than_recorded(config):
    counted = operations(lower_step(config))
    assert not within(counted, RECORDED_STEP), counted


@pytest.mark.medium
def test_the_step_is_as_large_at_any_depth(config):
    deeper = dataclasses.replace(config, num_blocks=12)
    assert operations(lower_step(deeper)) == operations(lower_step(config))


def test_separation_has_no_more_operations_than_recorded(config):
    state = abstract_state(config, Recipe(), make_mesh())
    weights = {**state.parameters, **state.buffers}
    separate = jax.jit(lambda weights, mixture, lengths: assemble_network(config, weights)(mixture, lengths))
    arguments = jax.ShapeDtypeStruct((2, 1600), np.float32), jax.ShapeDtypeStruct((2,), np.int32)
    counted = operations(separate.lower(weights, *arguments))
    assert not within(counted, RECORDED_SEPARATION), counted
