"""A ladder of static sizes, so that few shapes are compiled for many lengths."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Ladder:
    """Static sizes to which lengths or batch sizes are rounded up.

    The rungs are multiples of `step`: at first all of them, then each about `growth` times the previous one. A size
    above `step / (growth - 1)` is rounded up by a factor of at most `growth`.

    Attributes:
        step: the first rung.
        growth: ratio of neighbouring rungs, above 1.

    Raises:
        ValueError: step or growth is out of range.
    """

    step: int
    growth: float = 1.25

    def __post_init__(self) -> None:
        if self.step < 1:
            raise ValueError(f"ladder step={self.step} is not allowed: must be 1 or more")
        if not self.growth > 1.0:
            raise ValueError(f"ladder growth={self.growth} is not allowed: must be above 1")

    def rung(self, size: int) -> int:
        """The smallest rung that is at least `size`."""
        return next(rung for rung in self._climb() if rung >= size)

    def rungs(self, largest: int) -> list[int]:
        """All rungs to which sizes up to `largest` are rounded."""
        below = list(itertools.takewhile(lambda rung: rung < largest, self._climb()))
        return [*below, self.rung(largest)]

    def _climb(self) -> Iterator[int]:
        multiple = 1
        while True:
            yield multiple * self.step
            multiple = max(multiple + 1, int(multiple * self.growth))
