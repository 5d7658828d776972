"""The ladder of static sizes."""

from __future__ import annotations

import pytest

from mossformer_jax.audio.lengths import Ladder


def test_a_size_is_rounded_up_to_the_next_rung():
    ladder = Ladder(step=100, growth=1.5)
    rungs = ladder.rungs(1000)
    assert rungs == [100, 200, 300, 400, 600, 900, 1300]
    for size in range(1, 1301):
        assert ladder.rung(size) == min(rung for rung in rungs if rung >= size)


def test_batch_sizes_are_powers_of_two():
    assert Ladder(step=1, growth=2.0).rungs(9) == [1, 2, 4, 8, 16]


@pytest.mark.medium
def test_many_lengths_need_few_rungs_and_little_padding():
    ladder = Ladder(step=2048)
    lengths = range(16, 60 * 8000, 37)
    rungs = {ladder.rung(length) for length in lengths}
    assert rungs == set(ladder.rungs(lengths[-1]))
    assert len(rungs) <= 24
    assert all(ladder.rung(length) <= 1.25 * length + 2048 for length in lengths)
    assert all(ladder.rung(length) < 1.25 * length for length in lengths if length > 4 * 2048)


@pytest.mark.parametrize(("step", "growth"), [(0, 1.25), (-1, 2.0), (1, 1.0), (1, float("nan"))])
def test_an_invalid_ladder_is_an_error(step, growth):
    with pytest.raises(ValueError, match=r"ladder (step|growth)=\S+ is not allowed"):
        Ladder(step, growth)


def test_rungs_that_are_hardly_used_join_longer_ones():
    ladder = Ladder(step=100)
    assert ladder.of_sizes([750, 650, 520, 420, 330, 210, 90], sparse=4).sizes == (100, 300, 800)
    assert ladder.of_sizes([90] * 4 + [150] * 3 + [250], sparse=4).sizes == (100, 300)
    rungs = ladder.of_sizes([90, 750], sparse=4)
    assert [rungs.rung(size) for size in (1, 100, 101, 800)] == [100, 100, 800, 800]
    with pytest.raises(ValueError, match="size 801 is above the largest"):
        rungs.rung(801)
