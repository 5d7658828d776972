"""SDR agrees with mir_eval, and handles the cases in which mir_eval fails."""

import numpy as np
import pytest
import scipy.signal
import soundfile
from mir_eval.separation import bss_eval_sources

from mossformer_jax.scoring import MAX_DB, MIN_DB, sdr

ITEMS = (2, 7, 12, 19, 25, 33)


@pytest.fixture
def reference(rng):
    """One second of coloured noise in bursts, for long correlations."""
    return scipy.signal.lfilter([1.0], [1.0, -1.6, 0.8], rng.normal(size=8000) * (np.arange(8000) % 2000 < 1500))


def published(estimates_kt, reference_t):
    """The SDR of mir_eval for each estimate."""
    with pytest.warns(FutureWarning, match="bss_eval_sources"):
        return [bss_eval_sources(reference_t[None], x[None], compute_permutation=False)[0][0] for x in estimates_kt]


def read(folder, item, name):
    return soundfile.read(folder / f"item{item}_{name}.wav")[0]


@pytest.mark.medium
@pytest.mark.parametrize("level", [3.0, 0.1, 1e-3])
def test_sdr_equals_mir_eval(rng, reference, level):
    echo = scipy.signal.lfilter(rng.normal(size=300), [1.0], reference)
    estimates = np.stack([reference, echo, 0.5 + reference]) + level * rng.normal(size=(3, 8000))
    # float64 on both sides. The highest SDR is 95 dB, where rounding matters most.
    np.testing.assert_allclose(sdr(estimates, reference), published(estimates, reference), rtol=0, atol=1e-5)


@pytest.mark.medium
@pytest.mark.parametrize("item", ITEMS[:2])
def test_sdr_of_recorded_speech_equals_mir_eval(libri2mix_samples, item):
    signals = np.stack([read(libri2mix_samples, item, name) for name in ("source1hat", "source2hat", "mix")])
    reference = read(libri2mix_samples, item, "source1")
    np.testing.assert_allclose(sdr(signals, reference), published(signals, reference), rtol=0, atol=1e-5)


def test_sdr_of_band_limited_speech_equals_mir_eval(libri2mix_samples):
    names = ("source1", "source1hat", "source2hat", "mix")
    signals = np.stack([read(libri2mix_samples, 2, name) for name in names])
    # Three quarters of the band are empty, so the system's condition number is 1e11.
    signals = scipy.signal.resample_poly(signals, 4, 1, axis=1, window=("kaiser", 6.0)).astype(np.float32)
    # The documented accuracy for recorded speech; here the two agree to 1e-8.
    np.testing.assert_allclose(sdr(signals[1:], signals[0]), published(signals[1:], signals[0]), rtol=0, atol=1e-3)


@pytest.mark.medium
def test_sdr_is_defined_for_a_float64_reference_with_an_empty_band(rng):
    reference = np.hanning(8000)  # no energy above a few hertz
    noise = rng.normal(size=8000)
    figures = sdr(np.stack([reference + 0.1 * noise, reference + 0.01 * noise]), reference)
    # In the empty band the filter amplifies rounding errors of the reference, so the tolerance is wide.
    np.testing.assert_allclose(figures, published(np.stack([reference + 0.1 * noise]), reference)[0] + [0, 20], atol=1)


def test_filtered_and_identical_estimates_score_the_upper_limit(rng, reference):
    filtered = scipy.signal.lfilter(0.9 ** np.arange(200), [1.0], np.r_[reference[:7000], np.zeros(1000)])
    estimates = np.stack([np.r_[reference[:7000], np.zeros(1000)], filtered])
    np.testing.assert_array_equal(sdr(estimates, estimates[0]), MAX_DB)


def test_a_silent_estimate_scores_the_lower_limit_and_a_silent_reference_gives_nan(reference):
    silence = np.zeros_like(reference)
    assert sdr(silence[None], reference) == [MIN_DB]
    np.testing.assert_array_equal(sdr(np.stack([reference, silence]), silence), [np.nan, np.nan])


def test_signals_that_are_not_finite_give_nan(reference):
    assert np.isnan(sdr(np.full_like(reference, np.inf)[None], reference)).all()


def test_one_tap_gives_si_sdr_without_removing_the_mean(rng, reference):
    estimate = 3 * reference + rng.normal(size=8000)
    target = (estimate @ reference) / (reference @ reference) * reference
    expected = 10 * np.log10((target @ target) / ((estimate - target) @ (estimate - target)))
    np.testing.assert_allclose(sdr(estimate[None], reference, num_taps=1), [expected], rtol=1e-9)


@pytest.mark.own_checks
def test_signals_of_different_lengths_are_rejected(reference):
    with pytest.raises(ValueError, match="estimate has 7999 samples and reference 8000"):
        sdr(reference[None, :-1], reference)
