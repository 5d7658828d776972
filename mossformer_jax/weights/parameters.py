"""Parameters as plain arrays with dotted names, and building a network from them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from mossformer_jax.model import Buffer, ModelConfig, MossFormer2

Parameters = dict[str, np.ndarray]


def skeleton(config: ModelConfig) -> tuple[nnx.GraphDef[MossFormer2], nnx.State]:
    """The structure of the network, and its variables with shapes instead of arrays; allocates no memory."""
    return _skeleton(config, jax.dtypes.canonicalize_dtype(float))


@cache  # every compiled program builds the network from it, and drawing it takes half a second
def _skeleton(config: ModelConfig, _dtype: np.dtype) -> tuple[nnx.GraphDef[MossFormer2], nnx.State]:
    return nnx.split(nnx.eval_shape(lambda: MossFormer2(config, rngs=nnx.Rngs(0))))


def _variables(config: ModelConfig) -> dict[str, nnx.Variable]:
    # The gains change with every validation but do not affect the variables, so they are not part of the cache key.
    _, state = skeleton(dataclasses.replace(config, output_gains=None))
    return {_dotted(path): variable for path, variable in nnx.to_flat_state(state)}


def _dotted(path: tuple[Any, ...]) -> str:
    return ".".join(map(str, path))


def parameter_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Shapes of all parameters and frequency tables, by dotted name."""
    return {name: variable.shape for name, variable in _variables(config).items()}


def buffer_names(config: ModelConfig) -> set[str]:
    """Names of the frequency tables, which are stored with the weights but neither trained nor counted."""
    return {name for name, variable in _variables(config).items() if isinstance(variable, Buffer)}


def count_parameters(config: ModelConfig) -> int:
    """Number of trained parameters of the network."""
    return sum(
        int(np.prod(variable.shape)) for variable in _variables(config).values() if isinstance(variable, nnx.Param)
    )


def flatten(params: Mapping[str, Any]) -> Parameters:
    """Converts nested dicts, an `nnx.State` or a dict with dotted names to numpy arrays with dotted names."""
    if isinstance(params, nnx.State):
        params = nnx.to_pure_dict(params)
    arrays: Parameters = {}
    for name, value in params.items():
        if isinstance(value, Mapping):
            arrays |= {f"{name}.{inner}": array for inner, array in flatten(value).items()}
        else:
            arrays[name] = np.asarray(value)
    return arrays


def build_network(config: ModelConfig, parameters: Mapping[str, Any]) -> MossFormer2:
    """Builds the network from all its parameters (by dotted name), in the config's parameter dtype.

    Raises:
        ValueError: parameters are missing, unknown, not finite or of the wrong shape; one error lists all of them.
    """
    problems = parameter_problems(config, parameters)
    if problems:
        raise ValueError(f"the parameters do not match the config: {'; '.join(problems)}")
    return assemble_network(config, parameters)


def assemble_network(config: ModelConfig, parameters: Mapping[str, Any]) -> MossFormer2:
    """`build_network` without the checks, for use inside jit."""
    graphdef, state = skeleton(config)
    filled = [
        (path, variable.replace(jnp.asarray(parameters[_dotted(path)], variable.dtype)))
        for path, variable in nnx.to_flat_state(state)
    ]
    return nnx.merge(graphdef, nnx.from_flat_state(filled))


def parameter_problems(config: ModelConfig, parameters: Mapping[str, Any]) -> list[str]:
    """All differences between `parameters` and the parameters of `config`; empty if they match."""
    shapes = parameter_shapes(config)
    problems = []
    if missing := sorted(shapes.keys() - parameters.keys()):
        problems.append(f"missing {', '.join(missing)}")
    if unknown := sorted(parameters.keys() - shapes.keys()):
        problems.append(f"unknown {', '.join(unknown)}")
    for name in sorted(shapes.keys() & parameters.keys()):
        if parameters[name].shape != shapes[name]:
            problems.append(f"{name} has shape {parameters[name].shape}, not {shapes[name]}")
        elif not np.isfinite(parameters[name]).all():
            problems.append(f"{name} is not finite")
    return problems
