"""Shapes that do not match the annotations are jaxtyping errors, because every test run checks them."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jaxtyping import TypeCheckError

from mossformer_jax.model import MossFormer2


@pytest.fixture(scope="module")
def model(tiny_config) -> MossFormer2:
    return MossFormer2(tiny_config, rngs=nnx.Rngs(0))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_a_mixture_without_a_batch_axis_is_an_error(model, dtype):
    with pytest.raises(TypeCheckError, match="mixture_bt"):
        model(jnp.zeros(400, dtype))


def test_one_length_for_two_mixtures_is_an_error(model):
    with pytest.raises(TypeCheckError, match="lengths_b"):
        model(np.zeros((2, 400), np.float32), np.array([400]))


def test_lengths_that_are_not_integers_are_an_error(model):
    with pytest.raises(TypeCheckError, match="lengths_b"):
        model(np.zeros((1, 400), np.float32), np.array([400.0]))


@pytest.mark.medium
def test_numpy_and_jax_arrays_are_accepted(model):
    mixture_bt = np.ones((2, 400), np.float32)
    from_numpy = model(mixture_bt, np.array([400, 300]))
    np.testing.assert_array_equal(from_numpy, model(jnp.asarray(mixture_bt), jnp.array([400, 300])))
