"""Weights: our stored format, and the official PyTorch checkpoints in and out."""

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
