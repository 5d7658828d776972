"""Functions that XLA compiles as one unit on a CPU.

XLA fuses a chain of elementwise operations into each of its consumers, where it is recomputed. This is useful on chips
limited by memory bandwidth. On a CPU, however, the seventeen taps of a convolution are added up again for each
consumer, and element by element if the consumer transposes: this took 250 of the 820 ms of the gradient of one block.
`lax.optimization_barrier` does not help, because on a CPU it is dropped before fusion.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
from jax import lax
from jax.experimental.xla_metadata import set_xla_metadata

from mossformer_jax.model.derivatives import is_any_derivative


def unit(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, compiled separately from the surrounding operations on a CPU.

    Positional arguments are arrays, keyword arguments are static. The result cannot be differentiated by JAX; it needs
    a custom gradient. Inside `any_derivative`, it is the plain function.
    """
    # Kept, so that JAX traces the function once per shape and not at every call.
    jitted = functools.cache(lambda inline, **static: jax.jit(functools.partial(function, **static), inline=inline))

    @functools.wraps(function)
    def call(*arrays: Any, **static: Any) -> Any:
        if is_any_derivative():
            return function(*arrays, **static)

        def alone(*arrays: Any) -> Any:
            with set_xla_metadata(inlineable="false"):
                return jitted(False, **static)(*arrays)

        return lax.platform_dependent(*arrays, cpu=alone, default=jitted(True, **static))

    return call
