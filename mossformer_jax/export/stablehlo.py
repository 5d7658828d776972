"""The model as a StableHLO program for CPU, CUDA and TPU, with the weights in a file beside it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax import export
from safetensors.numpy import save

from mossformer_jax.atomic import write_atomically
from mossformer_jax.export.loading import weights_file
from mossformer_jax.export.metadata import describe
from mossformer_jax.model import ModelConfig
from mossformer_jax.weights.parameters import assemble_network, buffer_names

PLATFORMS = ("cpu", "cuda", "tpu")


def export_stablehlo(
    path: Path, config: ModelConfig, parameters: Mapping[str, np.ndarray], *, float16: bool = False
) -> None:
    """Writes a serialised `jax.export` program and, beside it, `NAME.safetensors` with its weights.

    The program maps weights (a dict by name), mixture (b, t) and lengths (b,) to sources (b, c, t). Batch and time may
    have any size.

    Args:
        path: file of the program.
        config: the model's sizes and options. The program computes in float32 whatever `dtype` is.
        parameters: all parameters and frequency tables, by dotted name.
        float16: store the weights in half precision. Frequency tables stay in float32.

    Raises:
        ValueError: a weight is outside float16's range, or the program and its weights would have the same name.
        OSError: a file cannot be written.
    """
    if weights_file(path) == path:
        raise ValueError(f"{path}: the weights are written to this name; name the program NAME.stablehlo")
    config = dataclasses.replace(config, dtype="float32", remat="none")
    exact = buffer_names(config)
    with np.errstate(over="ignore"):  # checked below
        stored = {
            name: np.array(array, np.float16 if float16 and name not in exact else np.float32, order="C")
            for name, array in parameters.items()
        }
    if not all(np.isfinite(array).all() for array in stored.values()):
        raise ValueError("a weight is outside the range of float16; export without --float16")

    def separate(weights: dict[str, jax.Array], mixture_bt: jax.Array, lengths_b: jax.Array) -> jax.Array:
        return assemble_network(config, weights)(mixture_bt, lengths_b)

    batch, time = export.symbolic_shape("b, t", constraints=[f"t >= {config.kernel_size}"])
    weights = {name: jax.ShapeDtypeStruct(array.shape, jnp.float32) for name, array in stored.items()}
    mixture = jax.ShapeDtypeStruct((batch, time), jnp.float32)
    lengths = jax.ShapeDtypeStruct((batch,), jnp.int32)
    exported = export.export(jax.jit(separate), platforms=PLATFORMS)(weights, mixture, lengths)
    write_atomically(weights_file(path), save(stored, metadata=describe(config)))
    write_atomically(path, bytes(exported.serialize()))
