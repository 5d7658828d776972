"""Paired comparison of two evaluations of the same utterances."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from mossformer_jax.evaluation.report import Row, bootstrap_interval, defined
from mossformer_jax.figures.files import save_figure
from mossformer_jax.scoring import COLUMNS


@dataclass(frozen=True)
class Comparison:
    """One metric for the utterances where it is defined in both evaluations.

    Attributes:
        metric: name of the metric.
        ids: ids of the utterances, sorted.
        first: values in the first evaluation.
        second: values in the second evaluation.
        interval_95: 95 % interval of the mean difference, by bootstrap over the utterances.
    """

    metric: str
    ids: tuple[str, ...]
    first: Float[np.ndarray, " n"]
    second: Float[np.ndarray, " n"]
    interval_95: tuple[float, float]

    @property
    def differences(self) -> Float[np.ndarray, " n"]:
        """Second minus first, for each utterance."""
        return self.second - self.first

    def most_changed(self, count: int) -> list[int]:
        """Indices of the utterances with the largest absolute differences, largest first."""
        return np.argsort(-np.abs(self.differences), kind="stable")[:count].tolist()


def compare(first: Sequence[Row], second: Sequence[Row], metric: str) -> Comparison | None:
    """Compares a metric of two evaluations; None if it is defined in both for no utterance.

    The comparison is paired: each utterance is compared with itself, so that differences in difficulty cancel. The
    interval of the mean difference is therefore much narrower than the intervals of the two means suggest.
    """
    first_by_id, second_by_id = defined(first, metric), defined(second, metric)
    ids = tuple(sorted(first_by_id.keys() & second_by_id.keys()))
    if not ids:
        return None
    values = [np.array([by_id[id] for id in ids]) for by_id in (first_by_id, second_by_id)]
    return Comparison(metric, ids, values[0], values[1], bootstrap_interval(values[1] - values[0]))


def plot_comparison(path: str | os.PathLike[str], comparison: Comparison, names: tuple[str, str]) -> None:
    """Plots the second evaluation against the first, one point per utterance.

    Args:
        path: the PNG file; it is written atomically.
        comparison: the values to plot.
        names: names of the two evaluations, for the axes.

    Raises:
        ModuleNotFoundError: matplotlib is not installed.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 6), dpi=120, layout="constrained")
    axes = figure.subplots()
    axes.scatter(comparison.first, comparison.second, s=12, alpha=0.5, linewidths=0)
    axes.axline((comparison.first[0],) * 2, slope=1, color="0.5", linewidth=1)
    label = COLUMNS[comparison.metric].label
    low, high = comparison.interval_95
    axes.set(
        aspect="equal",
        adjustable="datalim",
        xlabel=f"{label}, {names[0]}",
        ylabel=f"{label}, {names[1]}",
        title=f"Mean difference {comparison.differences.mean():+.2f} (95 %: {low:+.2f} to {high:+.2f})",
    )
    for axis in (axes.xaxis, axes.yaxis):
        axis.label.set_parse_math(False)  # the name of a folder may contain a dollar sign
    axes.grid(alpha=0.3)
    save_figure(figure, path)
