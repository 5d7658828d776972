"""Spectrograms of a mixture and its separated sources, one below the other."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from mossformer_jax.audio.files import to_mono
from mossformer_jax.audio.streams import AudioReader
from mossformer_jax.figures.files import save_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WINDOW_SECONDS = 0.032
MAX_COLUMNS = 2000
# Dynamic range of the colour scale below the loudest point of all panels, and the lowest level that is measured.
RANGE_DB = 80.0
FLOOR_DB = -140.0
BLOCK_SAMPLES = 2**18
# Tick spacings in seconds, for time axes in minutes.
MINUTE_STEPS = (15, 30, 60, 120, 300, 600, 900, 1800)


@dataclass(frozen=True)
class Spectrogram:
    """Levels over time and frequency.

    Attributes:
        levels_db: (frequencies, columns), in dB relative to a full-scale sine.
        sample_rate: in Hz; the frequencies range from 0 to half of it.
        column_seconds: time between columns.
        duration: duration of the recording in seconds; the last column may extend beyond it.
    """

    levels_db: Float[np.ndarray, "f l"]
    sample_rate: int
    column_seconds: float
    duration: float


def spectrogram(path: str | os.PathLike[str], max_columns: int = MAX_COLUMNS, track: int = 1) -> Spectrogram:
    """Computes the spectrogram of an audio file block by block, with its channels mixed to mono.

    Args:
        path: an audio file of any length.
        max_columns: if there are more windows, the power of neighbouring windows is averaged.
        track: number of the audio track of a video, from 1.

    Returns:
        Levels in Hann windows of about 32 ms.

    Raises:
        FileNotFoundError, ValueError: the file cannot be read; the message gives the reason.
    """
    with AudioReader(path, track) as reader:
        return _measure(
            lambda size: (to_mono(block) for block in reader.blocks(size)),
            reader.num_samples,
            reader.sample_rate,
            max_columns,
        )


def signal_spectrogram(
    signal_t: Float[np.ndarray, " t"], sample_rate: int, max_columns: int = MAX_COLUMNS
) -> Spectrogram:
    """Computes the spectrogram of a signal in memory; see `spectrogram`."""
    return _measure(lambda _: [signal_t], len(signal_t), sample_rate, max_columns)


def plot_separation(
    path: str | os.PathLike[str],
    mixture_path: str | os.PathLike[str],
    source_paths: Sequence[str | os.PathLike[str]],
    track: int = 1,
) -> None:
    """Plots the mixture above its sources, with the same axes and colour scale.

    Args:
        path: the PNG file; it is written atomically.
        mixture_path: audio file of the mixture.
        source_paths: audio files of the sources.
        track: number of the audio track of a video, from 1.

    Raises:
        ModuleNotFoundError: matplotlib is not installed.
        FileNotFoundError, ValueError: an audio file cannot be read; the message gives the reason.
    """
    titles = [f"Mixture: {Path(mixture_path).name}"]
    titles += [f"Source {number}: {Path(source).name}" for number, source in enumerate(source_paths, 1)]
    panels = [spectrogram(mixture_path, track=track), *map(spectrogram, source_paths)]
    save_figure(spectrogram_figure(titles, panels), path)


def spectrogram_figure(titles: Sequence[str], panels: Sequence[Spectrogram], dpi: int = 120) -> Figure:
    """Plots spectrograms one below the other, with the same axes and colour scale.

    Args:
        titles: one per panel; long titles are shortened.
        panels: at least one; the duration of the first sets the time axis.
        dpi: pixels per inch; the figure is 10 inches wide.

    Returns:
        The figure. It is not registered with pyplot.

    Raises:
        ModuleNotFoundError: matplotlib is not installed.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, MultipleLocator

    loudest = max(panel.levels_db.max() for panel in panels)
    loudest = max(5 * np.ceil(loudest / 5), FLOOR_DB + RANGE_DB)
    figure = Figure(figsize=(10, 0.6 + 1.9 * len(panels)), dpi=dpi, layout="constrained")
    all_axes = np.atleast_1d(figure.subplots(len(panels), sharex=True, sharey=True))
    for axes, panel, title in zip(all_axes, panels, titles, strict=True):
        image = axes.imshow(
            panel.levels_db,
            origin="lower",
            aspect="auto",
            extent=(0.0, panel.levels_db.shape[1] * panel.column_seconds, 0.0, panel.sample_rate / 2000),
            vmin=loudest - RANGE_DB,
            vmax=loudest,
            cmap="magma",
        )
        # A file name may contain dollar signs, which must not start a formula.
        axes.set_title(_shortened(title), loc="left", fontsize="medium", parse_math=False)
        axes.set_ylabel("Frequency (kHz)")
    duration = panels[0].duration
    all_axes[-1].set_xlim(0.0, duration)
    in_minutes = duration > 120
    if in_minutes:
        step = next((step for step in MINUTE_STEPS if duration / step <= 10), 3600 * np.ceil(duration / 36_000))
        all_axes[-1].xaxis.set_major_locator(MultipleLocator(step))
        all_axes[-1].xaxis.set_major_formatter(FuncFormatter(lambda seconds, _: _minutes(seconds)))
    all_axes[-1].set_xlabel("Time (min:s)" if in_minutes else "Time (s)")
    figure.colorbar(image, ax=all_axes, label="Level (dB re full-scale sine)", pad=0.01)
    return figure


