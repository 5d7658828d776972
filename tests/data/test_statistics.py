"""Statistics of a data set."""

from __future__ import annotations

import numpy as np
import pytest

from mossformer_jax.data.records import Mixture
from mossformer_jax.data.statistics import mixture_statistics, overlap

RATE = 8000


def talk(*seconds):
    """A source of 1.5 s that is active in the given half-seconds."""
    signal = np.zeros(3 * RATE, np.float32)
    for start in seconds:
        signal[round(start * RATE) : round((start + 0.5) * RATE)] = 0.1
    return signal


def test_overlap_is_the_fraction_of_speech_with_several_active_sources():
    assert overlap(np.stack([talk(0, 0.5, 1), talk(1, 1.5)]), RATE) == pytest.approx(1 / 4)
    assert overlap(np.stack([talk(0), talk(1)]), RATE) == 0.0
    assert overlap(np.stack([talk(0, 1), talk(0, 1)]), RATE) == 1.0
    assert overlap(np.zeros((2, RATE)), RATE) == 0.0


def test_levels_lengths_and_speakers_of_mixtures():
    sources = np.stack([talk(0, 0.5, 1), 0.1 * talk(1)])
    one = Mixture("a", sources, RATE, speakers=("x", "y"))
    two = Mixture("b", sources[:, :RATE] + 0.2, RATE, mixture=np.full(RATE, 0.5, np.float32), speakers=("x", "z"))
    statistics = mixture_statistics([one, two])
    assert (statistics.count, statistics.speakers) == (2, {"x", "y", "z"})
    np.testing.assert_allclose(statistics.seconds, [3.0, 1.0])
    np.testing.assert_allclose(statistics.peak, [0.11, 0.5], rtol=1e-6)
    assert statistics.mixture_db[1] == pytest.approx(20 * np.log10(0.5), abs=1e-4)
    assert statistics.level_difference_db[0] == pytest.approx(20 + 10 * np.log10(3), abs=1e-4)


def test_silent_sources_are_counted_and_have_no_level():
    sources = np.stack([talk(0, 0.5), np.zeros(3 * RATE, np.float32), 0.1 * talk(0, 0.5)])
    statistics = mixture_statistics([Mixture("a", sources, RATE), Mixture("b", 0 * sources, RATE)])
    assert statistics.num_active.tolist() == [2, 0]
    assert statistics.level_difference_db.tolist() == [pytest.approx(20, abs=1e-4), 0.0]


def test_the_snr_is_that_of_the_sources_to_everything_else(rng):
    sources = np.stack([talk(0, 0.5, 1), talk(1)])
    noise = rng.standard_normal(3 * RATE).astype(np.float32)
    noise *= np.float32(np.sqrt(np.square(sources.sum(axis=0)).mean() / np.square(noise).mean() / 10))
    stored = sources.sum(axis=0) + noise
    rounded = np.round(sources.sum(axis=0) * 2**15) / np.float32(2**15)
    mixtures = [
        Mixture("known noise", sources, RATE, noise=noise),
        Mixture("stored", sources, RATE, mixture=stored),
        Mixture("rounded", sources, RATE, mixture=rounded),
        Mixture("clean", sources, RATE),
    ]
    snr_db = mixture_statistics(mixtures).snr_db
    np.testing.assert_allclose(snr_db[:2], 10.0, atol=1e-3)
    assert np.isinf(snr_db[2:]).all()
