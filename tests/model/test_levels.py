"""The input level, measured in batches and in blocks."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np
import pytest
from flax import nnx

from mossformer_jax.model import MossFormer2
from mossformer_jax.model.levels import input_gain, level_gain, loudness, separate_at_level


def gain_of(signal, level_db):
    return input_gain(loudness(lambda: [signal]), level_db)


def test_the_loud_parts_get_the_input_level(rng):
    signal = rng.standard_normal(4000) * np.repeat([0.01, 1.0], 2000)
    power = (signal * gain_of(signal, -25.0)) ** 2
    assert 10 * np.log10(power[power > power.mean()].mean()) == pytest.approx(-25.0, abs=1e-9)
    assert gain_of(signal, None) == 1.0


def test_the_level_excludes_pauses_and_works_for_a_square_wave(rng):
    speech = rng.standard_normal(4000)
    with_pause = np.concatenate([speech, np.zeros(400)])
    # 10 % of silence lowers the plain RMS by 0.41 dB, but hardly changes which samples are loud.
    assert gain_of(with_pause, -25.0) == pytest.approx(gain_of(speech, -25.0), rel=0.02)
    square = 0.3 * np.sign(np.sin(np.arange(1000) + 0.5))
    assert gain_of(square, -25.0) == pytest.approx(10 ** (-25 / 20) / 0.3)


def test_loudness_does_not_depend_on_the_blocks(rng):
    signal = rng.standard_normal((2, 1001)).astype(np.float32)
    blocks = np.split(signal, [1, 400, 1000], axis=1)
    assert loudness(lambda: blocks) == pytest.approx(loudness(lambda: [signal]), rel=1e-12)


def test_batch_and_block_measurements_agree(rng):
    envelope = np.repeat(rng.uniform(size=(5, 20)) ** 4, 100, axis=1)
    mixture_bt = (envelope * rng.normal(size=envelope.shape)).astype(np.float32)
    mixture_bt[3] = np.where(np.arange(2000) % 100 < 50, 0.3, -0.3)
    mixture_bt[4] = 0.0
    lengths_b = np.array([2000, 1500, 30, 2000, 900], np.int32)
    for row, length in enumerate(lengths_b):
        mixture_bt[row, length:] = 9.0  # padding need not be silent
    gain_b1 = jax.jit(level_gain, static_argnums=2)(mixture_bt, lengths_b, -25.0)
    for row, length in enumerate(lengths_b[:4]):
        signal_t = mixture_bt[row, :length]
        expected = input_gain(loudness(lambda signal=signal_t: [signal]), -25.0)
        np.testing.assert_allclose(gain_b1[row], expected, rtol=1e-5)
    assert gain_b1[4] == 1.0, "silence"
    np.testing.assert_array_equal(level_gain(mixture_bt, lengths_b, None), np.ones((5, 1)))


@pytest.mark.medium
def test_the_input_gain_is_undone_in_the_outputs(tiny_config, rng):
    network = MossFormer2(dataclasses.replace(tiny_config, input_level_db=-25.0), rngs=nnx.Rngs(0))
    mixture_bt = rng.normal(size=(2, 500)).astype(np.float32) * np.float32([[0.3], [0.003]])
    lengths_b = np.array([500, 400], np.int32)
    estimates_bct = separate_at_level(network, mixture_bt, lengths_b)
    for scale in (0.1, 10.0):
        scaled_bct = separate_at_level(network, scale * mixture_bt, lengths_b)
        np.testing.assert_allclose(scaled_bct, scale * estimates_bct, rtol=1e-4, atol=1e-5 * scale)
