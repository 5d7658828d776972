"""Validation: the output gains that it measures."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from mossformer_jax import Separator, pit_si_sdr
from mossformer_jax.model import MossFormer2
from mossformer_jax.sharding import make_mesh
from mossformer_jax.training.recipe import Recipe
from mossformer_jax.training.validation import Validation, least_squares_gains, output_levels
from mossformer_jax.weights.loaded import LoadedModel
from mossformer_jax.weights.parameters import flatten
from tests.evaluation.conftest import Noises

LENGTHS = (800, 700, 800)
SAMPLE_RATE = 8000


@pytest.fixture(scope="module", params=[None, -40.0], ids=["no input level", "input level"])
def model(request, tiny_config):
    config = dataclasses.replace(tiny_config, input_level_db=request.param)
    return config, flatten(nnx.state(MossFormer2(config, rngs=nnx.Rngs(0))))


@pytest.mark.medium
def test_output_gains_minimise_the_squared_error_to_the_sources(model):
    config, weights = model
    mixtures = Noises(LENGTHS, SAMPLE_RATE)
    validation = Validation(config, Recipe(num_examples=1, validation_batch_size=2), mixtures, 0, make_mesh())
    validated = validation({name: jnp.asarray(array) for name, array in weights.items()})
    separator = Separator(LoadedModel(dataclasses.replace(config, output_gains=validated.output_gains), weights))
    products, energies = np.zeros(2), np.zeros(2)
    for index in range(len(mixtures)):
        mixture = mixtures.read(index)
        estimates = separator(mixture.mixed(), SAMPLE_RATE).sources
        permutation = np.asarray(pit_si_sdr(estimates[None], mixture.sources[None])[1][0])
        for source, output in enumerate(permutation):
            products[output] += mixture.sources[source] @ estimates[output]
            energies[output] += estimates[output] @ estimates[output]
    # The gains that would still reduce the error.
    np.testing.assert_allclose(products / energies, 1.0, atol=1e-3)
    assert min(abs(gain - 1.0) for gain in validated.output_gains) > 0.1, "all gains are about 1 anyway"
    # The examples of a validation have these levels, too.
    (example,) = validated.examples
    shown_ct = separator(example.mixture_t, SAMPLE_RATE).sources
    shown_ct = shown_ct[np.asarray(pit_si_sdr(shown_ct[None], example.references_ct[None])[1][0])]
    np.testing.assert_allclose(example.estimates_ct, shown_ct, rtol=1e-2, atol=1e-3 * shown_ct.std())


@pytest.mark.medium
def test_if_all_mixtures_have_a_silent_source_si_sdri_is_undefined_without_a_warning(model):
    class HalfSilent(Noises):
        def read(self, index, start=0, num_samples=None):
            mixture = super().read(index, start, num_samples)
            mixture.sources[1] = 0.0
            return mixture

    config, weights = model
    mixtures = HalfSilent(LENGTHS, SAMPLE_RATE)
    validation = Validation(config, Recipe(num_examples=1, validation_batch_size=2), mixtures, 0, make_mesh())
    validated = validation({name: jnp.asarray(array) for name, array in weights.items()})
    assert validated.silent
    assert np.isnan([validated.si_sdri_db, validated.si_sdr_db]).all()
    assert np.isfinite(validated.output_gains).all()
    assert "every mixture has a silent source" in validated.why_undefined


@pytest.mark.medium
def test_examples_are_the_same_mixtures_of_middle_length_for_any_batch_size(tiny_config):
    weights = flatten(nnx.state(MossFormer2(tiny_config, rngs=nnx.Rngs(0))))
    mixtures = Noises((900, 500, 700, 800, 600), SAMPLE_RATE)
    found = []
    for batch_size in (1, 3):
        recipe = Recipe(num_examples=2, validation_batch_size=batch_size)
        validation = Validation(tiny_config, recipe, mixtures, 0, make_mesh())
        examples = validation({name: jnp.asarray(array) for name, array in weights.items()}).examples
        found.append([(example.name, len(example.mixture_t)) for example in examples])
    assert found[0] == found[1]
    assert len(found[0]) == 2


def test_a_batch_has_no_more_rows_than_there_are_mixtures(tiny_config):
    mixtures = Noises(LENGTHS, SAMPLE_RATE)
    validation = Validation(tiny_config, Recipe(validation_batch_size=10**9), mixtures, 0, make_mesh())
    assert [len(batch.mixture) for batch in validation._batches] == [len(LENGTHS)]


def test_each_output_gets_its_own_gain_for_any_permutation(rng):
    sources_bct = rng.standard_normal((4, 3, 5000)).astype(np.float32)
    permutation_bc = np.array([[0, 1, 2], [2, 0, 1], [1, 0, 2], [2, 1, 0]])
    given_bct = np.empty_like(sources_bct)
    for row, permutation in enumerate(permutation_bc):
        given_bct[row, permutation] = sources_bct[row]
    lacking = np.array([5.6, -0.5, 1.0], np.float32)
    levels_2c = np.asarray(output_levels(given_bct / lacking[:, None], sources_bct, permutation_bc))
    np.testing.assert_allclose(least_squares_gains(levels_2c), lacking, rtol=1e-4)


def test_an_output_that_is_silent_or_orthogonal_to_its_sources_has_gain_one():
    np.testing.assert_array_equal(least_squares_gains(np.array([[0.0, 0.0, 3.0], [0.0, 2.0, 2.0]])), [1.0, 1.0, 1.5])
    unusable = np.array([[np.nan, np.inf], [np.nan, np.inf]])
    np.testing.assert_array_equal(least_squares_gains(unusable), [1.0, 1.0])
