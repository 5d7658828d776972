"""Audio files and training data."""

from mossformer_jax.data.audio import read_audio, resample, to_mono, write_audio
from mossformer_jax.data.download import download, is_url
from mossformer_jax.data.streams import AudioReader, AudioWriter, resample_blocks

__all__ = [
    "AudioReader",
    "AudioWriter",
    "download",
    "is_url",
    "read_audio",
    "resample",
    "resample_blocks",
    "to_mono",
    "write_audio",
]
