"""Estimate of the memory of a forward pass."""

from __future__ import annotations

from mossformer_jax.model.config import ModelConfig


def activation_bytes(config: ModelConfig, batch: int, num_samples: int) -> int:
    """Upper estimate of the memory of a forward pass, in bytes, without the weights.

    Fitted to the numbers that XLA reports on a CPU. Most of it is for the values and gates of the attention before and
    after several steps; with very many sources, for the masks.
    """
    n, d, c = config.encoder_channels, config.model_channels, config.num_sources
    attention = 19 * config.hidden_channels // 4 + n + 2 * d + 2 * config.group_size
    masks = c * (n + 4 * d) + n + 2 * d
    groups = -(-(config.num_frames(num_samples) + 1) // config.group_size)
    return batch * groups * config.group_size * max(attention, masks) * config.param_dtype.itemsize
