"""Shapes that do not match the annotations are jaxtyping errors, because every test run checks them."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import TypeCheckError

from mossformer_jax import scoring
from mossformer_jax.scoring.si_sdr import pit_si_sdr_loss, pit_training_score

PAIRWISE, PIT, TRAINING, LOSS = scoring.pairwise_si_sdr, scoring.pit_si_sdr, pit_training_score, pit_si_sdr_loss


@pytest.mark.parametrize("function", [PAIRWISE, PIT, TRAINING, LOSS])
def test_signals_without_a_batch_axis_are_rejected(function):
    with pytest.raises(TypeCheckError, match="estimates_bct"):
        function(jnp.ones((2, 50)), jnp.ones((2, 50)))


@pytest.mark.parametrize("function", [PAIRWISE, PIT, TRAINING, LOSS])
def test_signals_of_different_lengths_are_rejected(function):
    with pytest.raises(TypeCheckError, match="references_bct"):
        function(jnp.ones((1, 2, 50)), jnp.ones((1, 2, 49)))


@pytest.mark.parametrize("function", [PAIRWISE, PIT, TRAINING, LOSS])
def test_one_length_for_two_mixtures_is_rejected(function):
    with pytest.raises(TypeCheckError, match="lengths_b"):
        function(jnp.ones((2, 2, 50)), jnp.ones((2, 2, 50)), jnp.array([50]))


@pytest.mark.parametrize("function", [PIT, TRAINING, LOSS])
def test_different_numbers_of_sources_are_rejected(function):
    with pytest.raises(TypeCheckError, match="references_bct"):
        function(jnp.ones((1, 2, 50)), jnp.ones((1, 3, 50)))


def test_integer_signals_are_rejected():
    with pytest.raises(TypeCheckError, match="estimates_bct"):
        PAIRWISE(np.ones((1, 2, 50), np.int16), np.ones((1, 2, 50), np.float32))


def test_numpy_and_jax_arrays_are_accepted(rng):
    signals_bct = rng.standard_normal((1, 2, 50)).astype(np.float32)
    np.testing.assert_array_equal(PAIRWISE(signals_bct, signals_bct), PAIRWISE(*2 * [jnp.asarray(signals_bct)]))
