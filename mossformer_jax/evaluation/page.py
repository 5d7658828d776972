"""`report.html`: an overview of an evaluation in one file below 2 MB, with embedded figures and players."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from mossformer_jax.atomic import write_atomically
from mossformer_jax.data.records import Mixture
from mossformer_jax.evaluation.players import player_tables
from mossformer_jax.evaluation.report import Row, defined, metrics_in
from mossformer_jax.figures.html import document
from mossformer_jax.figures.spectrograms import signal_spectrogram, spectrogram_figure
from mossformer_jax.scoring import COLUMNS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

REPORT_FILE = "report.html"
_DPI = 100
# Columns of a spectrogram: about one per pixel.
_MAX_COLUMNS = 800
# Entries of a summary that the report shows, with their labels.
_FACTS = {
    "model": "Model",
    "step": "Training step",
    "parameters": "Parameters",
    "weights_sha256": "SHA-256 of the weights",
    "data": "Data",
    "date": "Date",
    "version": "Version of mossformer-jax",
    "device": "Device",
}


def write_report(
    path: Path,
    title: str,
    rows: Sequence[Row],
    summary: Mapping[str, Any],
    examples: Mapping[str, tuple[Mixture, Float[np.ndarray, "c t"]]] | None = None,
) -> None:
    """Writes the report, atomically.

    Args:
        path: the HTML file.
        title: names the model and the data set.
        rows: one per utterance; see `report`.
        summary: the summary of the rows.
        examples: by heading, such as "Best": a mixture and its estimates in the order of the sources.

    Raises:
        ModuleNotFoundError: matplotlib is not installed.
    """
    parts = [_facts_table(summary), _figures_table(rows, summary)]
    improvements = defined(rows, "si_sdri")
    if improvements:
        parts += [_image(_improvements_figure(rows)), _worst_table(improvements, summary)]
    signals = {name: _signals(*separated) for name, separated in (examples or {}).items()}
    rate = next((mixture.sample_rate for mixture, _ in (examples or {}).values()), 0)
    players = player_tables(signals, rate)
    for name, (mixture, _) in (examples or {}).items():
        figure = f"{improvements[mixture.id]:.2f} dB SI-SDRi"
        panels = [signal_spectrogram(signal_t, rate, _MAX_COLUMNS) for signal_t in signals[name].values()]
        parts += [
            f"<h2>{escape(name)}: {escape(mixture.id)}, {figure}</h2>",
            players[name],
            _image(spectrogram_figure(list(signals[name]), panels, dpi=_DPI)),
        ]
    write_atomically(path, document(title, parts).encode())


def typical(rows: Sequence[Row]) -> dict[str, int]:
    """The row indices of the best, median and worst utterance by SI-SDRi; empty if SI-SDRi is defined for no row."""
    improvements = defined(rows, "si_sdri")
    indices = [index for index, row in enumerate(rows) if row["id"] in improvements]
    if not indices:
        return {}
    ranked = sorted(indices, key=lambda index: improvements[str(rows[index]["id"])])
    return {"Best": ranked[-1], "Median": ranked[len(ranked) // 2], "Worst": ranked[0]}


def _facts_table(summary: Mapping[str, Any]) -> str:
    """The model, the data and the date, as far as the summary has them."""
    facts = {label: summary[name] for name, label in _FACTS.items() if summary.get(name) is not None}
    if isinstance(number := facts.get("Parameters"), int):
        facts["Parameters"] = f"{number:,}"
    if isinstance(data := facts.get("Data"), Mapping):
        facts["Data"] = ", ".join(f"{name}={value}" for name, value in data.items())
    lines = [f"<tr><td>{label}<td>{escape(str(fact))}" for label, fact in facts.items()]
    return "\n".join(['<table class="words">', *lines, "</table>"])


def _figures_table(rows: Sequence[Row], summary: Mapping[str, Any]) -> str:
    lines = ["<table><tr><th>Metric<th>Mean<th>95 % interval<th>Median<th>Std<th>Below 0 dB<th>Utterances"]
    for metric in metrics_in(rows[0]):
        section = summary[metric]
        cells = [escape(COLUMNS[metric].label)]
        if section["count"]:
            low, high = section["interval_95"]
            below = f"{section['share_below_0_db']:.1%}" if "share_below_0_db" in section else ""
            cells += [f"{section['mean']:.3f}", f"{low:.3f} to {high:.3f}", f"{section['median']:.3f}"]
            cells += [f"{section['std']:.3f}", below]
        else:
            cells += [""] * 5
        lines.append("<tr><td>" + "<td>".join([*cells, str(section["count"])]))
    silent = summary["silent_references"]["count"]
    counts = f"{summary['count']} utterances, {summary['seconds'] / 3600:.2f} h"
    if silent:
        counts += f"; {silent} with a silent reference, excluded from all metrics"
    return "\n".join([*lines, f"</table><p>{counts}.</p>"])


def _worst_table(improvements: Mapping[str, float], summary: Mapping[str, Any]) -> str:
    lines = [f"<tr><td>{escape(id)}<td>{improvements[id]:.2f}" for id in summary["si_sdri"]["worst"]]
    return "\n".join(["<h2>Lowest SI-SDRi (dB)</h2><table>", *lines, "</table>"])


def _improvements_figure(rows: Sequence[Row]) -> Figure:
    """A histogram of SI-SDRi, and SI-SDRi against the SI-SDR of the mixture and against the length."""
    from matplotlib.figure import Figure

    shown = [row for row in rows if row["si_sdri"] is not None]
    seconds, scores, improvements = np.array(
        [[row[name] for name in ("seconds", "si_sdr", "si_sdri")] for row in shown], np.float64
    ).T
    figure = Figure(figsize=(10, 3.6), dpi=_DPI, layout="constrained")
    histogram, by_input, by_length = figure.subplots(1, 3)
    histogram.hist(improvements, bins=min(50, max(10, len(shown) // 20)), color="C0")
    mean = improvements.mean()
    histogram.axvline(mean, color="C3", label=f"mean {mean:.2f} dB")
    histogram.legend()
    histogram.set(xlabel=COLUMNS["si_sdri"].label, ylabel="Utterances")
    for axes, x, label in (
        (by_input, scores - improvements, "SI-SDR of the mixture (dB)"),
        (by_length, seconds, "Length (s)"),
    ):
        axes.scatter(x, improvements, s=8, alpha=0.5, color="C0", linewidths=0)
        axes.axhline(0.0, color="0.6", linewidth=0.8)
        axes.set(xlabel=label, ylabel=COLUMNS["si_sdri"].label)
    return figure


def _signals(mixture: Mixture, estimates_ct: Float[np.ndarray, "c t"]) -> dict[str, Float[np.ndarray, " t"]]:
    signals = {"Mixture": mixture.mixed()}
    for number, (source_t, estimate_t) in enumerate(zip(mixture.sources, estimates_ct, strict=True), 1):
        signals |= {f"Reference {number}": source_t, f"Estimate {number}": estimate_t}
    return signals


def _image(figure: Figure) -> str:
    """The figure as WebP, which takes a tenth of the size of a PNG for spectrograms."""
    data = io.BytesIO()
    figure.savefig(data, format="webp", pil_kwargs={"quality": 60})
    return f'<p><img alt="" src="data:image/webp;base64,{base64.b64encode(data.getvalue()).decode()}"></p>'
