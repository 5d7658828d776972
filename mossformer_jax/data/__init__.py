"""Audio files and training data."""

from mossformer_jax.data.audio import read_audio, resample, to_mono, write_audio

__all__ = ["read_audio", "resample", "to_mono", "write_audio"]
