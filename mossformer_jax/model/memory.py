"""How much memory a forward pass takes."""

from __future__ import annotations

from mossformer_jax.model.config import ModelConfig


def activation_bytes(config: ModelConfig, batch: int, num_samples: int) -> int:
    """Upper estimate of the memory of a forward pass, in bytes, without the weights.

    Fitted to what XLA reports on a CPU. The attention takes the most: values and gates, before and after each of
    several steps; with very many sources, the masks do.
    """
    n, d, c = config.encoder_channels, config.model_channels, config.num_sources
    attention = 19 * config.hidden_channels // 4 + n + 2 * d + 2 * config.group_size
    masks = c * (n + 4 * d) + n + 2 * d
    groups = -(-(config.num_frames(num_samples) + 1) // config.group_size)
    return batch * groups * config.group_size * max(attention, masks) * config.param_dtype.itemsize
