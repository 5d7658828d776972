"""Threads that separate at the same time share batches, and each gets its own sources or its own error."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from mossformer_jax.separation.network import Network
from mossformer_jax.separation.shared_batches import SharedBatches
from mossformer_jax.weights import load_model

LARGEST = 4


class Doubling:
    """Returns twice each mixture as its only source; the first run waits until it is released."""

    def __init__(self):
        self.runs: list[tuple[list[float], int]] = []
        self.first_started, self.released = threading.Event(), threading.Event()

    def __call__(self, mixtures, num_samples):
        self.runs.append(([float(mixture[0]) for mixture in mixtures], num_samples))
        self.first_started.set()
        assert self.released.wait(60)
        if any(np.isnan(mixture).any() for mixture in mixtures):
            raise ValueError("not finite")
        return [2 * mixture[None] for mixture in mixtures], 1.0


def run_while_busy(calls: list[tuple[list[float], int]]) -> tuple[Doubling, list]:
    """Makes these calls in threads of their own while a batch runs; returns the runs after it, and the results."""
    run = Doubling()
    shared = SharedBatches(run, lambda num_samples: LARGEST)

    def call(values: list[float], num_samples: int):
        return shared([np.array([value]) for value in values], num_samples)

    with ThreadPoolExecutor(len(calls) + 1) as pool:
        first = pool.submit(call, [0.0], 1000)
        assert run.first_started.wait(60)
        rest = []
        for number, arguments in enumerate(calls, start=1):
            rest.append(pool.submit(call, *arguments))
            while len(shared._waiting) < number:  # so that they arrive in this order
                time.sleep(0.001)
        run.released.set()
        assert first.result()[0][0] == 0.0
    del run.runs[0]
    return run, rest


def sources(result) -> list[float]:
    return [float(source[0, 0]) for source in result.result()[0]]


def test_calls_that_arrive_during_a_run_share_the_next_batch():
    run, results = run_while_busy([([1.0], 100), ([2.0, 3.0], 100), ([4.0], 100), ([5.0], 100)])
    assert [sources(result) for result in results] == [[2.0], [4.0, 6.0], [8.0], [10.0]]
    sizes = sorted(len(values) for values, _ in run.runs)
    assert sizes == [1, 4]
    assert sum(result.result()[1] for result in results) == len(run.runs)  # each compile time is reported once


def test_no_batch_is_larger_than_the_network_allows():
    run, results = run_while_busy([([float(number), number + 0.5], 100) for number in range(1, 8)])
    assert [sources(result) for result in results] == [[2.0 * n, 2.0 * n + 1] for n in range(1, 8)]
    assert max(len(values) for values, _ in run.runs) == LARGEST
    assert len(run.runs) == 4


def test_only_calls_of_similar_length_share_a_batch():
    run, results = run_while_busy([([1.0], 50), ([2.0], 100)])
    assert sorted(run.runs) == [([1.0], 50), ([2.0], 100)]
    assert [sources(result) for result in results] == [[2.0], [4.0]]


def test_a_shared_batch_has_the_length_of_its_longest_call():
    run, results = run_while_busy([([1.0], 100)])
    assert run.runs == [([1.0], 100)]
    for _ in range(5):  # which thread runs first is up to the system
        run, results = run_while_busy([([1.0], 100), ([2.0], 60)])
        assert run.runs in ([([1.0, 2.0], 100)], [([2.0], 60), ([1.0], 100)])
        assert [sources(result) for result in results] == [[2.0], [4.0]]


def test_an_error_reaches_only_the_thread_that_caused_it():
    run, (good, bad, other) = run_while_busy([([1.0], 100), ([np.nan], 100), ([2.0], 100)])
    with pytest.raises(ValueError, match="not finite"):
        bad.result()
    assert (sources(good), sources(other)) == ([2.0], [4.0])
    assert len(run.runs) == 4  # together, then each alone


def test_a_single_thread_never_waits():
    run = Doubling()
    run.released.set()
    shared = SharedBatches(run, lambda num_samples: LARGEST)
    for value in (1.0, 2.0):
        assert shared([np.array([value])], 100)[0][0] == 2 * value
    assert run.runs == [([1.0], 100), ([2.0], 100)]


@pytest.mark.medium
def test_threads_with_a_network_get_the_sources_of_their_own_mixtures(tiny_model_folder, rng):
    model = load_model(tiny_model_folder)
    shared, alone = Network(model, batch_size=LARGEST), Network(model)
    mixtures = [rng.standard_normal(length).astype(np.float32) for length in [800, 401] * 6]
    with ThreadPoolExecutor(6) as pool:
        results = list(pool.map(lambda mixture: shared([mixture], 800)[0][0], mixtures))
    for mixture, separated_ct in zip(mixtures, results, strict=True):
        (expected_ct,), _ = alone([mixture], 800)
        np.testing.assert_allclose(separated_ct, expected_ct, atol=1e-5 * np.abs(expected_ct).max())
