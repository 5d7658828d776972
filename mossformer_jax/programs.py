"""Compiled programs that are shared within a process."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import Any, ParamSpec, TypeVar

import jax

Arguments = ParamSpec("Arguments")
Jitted = TypeVar("Jitted")

# Jitted functions that are kept, each with its programs for all shapes.
NUM_KEPT = 8


def shared_program(make: Callable[Arguments, Jitted]) -> Callable[Arguments, Jitted]:
    """Makes a function that builds a jitted function return the same one for equal arguments.

    JAX traces and compiles each jitted function anew, even if it is equal to an earlier one. Programs that look for NaN
    (`jax_debug_nans`) are separate, because JAX does not check a function that has run without that option.

    Args:
        make: builds the jitted function; its arguments must be hashable. `cache_clear()` of the result forgets all.
    """

    @lru_cache(maxsize=NUM_KEPT)
    def made(debug_nans: bool, *arguments: Any, **named: Any) -> Jitted:
        return make(*arguments, **named)

    @wraps(make)
    def shared(*arguments: Arguments.args, **named: Arguments.kwargs) -> Jitted:
        return made(bool(jax.config.jax_debug_nans), *arguments, **named)  # type: ignore[attr-defined, arg-type]

    shared.cache_clear = made.cache_clear  # type: ignore[attr-defined]
    return shared
