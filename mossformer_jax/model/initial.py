"""Initial parameters with PyTorch's default distributions, from a single random draw.

JAX compiles a separate program for every shape that is drawn: one by one, the parameters of even a tiny model took 30 s
of CPU time. The model is therefore built twice, first to count the random numbers, then from one draw of that size.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

T = TypeVar("T")


class Draws:
    """An array of random numbers, used in order.

    Args:
        values: uniform numbers between -1 and 1, as many as needed; None: returns zeros and only counts.

    Attributes:
        taken: how many numbers have been used.
    """

    def __init__(self, values: Float[Array, " size"] | None = None):
        self._values = values
        self.taken = 0

    def take(self, shape: tuple[int, ...]) -> Array:
        """Uniform numbers between -1 and 1, float32."""
        start, self.taken = self.taken, self.taken + math.prod(shape)
        if self._values is None:
            return jnp.zeros(shape, jnp.float32)
        return self._values[start : self.taken].reshape(shape)

    def uniform(self, shape: tuple[int, ...], fan_in: int, dtype: DTypeLike) -> Array:
        """PyTorch's default for weights and biases: uniform within +-1/sqrt(fan_in)."""
        return (self.take(shape) * fan_in**-0.5).astype(dtype)

    def normal(self, shape: tuple[int, ...], deviation: float, dtype: DTypeLike) -> Array:
        """Normal with mean 0 and the given standard deviation."""
        # Slightly inside +-1, where the inverse error function is infinite.
        inside = self.take(shape) * (1.0 - jnp.finfo(jnp.float32).eps)
        return (deviation * math.sqrt(2.0) * jax.scipy.special.erfinv(inside)).astype(dtype)


def outline(build: Callable[[Draws], T]) -> tuple[nnx.GraphDef[T], int]:
    """The structure of the module that `build` makes, and how many random numbers it uses; nothing is computed."""
    draws = Draws()
    graphdef = nnx.graphdef(nnx.eval_shape(lambda: build(draws)))
    return graphdef, draws.taken


def drawing(build: Callable[[Draws], T]) -> Callable[[Array], T]:
    """A function that draws the module built by `build` with a random key, in one compiled program."""
    graphdef, size = outline(build)
    draw = jax.jit(lambda key: nnx.state(build(Draws(jax.random.uniform(key, (size,), jnp.float32, -1.0, 1.0)))))
    return lambda key: nnx.merge(graphdef, draw(key))


def stack(build: Callable[[Draws], T], count: int, draws: Draws) -> T:
    """A module whose variables all have a leading axis of size `count`, each slice with its own draw."""
    graphdef, size = outline(build)
    values = draws.take((count, size))
    return nnx.merge(graphdef, jax.vmap(lambda values: nnx.state(build(Draws(values))))(values))
