"""Evaluations are compared by utterance, for the utterances that both have."""

import numpy as np
import pytest

from mossformer_jax.evaluation.compare import compare


def rows_of(figures):
    return [{"id": id, "silent": "", "si_sdri": figure} for id, figure in figures.items()]


def test_the_interval_is_that_of_the_paired_differences(rng):
    difficulty, gain = rng.normal(0, 5, size=400), rng.normal(0.3, 1, size=400)
    first = rows_of({f"u{n}": value for n, value in enumerate(difficulty)})
    second = rows_of({f"u{n}": value for n, value in enumerate(difficulty + gain)})[::-1]
    comparison = compare(first, second, "si_sdri")
    assert comparison.differences.mean() == pytest.approx(gain.mean())
    low, high = comparison.interval_95
    # The normal interval of the mean of 400 differences with standard deviation 1, to a tenth of its width.
    margin = 1.96 * gain.std() / 20
    np.testing.assert_allclose([low, high], gain.mean() + np.array([-margin, margin]), atol=0.2 * margin)


def test_utterances_without_a_value_in_both_evaluations_are_excluded():
    first = rows_of({"a": 1.0, "b": 2.0, "c": None, "d": 4.0})
    second = rows_of({"d": 5.0, "a": 0.0, "c": 1.0, "e": 9.0})
    comparison = compare(first, second, "si_sdri")
    assert comparison.ids == ("a", "d")
    np.testing.assert_array_equal(comparison.differences, [-1.0, 1.0])
    assert compare(rows_of({"c": None}), second, "si_sdri") is None


def test_the_most_changed_utterances_have_the_largest_absolute_differences():
    first = rows_of(dict.fromkeys("abcd", 1.0))
    second = rows_of({"a": 1.5, "b": -3.0, "c": 3.0, "d": 1.0})
    comparison = compare(first, second, "si_sdri")
    assert [comparison.ids[place] for place in comparison.most_changed(3)] == ["b", "c", "a"]
