"""Windows over a long recording, and their cross-fades."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from mossformer_jax.separation.segments import crossfade, fade_in, window_starts

WINDOW, HOP = 80, 40
EDGES = [WINDOW + k * HOP + off for k in range(4) for off in (-1, 0, 1) if k or off >= 0]


@pytest.mark.parametrize("length", EDGES)
def test_windows_cover_everything_and_the_last_ends_at_the_end(length):
    starts = window_starts(length, WINDOW, HOP)
    assert starts[0] == 0
    assert starts[-1] + WINDOW == length
    assert all(0 < after - before <= HOP for before, after in itertools.pairwise(starts))
    assert len(starts) == 1 + -(-(length - WINDOW) // HOP)  # not one more than needed


@pytest.mark.parametrize("overlap", [HOP, 30, 1])
@pytest.mark.parametrize("length", EDGES)
def test_crossfaded_windows_of_a_signal_are_the_signal(rng, length, overlap):
    signal = rng.standard_normal((2, length)).astype(np.float32)
    hop = WINDOW - overlap
    starts = window_starts(length, WINDOW, hop)
    blocks = list(crossfade(lambda i: signal[:, starts[i] : starts[i] + WINDOW], starts, WINDOW, hop))
    # Weights that sum to one leave only the rounding of a sum of two.
    np.testing.assert_allclose(np.concatenate(blocks, axis=-1), signal, rtol=0, atol=1e-6)


@pytest.mark.parametrize("length", EDGES)
def test_every_sample_is_a_mean_of_at_most_two_neighbouring_windows(length):
    starts = window_starts(length, WINDOW, HOP)
    numbers = [np.eye(len(starts))[:, [i]] * np.ones(WINDOW) for i in range(len(starts))]
    weights = np.concatenate(list(crossfade(lambda i: numbers[i], starts, WINDOW, HOP)), axis=-1)
    assert weights.shape == (len(starts), length)
    np.testing.assert_allclose(weights.sum(axis=0), 1.0, rtol=0, atol=1e-6)
    assert weights.min() >= 0.0
    heard = weights > 0
    assert heard.sum(axis=0).max() <= 2
    # The weight of each window is non-zero over one contiguous stretch.
    assert all((np.diff(row.astype(int)) == 1).sum() <= 1 for row in heard)


def test_windows_are_requested_once_and_in_order():
    asked = []

    def window(number):
        asked.append(number)
        return np.zeros((1, WINDOW))

    starts = window_starts(WINDOW + 2 * HOP, WINDOW, HOP)
    list(crossfade(window, starts, WINDOW, HOP))
    assert asked == [0, 1, 2]


def test_a_fade_has_no_step():
    rise = fade_in(1000)
    np.testing.assert_allclose(rise + rise[::-1], 1.0, rtol=0, atol=1e-6)
    assert np.diff(rise, prepend=0.0, append=1.0).max() < 0.002
