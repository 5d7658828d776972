"""The random numbers of a mixture."""

from __future__ import annotations

import math
from collections.abc import Sequence

import jax.numpy as jnp
from jax import lax, random
from jax.scipy.special import ndtri
from jaxtyping import Array, Bool, Float, Int, Key

_FREE = 2**30


class Dice:
    """Random numbers, all generated at once: each call of JAX's generator takes a quarter of a second to compile.

    Args:
        key: random key.
        count: largest number of random numbers that will be drawn.
    """

    def __init__(self, key: Key[Array, ""], count: int):
        self._words, self._used = random.bits(key, (count,), jnp.uint32), 0

    def below(self, limit: Int[Array, ...] | int, shape: tuple[int, ...] = ()) -> Int[Array, ...]:
        """Whole numbers from 0 to below `limit`, of the shape of `limit` or a given one.

        Their bias, 2**-32 times the limit, does not matter here.
        """
        limit = jnp.maximum(limit, 1).astype(jnp.uint32)
        return (self._take(shape or limit.shape) % limit).astype(jnp.int32)

    def uniform(self, low: float, high: float, shape: tuple[int, ...] = ()) -> Float[Array, ...]:
        """Uniform numbers from `low` to below `high`."""
        return low + (high - low) * (self._take(shape) >> 8) * 2.0**-24

    def normal(self, mean: float, deviation: float, shape: tuple[int, ...] = ()) -> Float[Array, ...]:
        """Normally distributed numbers."""
        return mean + deviation * ndtri(((self._take(shape) >> 8) + 0.5) * 2.0**-24)

    def falls(self, share: float) -> Bool[Array, ""]:
        """True with probability `share`."""
        return self.uniform(0.0, 1.0) < share

    def distinct(
        self, num_draws: int, total: Int[Array, ""] | int, taken: Sequence[Int[Array, ""]] | Array = ()
    ) -> Int[Array, " num_draws"]:
        """Different numbers below `total` that are not in `taken`; numbers are repeated if there are too few."""
        num_taken = len(taken)
        left_k = total - num_taken - jnp.arange(num_draws)
        draws_k = self.below(jnp.where(left_k > 0, left_k, total - num_taken))
        # A sorted list; the free places at its end exclude no number.
        excluded = jnp.full(num_taken + num_draws, _FREE)
        for each in taken:
            excluded = _insert(excluded, each)
        initially_excluded, places = excluded, jnp.arange(num_taken + num_draws)

        def draw(excluded: Array, left_and_draw: tuple[Array, Array]) -> tuple[Array, Array]:
            left, number = left_and_draw
            excluded = jnp.where(left > 0, excluded, initially_excluded)
            # The r-th number that is not excluded: each excluded one up to it moves it by one.
            number += jnp.sum(excluded - places <= number)
            return _insert(excluded, number), number

        return lax.scan(draw, excluded, (left_k, draws_k))[1]

    def _take(self, shape: tuple[int, ...]) -> Array:
        first = self._used
        self._used += math.prod(shape)
        if self._used > len(self._words):
            raise ValueError(f"{self._used} random numbers are needed, but only {len(self._words)} were generated")
        return self._words[first : self._used].reshape(shape)


def _insert(ascending: Int[Array, " n"], number: Int[Array, ""]) -> Int[Array, " n"]:
    """A sorted list with another number, without its last one. `jnp.sort` takes seconds to compile."""
    before = jnp.concatenate([jnp.full(1, -1), ascending[:-1]])
    return jnp.where(ascending < number, ascending, jnp.maximum(number, before))
