"""Validation: what it finds out about weights besides their score."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from mossformer_jax import Separator
from mossformer_jax.model import MossFormer2
from mossformer_jax.sharding import make_mesh
from mossformer_jax.training.recipe import Recipe
from mossformer_jax.training.validation import Validation
from mossformer_jax.weights.loaded import LoadedModel
from mossformer_jax.weights.parameters import flatten
from tests.evaluation.conftest import Noises

LENGTHS = (800, 700, 800)
SAMPLE_RATE = 8000


@pytest.fixture(scope="module", params=[None, -40.0], ids=["taken as it is", "at a level of its own"])
def model(request, tiny_config):
    config = dataclasses.replace(tiny_config, input_level_db=request.param)
    return config, flatten(nnx.state(MossFormer2(config, rngs=nnx.Rngs(0))))


def test_with_the_gain_that_it_finds_separated_sources_add_up_to_their_mixture(model):
    config, weights = model
    mixtures = Noises(LENGTHS, SAMPLE_RATE)
    validation = Validation(config, Recipe(num_examples=1), mixtures, 0, make_mesh())
    validated = validation({name: jnp.asarray(array) for name, array in weights.items()})
    levelled = {**weights, "decoder.kernel": weights["decoder.kernel"] * np.float32(validated.output_gain)}
    separator = Separator(LoadedModel(config, levelled))
    product = power = 0.0
    for index in range(len(mixtures)):
        mixed_t = mixtures.read(index).mixed()
        summed_t = separator(mixed_t, SAMPLE_RATE).sources.sum(axis=0)
        product, power = product + summed_t @ mixed_t, power + summed_t @ summed_t
    assert product / power == pytest.approx(1.0, abs=1e-3)
    assert validated.output_gain != pytest.approx(1.0, abs=0.1), "nothing was to be done"
    # What is shown of a validation has that level too.
    (example,) = validated.examples
    shown_t = separator(example.mixture_t, SAMPLE_RATE).sources.sum(axis=0)
    np.testing.assert_allclose(example.estimates_ct.sum(axis=0), shown_t, rtol=1e-2, atol=1e-3 * shown_t.std())
