"""Pictures of a separation: spectrograms of the mixture and of its sources, one below the other."""

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
# What is shown below the loudest point of all panels, and the quietest point that a sound file can hold.
RANGE_DB = 80.0
FLOOR_DB = -140.0
BLOCK_SAMPLES = 2**18
# Between two ticks of a time axis in minutes, in seconds.
MINUTE_STEPS = (15, 30, 60, 120, 300, 600, 900, 1800)


@dataclass(frozen=True)
class Spectrogram:
    """Levels over time and frequency.

    Attributes:
        levels_db: (frequencies, columns), in dB; 0 is a sine at full scale.
        sample_rate: in Hz; the frequencies go from 0 to half of it.
        column_seconds: from one column to the next.
        duration: of the recording, in seconds; the last column may reach beyond it.
    """

    levels_db: Float[np.ndarray, "f l"]
    sample_rate: int
    column_seconds: float
    duration: float


def spectrogram(path: str | os.PathLike[str], max_columns: int = MAX_COLUMNS) -> Spectrogram:
    """Measures an audio file block by block, its channels mixed down.

    Args:
        path: the file, of any length.
        max_columns: where there are more windows than this, the power of neighbouring ones is averaged.

    Returns:
        Levels in Hann windows of about 32 ms.

    Raises:
        FileNotFoundError, ValueError: the file cannot be read; the message says why.
    """
    with AudioReader(path) as reader:
        return _measure(
            lambda size: (to_mono(block) for block in reader.blocks(size)),
            reader.num_samples,
            reader.sample_rate,
            max_columns,
        )


def signal_spectrogram(
    signal_t: Float[np.ndarray, " t"], sample_rate: int, max_columns: int = MAX_COLUMNS
) -> Spectrogram:
    """Measures a signal in memory, as `spectrogram` does a file."""
    return _measure(lambda _: [signal_t], len(signal_t), sample_rate, max_columns)


def plot_separation(
    path: str | os.PathLike[str],
    mixture_path: str | os.PathLike[str],
    source_paths: Sequence[str | os.PathLike[str]],
) -> None:
    """Draws the mixture above its sources, on the same axes and colour scale.

    Args:
        path: the PNG file; it appears when it is complete.
        mixture_path: the recording.
        source_paths: its sources.

    Raises:
        ModuleNotFoundError: matplotlib is not installed.
        FileNotFoundError, ValueError: an audio file cannot be read; the message says why.
    """
    titles = [f"Mixture: {Path(mixture_path).name}"]
    titles += [f"Source {number}: {Path(source).name}" for number, source in enumerate(source_paths, 1)]
    panels = [spectrogram(audio_path) for audio_path in (mixture_path, *source_paths)]
    save_figure(spectrogram_figure(titles, panels), path)


def spectrogram_figure(titles: Sequence[str], panels: Sequence[Spectrogram], dpi: int = 120) -> Figure:
    """Draws spectrograms one below the other, on the same axes and colour scale.

    Args:
        titles: one a panel; they are cut where they are long.
        panels: at least one; the first one's duration is that of the time axis.
        dpi: pixels an inch; the figure is 10 inches wide.

    Returns:
        The figure, which pyplot knows nothing of.

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
        # A file's name may hold dollar signs, and is no formula.
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
    """The spectrogram of a signal that `blocks` cuts into pieces of about the size that it is asked for."""
    size = 2 ** round(np.log2(max(WINDOW_SECONDS * sample_rate, 16)))
    hop = size // 4
    if num_samples > hop * max_columns:
        # Averaging smooths enough: windows that overlap by half will do.
        hop = size // 2
    pooled = max(-(-num_samples // (hop * max_columns)), 1)
    column = pooled * hop
    window = np.hanning(size + 1)[:-1].astype(np.float32)
    pieces = _with_context(blocks(column * max(BLOCK_SAMPLES // column, 1)), size - hop)
    power_fl = np.concatenate([_power(signal, window, hop, pooled) for signal in pieces], axis=1)
    full_scale = np.square(window.sum() / 2)
    # The floor twice: once for the logarithm, once since the logarithm rounds.
    levels_db = np.maximum(10 * np.log10(np.maximum(power_fl / full_scale, 10 ** (FLOOR_DB / 10))), FLOOR_DB)
    return Spectrogram(levels_db, sample_rate, column / sample_rate, num_samples / sample_rate)


def _with_context(blocks: Iterable[Float[np.ndarray, " t"]], num_samples: int) -> Iterable[Float[np.ndarray, " u"]]:
    """Each block with the last `num_samples` before it, zeros before the first one."""
    context = np.zeros(num_samples, np.float32)
    for block in blocks:
        signal = np.concatenate([context, block])
        yield signal
        context = signal[-num_samples:]


def _power(
    signal: Float[np.ndarray, " t"], window: Float[np.ndarray, " size"], hop: int, pooled: int
) -> Float[np.ndarray, "f l"]:
    """Power of the windowed spectra, the mean of `pooled` neighbours a column; zeros complete the last one."""
    num_frames = max(-(-(len(signal) - len(window) + hop) // hop), 1)
    padded = np.pad(signal, (0, max((num_frames - 1) * hop + len(window) - len(signal), 0)))
    frames = np.lib.stride_tricks.sliding_window_view(padded, len(window))[: num_frames * hop : hop]
    power_lf = np.square(np.abs(np.fft.rfft(frames * window)))
    return np.stack([power_lf[start : start + pooled].mean(axis=0) for start in range(0, num_frames, pooled)], axis=1)


def _shortened(title: str, length: int = 100) -> str:
    return title if len(title) <= length else f"{title[: length // 2]} ... {title[-length // 2 :]}"


def _minutes(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"
