"""Audio files in and out: whole, in blocks, at another sample rate, from a URL."""

from mossformer_jax.audio.download import download, is_url
from mossformer_jax.audio.files import read_audio, resample, to_mono, write_audio
from mossformer_jax.audio.streams import AudioReader, AudioWriter, resample_blocks

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
