"""Separates waveforms (arrays) of any sample rate, length, level and number of channels."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int16

from mossformer_jax.audio.files import check_sample_rate
from mossformer_jax.audio.sources import AudioSource
from mossformer_jax.model.memory import activation_bytes
from mossformer_jax.separation.network import LADDER_GROWTH, Network, device_memory
from mossformer_jax.separation.options import OutputOptions
from mossformer_jax.separation.recording import Boundary, Recording, plan_windows
from mossformer_jax.separation.resampled import ResampledRecording
from mossformer_jax.separation.waveforms import as_channels, with_rate
from mossformer_jax.weights import LoadedModel, load_model

WINDOW_SECONDS = 8.0
MIN_WINDOW_SECONDS, MAX_WINDOW_SECONDS = 0.5, 86_400


@dataclass(frozen=True)
class Timings:
    """The run time of a separation, in seconds.

    Attributes:
        compile_seconds: compiling the network for shapes that it had not been compiled for, or reading the programs
            from the compilation cache.
        run_seconds: everything else, from the waveform to the sources. A batch's time is divided by length.
    """

    compile_seconds: float
    run_seconds: float


@dataclass(frozen=True)
class Separation:
    """The separated sources of one waveform.

    Attributes:
        sources: (sources, t), or (sources, channels, t) with channels="each"; float32, with the length of the waveform
            and, by default, its level.
        sample_rate: that of the waveform, in Hz.
        boundaries: where the windows of a long recording meet, and how certain the order of the speakers is; empty if
            it was separated in one pass.
        warnings: one line each: undecided boundaries, silent or duplicate sources.
        timings: run time.
    """

    sources: Float[np.ndarray, "c *k t"]
    sample_rate: int
    boundaries: tuple[Boundary, ...]
    warnings: tuple[str, ...]
    timings: Timings


class Separator:
    """Separates the speakers of a recording, at the recording's own sample rate and level.

    The waveform is mixed down to mono, resampled to the model's rate, scaled to the level that the model expects
    (if it expects one), separated, and converted back. Recordings that fit the memory budget are separated in one pass;
    longer ones in overlapping windows, with the speakers tied across them. Threads may share a separator.

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
        batch_size: maximum number of windows per network call; None takes 1 on a CPU, where more are no faster, else 8.
        ladder_growth: ratio of consecutive lengths that the network is compiled for; larger means fewer programs and
            more padding, which costs time but does not change the result.

    Attributes:
        config: the model's sizes and options.
        network: the compiled network.

    Raises:
        ValueError: an option is out of its range.
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
        _require(
            window_seconds <= MAX_WINDOW_SECONDS,
            f"window_seconds={window_seconds:g} is not allowed: must be at most {MAX_WINDOW_SECONDS:,}",
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
    def from_pretrained(
        cls, path: str | os.PathLike[str] = "default", *, shifts: int | None = None, **options: Any
    ) -> Separator:
        """Loads a stored model.

        Args:
            path: "default", the shipped model; a folder written by `save_model` or `mossformer-jax convert`; the name
                of a published model (docs/pretrained.md), or "owner/name" on Hugging Face (needs the extra `hub`), or
                "modelscope:owner/name". Models on a hub are downloaded and converted on first use.
            shifts: number of shifted copies to average; None: the `ModelConfig.shifts` of the model.
            **options: memory, window_seconds, batch_size and ladder_growth, as in the constructor.

        Raises:
            FileNotFoundError, ValueError: the model does not exist or cannot be used.
            OSError: the hub cannot be reached.
        """
        return cls(load_model(path, shifts=shifts), **options)

    def __call__(
        self,
        waveform: Float[np.ndarray, "*channels t"] | Int16[np.ndarray, "*channels t"] | AudioSource,
        sample_rate: int | None = None,
        *,
        scale: str = "mixture",
        mixture_consistency: bool = False,
        channels: str = "mix",
    ) -> Separation:
        """Separates one recording.

        Args:
            waveform: (t,) or (channels, t), floating point within about +-1, or int16; or a file with it: a path, the
                content of a file (bytes), or an open binary file (such as `io.BytesIO`).
            sample_rate: in Hz; None only for a file, which contains it.
            scale: level of the sources: one of `OutputOptions.scale`.
            mixture_consistency: whether the sources must add up to the mixture, as in `OutputOptions`.
            channels: "mix" mixes the channels down to mono; "each" separates every channel.

        Returns:
            The sources, with the length and sample rate of the waveform. Silence gives exact silence.

        Raises:
            ValueError: an invalid waveform, rate or option; the message names the value seen and those allowed.
        """
        options = OutputOptions(scale, mixture_consistency, channels)
        array, sample_rate = with_rate(waveform, sample_rate)
        return self.batch([array], sample_rate, options)[0]

    def batch(
        self,
        waveforms: Sequence[Float[np.ndarray, "... _"] | Int16[np.ndarray, "... _"]],
        sample_rate: int,
        options: OutputOptions = OutputOptions(),
    ) -> list[Separation]:
        """Separates several recordings of any lengths, up to `batch_size` of similar length at a time.

        The result for each is the same as if it were separated alone. Results and errors are as in `__call__`; an
        error names the waveform, counted from 0, and stops the batch.
        """
        start = time.perf_counter()
        check_sample_rate(sample_rate)

        def prepare(number: int, waveform: np.ndarray) -> Recording:
            try:
                return self.recording([as_channels(waveform)], sample_rate, options)
            except ValueError as error:
                raise error if len(waveforms) == 1 else ValueError(f"waveform {number}: {error}") from error

        recordings = itertools.starmap(prepare, enumerate(waveforms))
        compile_seconds, separated = 0.0, []
        for recording, seconds in self.separate(recordings):
            compile_seconds += seconds
            sources_ckt = np.concatenate(list(recording.sources()), axis=-1)
            sources = sources_ckt[:, 0] if options.channels == "mix" else sources_ckt
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
        blocks: Iterable[Float[np.ndarray, "k _"]],
        sample_rate: int,
        options: OutputOptions = OutputOptions(),
    ) -> Recording:
        """Prepares a recording, given block by block, for `separate`; errors as in `__call__`."""
        mixture = ResampledRecording(blocks, sample_rate, self.config.sample_rate, mix=options.channels == "mix")
        return Recording(mixture, plan_windows(mixture, self._window, self.network), self.network, options)

    def separate(
        self, recordings: Iterable[Recording], progress: Callable[[float], None] | None = None
    ) -> Iterator[tuple[Recording, float]]:
        """Separates recordings; windows with the same padded length are batched, also across recordings.

        Args:
            recordings: consumed lazily, one at a time.
            progress: called with the seconds of audio separated since its last call.

        Yields:
            Each recording, finished, in order, and the compile time in seconds since the previous one.
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
                seconds_done = recording.put(sources)
                if progress is not None:
                    progress(seconds_done)
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
