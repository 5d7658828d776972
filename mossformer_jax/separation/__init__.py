"""Separation of recordings with a trained model."""

from mossformer_jax.separation.files import SeparatedFile, separate_file
from mossformer_jax.separation.options import OutputOptions
from mossformer_jax.separation.recording import Boundary
from mossformer_jax.separation.separator import Separation, Separator, Timings

__all__ = ["Boundary", "OutputOptions", "SeparatedFile", "Separation", "Separator", "Timings", "separate_file"]
