"""Forward-mode and higher derivatives inside `any_derivative`, and the errors outside."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from mossformer_jax import MossFormer2, any_derivative
from mossformer_jax.model.attention import gate
from mossformer_jax.model.convolution import activate_and_convolve, depthwise_conv
from mossformer_jax.model.layers import mix_channels
from mossformer_jax.model.norms import scale_channels, scale_norm, standardise

SHAPE = (2, 6, 9)


def functions(rng):
    """The functions with a gradient written by hand, each of one argument."""
    kernel_te, kernel_de, scale_d, other = (rng.normal(size=size) for size in ((5, 6), (6, 4), 6, SHAPE))
    return {
        "mix_channels": lambda x: mix_channels(x, jnp.asarray(kernel_de)),
        "depthwise_conv": lambda x: depthwise_conv(x, jnp.asarray(kernel_te), 2),
        "activate_and_convolve": lambda x: activate_and_convolve(x, jnp.asarray(kernel_te), None, None, 0.0),
        "gate": lambda x: gate(x, jnp.asarray(other)),
        "scale_channels": lambda x: scale_channels(x, jnp.asarray(scale_d)),
        "standardise": lambda x: standardise(x, None, (1, 2), 0.1),
        "scale_norm": lambda x: scale_norm(x, jnp.float64(1.7), 0.1),
    }


@pytest.mark.medium
@pytest.mark.parametrize("name", functions(np.random.default_rng(0)))
def test_every_function_has_all_derivatives(rng, name):
    with jax.enable_x64(True):
        function = functions(rng)[name]
        x, v, w = (jnp.asarray(rng.normal(size=SHAPE)) for _ in range(3))

        def energy(x):
            return jnp.sum(jnp.sin(function(x)))

        by_hand = jax.grad(energy)(x)
        with any_derivative():
            gradient, along_v = jax.jvp(jax.grad(energy), (x,), (v,))
            forwards = jax.jvp(energy, (x,), (w,))[1]
            along_w = jax.grad(lambda x: jnp.vdot(jax.grad(energy)(x), w))(x)
        np.testing.assert_allclose(gradient, by_hand, rtol=0, atol=1e-12)
        np.testing.assert_allclose(forwards, jnp.vdot(by_hand, w), rtol=1e-10)
        # The second derivative is symmetric, and the difference of gradients written by hand.
        np.testing.assert_allclose(jnp.vdot(along_v, w), jnp.vdot(along_w, v), rtol=1e-10)
        step = 1e-5
        difference = (jax.grad(energy)(x + step * v) - jax.grad(energy)(x - step * v)) / (2 * step)
        # The error of central differences is of the order of step**2.
        np.testing.assert_allclose(along_v, difference, rtol=0, atol=1e-7)


def energy_of(network):
    return lambda mixture_bt: jnp.sum(jnp.square(network(mixture_bt)))


@pytest.mark.medium
def test_outside_the_context_the_error_says_what_to_do(tiny_config, rng):
    energy = energy_of(MossFormer2(tiny_config, rngs=nnx.Rngs(0)))
    mixture_bt = jnp.asarray(rng.standard_normal((1, 400)), jnp.float32)
    error = r"inside `with mossformer_jax.any_derivative\(\):`"
    with pytest.raises(TypeError, match=error):
        jax.jvp(energy, (mixture_bt,), (mixture_bt,))
    with pytest.raises(TypeError, match=error):
        jax.jvp(jax.grad(energy), (mixture_bt,), (mixture_bt,))
    with pytest.raises(TypeError, match=error):
        jax.eval_shape(jax.grad(lambda x: jnp.sum(jax.grad(energy)(x))), mixture_bt)


@pytest.mark.medium
def test_the_whole_network_can_be_differentiated_in_any_way(tiny_config):
    energy = energy_of(MossFormer2(tiny_config, rngs=nnx.Rngs(0)))
    mixture_bt = jax.ShapeDtypeStruct((1, 400), jnp.float32)
    with any_derivative():  # traced alone: compiling takes a minute
        for derivative in (
            lambda x: jax.jvp(energy, (x,), (x,))[1],
            lambda x: jax.grad(lambda x: jnp.sum(jax.grad(energy)(x)))(x),
            lambda x: jax.jvp(jax.grad(energy), (x,), (x,))[1],
        ):
            jax.eval_shape(derivative, mixture_bt)


@pytest.mark.slow
def test_second_derivatives_of_a_network_are_symmetric_and_its_gradient_that_by_hand(tiny_config, rng):
    config = dataclasses.replace(tiny_config, fsmn_channels=None)  # compiles in a third of the time
    energy = energy_of(MossFormer2(config, rngs=nnx.Rngs(0)))
    x, v, w = (jnp.asarray(rng.standard_normal((1, 400)), jnp.float32) for _ in range(3))
    gradient = jax.jit(jax.grad(energy))
    by_hand = gradient(x)
    with any_derivative():
        program = jax.jit(lambda x, v: jax.jvp(gradient, (x,), (v,)))
        (plain, along_v), (_, along_w) = program(x, v), program(x, w)
    # float32, with other sums than by hand.
    np.testing.assert_allclose(plain, by_hand, rtol=0, atol=1e-4 * np.abs(by_hand).max())
    scale = np.linalg.norm(along_v) * np.linalg.norm(w)
    assert np.vdot(along_v, w) == pytest.approx(np.vdot(along_w, v), abs=float(1e-4 * scale))


@pytest.mark.medium
def test_intermediates_are_those_of_the_separation(tiny_config, rng):
    network = MossFormer2(tiny_config, rngs=nnx.Rngs(0))
    mixture_bt = jnp.asarray(rng.standard_normal((2, 800)), jnp.float32)
    lengths_b = jnp.array([800, 500])
    found = jax.jit(lambda x, lengths: network.intermediates(x, lengths))(mixture_bt, lengths_b)
    num_frames = tiny_config.num_frames(800)
    assert found.blocks.shape == (tiny_config.num_blocks, 2, tiny_config.model_channels, num_frames)
    assert found.masks.shape == (2, 2, tiny_config.encoder_channels, num_frames)
    decoded = network.decoder(found.features[:, None] * found.masks, 800)
    np.testing.assert_allclose(found.sources, decoded, atol=1e-6)
    np.testing.assert_allclose(found.sources, network(mixture_bt, lengths_b), atol=1e-6)
