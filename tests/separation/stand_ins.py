"""A stand-in for a trained network, which returns the true sources of a recording, and voices for the recording."""

from __future__ import annotations

import jax
import numpy as np

from mossformer_jax.model import ModelConfig
from mossformer_jax.weights import LoadedModel

RATE = 8000


def voice(seconds: float, pitch: float, formant: float, seed: int, rate: int = RATE) -> np.ndarray:
    """A speech-like signal, (t,): syllables of wavering pitch, with one formant and a little breath."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * rate)) / rate
    waver = 1 + 0.1 * np.sin(2 * np.pi * rng.uniform(0.5, 2) * time + rng.uniform(0, 6))
    phase = 2 * np.pi * np.cumsum(pitch * waver) / rate
    harmonics = np.arange(1, int(3500 / (1.2 * pitch)))
    weights = np.exp(-0.5 * ((harmonics * pitch - formant) / 500) ** 2) + 0.05
    tone = (weights[:, None] * np.sin(harmonics[:, None] * phase + rng.uniform(0, 6, (len(harmonics), 1)))).sum(axis=0)
    syllables = np.clip(np.sin(2 * np.pi * rng.uniform(2, 3) * time + rng.uniform(0, 6)) + 0.4, 0, 1)
    return 0.05 * syllables * tone + 0.001 * rng.standard_normal(len(time))


def conversation(turns: list[tuple[float, tuple[int, ...]]], seed: int = 0) -> np.ndarray:
    """Up to four talkers, (c, t), float32, from turns of (seconds, talkers); the other talkers are silent."""
    talkers = [(110.0, 500.0), (210.0, 1100.0), (150.0, 1800.0), (280.0, 2600.0)]
    num_talkers = 1 + max((talker for _, who in turns for talker in who), default=1)
    stretches = []
    for number, (seconds, who) in enumerate(turns):
        stretch = np.zeros((num_talkers, round(seconds * RATE)))
        for talker in who:
            stretch[talker] = voice(seconds, *talkers[talker], seed=1000 * seed + 10 * number + talker)
        stretches.append(stretch)
    return np.concatenate(stretches, axis=1).astype(np.float32)


def with_noise(sources_ct: np.ndarray) -> np.ndarray:
    """The mixture, (t,), float32, with noise 60 dB below speech: no two of its samples are equal."""
    rng = np.random.default_rng(7)
    return (sources_ct.sum(axis=0) + 1e-4 * rng.standard_normal(sources_ct.shape[1])).astype(np.float32)


class KnowingModel(LoadedModel):
    """A model that looks each mixture up in a recording and returns the true sources in random order.

    Args:
        config: the config of the model that it replaces.
        mixture: the whole recording at the model's rate, (t,), no two samples of which are equal.
        sources: its true sources, (c, t).
        shuffle: whether the outputs of every call come in a random order.
        leak: share of the others in each output.
    """

    def __init__(
        self, config: ModelConfig, mixture: np.ndarray, sources: np.ndarray, shuffle: bool = True, leak: float = 0.0
    ):
        self.config = config
        self.shapes: list[tuple[int, int]] = []
        self._mixture = mixture
        self._sources = sources + leak * (sources.sum(axis=0) - sources)
        self._rng = np.random.default_rng(0) if shuffle else None

    @property
    def device(self):
        return jax.devices("cpu")[0]

    def compile(self, batch, num_samples):
        self.shapes.append((batch, num_samples))
        return self._separate

    def _separate(self, mixture_bt, lengths_b):
        outputs = np.zeros((len(mixture_bt), len(self._sources), mixture_bt.shape[1]), np.float32)
        for row, (window, length) in enumerate(zip(mixture_bt, lengths_b, strict=True)):
            if length <= self.config.kernel_size:
                continue  # a row that fills the batch up
            (start,) = np.flatnonzero((self._mixture == window[0]) & (np.roll(self._mixture, -1) == window[1]))
            np.testing.assert_array_equal(window[:length], self._mixture[start : start + length])
            order = np.arange(len(self._sources)) if self._rng is None else self._rng.permutation(len(self._sources))
            outputs[row, :, :length] = self._sources[order, start : start + length]
        return outputs
