"""The batch that data pipelines, training and evaluation share."""

from __future__ import annotations

from typing import Any, NamedTuple

from jaxtyping import Float, Int


class Batch(NamedTuple):
    """A batch of mixtures, as NumPy arrays, JAX arrays or shapes.

    Attributes:
        mixture: the mixtures.
        sources: their true sources.
        lengths: true length of each mixture in samples; the rest of a row is padding.
        index: which mixture of the data set each row is; -1 in rows that only fill up the batch. None if it is not
            needed.
    """

    mixture: Float[Any, "b t"]
    sources: Float[Any, "b c t"]
    lengths: Int[Any, " b"]
    index: Int[Any, " b"] = None

    @property
    def mask(self) -> Any:
        """Which rows hold a mixture, (b,) bool."""
        return self.index >= 0
