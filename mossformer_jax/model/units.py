"""Functions that a CPU's compiler is to take as one piece.

XLA fuses an elementwise chain into every one of its consumers, where it is computed anew. That suits a chip that waits
for its memory. On a CPU it means that seventeen taps of a convolution are added up once a consumer, and element by
element where the consumer transposes: 250 of the 820 ms that the gradient of one block took. `lax.optimization_barrier`
does not help, a CPU's compiler drops it before it fuses.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
from jax import lax
from jax.experimental.xla_metadata import set_xla_metadata


def unit(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, compiled on a CPU on its own and not together with what surrounds it.

    Its positional arguments are arrays, its keyword arguments static. It cannot be differentiated on its own account.
    """
    compiled = functools.cache(lambda **static: jax.jit(functools.partial(function, **static)))

    @functools.wraps(function)
    def call(*arrays: Any, **static: Any) -> Any:
        def alone(*arrays: Any) -> Any:
            with set_xla_metadata(inlineable="false"):
                return compiled(**static)(*arrays)

        return lax.platform_dependent(*arrays, cpu=alone, default=functools.partial(function, **static))

    return call
