"""The MossFormer2 network and its configuration."""

from mossformer_jax.model.config import PRESETS, ModelConfig
from mossformer_jax.model.mossformer2 import MossFormer2
from mossformer_jax.model.positions import Buffer

__all__ = ["PRESETS", "Buffer", "ModelConfig", "MossFormer2"]
