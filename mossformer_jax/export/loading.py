"""Runs an exported StableHLO program. Needs JAX and safetensors, but neither Flax nor the rest of this package."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np


def weights_file(program: Path) -> Path:
    """The file of the weights of a program."""
    return program.with_suffix(".safetensors")


def load_exported(path: str | os.PathLike[str]) -> Callable[..., Any]:
    """Loads a program of `mossformer-jax export --format stablehlo`.

    Args:
        path: the program; its weights are beside it.

    Returns:
        A function of mixtures (b, t) at the model's sample rate and, if they are padded, their lengths (b,) in samples.
        It returns the sources, (b, c, t). Each new shape is compiled on first use.

    Raises:
        OSError: a file cannot be read.
        ValueError: a file is damaged or was written by another software.
    """
    import jax
    from jax import export
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    program = Path(path)
    data = program.read_bytes()
    try:
        exported = export.deserialize(bytearray(data))
        stored = load_file(weights_file(program))
    except SafetensorError as error:
        raise ValueError(f"{weights_file(program)}: is damaged ({error}); export the model again") from None
    except (ModuleNotFoundError, OSError):
        raise
    except Exception as error:  # the parser of the format raises errors of many kinds
        raise ValueError(f"{program}: is not an exported program ({error}); export the model again") from None
    weights = {name: jax.numpy.asarray(array, np.float32) for name, array in stored.items()}
    call = jax.jit(exported.call)

    def separate(mixture_bt: Any, lengths_b: Any = None) -> jax.Array:
        mixture_bt = jax.numpy.asarray(mixture_bt, np.float32)
        if lengths_b is None:
            lengths_b = np.full(mixture_bt.shape[0], mixture_bt.shape[1])
        return call(weights, mixture_bt, jax.numpy.asarray(lengths_b, np.int32))

    return separate