def _measure(
    blocks: Callable[[int], Iterable[Float[np.ndarray, " u"]]], num_samples: int, sample_rate: int, max_columns: int
) -> Spectrogram:
    """Computes the spectrogram of a signal that `blocks(size)` yields in blocks of about `size` samples."""
    size = 2 ** round(np.log2(max(WINDOW_SECONDS * sample_rate, 16)))
    hop = size // 4
    if num_samples > hop * max_columns:
        # With averaging, windows that overlap by half are smooth enough.
        hop = size // 2
    pooled = max(-(-num_samples // (hop * max_columns)), 1)
    column = pooled * hop
    window = np.hanning(size + 1)[:-1].astype(np.float32)
    pieces = _with_context(blocks(column * max(BLOCK_SAMPLES // column, 1)), size - hop)
    power_fl = np.concatenate([_power(signal, window, hop, pooled) for signal in pieces], axis=1)
    full_scale = np.square(window.sum() / 2)
    # The floor is applied twice: before the logarithm to avoid log(0), and after it because of rounding.
    levels_db = np.maximum(10 * np.log10(np.maximum(power_fl / full_scale, 10 ** (FLOOR_DB / 10))), FLOOR_DB)
    return Spectrogram(levels_db, sample_rate, column / sample_rate, num_samples / sample_rate)


def _with_context(blocks: Iterable[Float[np.ndarray, " _"]], num_samples: int) -> Iterable[Float[np.ndarray, " u"]]:
    """Yields each block preceded by the `num_samples` samples before it, or by zeros before the first block."""
    context = np.zeros(num_samples, np.float32)
    for block in blocks:
        signal = np.concatenate([context, block])
        yield signal
        context = signal[-num_samples:]


def _power(
    signal: Float[np.ndarray, " t"], window: Float[np.ndarray, " size"], hop: int, pooled: int
) -> Float[np.ndarray, "f l"]:
    """Power spectra of the windows, each column the mean of `pooled` neighbours; the last window is zero-padded."""
    num_frames = max(-(-(len(signal) - len(window) + hop) // hop), 1)
    padded = np.pad(signal, (0, max((num_frames - 1) * hop + len(window) - len(signal), 0)))
    frames = np.lib.stride_tricks.sliding_window_view(padded, len(window))[: num_frames * hop : hop]
    power_lf = np.square(np.abs(np.fft.rfft(frames * window)))
    return np.stack([power_lf[start : start + pooled].mean(axis=0) for start in range(0, num_frames, pooled)], axis=1)


def _shortened(title: str, length: int = 100) -> str:
    # Names in other encodings than UTF-8 contain surrogates, which fonts do not have.
    title = title.encode("utf-8", "replace").decode()
    return title if len(title) <= length else f"{title[: length // 2]} ... {title[-length // 2 :]}"


def _minutes(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"
