"""Floating-point operations of the matrix products of a traced program, which are what a chip's peak is quoted for."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import Any

from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn


def product_flops(program: ClosedJaxpr) -> int:
    """Two for each multiply-add of every matrix product and convolution, in one run of a traced program.

    A loop's body counts as often as it runs, and what rematerialisation computes again counts again. Elementwise
    work does not count, nor do depthwise convolutions, which no matrix unit speeds up: a fiftieth of the whole.
    """
    return _flops(program.jaxpr)


def _flops(program: Jaxpr) -> int:
    return sum(map(_equation_flops, program.eqns))


def _equation_flops(equation: JaxprEqn) -> int:
    match equation.primitive.name:
        case "dot_general":
            left, right = (variable.aval for variable in equation.invars)
            (contracted, _), (batch, _) = equation.params["dimension_numbers"]
            summed = prod(left.shape[axis] for axis in contracted)  # type: ignore[attr-defined]
            shared = prod(left.shape[axis] for axis in batch)  # type: ignore[attr-defined]
            return 2 * prod(left.shape) * prod(right.shape) // (summed * shared)  # type: ignore[attr-defined]
        case "conv_general_dilated" if equation.params["feature_group_count"] == 1:
            kernel = equation.invars[1].aval.shape  # type: ignore[attr-defined]
            outputs = kernel[equation.params["dimension_numbers"].rhs_spec[0]]
            return 2 * prod(equation.outvars[0].aval.shape) * prod(kernel) // outputs  # type: ignore[attr-defined]
        case "scan":
            return equation.params["length"] * _flops(equation.params["jaxpr"].jaxpr)
        case "cond":
            return max(_flops(branch.jaxpr) for branch in equation.params["branches"])
        case _:
            return sum(_flops(inner) for inner in _inside(equation.params.values()))


def _inside(values: Any) -> Iterator[Jaxpr]:
    for value in values:
        if isinstance(value, ClosedJaxpr):
            yield value.jaxpr
        elif isinstance(value, Jaxpr):
            yield value
