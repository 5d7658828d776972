"""The compiled network: which shapes are compiled, how mixtures are padded, and how many fit."""

from __future__ import annotations

import dataclasses
import threading

import jax
import numpy as np
import pytest
from flax import nnx

from mossformer_jax.model.memory import activation_bytes
from mossformer_jax.separation.network import Network
from mossformer_jax.weights import LoadedModel, load_model
from mossformer_jax.weights.parameters import skeleton
from mossformer_jax.weights.store import read_config


@pytest.fixture(scope="module")
def model(tiny_model_folder):
    return load_model(tiny_model_folder)


class CountingModel(LoadedModel):
    """A stand-in for a model that records the compiled shapes and copies its input to all sources."""

    def __init__(self, config):
        self.config, self.shapes = config, []

    @property
    def device(self):
        return jax.devices("cpu")[0]

    def compile(self, batch, num_samples):
        self.shapes.append((batch, num_samples))
        return lambda mixture_bt, lengths_b: np.repeat(mixture_bt[:, None], 2, axis=1)


def test_a_thousand_lengths_compile_no_more_than_the_rungs(tiny_config, rng):
    counting = CountingModel(tiny_config)
    network = Network(counting)
    lengths = rng.integers(16, 20 * 8000, 1000)
    for length in lengths.tolist():
        (sources,), _ = network([np.ones(length)], network.padded_length(length))
        assert sources.shape == (2, length)
    rungs = {network.padded_length(length) for length in range(16, 20 * 8000, 100)}
    coarse = Network(counting, ladder_growth=2.0)
    assert 2 * len({coarse.padded_length(length) for length in range(16, 20 * 8000, 100)}) < len(rungs)
    assert len(counting.shapes) == len(set(counting.shapes)) <= len(rungs) <= 32


def test_batches_of_any_size_compile_powers_of_two(tiny_config):
    counting = CountingModel(tiny_config)
    network = Network(counting, batch_size=8)
    for size in (1, 3, 4, 5, 7, 8):
        assert len(network([np.ones(100)] * size, 256)[0]) == size
    assert counting.shapes == [(1, 256), (4, 256), (8, 256)]


@pytest.mark.medium
def test_a_separation_does_not_depend_on_its_batch_or_its_padding(model, rng):
    network = Network(model)
    mixtures = [rng.standard_normal(length).astype(np.float32) for length in (700, 401, 16)]
    together, _ = network(mixtures, 800)
    for mixture, sources in zip(mixtures, together, strict=True):
        (alone,), _ = network([mixture], 1000)
        error = np.linalg.norm(alone - sources) / np.linalg.norm(alone)
        assert error < 1e-5  # float32 sums of another order


def test_threads_that_want_the_same_shape_compile_it_once(tiny_config):
    counting = CountingModel(tiny_config)
    network = Network(counting)
    threads = [threading.Thread(target=network, args=([np.ones(100)], 256)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counting.shapes == [(1, 256)]


def test_broken_weights_are_named_and_not_written_to_a_file(tiny_config):
    counting = CountingModel(tiny_config)
    with pytest.raises(ValueError, match=r"network's output holds NaN or infinity"):
        Network(counting)([np.array([0.0, np.nan])], 256)


def test_the_batch_shrinks_to_what_fits_the_budget(tiny_config):
    window = 8000
    one = activation_bytes(tiny_config, 1, window)
    for memory, largest in ((None, 8), (8 * one, 8), (4.5 * one, 4), (0.5 * one, 1)):
        network = Network(CountingModel(tiny_config), memory, batch_size=8)
        assert network.largest_batch(window) == largest
        assert network.fits(window) == (memory is None or memory >= one)


def _xla_bytes(config, batch, num_samples):
    graphdef, state = skeleton(config)
    separate = jax.jit(lambda state, mixture, lengths: nnx.merge(graphdef, state)(mixture, lengths))
    inputs = jax.ShapeDtypeStruct((batch, num_samples), np.float32), jax.ShapeDtypeStruct((batch,), np.int32)
    return separate.lower(state, *inputs).compile().memory_analysis().temp_size_in_bytes


@pytest.mark.slow
@pytest.mark.usefixtures("fully_optimized")
@pytest.mark.parametrize(
    "overrides",
    [{}, {"encoder_channels": 384, "model_channels": 384, "num_sources": 3, "output_gains": (1.0, 2.0, 3.0)}],
)
@pytest.mark.parametrize("batch", [1, 2])
def test_the_memory_estimate_is_a_close_upper_bound_of_xla_memory(overrides, batch):
    config = dataclasses.replace(read_config("default"), **overrides)
    num_samples = 64_000
    estimate, taken = activation_bytes(config, batch, num_samples), _xla_bytes(config, batch, num_samples)
    assert taken <= estimate <= 1.4 * taken
