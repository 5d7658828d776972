"""The search for the largest batch, with an invented compiler."""

from __future__ import annotations

import pytest

from mossformer_jax.accelerators.search import LARGEST, largest_batch


class Compiler:
    """Memory by batch; refuses to compile what is above `refusal`. No batch may be asked for twice."""

    def __init__(self, memory, refusal=float("inf")):
        self.memory, self.refusal, self.asked = memory, refusal, []

    def __call__(self, batch: int) -> float | None:
        assert batch >= 1
        assert batch not in self.asked
        self.asked.append(batch)
        return self.memory(batch) if self.memory(batch) <= self.refusal else None


@pytest.mark.parametrize("refusal", [16.0, 1e9])
@pytest.mark.parametrize("start", [1, 3, 8, 200])
@pytest.mark.parametrize("slope", [0.1, 0.7, 5.0, 15.0])
def test_the_largest_batch_that_fits_is_found(slope, start, refusal):
    compiler = Compiler(lambda batch: 0.9 + slope * batch, refusal)
    assert largest_batch(compiler, 15.2, start) == int((15.2 - 0.9) / slope)
    assert len(compiler.asked) <= 14


@pytest.mark.parametrize("memory", [lambda n: n**1.3, lambda n: 10 * n**0.6, lambda n: 4.0 * -(-n // 8)])
def test_memory_need_not_be_a_straight_line(memory):
    compiler = Compiler(memory)
    largest = largest_batch(compiler, 100.0)
    assert memory(largest) <= 100.0 < memory(largest + 1)
    assert len(compiler.asked) <= 20


def test_a_straight_line_takes_few_compilations():
    compiler = Compiler(lambda batch: 0.9 + 0.3 * batch)
    assert largest_batch(compiler, 75.1, start=64) == 247
    assert len(compiler.asked) <= 4


def test_where_nothing_fits_the_answer_is_zero():
    assert largest_batch(Compiler(lambda batch: 20.0 * batch), 15.2, start=8) == 0


def test_the_search_ends_where_everything_fits():
    assert largest_batch(Compiler(lambda batch: 1.0), 15.2) == LARGEST
