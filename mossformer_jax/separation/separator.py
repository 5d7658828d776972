"""Separate a waveform of any rate, level and number of channels: arrays in, arrays out."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass

import jax
import numpy as np
from flax import nnx
from jaxtyping import Float

from mossformer_jax.data.audio import check_sample_rate, fit_length, resample, to_mono
from mossformer_jax.weights import LoadedModel, load_model

FULL_SCALE_INT16 = 32768.0
# 60 dB over full scale: no recording, but integers in a floating-point array.
MAX_PEAK = 1000.0


@dataclass(frozen=True)
class Timings:
    """What a separation took, in seconds.

    Attributes:
        compile_seconds: compiling the network for this length; 0 where it had been compiled before.
        run_seconds: everything else, from the waveform to the sources.
    """

    compile_seconds: float
    run_seconds: float


@dataclass(frozen=True)
class Separation:
    """The separated sources of one waveform.

    Attributes:
        sources: (sources, t), float32, as long as the waveform and at its level.
        sample_rate: that of the waveform, in Hz.
        timings: what it took.
    """

    sources: Float[np.ndarray, "c t"]
    sample_rate: int
    timings: Timings


class Separator:
    """Separates the speakers of a recording, at the recording's own sample rate and level.

    The waveform is mixed down to mono, resampled to the model's rate, brought to the level that the model expects
    (where it expects one), separated, and taken back. The network is compiled once for each length.

    Example:
        >>> separator = Separator.from_pretrained("default")
        >>> separation = separator(waveform, sample_rate=44100)
        >>> separation.sources.shape
        (2, 220500)

    Args:
        model: the network and its weights.

    Attributes:
        config: the model's sizes and options.
    """

    def __init__(self, model: LoadedModel):
        self.config = model.config
        graphdef, self._state = nnx.split(model.network)
        self._separate = jax.jit(lambda state, mixture_bt: nnx.merge(graphdef, state)(mixture_bt))
        self._compiled: dict[int, jax.stages.Compiled] = {}

    @classmethod
    def from_pretrained(cls, path: str | os.PathLike[str] = "default") -> Separator:
        """Loads a stored model.

        Args:
            path: "default", the model that is shipped, or a folder that `save_model` or the converter wrote.

        Raises:
            FileNotFoundError, ValueError: there is no model, or it cannot be used; the message says why.
        """
        return cls(load_model(path))

    def __call__(self, waveform: Float[np.ndarray, "*channels t"], sample_rate: int) -> Separation:
        """Separates one recording.

        Args:
            waveform: (t,) or (channels, t), floating point within about +-1, or int16. Channels are mixed down.
            sample_rate: in Hz.

        Returns:
            The sources, as long as the waveform and at its sample rate. Silence gives silence, exactly.

        Raises:
            ValueError: a waveform or rate that cannot be separated; the message says what was given and what can be.
        """
        start = time.perf_counter()
        check_sample_rate(sample_rate)
        mono = to_mono(_as_channels(waveform))
        mixture = resample(mono, sample_rate, self.config.sample_rate)
        if len(mixture) < self.config.kernel_size:
            raise ValueError(
                f"waveform has {len(mono)} samples at {sample_rate} Hz, which are {len(mixture)} at the model's "
                f"{self.config.sample_rate} Hz, but must hold at least {self.config.kernel_size} there"
            )
        if not mixture.any():
            sources = np.zeros((self.config.num_sources, len(mono)), np.float32)
            return Separation(sources, sample_rate, Timings(0.0, time.perf_counter() - start))

        gain = level_gain(mixture, self.config.input_level_db)
        compiled, compile_seconds = self._compile(len(mixture))
        outputs = compiled(self._state, (mixture * gain).astype(np.float32)[None])[0]
        outputs = resample(np.asarray(outputs, np.float64) / gain, self.config.sample_rate, sample_rate)
        sources = fit_length(outputs, len(mono)).astype(np.float32)
        run_seconds = time.perf_counter() - start - compile_seconds
        return Separation(sources, sample_rate, Timings(compile_seconds, run_seconds))

    def _compile(self, num_samples: int) -> tuple[jax.stages.Compiled, float]:
        """The network compiled for this length, and the seconds that this took (0 if it had been)."""
        if num_samples in self._compiled:
            return self._compiled[num_samples], 0.0
        start = time.perf_counter()
        mixture = jax.ShapeDtypeStruct((1, num_samples), np.float32)
        self._compiled[num_samples] = self._separate.lower(self._state, mixture).compile()
        return self._compiled[num_samples], time.perf_counter() - start


def level_gain(mixture: Float[np.ndarray, " t"], level_db: float | None) -> float:
    """The factor that brings a signal that is not silent to a level in dB; 1 where the level is None.

    Measured as ClearerVoice does: the RMS of the samples that are louder than the mean power, so that pauses do not
    count.
    """
    if level_db is None:
        return 1.0
    power = np.square(mixture.astype(np.float64))
    # The power of a square wave is its mean everywhere, but for rounding: then all of it counts.
    loud = power >= min(power.mean(), power.max())
    return 10 ** (level_db / 20) / float(np.sqrt(power[loud].mean()))


def _as_channels(waveform: np.ndarray) -> Float[np.ndarray, "channels t"]:
    """The waveform as (channels, t) in float32.

    Raises:
        ValueError: its shape, dtype or content cannot be separated.
    """
    waveform = np.asarray(waveform)
    if waveform.dtype != np.int16 and not np.issubdtype(waveform.dtype, np.floating):
        raise ValueError(f"waveform has dtype {waveform.dtype}, but must be floating point within about +-1, or int16")
    if waveform.ndim not in (1, 2) or waveform.size == 0:
        raise ValueError(f"waveform has shape {waveform.shape}, but must be (t,) or (channels, t) and not empty")
    channels = np.atleast_2d(waveform)
    if len(channels) > channels.shape[1]:
        raise ValueError(f"waveform has shape {waveform.shape}, but must be (channels, t): transpose it")
    if waveform.dtype == np.int16:
        return channels / np.float32(FULL_SCALE_INT16)
    with np.errstate(over="ignore"):
        channels = channels.astype(np.float32)
    broken = ~np.isfinite(channels).all(axis=0)
    if broken.any():
        raise ValueError(
            f"waveform holds NaN or infinity in {broken.sum()} of {broken.size} samples, first at sample "
            f"{broken.argmax()}; mend or cut them first"
        )
    peak = np.abs(channels).max()
    if peak > MAX_PEAK:
        raise ValueError(
            f"waveform has a peak of {peak:.4g}, but must be within about +-1; divide it by its full scale"
        )
    return channels
