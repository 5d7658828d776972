"""The separation of one recording: cut into windows, separated, speakers tied across windows, joined."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from mossformer_jax.audio.errors import TooShortAudioError
from mossformer_jax.audio.resampling import resample_blocks
from mossformer_jax.model.levels import input_gain
from mossformer_jax.model.memory import activation_bytes
from mossformer_jax.separation.channels import align_channels
from mossformer_jax.separation.levels import SourceStatistics, output_gains
from mossformer_jax.separation.network import Network
from mossformer_jax.separation.options import OutputOptions
from mossformer_jax.separation.resampled import BLOCK, ResampledRecording
from mossformer_jax.separation.segments import crossfade, window_starts
from mossformer_jax.separation.spool import Spool
from mossformer_jax.separation.tying import SpeakerTies


@dataclass(frozen=True)
class Boundary:
    """The boundary between two windows of a long recording, and how the speakers were tied across it.

    Attributes:
        time: middle of the cross-fade, in seconds.
        margin: log-odds, in nats, of the chosen order against the second best; 0 if undecided.
        evidence: "overlap" (both windows hold the same speech), "voice" (the overlap is silent or undecided, and pitch
            and timbre of the speakers over the whole recording decided), "none" (undecided: the outputs keep their
            order), or "unneeded" (silence before or after: no order sounds different).
    """

    time: float
    margin: float
    evidence: str


@dataclass(frozen=True)
class Plan:
    """The windows of a recording, in samples at the model's rate.

    Attributes:
        starts: first sample of each window.
        window: length of the windows; that of the recording if there is only one.
        hop: distance between the starts of consecutive windows.
        padded: padded length of the network's input.
    """

    starts: list[int]
    window: int
    hop: int
    padded: int


def plan_windows(mixture: ResampledRecording, window: int, network: Network) -> Plan:
    """Plans one window over the whole recording if it fits the memory budget, else windows that overlap by half.

    Args:
        mixture: the recording.
        window: length of the windows, in samples at the model's rate.
        network: the network with its memory budget.

    Raises:
        ValueError: the recording is shorter than the network's kernel, or one window does not fit the budget.
    """
    length, rate, shortest = mixture.length, mixture.model_rate, network.config.kernel_size
    if length < shortest:
        raise TooShortAudioError(
            f"recording has {mixture.duration_samples} samples at {mixture.sample_rate} Hz, which are {length} at the "
            f"model's {rate} Hz, but must hold at least {shortest} there"
        )
    hop = window - window // 2
    rung = network.padded_length(length)
    if network.fits(rung):
        return Plan([0], length, hop, rung)
    if length <= window:
        plan = Plan([0], length, hop, window)
    else:
        plan = Plan(window_starts(length, window, hop), window, hop, window)
    if not network.fits(plan.padded):
        budget, needed = network.memory or 0.0, activation_bytes(network.config, 1, plan.padded)
        raise ValueError(
            f"memory budget is {budget / 1e9:.3g} GB, but a window of {window / rate:.3g} s takes "
            f"{needed / 1e9:.3g} GB; raise the budget or shorten the windows"
        )
    return plan


class Recording:
    """A recording and its separation. Only windows are held in memory.

    Usage: iterate over `windows`, `put` the sources of each in order, call `finish`, then read `sources`.

    Args:
        mixture: the recording.
        plan: its windows.
        network: the network that separates it.
        options: level of the sources, and whether they must add up to the mixture.

    Attributes:
        mixture: the recording.
        plan: its windows.
        orders_wc: `orders_wc[w, j]` is the output of window w with speaker j; set by `finish`.
        boundaries: how the windows were tied; empty for a single window.
        statistics: peak, power and correlation of the network's outputs.
    """

    def __init__(self, mixture: ResampledRecording, plan: Plan, network: Network, options: OutputOptions):
        self.mixture, self.plan = mixture, plan
        self.boundaries: tuple[Boundary, ...] = ()
        self._options = options
        self._num_sources = network.config.num_sources
        silent = mixture.loudness == 0.0
        self._input_gain = 1.0 if silent else input_gain(mixture.loudness, network.config.input_level_db)
        self._pending = 0 if silent else len(plan.starts)
        self._channels: list[np.ndarray] = []
        self._heard_wk: list[np.ndarray] = []
        self._outputs = Spool((self._num_sources, mixture.num_channels))
        self._powers_wc: list[np.ndarray] = []
        self._ties = SpeakerTies(self._num_sources, mixture.model_rate, mixture.loudness * self._input_gain)

    @property
    def complete(self) -> bool:
        """Whether every window has its sources. A silent recording is complete without running the network."""
        return self._pending == 0

    def windows(self) -> Iterator[Float[np.ndarray, " t"]]:
        """Yields every channel of every window, at the level that the network expects."""
        if self.complete:
            return
        for start in self.plan.starts:
            mixture_kt = self.mixture.read(start, start + self.plan.window)
            self._heard_wk.append(self.mixture.heard_in(mixture_kt))
            yield from mixture_kt * np.float32(self._input_gain)

    def put(self, sources_ct: Float[np.ndarray, "c t"]) -> float:
        """Adds the sources of the next channel; returns the seconds of the recording completed by it."""
        self._channels.append(sources_ct)
        if len(self._channels) < self.mixture.num_channels:
            return 0.0
        number, starts = len(self._powers_wc), self.plan.starts
        sources_ckt = np.stack(self._channels, axis=1)
        self._channels = []
        sources_ckt[:, ~self._heard_wk[number]] = (
            0.0  # a network with direct decoding gives non-zero outputs for silence
        )
        sources_ckt = align_channels(sources_ckt, self.mixture.model_rate)
        if len(starts) > 1:
            self._ties.add(sources_ckt, starts[number])
        self._powers_wc.append(np.square(sources_ckt, dtype=np.float64).sum(axis=(1, 2)))
        self._outputs.append(sources_ckt)
        self._pending -= 1
        completed = starts[number] - starts[number - 1] if number else self.plan.window
        return completed / self.mixture.model_rate

    def finish(self) -> None:
        """Decides the order of the speakers and their gains, once every window has been separated."""
        orders_wc = np.tile(np.arange(self._num_sources), (len(self.plan.starts), 1))
        if len(self._powers_wc) > 1:
            orders_wc, ties = self._ties.solve()
            middle = (self.plan.hop + self.plan.window) / 2
            self.boundaries = tuple(
                Boundary((start + middle) / self.mixture.model_rate, tie.margin, tie.evidence)
                for start, tie in zip(self.plan.starts[:-1], ties, strict=True)
            )
        self.orders_wc = orders_wc
        powers_c = sum((power[order] for power, order in zip(self._powers_wc, orders_wc, strict=False)), np.zeros(()))
        self._shares_c = (
            powers_c / powers_c.sum() if powers_c.any() else np.full(self._num_sources, 1 / self._num_sources)
        )
        self._gains_c = np.ones(self._num_sources)
        self.statistics = SourceStatistics(self._num_sources)
        for block in self.sources():
            self.statistics.add(block)
        self._gains_c = output_gains(self._options.scale, self.statistics, self.mixture.rms, self._input_gain)

    @property
    def peak(self) -> float:
        """The largest absolute sample of all sources, with their gains."""
        return float(self.peaks.max())

    @property
    def peaks(self) -> Float[np.ndarray, " c"]:
        """The largest absolute sample of each source, with its gain."""
        return self.statistics.peak * np.abs(self._gains_c)

    def warnings(self) -> list[str]:
        """Possible problems of the separation, one line each."""
        undecided = [boundary.time for boundary in self.boundaries if boundary.evidence == "none"]
        warnings = list(self.statistics.warnings())
        if not self.mixture.heard:
            warnings.append("the recording is silent")
        elif self.mixture.rms == 0.0 and self.mixture.offsets_k.any():
            warnings.append("the recording is silent except for a constant offset")
        elif self.mixture.loudness == 0.0:
            warnings.append(
                "the recording's channels cancel each other when mixed down; separate each channel (--channels each)"
            )
        if undecided:
            warnings.append(
                f"{len(undecided)} of {len(self.boundaries)} window boundaries are undecided, the first at "
                f"{undecided[0]:.1f} s: speakers may swap there"
            )
        return warnings

    def sources(self) -> Iterator[Float[np.ndarray, "c k u"]]:
        """Yields the sources at the recording's own rate and length, block by block. Can be called repeatedly."""
        rows = (block.reshape(-1, block.shape[-1]) for block in self._joined())
        position, length = 0, self.mixture.duration_samples
        for block in resample_blocks(rows, self.mixture.model_rate, self.mixture.sample_rate):
            sources_cku = block[:, : length - position].reshape(self._num_sources, self.mixture.num_channels, -1)
            position += sources_cku.shape[-1]
            yield sources_cku * self._gains_c[:, None, None].astype(np.float32)
        if position < length:  # resampling to the model's rate and back can lose a sample to rounding
            yield np.zeros((self._num_sources, self.mixture.num_channels, length - position), np.float32)

    def _joined(self) -> Iterator[Float[np.ndarray, "c k t"]]:
        """Yields the joined sources at the model's rate and the network's output level."""
        if not self._powers_wc:
            for start in range(0, self.mixture.length, BLOCK):
                size = min(BLOCK, self.mixture.length - start)
                yield np.zeros((self._num_sources, self.mixture.num_channels, size), np.float32)
            return
        position = 0
        for block in crossfade(self._window, self.plan.starts, self.plan.window, self.plan.hop):
            if self._options.mixture_consistency:
                stop = position + block.shape[-1]
                residual_kt = self.mixture.read(position, stop) * self._input_gain - block.sum(axis=0)
                block = (block + self._shares_c[:, None, None] * residual_kt).astype(np.float32)
                position = stop
            yield block

    def _window(self, number: int) -> Float[np.ndarray, "c k t"]:
        start = number * self.plan.window
        return self._outputs.read(start, start + self.plan.window)[self.orders_wc[number]]
