"""A recording, resampled to the model's rate, measured once, and spooled to disk if it is long."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from jaxtyping import Float

from mossformer_jax.audio.resampling import resample_blocks
from mossformer_jax.model.levels import loudness
from mossformer_jax.separation.spool import Spool

# Samples per block.
BLOCK = 2**18


class ResampledRecording:
    """A recording, resampled and measured.

    Args:
        blocks: the recording in consecutive blocks of finite samples.
        sample_rate: its rate in Hz.
        model_rate: the rate to resample to, in Hz.
        mix: whether its channels are mixed down.

    Attributes:
        duration_samples: length at its own rate.
        sample_rate: its own rate in Hz.
        model_rate: the rate after resampling, in Hz.
        length: length at the model's rate.
        num_channels: 1 if they were mixed down.
        heard: whether any channel has a non-zero sample.
        rms: RMS over all samples and channels.
        loudness: RMS of its loud parts (see `model.levels.loudness`); 0 for silence.
    """

    def __init__(self, blocks: Iterable[Float[np.ndarray, "k _"]], sample_rate: int, model_rate: int, *, mix: bool):
        self.sample_rate, self.model_rate = sample_rate, model_rate
        self.duration_samples = 0
        self.heard = False
        self.num_channels = 1
        spool: Spool | None = None
        energy = 0.0
        for block in resample_blocks(self._counted(blocks, mix), sample_rate, model_rate):
            if spool is None:
                self.num_channels = len(block)
                spool = Spool((self.num_channels,))
            spool.append(block)
            energy += float(np.square(block, dtype=np.float64).sum())
        self._spool = Spool((1,)) if spool is None else spool
        self.length = self._spool.length
        self.rms = float(np.sqrt(energy / max(self.length * self.num_channels, 1)))
        self.loudness = loudness(self._blocks) if self.rms > 0 else 0.0

    @property
    def duration(self) -> float:
        """Length in seconds."""
        return self.duration_samples / self.sample_rate

    def read(self, start: int, stop: int) -> Float[np.ndarray, "k t"]:
        """The samples from `start` to before `stop`, at the model's rate."""
        return self._spool.read(start, stop)

    def _counted(self, blocks: Iterable[np.ndarray], mix: bool) -> Iterator[np.ndarray]:
        for block in blocks:
            self.duration_samples += block.shape[1]
            self.heard = self.heard or bool(block.any())
            yield block.mean(axis=0, keepdims=True) if mix else block

    def _blocks(self) -> Iterator[np.ndarray]:
        for start in range(0, self.length, BLOCK):
            yield self.read(start, min(start + BLOCK, self.length))
