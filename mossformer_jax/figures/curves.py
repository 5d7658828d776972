"""Training curves: losses, SI-SDR improvement and learning rate."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from mossformer_jax.figures.files import save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# The smoothed curve is a moving average over this share of all points.
SMOOTHED_SHARE = 0.04
# Percentage of the training losses, at either end, that may be outside the axes. Otherwise a single outlier would
# flatten the curve.
OUTLIER_PERCENT = 0.5


def plot_training(path: str | os.PathLike[str], records: Sequence[dict[str, Any]]) -> None:
    """Plots losses, SI-SDRi and learning rate against the step in three panels.

    Args:
        path: the PNG file; it is written atomically.
        records: the records of metrics.jsonl; without records, the panels are empty.

    Raises:
        ModuleNotFoundError: matplotlib is not installed.
    """
    from matplotlib.figure import Figure

    training = [record for record in records if record["kind"] == "train"]
    validations = [record for record in records if record["kind"] == "validation"]
    figure = Figure(figsize=(9, 8), dpi=120, layout="constrained")
    loss, improvement, rate = figure.subplots(3, sharex=True, height_ratios=(3, 3, 1.2))
    _draw_losses(loss, training, validations)
    _draw_improvements(improvement, validations)
    rate.semilogy(*_curve(training, "learning_rate"), color="C2")
    rate.set(ylabel="Learning rate", xlabel="Step")
    for axes in (loss, improvement, rate):
        axes.grid(alpha=0.3)
        axes.margins(x=0.01)
    save_figure(figure, path)


def _draw_losses(axes: Axes, training: Sequence[dict[str, Any]], validations: Sequence[dict[str, Any]]) -> None:
    steps, losses = _curve(training, "loss")
    validation_steps, si_sdr_db = _curve(validations, "si_sdr_db")
    axes.plot(steps, losses, color="C0", alpha=0.3, linewidth=0.8, label="training")
    typical = _range(losses, OUTLIER_PERCENT)
    if typical is not None:
        axes.plot(steps, _smoothed(np.clip(losses, *typical)), color="C0", label="training, smoothed")
    axes.plot(validation_steps, -si_sdr_db, color="C1", marker=".", label="validation")
    ranges = [limits for limits in (typical, _range(-si_sdr_db)) if limits is not None]
    shown = _range(np.array(ranges))
    if shown is not None and shown[0] < shown[1]:
        margin = 0.05 * (shown[1] - shown[0])
        axes.set_ylim(shown[0] - margin, shown[1] + margin)
    axes.set_ylabel("Loss: negative SI-SDR (dB)")
    axes.legend(loc="upper right")


def _draw_improvements(axes: Axes, validations: Sequence[dict[str, Any]]) -> None:
    steps, improvements = _curve(validations, "si_sdri_db")
    axes.plot(steps, improvements, color="C1", marker=".", label="validation")
    if np.isfinite(improvements).any():
        best = np.nanargmax(improvements)
        label = f"best: {improvements[best]:.2f} dB at step {steps[best]:.0f}"
        axes.plot(steps[best], improvements[best], "*", color="C3", markersize=14, label=label)
    axes.set_ylabel("SI-SDR improvement (dB)")
    axes.legend(loc="lower right")


def _curve(records: Sequence[dict[str, Any]], key: str) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """Steps and values; missing values are NaN, which leaves a gap in the curve."""
    values = [np.nan if record.get(key) is None else record[key] for record in records]
    return np.array([record["step"] for record in records], float), np.array(values, float)


def _range(values: np.ndarray, outlier_percent: float = 0.0) -> np.ndarray | None:
    """Minimum and maximum without this percentage of outliers at either end; None if no value is finite."""
    finite = values[np.isfinite(values)]
    return np.percentile(finite, [outlier_percent, 100 - outlier_percent]) if finite.size else None


def _smoothed(values: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Moving average with a shorter window at the ends; values that are not finite are ignored."""
    if len(values) < 2:
        return values
    kernel = np.ones(2 * round(len(values) * SMOOTHED_SHARE / 2) + 1)
    finite = np.isfinite(values)
    sums = np.convolve(np.where(finite, values, 0.0), kernel, "same")
    counts = np.convolve(finite, kernel, "same")
    return np.divide(sums, counts, out=np.full(len(values), np.nan), where=counts > 0.5)
