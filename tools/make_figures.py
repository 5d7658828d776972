"""Draws the figures of docs/ that need only files of the repository.

    python tools/make_figures.py separation default_model

docs/separation.png: the separation of a long recording in windows. The recording consists of the two synthetic voices
of examples/, with pauses; the model is the default model. Redraw it after a change to the windows or to tying.

docs/default_model.png: the validation scores of the default model during training, from docs/default_model.csv. Redraw
it after another training stage.
"""

from __future__ import annotations

import argparse
import csv
import itertools
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from mossformer_jax import Separator, read_audio
from mossformer_jax.figures.files import save_figure
from mossformer_jax.model.memory import activation_bytes
from mossformer_jax.separation.segments import fade_in

REPOSITORY = Path(__file__).parents[1]
SPEAKERS = ("tab:blue", "tab:orange")
# Duration in seconds, and the active talkers.
TURNS = [(11, (0, 1)), (10, ()), (7, (0, 1)), (5, (1,)), (7, (0, 1))]
SEED = 5


def conversation() -> tuple[np.ndarray, int]:
    """The two voices with pauses, (c, t), and their sample rate."""
    folder = REPOSITORY / "examples" / "synthetic"
    voices, (rate, _) = zip(*(read_audio(folder / f"source{n}.wav") for n in (1, 2)), strict=True)
    stretches = []
    for seconds, who in TURNS:
        stretch = np.zeros((2, seconds * rate), np.float32)
        for talker in who:
            stretch[talker] = np.resize(voices[talker][0], seconds * rate)
        stretches.append(stretch)
    return np.concatenate(stretches, axis=1), rate


def separation() -> Figure:
    """Separates the conversation in windows, shuffles the outputs of the windows, and draws the result."""
    sources, rate = conversation()
    mixture = sources.sum(axis=0)
    separator = Separator.from_pretrained("default")
    window = 8 * separator.config.sample_rate
    separator = Separator.from_pretrained("default", memory=activation_bytes(separator.config, 1, window))
    rng = np.random.default_rng(SEED)
    network = separator.network
    swaps: list[int] = []

    def shuffling(mixtures, num_samples):
        separated, seconds = network(mixtures, num_samples)
        swaps.extend(rng.integers(2, size=len(separated)).tolist())
        return [s[::-1] if swap else s for s, swap in zip(separated, swaps[-len(separated) :], strict=True)], seconds

    recording = separator.recording([mixture[None]], rate)
    for samples in recording.windows():
        ((outputs,), _) = shuffling([samples], recording.plan.padded)
        recording.put(outputs)
    recording.finish()
    separated = np.concatenate(list(recording.sources()), axis=-1)[:, 0]
    return draw_windows(mixture, separated, recording, rate)


def draw_windows(mixture: np.ndarray, separated: np.ndarray, recording, rate: int) -> Figure:
    """Draws the recording, its windows with their fades, and the sources."""
    figure = Figure(figsize=(10, 6.2), dpi=110, layout="constrained")
    top, middle, *bottom = figure.subplots(4, sharex=True, height_ratios=[1, 1.7, 1, 1])
    seconds = np.arange(len(mixture)) / rate
    top.plot(seconds, mixture, color="0.3", linewidth=0.4)
    top.set_title("the recording", loc="left", fontsize=10)

    plan = recording.plan
    hop, length = plan.hop / rate, plan.window / rate
    rise = fade_in(plan.window - plan.hop)
    for number, start in enumerate(plan.starts):
        weights = np.ones(plan.window)
        if number > 0:
            begin = plan.starts[number - 1] + plan.hop - start
            weights[:begin], weights[begin : begin + len(rise)] = 0, rise
        if number < len(plan.starts) - 1:
            weights[plan.hop :] = 1 - rise
        row = -1.15 * (number % 2)
        times = (start + np.arange(plan.window)) / rate
        for source, colour in enumerate(SPEAKERS):
            upper = recording.orders_wc[number, source] == 0
            low, high = (row + 0.5 * weights, row + weights) if upper else (row, row + 0.5 * weights)
            middle.fill_between(times, low, high, color=colour, alpha=0.55, linewidth=0)
        middle.text(start / rate + length / 2, row + 0.5, f"{number + 1}", ha="center", va="center", fontsize=8)
    for boundary in recording.boundaries:
        words = {"overlap": "o", "voice": "v", "unneeded": "-", "none": "?"}[boundary.evidence]
        middle.text(boundary.time, 1.2, words, ha="center", fontsize=9)
    middle.set_ylim(-1.25, 1.6)
    middle.set_title(
        f"windows of {length:g} s every {hop:g} s with their weights; in each, the upper half is the network's first "
        "output (shuffled\nat random for this figure). Above: what tied them (o overlap, v voice, - not needed)",
        loc="left",
        fontsize=10,
    )
    for axes, source, colour, number in zip(bottom, separated, SPEAKERS, (1, 2), strict=True):
        axes.plot(seconds, source, color=colour, linewidth=0.4)
        axes.set_title(f"source {number}", loc="left", fontsize=10)
    bottom[-1].set_xlabel("time (s)")
    for axes in (top, middle, *bottom):
        axes.set_yticks([])
        axes.set_xlim(0, len(mixture) / rate)
        axes.spines[["top", "right", "left"]].set_visible(False)
    return figure


def default_model() -> Figure:
    """Draws the validation scores of the default model against the hours of mixtures in training."""
    with open(REPOSITORY / "docs" / "default_model.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    figure = Figure(figsize=(9, 4.6), dpi=110, layout="constrained")
    axes = figure.subplots()
    for number, (stage, validations) in enumerate(itertools.groupby(rows, key=lambda row: row["stage"])):
        hours, si_sdri_db = zip(*((float(r["hours_heard"]), float(r["si_sdri_db"])) for r in validations), strict=True)
        axes.semilogx(hours, si_sdri_db, marker="o", markersize=4, color=f"C{number}", label=f"stage {stage}")
        axes.annotate(
            f"{si_sdri_db[-1]:.2f}", (hours[-1], si_sdri_db[-1]), (0, 6), textcoords="offset points", ha="right"
        )
    axes.set_xticks([1, 2, 5, 10, 20, 50], ["1", "2", "5", "10", "20", "50"])
    axes.set_xticks([], minor=True)
    axes.margins(y=0.1)
    axes.set(xlabel="mixtures in training so far (h)", ylabel="SI-SDR improvement, validation (dB)")
    axes.grid(alpha=0.3)
    axes.legend(loc="upper left", frameon=False)
    return figure


FIGURES = {"separation": separation, "default_model": default_model}


def main() -> None:
    """Draws the named figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("figures", nargs="+", choices=FIGURES, metavar="FIGURE", help=" or ".join(FIGURES))
    for name in parser.parse_args().figures:
        save_figure(FIGURES[name](), REPOSITORY / "docs" / f"{name}.png")


if __name__ == "__main__":
    main()
