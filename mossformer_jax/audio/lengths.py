"""The ladder of static sizes: few shapes to compile for any number of lengths."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Ladder:
    """Static sizes that lengths, or batch sizes, are rounded up to.

    The rungs are whole multiples of `step`: every one of them at first, then each about `growth` times the one before.
    A size above `step / (growth - 1)` is thus rounded up by a factor of at most `growth`.

    Attributes:
        step: the first rung.
        growth: ratio of neighbouring rungs, above 1.

    Raises:
        ValueError: step or growth is out of its range.
    """

    step: int
    growth: float = 1.25

    def __post_init__(self) -> None:
        if self.step < 1:
            raise ValueError(f"ladder step={self.step} is not allowed: must be 1 or more")
        if not self.growth > 1.0:
            raise ValueError(f"ladder growth={self.growth} is not allowed: must be above 1")

    def rung(self, size: int) -> int:
        """The lowest rung that holds `size`."""
        return next(rung for rung in self._climb() if rung >= size)

    def rungs(self, largest: int) -> list[int]:
        """Every rung that a size of up to `largest` is rounded to."""
        below = list(itertools.takewhile(lambda rung: rung < largest, self._climb()))
        return [*below, self.rung(largest)]

    def _climb(self) -> Iterator[int]:
        multiple = 1
        while True:
            yield multiple * self.step
            multiple = max(multiple + 1, int(multiple * self.growth))
