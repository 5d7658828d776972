"""The search for the largest batch, with a simulated compiler."""

from __future__ import annotations

import pytest

from mossformer_jax.accelerators.search import LARGEST, largest_batch


class Compiler:
    """Returns the memory of a batch, or None if it exceeds `limit`. Every batch may be compiled only once."""

    def __init__(self, memory, limit=float("inf")):
        self.memory, self.limit, self.compiled = memory, limit, []

    def __call__(self, batch: int) -> float | None:
        assert batch >= 1
        assert batch not in self.compiled
        self.compiled.append(batch)
        return self.memory(batch) if self.memory(batch) <= self.limit else None


@pytest.mark.parametrize("limit", [16.0, 1e9])
@pytest.mark.parametrize("start", [1, 3, 8, 200])
@pytest.mark.parametrize("slope", [0.1, 0.7, 5.0, 15.0])
def test_the_largest_batch_that_fits_is_found(slope, start, limit):
    compiler = Compiler(lambda batch: 0.9 + slope * batch, limit)
    assert largest_batch(compiler, 15.2, start) == int((15.2 - 0.9) / slope)
    assert len(compiler.compiled) <= 14


@pytest.mark.parametrize("memory", [lambda n: n**1.3, lambda n: 10 * n**0.6, lambda n: 4.0 * -(-n // 8)])
def test_memory_need_not_be_linear_in_the_batch(memory):
    compiler = Compiler(memory)
    largest = largest_batch(compiler, 100.0)
    assert memory(largest) <= 100.0 < memory(largest + 1)
    assert len(compiler.compiled) <= 20


def test_linear_memory_needs_few_compilations():
    compiler = Compiler(lambda batch: 0.9 + 0.3 * batch)
    assert largest_batch(compiler, 75.1, start=64) == 247
    assert len(compiler.compiled) <= 4


def test_the_largest_batch_is_zero_if_one_mixture_does_not_fit():
    assert largest_batch(Compiler(lambda batch: 20.0 * batch), 15.2, start=8) == 0


def test_the_search_has_an_upper_limit():
    assert largest_batch(Compiler(lambda batch: 1.0), 15.2) == LARGEST
