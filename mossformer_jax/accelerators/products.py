"""Counts the FLOPs of the matrix products of a traced program. A chip's peak FLOP/s refers to matrix products."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import Any

from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn


def product_flops(program: ClosedJaxpr) -> int:
    """FLOPs of all matrix products and convolutions in one run of a traced program; a multiply-add counts as two.

    The body of a `scan` counts once per iteration, and the most expensive branch of a `cond` counts. Recomputation by
    rematerialisation is included. Elementwise operations and depthwise convolutions are excluded, because they do not
    run on matrix units; they are about 2 % of the total.
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
