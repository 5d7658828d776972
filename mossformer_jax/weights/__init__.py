"""Model weights: the stored format, and conversion from and to the official PyTorch checkpoints."""

from mossformer_jax.weights.loaded import LoadedModel, load_model
from mossformer_jax.weights.parameters import build_network, count_parameters, flatten, parameter_shapes
from mossformer_jax.weights.store import load_parameters, read_config, save_model

__all__ = [
    "LoadedModel",
    "build_network",
    "count_parameters",
    "flatten",
    "load_model",
    "load_parameters",
    "parameter_shapes",
    "read_config",
    "save_model",
]
