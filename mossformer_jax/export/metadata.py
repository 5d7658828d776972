"""What a caller of an exported model must know about its input, as text."""

from __future__ import annotations

from mossformer_jax.model import ModelConfig


def describe(config: ModelConfig) -> dict[str, str]:
    """Sample rate (Hz), input level (dB, or "none"), number of sources and the shortest input in samples."""
    level = config.input_level_db
    return {
        "sample_rate": str(config.sample_rate),
        "input_level_db": "none" if level is None else str(level),
        "num_sources": str(config.num_sources),
        "min_samples": str(config.kernel_size),
    }
