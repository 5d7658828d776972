"""Searches for the largest batch that fits with few compilations, because each takes about a minute."""

from __future__ import annotations

from collections.abc import Callable

# Memory is not linear in the batch at small batches, so a guess is limited to this multiple of the last fitting batch.
FURTHEST = 4
LARGEST = 4096


def largest_batch(memory_of: Callable[[int], float | None], budget: float, start: int = 1) -> int:
    """Finds the largest number of units that fits, assuming that memory increases with the number.

    Doubles the number until it does not fit, then bisects. If two fitting sizes are known, a linear extrapolation of
    their memory is tried first.

    Args:
        memory_of: returns the memory in bytes for a number of units, or None if the program could not be compiled;
            called once per number.
        budget: available memory in bytes.
        start: the number to try first.

    Returns:
        The number of units; 0 if a single unit does not fit.
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
    """The number at which a line through the memory of the two largest fitting numbers reaches the budget."""
    if len(fitting) < 2:
        return None
    small, large = sorted(fitting)[-2:]
    slope = (fitting[large] - fitting[small]) / (large - small)
    return large + int((budget - fitting[large]) / slope) if slope > 0 else None
