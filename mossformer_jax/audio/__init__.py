"""Reading, writing and resampling audio files, whole or in blocks."""

from mossformer_jax.audio.files import read_audio, resample, to_mono, write_audio
from mossformer_jax.audio.streams import AudioReader, AudioWriter, resample_blocks

__all__ = [
    "AudioReader",
    "AudioWriter",
    "read_audio",
    "resample",
    "resample_blocks",
    "to_mono",
    "write_audio",
]
