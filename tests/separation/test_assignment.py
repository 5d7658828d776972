"""The best order and its margin, against all permutations."""

import itertools

import numpy as np
import pytest

from mossformer_jax.separation.assignment import best_order


def all_orders(scores):
    """The sums of all orders, best first."""
    c = len(scores)
    return sorted(
        ((scores[np.arange(c), order].sum(), order) for order in map(list, itertools.permutations(range(c)))),
        key=lambda pair: -pair[0],
    )


@pytest.mark.parametrize("num_sources", [2, 3, 4, 5])
def test_order_and_margin_are_those_of_all_permutations(rng, num_sources):
    for _ in range(20):
        scores = rng.standard_normal((num_sources, num_sources))
        (best, expected), (second, _), *_ = all_orders(scores)
        order, margin = best_order(scores)
        np.testing.assert_array_equal(order, expected)
        assert margin == pytest.approx(best - second, abs=1e-12)


def test_a_single_source_has_no_second_best_order():
    assert best_order(np.array([[0.3]])) == (np.array([0]), np.inf)


def test_equal_scores_have_no_margin():
    assert best_order(np.ones((3, 3)))[1] == 0.0


def test_orders_that_sound_the_same_do_not_count_as_second_best():
    scores = np.array([[5.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    everyone, first_only = np.ones(3, bool), np.array([True, False, False])
    assert best_order(scores)[1] == 0.0
    assert best_order(scores, everyone, first_only) == (pytest.approx([0, 1, 2]), 5.0)
    assert best_order(scores, first_only, everyone)[1] == 5.0
    assert best_order(scores, first_only, first_only)[1] == 5.0
    assert best_order(scores, ~everyone, everyone)[1] == np.inf
    assert best_order(scores, everyone, ~everyone)[1] == np.inf
