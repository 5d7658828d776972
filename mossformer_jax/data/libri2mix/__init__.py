"""Libri2Mix and Libri3Mix as data sets of TensorFlow Datasets, prepared and read without TensorFlow.

Importing this module registers `libri2mix` and `libri3mix` with TFDS.
"""

from mossformer_jax.data.libri2mix.builder import Libri2Mix, Libri3Mix, LibriMixConfig, open_splits
from mossformer_jax.data.libri2mix.mixtures import TfdsMixtures

__all__ = ["Libri2Mix", "Libri3Mix", "LibriMixConfig", "TfdsMixtures", "open_splits"]
