"""The MossFormer2 network and its configuration."""

from mossformer_jax.model.config import PRESETS, ModelConfig
from mossformer_jax.model.derivatives import any_derivative
from mossformer_jax.model.mossformer2 import Intermediates, MossFormer2
from mossformer_jax.model.positions import Buffer

__all__ = ["PRESETS", "Buffer", "Intermediates", "ModelConfig", "MossFormer2", "any_derivative"]
