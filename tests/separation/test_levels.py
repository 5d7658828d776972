"""Levels in and out, and outputs that are nobody's voice."""

from __future__ import annotations

import numpy as np
import pytest

from mossformer_jax.separation.levels import SourceStatistics, input_gain, loudness, output_gains


def level_gain(signal, level_db):
    return input_gain(loudness(lambda: [signal]), level_db)


def statistics_of(sources_ct, block=137):
    statistics = SourceStatistics(len(sources_ct))
    for start in range(0, sources_ct.shape[1], block):
        statistics.add(sources_ct[:, None, start : start + block])
    return statistics


def test_the_loud_parts_are_brought_to_the_level(rng):
    signal = rng.standard_normal(4000) * np.repeat([0.01, 1.0], 2000)
    power = (signal * level_gain(signal, -25.0)) ** 2
    assert 10 * np.log10(power[power > power.mean()].mean()) == pytest.approx(-25.0, abs=1e-9)
    assert level_gain(signal, None) == 1.0


def test_level_leaves_pauses_out_and_takes_a_square_wave(rng):
    speech = rng.standard_normal(4000)
    with_pause = np.concatenate([speech, np.zeros(400)])
    # A tenth of silence lowers the plain RMS by 0.41 dB; what counts as loud hardly changes.
    assert level_gain(with_pause, -25.0) == pytest.approx(level_gain(speech, -25.0), rel=0.02)
    square = 0.3 * np.sign(np.sin(np.arange(1000) + 0.5))
    assert level_gain(square, -25.0) == pytest.approx(10 ** (-25 / 20) / 0.3)


def test_loudness_does_not_depend_on_the_blocks(rng):
    signal = rng.standard_normal((2, 1001)).astype(np.float32)
    blocks = np.split(signal, [1, 400, 1000], axis=1)
    assert loudness(lambda: blocks) == pytest.approx(loudness(lambda: [signal]), rel=1e-12)


def test_statistics_are_those_of_the_whole(rng):
    sources = rng.standard_normal((3, 1000)) * np.array([[1.0], [0.5], [0.001]])
    statistics = statistics_of(sources)
    np.testing.assert_allclose(statistics.peak, np.abs(sources).max(axis=1))
    np.testing.assert_allclose(statistics.rms, np.sqrt(np.square(sources).mean(axis=1)))
    assert statistics.near_silent.tolist() == [False, False, True]


def test_a_nearly_silent_source_and_a_copy_are_flagged(rng):
    first, second = rng.standard_normal((2, 1000))
    assert list(statistics_of(np.stack([first, second])).warnings()) == []
    assert list(statistics_of(np.stack([first, 0.05 * second])).warnings()) == []  # 26 dB below
    (warning,) = statistics_of(np.stack([first, 0.02 * second])).warnings()
    assert warning.startswith("source 2 is 34 dB below the loudest")
    (warning,) = statistics_of(np.stack([first, 0.005 * second])).warnings()
    assert warning.startswith("source 2 is 46 dB below the loudest")
    (warning,) = statistics_of(np.stack([first, np.zeros(1000)])).warnings()
    assert warning.startswith("source 2 is silent")
    (warning,) = statistics_of(np.stack([first, -0.3 * first + 0.01 * second])).warnings()
    assert warning.startswith("sources 1 and 2 are nearly identical (correlation 1.00)")
    assert list(statistics_of(np.zeros((2, 1000))).warnings()) == []


def test_each_scale_does_what_it_says(rng):
    sources = rng.standard_normal((3, 1000)) * np.array([[1.0], [0.5], [0.001]])
    statistics = statistics_of(sources)
    gains = {s: output_gains(s, statistics, 0.1, input_gain=4.0) for s in ("mixture", "peak", "rms", "none")}
    np.testing.assert_array_equal(gains["mixture"], 0.25)
    np.testing.assert_array_equal(gains["none"], 1.0)
    assert len(set(gains["peak"])) == 1  # relative levels stay
    assert np.abs(sources * gains["peak"][:, None]).max() == pytest.approx(0.99)
    rms = np.sqrt(np.square(sources * gains["rms"][:, None]).mean(axis=1))
    np.testing.assert_allclose(rms[:2], 0.1)
    assert gains["rms"][2] == 0.25  # near-silent: not amplified


@pytest.mark.parametrize("scale", ["mixture", "peak", "rms", "none"])
def test_silent_sources_get_finite_gains(scale):
    assert np.isfinite(output_gains(scale, statistics_of(np.zeros((2, 10))), 0.0, 1.0)).all()
