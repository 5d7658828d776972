"""Gradients written by hand, and a switch to derivatives of any kind that JAX makes from the formulas."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp

ONCE = (
    "the gradients of this network are written by hand: it can be differentiated once, in reverse mode. For forward "
    "mode or higher derivatives, compute them inside `with mossformer_jax.any_derivative():`"
)
# Part of the key of JAX's compilation caches, so that a jitted function is traced again if it changes.
_from_formulas = jax.make_user_context(default_value=False)


def any_derivative() -> contextlib.AbstractContextManager[None]:
    """A context in which the network has forward-mode and higher derivatives (`jax.jvp`, `jax.hessian`, ...).

    The network then consists of the plain formulas. The results are the same up to rounding; on a CPU, gradients take a
    multiple of the time.
    """
    return _from_formulas(True)


def is_any_derivative() -> bool:
    """Whether the code is traced inside `any_derivative`."""
    return _from_formulas.value


class GradientByHand:
    """A function with a gradient written by hand, like `jax.custom_vjp`; inside `any_derivative`, the plain function.

    Args:
        function: the function, as a formula that JAX can differentiate, too. It may contain units (`unit`).
        nondiff_argnums: static arguments, as for `jax.custom_vjp`.
    """

    def __init__(self, function: Callable[..., Any], *, nondiff_argnums: tuple[int, ...] = ()):
        functools.update_wrapper(self, function)
        self._function, self._num_static = function, len(nondiff_argnums)
        self._by_hand = jax.custom_vjp(function, nondiff_argnums=nondiff_argnums)

    def defvjp(self, forward: Callable[..., Any], backward: Callable[..., Any]) -> None:
        """Defines the gradient as for `jax.custom_vjp`."""

        def backward_once(*arguments: Any) -> Any:
            static, arrays = arguments[: self._num_static], arguments[self._num_static :]
            return backward(*static, *jax.tree.map(_not_differentiable, arrays))

        self._by_hand.defvjp(forward, backward_once)

    def __call__(self, *arguments: Any) -> Any:
        return (self._function if is_any_derivative() else self._by_hand)(*arguments)


@contextlib.contextmanager
def explained_derivatives() -> Iterator[None]:
    """Replaces JAX's error for forward mode by one with advice."""
    try:
        yield
    except TypeError as error:
        if "custom_vjp" in str(error) and "forward-mode" in str(error):
            raise TypeError(ONCE) from error
        raise


def _not_differentiable(x: Any) -> Any:
    """Returns x; differentiating it raises an error with advice."""
    return _identity(x) if isinstance(x, jax.Array) and jnp.issubdtype(x.dtype, jnp.floating) else x


@jax.custom_jvp
def _identity(x):
    return x


@_identity.defjvp
def _refuse(primals, tangents):
    raise TypeError(ONCE)
