"""Levels of the input and of the sources, and outputs without a speaker."""

from __future__ import annotations

import numpy as np
import pytest

from mossformer_jax.separation.levels import SourceStatistics, output_gains
from mossformer_jax.separation.options import SCALES


def statistics_of(sources_ct, block=137):
    statistics = SourceStatistics(len(sources_ct))
    for start in range(0, sources_ct.shape[1], block):
        statistics.add(sources_ct[:, None, start : start + block])
    return statistics


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


def test_each_scale_gives_the_documented_levels(rng):
    sources = rng.standard_normal((3, 1000)) * np.array([[1.0], [0.5], [0.001]])
    statistics = statistics_of(sources)
    gains = {s: output_gains(s, statistics, 0.1, input_gain=4.0) for s in SCALES}
    np.testing.assert_array_equal(gains["mixture"], 0.25)
    np.testing.assert_array_equal(gains["none"], 1.0)
    assert len(set(gains["peak"])) == 1  # relative levels are kept
    assert np.abs(sources * gains["peak"][:, None]).max() == pytest.approx(0.99)
    rms = np.sqrt(np.square(sources * gains["rms"][:, None]).mean(axis=1))
    np.testing.assert_allclose(rms[:2], 0.1)
    # ClearVoice measures the level after it has normalised its input.
    rms = np.sqrt(np.square(sources * gains["clearvoice"][:, None]).mean(axis=1))
    np.testing.assert_allclose(rms[:2], 4.0 * 0.1)
    peaks = np.abs(sources * gains["modelscope"][:, None]).max(axis=1)
    np.testing.assert_allclose(peaks[:2], 0.5)
    for scale in ("rms", "clearvoice", "modelscope"):
        assert gains[scale][2] == 0.25  # near-silent: not amplified


@pytest.mark.parametrize("scale", SCALES)
def test_silent_sources_get_finite_gains(scale):
    assert np.isfinite(output_gains(scale, statistics_of(np.zeros((2, 10))), 0.0, 1.0)).all()
