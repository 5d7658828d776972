"""Separate waveforms of any rate, length, level and number of channels: arrays in, arrays out."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from mossformer_jax.audio.files import check_sample_rate
from mossformer_jax.separation.levels import SCALES
from mossformer_jax.separation.mixture import Mixture
from mossformer_jax.separation.network import LADDER_GROWTH, Network, activation_bytes, device_memory
from mossformer_jax.separation.recording import Boundary, Recording, plan_windows
from mossformer_jax.weights import LoadedModel, load_model

CHANNELS = ("mix", "each")
FULL_SCALE_INT16 = 32768.0
# 60 dB over full scale: no recording, but integers in a floating-point array.
MAX_PEAK = 1000.0
WINDOW_SECONDS = 8.0
MIN_WINDOW_SECONDS = 0.5


@dataclass(frozen=True)
class Timings:
    """What a separation took, in seconds.

    Attributes:
        compile_seconds: compiling the network for shapes that it had not been compiled for, or reading the programs
            from the compilation cache.
        run_seconds: everything else, from the waveform to the sources. In a batch, a share by length.
    """

    compile_seconds: float
    run_seconds: float


@dataclass(frozen=True)
class Separation:
    """The separated sources of one waveform.

    Attributes:
        sources: (sources, t), or (sources, channels, t) where each channel was separated; float32, as long as the
            waveform and, by default, at its level.
        sample_rate: that of the waveform, in Hz.
        boundaries: where windows of a long recording meet, and how sure it is which speaker is which; empty for one
            pass.
        warnings: what a listener should know, one line each: undecided boundaries, silent or duplicate sources.
        timings: what it took.
    """

    sources: Float[np.ndarray, "c *k t"]
    sample_rate: int
    boundaries: tuple[Boundary, ...]
    warnings: tuple[str, ...]
    timings: Timings


class Separator:
    """Separates the speakers of a recording, at the recording's own sample rate and level.

    The waveform is mixed down to mono, resampled to the model's rate, brought to the level that the model expects
    (where it expects one), separated, and taken back. What fits the memory budget is separated in one pass; longer
    recordings go through in overlapping windows, and the speakers are tied across them. Threads may share a separator.

    Example:
        >>> separator = Separator.from_pretrained("default")
        >>> separation = separator(waveform, sample_rate=44100)
        >>> separation.sources.shape
        (2, 220500)

    Args:
        model: the network and its weights.
        memory: budget for the network's activations, in bytes; None takes 1 GB on a CPU and half of the device's memory
            elsewhere, but never less than a window needs.
        window_seconds: length of the windows, which overlap by half.
        batch_size: most windows in one call of the network; None takes 1 on a CPU, where more gain nothing, else 8.
        ladder_growth: ratio of neighbouring lengths that the network is compiled for; larger means fewer programs and
            more padding, which costs time and changes nothing.

    Attributes:
        config: the model's sizes and options.
        network: the compiled network.

    Raises:
        ValueError: memory, window, batch size or growth are out of their ranges.
    """

    def __init__(
        self,
        model: LoadedModel,
        *,
        memory: float | None = None,
        window_seconds: float = WINDOW_SECONDS,
        batch_size: int | None = None,
        ladder_growth: float = LADDER_GROWTH,
    ):
        _require(memory is None or memory > 0, f"memory={memory} is not allowed: must be a number of bytes above 0")
        _require(
            window_seconds >= MIN_WINDOW_SECONDS,
            f"window_seconds={window_seconds} is not allowed: must be {MIN_WINDOW_SECONDS} or more",
        )
        _require(batch_size is None or batch_size >= 1, f"batch_size={batch_size} is not allowed: must be 1 or more")
        self.config = model.config
        self._window = round(window_seconds * self.config.sample_rate)
        if memory is None:
            memory = device_memory(model.device)
            needed = activation_bytes(self.config, 1, self._window)
            memory = None if memory is None else max(memory, needed)
        self.network = Network(model, memory, batch_size, ladder_growth)

    @classmethod
    def from_pretrained(cls, path: str | os.PathLike[str] = "default", **options: Any) -> Separator:
        """Loads a stored model.

        Args:
            path: "default", the model that is shipped; a folder that `save_model` or the converter wrote; or the id of
                a Hugging Face repository that holds such a folder, "owner/name" (needs the extra `hub`).
            **options: memory, window_seconds, batch_size and ladder_growth, see the class.

        Raises:
            FileNotFoundError, ValueError: there is no model, or it cannot be used; the message says why.
        """
        return cls(load_model(path), **options)

    def __call__(
        self,
        waveform: Float[np.ndarray, "*channels t"],
        sample_rate: int,
        *,
        scale: str = "mixture",
        mixture_consistency: bool = False,
        channels: str = "mix",
    ) -> Separation:
        """Separates one recording.

        Args:
            waveform: (t,) or (channels, t), floating point within about +-1, or int16.
            sample_rate: in Hz.
            scale: level of the sources. "mixture": that which they have in the waveform; "peak": all turned up or down
                together until the loudest one peaks just below full scale; "rms": each brought to the waveform's RMS,
                except near-silent ones; "none": as the network gives them.
            mixture_consistency: share out what the sources lack of the mixture among them, by their power, so that they
                add up to it.
            channels: "mix" mixes them down; "each" separates every one on its own, with the speakers tied across.

        Returns:
            The sources, as long as the waveform and at its sample rate. Silence gives silence, exactly.

        Raises:
            ValueError: a waveform, rate or option that cannot be; the message says what was given and what can be.
        """
        (separation,) = self.batch(
            [waveform], sample_rate, scale=scale, mixture_consistency=mixture_consistency, channels=channels
        )
        return separation

    def batch(
        self,
        waveforms: Sequence[Float[np.ndarray, "*channels t"]],
        sample_rate: int,
        *,
        scale: str = "mixture",
        mixture_consistency: bool = False,
        channels: str = "mix",
    ) -> list[Separation]:
        """Separates several recordings of any lengths, up to `batch_size` of similar length at a time.

        Each gets the separation that it would get alone. Arguments, result and errors are those of a single one; an
        error names the waveform, counted from 0, and ends the batch.
        """
        start = time.perf_counter()
        check_sample_rate(sample_rate)

        def take_in(number: int, waveform: np.ndarray) -> Recording:
            try:
                blocks = [as_channels(waveform)]
                return self.recording(blocks, sample_rate, scale, mixture_consistency, channels)
            except ValueError as error:
                raise error if len(waveforms) == 1 else ValueError(f"waveform {number}: {error}") from error

        recordings = itertools.starmap(take_in, enumerate(waveforms))
        compile_seconds, separated = 0.0, []
        for recording, seconds in self.separate(recordings):
            compile_seconds += seconds
            sources_ckt = np.concatenate(list(recording.sources()), axis=-1)
            sources = sources_ckt[:, 0] if channels == "mix" else sources_ckt
            separated.append((recording, sources))
        run_seconds = time.perf_counter() - start - compile_seconds
        total = sum(recording.mixture.duration for recording, _ in separated)
        shares = [recording.mixture.duration / total for recording, _ in separated]
        return [
            Separation(
                sources,
                sample_rate,
                recording.boundaries,
                tuple(recording.warnings()),
                Timings(compile_seconds * share, run_seconds * share),
            )
            for (recording, sources), share in zip(separated, shares, strict=True)
        ]

    def recording(
        self,
        blocks: Iterable[Float[np.ndarray, "k t"]],
        sample_rate: int,
        scale: str = "mixture",
        mixture_consistency: bool = False,
        channels: str = "mix",
    ) -> Recording:
        """Takes a recording in, block after block, for `separate`; options and errors as in `__call__`."""
        _require(scale in SCALES, f"scale={scale!r} is not allowed: must be one of {', '.join(SCALES)}")
        _require(channels in CHANNELS, f"channels={channels!r} is not allowed: must be one of {', '.join(CHANNELS)}")
        mixture = Mixture(blocks, sample_rate, self.config.sample_rate, mix=channels == "mix")
        plan = plan_windows(mixture, self._window, self.network)
        return Recording(mixture, plan, self.network, scale=scale, mixture_consistency=mixture_consistency)

    def separate(
        self, recordings: Iterable[Recording], progress: Callable[[float], None] | None = None
    ) -> Iterator[tuple[Recording, float]]:
        """Runs recordings through the network; windows of one size share a call, across recordings.

        Args:
            recordings: taken one at a time, as they are needed.
            progress: told how many seconds of audio have been separated since it was last told.

        Yields:
            Each recording in its turn, finished, and the seconds of compiling since the one before.
        """
        waiting: list[Recording] = []
        batch: list[tuple[Recording, np.ndarray]] = []
        compile_seconds = 0.0

        def run() -> None:
            nonlocal compile_seconds
            if not batch:
                return
            separated, seconds = self.network([window for _, window in batch], batch[0][0].plan.padded)
            compile_seconds += seconds
            for (recording, _), sources in zip(batch, separated, strict=True):
                come_on = recording.put(sources)
                if progress is not None:
                    progress(come_on)
            batch.clear()

        def done() -> Iterator[tuple[Recording, float]]:
            nonlocal compile_seconds
            while waiting and waiting[0].complete:
                waiting[0].finish()
                yield waiting.pop(0), compile_seconds
                compile_seconds = 0.0

        for recording in recordings:
            waiting.append(recording)
            padded = recording.plan.padded
            for window in recording.windows():
                if batch and batch[0][0].plan.padded != padded:
                    run()
                batch.append((recording, window))
                if len(batch) == self.network.largest_batch(padded):
                    run()
            yield from done()
        run()
        yield from done()


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


def as_channels(waveform: np.ndarray) -> Float[np.ndarray, "channels t"]:
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
