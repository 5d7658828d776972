"""The separator, with a tiny random network: what it does around the network, not how well it separates."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from mossformer_jax.data.audio import resample
from mossformer_jax.separation import Separator
from mossformer_jax.separation.levels import input_gain, loudness
from mossformer_jax.weights import LoadedModel, load_model, load_parameters

RATE = 8000
LENGTH = 800


@pytest.fixture(scope="module")
def model(tiny_model_folder):
    return load_model(tiny_model_folder)


@pytest.fixture
def separator(tiny_separator):
    return tiny_separator


@pytest.fixture(scope="module")
def levelled(tiny_model_folder):
    return Separator(LoadedModel(*_with(tiny_model_folder, input_level_db=-25.0)))


def _with(folder, **options):
    config, parameters = load_parameters(folder)
    return dataclasses.replace(config, **options), parameters


@pytest.fixture
def mixture(rng):
    return (0.1 * rng.standard_normal(LENGTH)).astype(np.float32)


def test_at_the_models_rate_the_sources_are_the_networks(separator, model, mixture):
    separation = separator(mixture, RATE)
    assert (separation.sources.dtype, separation.sample_rate) == (np.float32, RATE)
    # The same program compiled twice; only its float32 rounding could differ.
    np.testing.assert_allclose(separation.sources, model(mixture[None])[0], rtol=0, atol=1e-6)
    assert np.abs(separation.sources).max() > 1e-4


@pytest.mark.parametrize(("rate", "length"), [(16_000, 1599), (44_100, 4411), (11_025, 1103), (7999, 800)])
def test_sources_are_exactly_as_long_as_the_waveform_at_any_rate(separator, rng, rate, length):
    sources = separator(0.1 * rng.standard_normal(length), rate).sources
    assert sources.shape == (2, length)
    assert np.isfinite(sources).all()


def test_another_rate_gives_the_same_separation(separator, mixture):
    direct = separator(resample(resample(mixture, RATE, 16_000), 16_000, RATE), RATE).sources
    upsampled = separator(resample(mixture, RATE, 16_000), 16_000).sources
    assert upsampled.shape == (2, 2 * LENGTH)
    np.testing.assert_allclose(upsampled, resample(direct, RATE, 16_000), rtol=0, atol=1e-6)  # float32 rounding


def test_channels_are_mixed_down(separator, mixture, rng):
    side = 0.1 * rng.standard_normal(LENGTH).astype(np.float32)
    stereo = separator(np.stack([mixture + side, mixture - side]), RATE).sources
    np.testing.assert_allclose(stereo, separator(mixture, RATE).sources, rtol=0, atol=1e-6)  # rounding of the mean


def test_sixteen_bit_integers_are_scaled_to_full_scale(separator, mixture):
    integers = np.rint(mixture * 32768).astype(np.int16)
    np.testing.assert_array_equal(
        separator(integers, RATE).sources, separator(integers.astype(np.float64) / 32768, RATE).sources
    )


@pytest.mark.parametrize("direct_decoding", [False, True])
def test_silence_gives_silence_exactly(tiny_model_folder, direct_decoding):
    model = LoadedModel(*_with(tiny_model_folder, direct_decoding=direct_decoding, input_level_db=-25.0))
    assert np.asarray(model(np.zeros((1, LENGTH), np.float32))).any() == direct_decoding  # else this proves nothing
    for rate in (RATE, 44_100):
        sources = Separator(model)(np.zeros((2, LENGTH)), rate).sources
        np.testing.assert_array_equal(sources, np.zeros((2, LENGTH), np.float32))


def test_the_network_gets_the_level_that_it_expects(levelled, model, mixture):
    gain = input_gain(loudness(lambda: [mixture]), -25.0)
    expected = np.asarray(model((mixture * gain).astype(np.float32)[None])[0]) / gain
    np.testing.assert_allclose(levelled(mixture, RATE).sources, expected, rtol=0, atol=1e-6)


def test_sources_follow_the_level_of_the_waveform_when_the_model_expects_one(levelled, separator, mixture):
    quiet, loud = (levelled(scale * mixture, RATE).sources for scale in (1e-3, 1.0))
    tolerance = 1e-5 * np.abs(loud).max()  # float32 rounding of the scaled mixture
    np.testing.assert_allclose(1e3 * quiet, loud, rtol=0, atol=tolerance)
    # The network alone is not level-invariant, so that the lines above can fail.
    raw_quiet, raw_loud = (separator(scale * mixture, RATE).sources for scale in (1e-3, 1.0))
    assert np.abs(1e3 * raw_quiet - raw_loud).max() > 10 * tolerance


def test_the_shortest_waveform_is_one_kernel_and_compiling_is_timed_apart_once(separator, tiny_config):
    shortest = np.full(tiny_config.kernel_size, 0.1)
    first, second = (separator(shortest, RATE) for _ in range(2))
    assert first.sources.shape == (2, len(shortest))
    assert first.timings.compile_seconds > 0 == second.timings.compile_seconds
    assert first.timings.run_seconds > 0 < second.timings.run_seconds
    with pytest.raises(ValueError, match=r"15 samples at 8000 Hz, .* must hold at least 16"):
        separator(shortest[1:], RATE)
    with pytest.raises(ValueError, match=r"80 samples at 44100 Hz, which are 15 at the model's 8000 Hz"):
        separator(np.full(80, 0.1), 44_100)


def _with_nan(position):
    waveform = np.zeros(LENGTH)
    waveform[position:] = [np.nan, np.inf, -np.inf]
    return waveform


@pytest.mark.parametrize(
    ("waveform", "message"),
    [
        (_with_nan(LENGTH - 3), "NaN or infinity in 3 of 800 samples, first at sample 797"),
        (np.full(LENGTH, 1e300), "NaN or infinity in 800 of 800 samples"),  # beyond float32
        (np.full(LENGTH, -32768.0), r"peak of 3.277e\+04, but must be within about \+-1"),
        (np.zeros((1, 2, LENGTH)), r"shape \(1, 2, 800\), but must be \(t,\) or \(channels, t\)"),
        (np.zeros(()), r"shape \(\)"),
        (np.zeros(0), r"shape \(0,\).* not empty"),
        (np.zeros((2, 0)), r"shape \(2, 0\)"),
        (np.zeros((LENGTH, 2)), r"shape \(800, 2\), but must be \(channels, t\): transpose it"),
        (np.zeros(LENGTH, np.int32), "dtype int32, but must be floating point .* or int16"),
        (np.zeros(LENGTH, np.uint8), "dtype uint8"),
        (np.zeros(LENGTH, bool), "dtype bool"),
        (np.zeros(LENGTH, complex), "dtype complex128"),
        (["a", "b"], r"dtype <U1"),
    ],
)
def test_a_waveform_that_cannot_be_separated_is_named(separator, waveform, message):
    with pytest.raises(ValueError, match=message) as raised:
        separator(waveform, RATE)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("rate", [0, -1, 8000.0, None, True])
def test_an_impossible_rate_is_named(separator, mixture, rate):
    with pytest.raises(ValueError, match=r"sample rate .* is not allowed"):
        separator(mixture, rate)
