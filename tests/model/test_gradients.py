"""Gradients written by hand equal those that JAX derives from the plain formulas, in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from mossformer_jax.model.attention import gate
from mossformer_jax.model.convolution import activate_and_convolve
from mossformer_jax.model.layers import mix_channels
from mossformer_jax.model.norms import Frames, scale_channels, scale_norm, standardise, zero_padding

# Rounding of sums of a few dozen terms of magnitude 1.
BOUND = 1e-12
SHAPE = (2, 6, 9)


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


def assert_same_gradients(ours, plain, rng, *inputs):
    """Checks that both functions and their gradients with respect to every input agree."""
    inputs = [jnp.asarray(value) for value in inputs]
    y, pull_back = jax.vjp(ours, *inputs)
    expected, expected_pull_back = jax.vjp(plain, *inputs)
    np.testing.assert_allclose(y, expected, rtol=0, atol=BOUND)
    dy = jnp.asarray(rng.normal(size=y.shape))
    for gradient, expected_gradient in zip(pull_back(dy), expected_pull_back(dy), strict=True):
        assert np.abs(expected_gradient).max() > 0
        np.testing.assert_allclose(gradient, expected_gradient, rtol=0, atol=BOUND * np.abs(expected_gradient).max())


def two_lengths() -> Frames:
    """The first signal has no padding, the second has 4 of 9 frames."""
    count_b = jnp.array([9, 4])
    return Frames(jnp.arange(9) < count_b[:, None, None], count_b)


def plain_standardise(x, frames, axes, eps):
    if frames is None:
        mean, size = x.mean(axes, keepdims=True), None
        variance = jnp.square(x - mean).mean(axes, keepdims=True)
    else:
        size = frames.count_b[:, None, None] * (x.shape[1] if 1 in axes else 1)
        mean = zero_padding(x, frames).sum(axes, keepdims=True) / size
        variance = zero_padding(jnp.square(x - mean), frames).sum(axes, keepdims=True) / size
    return (x - mean) * lax.rsqrt(variance + eps)


@pytest.mark.medium
@pytest.mark.parametrize("axes", [(1,), (2,), (1, 2)])
def test_gradient_of_standardise(rng, axes):
    x = rng.normal(size=SHAPE)
    assert_same_gradients(
        lambda x: standardise(x, None, axes, 0.1), lambda x: plain_standardise(x, None, axes, 0.1), rng, x
    )


@pytest.mark.medium
@pytest.mark.parametrize("axes", [(2,), (1, 2)])
def test_gradient_of_standardise_over_time_with_padding(rng, axes):
    x, frames = rng.normal(size=SHAPE), two_lengths()
    assert_same_gradients(
        lambda x: standardise(x, frames, axes, 0.1), lambda x: plain_standardise(x, frames, axes, 0.1), rng, x
    )


def test_gradient_of_scale_norm_on_both_sides_of_the_clamp(rng):
    x = rng.normal(size=SHAPE)
    x[:, :, ::2] *= 1e-3  # below the clamp at 0.1

    def plain(x, scale):
        return x / jnp.maximum(jnp.sqrt(jnp.square(x).mean(1, keepdims=True)), 0.1) * scale

    assert_same_gradients(lambda x, scale: scale_norm(x, scale, 0.1), plain, rng, x, np.float64(1.7))


def test_gradient_of_scale_channels(rng):
    x, scale = rng.normal(size=SHAPE), rng.normal(size=SHAPE[1])
    assert_same_gradients(scale_channels, lambda x, scale: x * scale[:, None], rng, x, scale)


def test_gradient_of_mix_channels(rng):
    x, kernel = rng.normal(size=SHAPE), rng.normal(size=(SHAPE[1], 5))
    assert_same_gradients(mix_channels, lambda x, kernel: jnp.einsum("bdl,de->bel", x, kernel), rng, x, kernel)


@pytest.mark.medium
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("rate", [0.0, 0.25])
def test_gradient_of_activate_and_convolve(rng, padded, rate):
    z, kernel = rng.normal(size=SHAPE), rng.normal(size=(5, SHAPE[1]))
    kept = jnp.asarray(rng.uniform(size=SHAPE) >= rate) if rate else None
    valid = two_lengths().valid_b1l if padded else None

    def plain(z, kernel):
        h = jax.nn.silu(z) if valid is None else jnp.where(valid, jax.nn.silu(z), 0.0)
        around = jnp.pad(h, ((0, 0), (0, 0), (2, 2)))
        y = h + sum(around[:, :, tap : tap + SHAPE[2]] * kernel[tap][:, None] for tap in range(5))
        return y if kept is None else jnp.where(kept, y / (1.0 - rate), 0.0)

    assert_same_gradients(lambda z, kernel: activate_and_convolve(z, kernel, valid, kept, rate), plain, rng, z, kernel)


def test_gradient_of_gate(rng):
    vu, attended = rng.normal(size=(2, *SHAPE))

    def plain(vu, attended):
        (v, u), (attended_v, attended_u) = jnp.split(vu, 2, axis=1), jnp.split(attended, 2, axis=1)
        return attended_u * v * jax.nn.sigmoid(attended_v * u)

    assert_same_gradients(gate, plain, rng, vu, attended)
