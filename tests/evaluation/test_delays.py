"""Constant delays of estimates: found, reported with their size, undone."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.signal

from mossformer_jax.evaluation.delays import describe_delays, find_delay, undo_delay

RATE = 8000


@pytest.fixture
def references(rng):
    """Two talkers of low-pass noise, whose neighbouring samples are similar, as in speech; 0.5 s."""
    noise = rng.standard_normal((2, 4500))
    return scipy.signal.lfilter([1.0], [1.0, -0.8], noise)[:, 500:]


def _delayed(signals, delay):
    shifted = np.roll(signals, delay, axis=1)
    shifted[:, : max(delay, 0)] = 0.0
    if delay < 0:
        shifted[:, delay:] = 0.0
    return shifted


@pytest.mark.parametrize("delay", [-800, -8, -1, 1, 8, 40, 1000])
def test_a_delay_is_found_whatever_the_order_sign_and_level(references, rng, delay):
    estimates = _delayed(references + 0.3 * rng.standard_normal(references.shape), delay)
    assert find_delay(references, estimates, RATE) == delay
    assert find_delay(references, estimates[::-1] * [[-3.0], [0.01]], RATE) == delay


@pytest.mark.parametrize("leak", [0.0, 0.3, 1.0])
def test_estimates_without_a_delay_have_none(references, rng, leak):
    noise = rng.standard_normal(references.shape)
    assert find_delay(references, references + leak * references[::-1] + leak * noise, RATE) == 0


def test_unrelated_or_silent_estimates_have_no_delay(references, rng):
    assert find_delay(references, rng.standard_normal(references.shape), RATE) == 0
    assert find_delay(references, np.zeros_like(references), RATE) == 0
    assert find_delay(np.zeros_like(references), references, RATE) == 0


@pytest.mark.parametrize("delay", [-8, 8])
def test_undoing_a_delay_leaves_the_part_in_which_both_overlap(references, delay):
    estimates = undo_delay(_delayed(references, delay), delay, of_estimates=True)
    np.testing.assert_array_equal(estimates, undo_delay(references, delay, of_estimates=False))
    assert estimates.shape[1] == references.shape[1] - 8


def test_delays_are_described_with_their_size():
    assert describe_delays([0, 0], RATE, undone=False) is None
    one = describe_delays([8], RATE, undone=False)
    assert one == (
        "the estimates are 8 samples (1.00 ms) late, compared with the references: SI-SDR counts this as distortion; "
        "--align undoes it"
    )
    several = describe_delays([8, 0, -16], RATE, undone=True)
    assert several == (
        "the estimates of 2 of 3 mixtures are from 16 samples (2.00 ms) early to 8 samples (1.00 ms) late, compared "
        "with the references: this has been undone"
    )
