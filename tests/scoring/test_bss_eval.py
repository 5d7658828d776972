"""SDR is that of mir_eval, and is defined where that one is not."""

import numpy as np
import pytest
import scipy.signal
import soundfile
from mir_eval.separation import bss_eval_sources

from mossformer_jax.scoring import MAX_DB, MIN_DB, sdr

ITEMS = (2, 7, 12, 19, 25, 33)


@pytest.fixture
def reference(rng):
    """One second of coloured noise in bursts, so that correlations are long."""
    return scipy.signal.lfilter([1.0], [1.0, -1.6, 0.8], rng.normal(size=8000) * (np.arange(8000) % 2000 < 1500))


def published(estimates_kt, reference_t):
    """What mir_eval gives, one estimate after another."""
    with pytest.warns(FutureWarning, match="bss_eval_sources"):
        return [bss_eval_sources(reference_t[None], x[None], compute_permutation=False)[0][0] for x in estimates_kt]


def read(folder, item, name):
    return soundfile.read(folder / f"item{item}_{name}.wav")[0]


@pytest.mark.parametrize("level", [3.0, 0.1, 1e-3])
def test_sdr_is_that_of_mir_eval(rng, reference, level):
    echo = scipy.signal.lfilter(rng.normal(size=300), [1.0], reference)
    estimates = np.stack([reference, echo, 0.5 + reference]) + level * rng.normal(size=(3, 8000))
    # float64 on both sides; the highest is 95 dB, where rounding shows first.
    np.testing.assert_allclose(sdr(estimates, reference), published(estimates, reference), rtol=0, atol=1e-5)


@pytest.mark.parametrize("item", ITEMS[:2])
def test_sdr_of_recorded_speech_is_that_of_mir_eval(libri2mix_samples, item):
    signals = np.stack([read(libri2mix_samples, item, name) for name in ("source1hat", "source2hat", "mix")])
    reference = read(libri2mix_samples, item, "source1")
    np.testing.assert_allclose(sdr(signals, reference), published(signals, reference), rtol=0, atol=1e-5)


def test_sdr_of_speech_without_its_upper_band_is_that_of_mir_eval(libri2mix_samples):
    names = ("source1", "source1hat", "source2hat", "mix")
    signals = np.stack([read(libri2mix_samples, 2, name) for name in names])
    # Three quarters of the band are empty: the condition of the system is 1e11.
    signals = scipy.signal.resample_poly(signals, 4, 1, axis=1, window=("kaiser", 6.0)).astype(np.float32)
    # What is promised of recorded speech; the two agree to 1e-8 here.
    np.testing.assert_allclose(sdr(signals[1:], signals[0]), published(signals[1:], signals[0]), rtol=0, atol=1e-3)


def test_an_empty_band_in_double_precision_still_gives_a_figure(rng):
    reference = np.hanning(8000)  # nothing at all above a few hertz
    noise = rng.normal(size=8000)
    figures = sdr(np.stack([reference + 0.1 * noise, reference + 0.01 * noise]), reference)
    # The true filter reaches into what rounding left of the reference; the tolerance is that of such a system.
    np.testing.assert_allclose(figures, published(np.stack([reference + 0.1 * noise]), reference)[0] + [0, 20], atol=1)


def test_filtered_and_identical_estimates_score_the_limit(rng, reference):
    filtered = scipy.signal.lfilter(0.9 ** np.arange(200), [1.0], np.r_[reference[:7000], np.zeros(1000)])
    estimates = np.stack([np.r_[reference[:7000], np.zeros(1000)], filtered])
    np.testing.assert_array_equal(sdr(estimates, estimates[0]), MAX_DB)


def test_a_silent_estimate_scores_the_limit_and_a_silent_reference_has_no_figure(reference):
    silence = np.zeros_like(reference)
    assert sdr(silence[None], reference) == [MIN_DB]
    np.testing.assert_array_equal(sdr(np.stack([reference, silence]), silence), [np.nan, np.nan])


def test_signals_that_are_not_finite_have_no_figure(reference):
    assert np.isnan(sdr(np.full_like(reference, np.inf)[None], reference)).all()


def test_one_tap_is_the_scale_invariant_figure_with_the_mean(rng, reference):
    estimate = 3 * reference + rng.normal(size=8000)
    target = (estimate @ reference) / (reference @ reference) * reference
    expected = 10 * np.log10((target @ target) / ((estimate - target) @ (estimate - target)))
    np.testing.assert_allclose(sdr(estimate[None], reference, num_taps=1), [expected], rtol=1e-9)


def test_signals_of_different_lengths_are_named(reference):
    with pytest.raises(ValueError, match="estimate has 7999 samples and reference 8000"):
        sdr(reference[None, :-1], reference)
