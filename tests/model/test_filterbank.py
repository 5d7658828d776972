"""Precision of the filterbank, and its sinusoidal initialisation."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mossformer_jax.model.filterbank import Decoder, Encoder, sinusoids
from mossformer_jax.model.initial import Draws


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_filterbank_uses_the_highest_matrix_precision(tiny_config, dtype):
    """TPUs and recent GPUs round float32 inputs of matrix products by default."""
    config = dataclasses.replace(tiny_config, dtype=dtype)
    encoder, decoder = Encoder(config, draws=Draws()), Decoder(config, draws=Draws())

    def decoded(mixture):
        return decoder(encoder(mixture)[:, None], mixture.shape[1]).sum()

    products = [
        equation
        for equation in jax.make_jaxpr(jax.grad(decoded))(jnp.ones((1, 100))).jaxpr.eqns
        if equation.primitive.name == "dot_general"
    ]
    assert len(products) >= 3
    for equation in products:
        assert set(equation.params["precision"]) == {jax.lax.Precision.HIGHEST}


@pytest.mark.parametrize(("kernel_size", "channels"), [(16, 32), (64, 256)])
def test_the_sinusoidal_decoder_inverts_the_encoder(tiny_config, kernel_size, channels):
    config = dataclasses.replace(
        tiny_config, kernel_size=kernel_size, stride=kernel_size // 2, encoder_channels=channels
    )
    encoder, decoder = Encoder(config, draws=Draws()), Decoder(config, draws=Draws())
    kernel = jnp.asarray(sinusoids(kernel_size, channels))
    encoder.kernel[...], decoder.kernel[...] = kernel, kernel.T
    signal = np.random.default_rng(0).standard_normal(20 * kernel_size).astype(np.float32)
    decoded = np.asarray(decoder(encoder(jnp.asarray(signal[None]))[:, None], len(signal)))[0, 0]
    # The ends are covered by one frame, the rest by two.
    inside = slice(kernel_size, -kernel_size)
    level = decoded[inside] @ signal[inside] / (signal[inside] @ signal[inside])
    assert level > 0
    np.testing.assert_allclose(decoded[inside], level * signal[inside], atol=1e-5 * level * np.abs(signal).max())


def test_each_channel_responds_most_to_its_own_frequency():
    kernel_size, channels = 64, 256
    kernel_tn = sinusoids(kernel_size, channels)
    quarter = channels // 4
    spectra = np.abs(np.fft.rfft(kernel_tn, 16 * kernel_size, axis=0))
    peaks = spectra.argmax(axis=0) / (8 * kernel_size)
    expected = np.tile((np.arange(quarter) + 0.5) / quarter, 4)
    # At both ends of the spectrum, positive and negative frequencies interfere and shift the peak.
    inner = (expected > 0.1) & (expected < 0.9)
    np.testing.assert_allclose(peaks[inner], expected[inner], atol=0.01)
    np.testing.assert_array_equal(kernel_tn[:, : 2 * quarter], -kernel_tn[:, 2 * quarter :])


def test_sinusoids_need_a_multiple_of_four_channels():
    with pytest.raises(ValueError, match="encoder_channels=30 is not allowed for sinusoids: must be a multiple of 4"):
        sinusoids(16, 30)
