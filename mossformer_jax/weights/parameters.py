"""Parameters as plain arrays under dotted names, and how they become a network."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import cache
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx

from mossformer_jax.model import Buffer, ModelConfig, MossFormer2

Parameters = dict[str, np.ndarray]


def skeleton(config: ModelConfig) -> MossFormer2:
    """The network with shapes in place of arrays; costs no memory."""
    return nnx.eval_shape(lambda: MossFormer2(config, rngs=nnx.Rngs(0)))


def _variables(config: ModelConfig) -> dict[str, nnx.Variable]:
    # Every validation finds other gains, which are no variables: what is cached is the same for all of them.
    return _variables_of_sizes(dataclasses.replace(config, output_gains=None))


@cache
def _variables_of_sizes(config: ModelConfig) -> dict[str, nnx.Variable]:
    return {_dotted(path): variable for path, variable in nnx.to_flat_state(nnx.state(skeleton(config)))}


def _dotted(path: tuple[Any, ...]) -> str:
    return ".".join(map(str, path))


def parameter_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """The shape of every parameter and frequency table, by dotted name."""
    return {name: variable.shape for name, variable in _variables(config).items()}


def buffer_names(config: ModelConfig) -> set[str]:
    """The frequency tables: stored with the weights, never trained, not counted."""
    return {name for name, variable in _variables(config).items() if isinstance(variable, Buffer)}


def count_parameters(config: ModelConfig) -> int:
    """How many trained numbers the network has."""
    return sum(
        int(np.prod(variable.shape)) for variable in _variables(config).values() if isinstance(variable, nnx.Param)
    )


def flatten(params: Mapping[str, Any]) -> Parameters:
    """Nested dicts, an `nnx.State` or a dict with dotted names, as numpy arrays under dotted names."""
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
    """The network with these parameters (every one, by dotted name) in the config's parameter dtype.

    Raises:
        ValueError: parameters are missing, unknown, of a wrong shape or not finite; one error lists them all.
    """
    problems = parameter_problems(config, parameters)
    if problems:
        raise ValueError(f"these are not the parameters of the config: {'; '.join(problems)}")
    return assemble_network(config, parameters)


def assemble_network(config: ModelConfig, parameters: Mapping[str, Any]) -> MossFormer2:
    """`build_network` without its checks, which a program that is being compiled cannot make."""
    graphdef, state = nnx.split(skeleton(config))
    filled = [
        (path, variable.replace(jnp.asarray(parameters[_dotted(path)], variable.dtype)))
        for path, variable in nnx.to_flat_state(state)
    ]
    return nnx.merge(graphdef, nnx.from_flat_state(filled))


def parameter_problems(config: ModelConfig, parameters: Mapping[str, Any]) -> list[str]:
    """What keeps `parameters` from being exactly those of `config`; empty where nothing does."""
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
