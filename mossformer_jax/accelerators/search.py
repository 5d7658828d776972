"""The largest batch that fits, in few compilations: each takes a minute."""

from __future__ import annotations

from collections.abc import Callable

# Memory is no straight line at small batches; a guess further away than this is not trusted.
FURTHEST = 4
LARGEST = 4096


def largest_batch(memory_of: Callable[[int], float | None], budget: float, start: int = 1) -> int:
    """The largest number of units that fits, as far as memory rises with it.

    Doubles until something does not fit, then halves the interval; where two sizes that fit are known, a straight line
    through their memory is tried first.

    Args:
        memory_of: bytes that so many units take, or None where they could not even be compiled; asked once a number.
        budget: bytes that there are.
        start: what is tried first.

    Returns:
        The number; 0 where a single one does not fit.
    """
    fitting: dict[int, float] = {}
    low, high, number, guessed = 0, LARGEST + 1, start, False
    while low + 1 < high:
        memory = memory_of(number)
        if memory is not None and memory <= budget:
            fitting[number] = memory
            low, trusted = number, True
        else:
            high, trusted = number, not guessed
        guess = _guess(fitting, budget) if trusted else None
        guessed = guess is not None
        if guess is not None:
            number = min(max(guess, low + 1), FURTHEST * low, high - 1)
        else:
            number = 2 * low if low and high > LARGEST else (low + high) // 2
        number = min(max(number, 1), LARGEST)
    return low


def _guess(fitting: dict[int, float], budget: float) -> int | None:
    """Where a straight line through the two largest that fit meets the budget."""
    if len(fitting) < 2:
        return None
    small, large = sorted(fitting)[-2:]
    slope = (fitting[large] - fitting[small]) / (large - small)
    return large + int((budget - fitting[large]) / slope) if slope > 0 else None
