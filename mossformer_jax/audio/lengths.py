"""A ladder of static sizes, so that few shapes are compiled for many lengths."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Rungs:
    """A fixed choice of sizes, in ascending order."""

    sizes: tuple[int, ...]

    def rung(self, size: int) -> int:
        """The smallest rung that is at least `size`.

        Raises:
            ValueError: there is none.
        """
        if not self.sizes or size > self.sizes[-1]:
            raise ValueError(f"size {size} is above the largest of the rungs {self.sizes}")
        return next(rung for rung in self.sizes if rung >= size)


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

    def of_sizes(self, sizes: Sequence[int], sparse: int) -> Rungs:
        """The rungs that these sizes need, without those that are hardly used.

        A rung of fewer than `sparse` sizes joins the next longer one if that is at most twice as long. Compiling a
        program for it would take longer than the additional padding.
        """
        counts = Counter(map(self.rung, sizes))
        kept: list[int] = []
        for rung in sorted(counts, reverse=True):
            if counts[rung] < sparse and kept and kept[-1] <= 2 * rung:
                continue
            kept.append(rung)
        return Rungs(tuple(sorted(kept)))

    def _climb(self) -> Iterator[int]:
        multiple = 1
        while True:
            yield multiple * self.step
            multiple = max(multiple + 1, int(multiple * self.growth))
