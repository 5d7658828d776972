"""Initial parameters as PyTorch draws them, all from a single draw.

JAX compiles a random draw anew for every shape: one by one, the parameters of even a tiny model took 30 seconds of CPU
time. So the model is built twice, first to count how many numbers it takes, then from that many.
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
    """Random numbers, handed out in order.

    Args:
        values: as many uniform numbers between -1 and 1 as will be asked for; None hands out zeros and only counts.

    Attributes:
        taken: how many have been handed out.
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
        # Away from +-1, where the inverse of the error function is infinite.
        inside = self.take(shape) * (1.0 - jnp.finfo(jnp.float32).eps)
        return (deviation * math.sqrt(2.0) * jax.scipy.special.erfinv(inside)).astype(dtype)


def count_draws(build: Callable[[Draws], object]) -> int:
    """How many numbers `build` takes; nothing is computed."""
    draws = Draws()
    nnx.eval_shape(lambda: build(draws))
    return draws.taken


def build_from_one_draw(build: Callable[[Draws], T], key: Array) -> T:
    """What `build` makes of numbers drawn with `key`, by one compiled program."""
    size = count_draws(build)
    graphdef = nnx.graphdef(nnx.eval_shape(lambda: build(Draws())))
    draw = jax.jit(lambda key: nnx.state(build(Draws(jax.random.uniform(key, (size,), jnp.float32, -1.0, 1.0)))))
    return nnx.merge(graphdef, draw(key))


def stack(build: Callable[[Draws], T], count: int, draws: Draws) -> T:
    """One module whose every variable has a leading axis of `count`, each slice with its own draw."""
    values = draws.take((count, count_draws(build)))
    graphdef = nnx.graphdef(nnx.eval_shape(lambda: build(Draws())))
    return nnx.merge(graphdef, jax.vmap(lambda values: nnx.state(build(Draws(values))))(values))
