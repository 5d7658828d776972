"""Spectrograms show known tones at the right level, time and frequency; the plots are complete."""

from __future__ import annotations

import numpy as np
import pytest

from mossformer_jax.audio import write_audio
from mossformer_jax.figures import spectrograms
from mossformer_jax.figures.spectrograms import plot_separation, signal_spectrogram, spectrogram


@pytest.fixture
def tone(tmp_path):
    """1 s of silence, then 2 s of a 1 kHz sine with an amplitude of 0.5, in two channels at 8 kHz."""
    time_t = np.arange(24_000) / 8000
    signal = 0.5 * np.sin(2 * np.pi * 1000 * time_t) * (time_t >= 1.0)
    write_audio(tmp_path / "tone.wav", np.stack([signal, signal]), 8000, "FLOAT")
    return tmp_path / "tone.wav"


@pytest.mark.parametrize(("max_columns", "expected"), [(2000, 375), (50, 47)])  # columns of 8 and 64 ms
def test_a_tone_has_its_level_at_its_time_and_frequency(tone, max_columns, expected):
    measured = spectrogram(tone, max_columns)
    num_frequencies, num_columns = measured.levels_db.shape
    assert (measured.sample_rate, measured.duration) == (8000, 3.0)
    assert num_columns == expected
    assert num_columns * measured.column_seconds == pytest.approx(3.0, abs=measured.column_seconds)
    frequency = 1000 / 4000 * (num_frequencies - 1)
    loud = measured.levels_db[:, int(1.5 / measured.column_seconds)]
    assert loud.argmax() == frequency
    assert loud.max() == pytest.approx(-6.02, abs=0.01)  # an amplitude of 0.5
    silent = measured.levels_db[:, : int(0.9 / measured.column_seconds)]
    assert silent.max() == spectrograms.FLOOR_DB


def test_the_block_size_does_not_change_the_spectrogram(tmp_path, rng, monkeypatch):
    write_audio(tmp_path / "noise.wav", 0.1 * rng.standard_normal(30_000), 8000)
    whole = spectrogram(tmp_path / "noise.wav").levels_db
    monkeypatch.setattr(spectrograms, "BLOCK_SAMPLES", 1000)
    np.testing.assert_array_equal(spectrogram(tmp_path / "noise.wav").levels_db, whole)


def test_a_signal_in_memory_has_the_same_spectrogram_as_its_file(tmp_path, rng):
    noise_t = (0.1 * rng.standard_normal(30_000)).astype(np.float32)
    write_audio(tmp_path / "noise.wav", noise_t, 8000, "FLOAT")
    expected = spectrogram(tmp_path / "noise.wav")
    measured = signal_spectrogram(noise_t, 8000)
    np.testing.assert_array_equal(measured.levels_db, expected.levels_db)
    assert (measured.column_seconds, measured.duration) == (expected.column_seconds, expected.duration)


def test_a_recording_shorter_than_a_window_can_be_plotted(tmp_path):
    write_audio(tmp_path / "click.wav", np.full(9, 0.1), 8000)
    plot_separation(tmp_path / "click.png", tmp_path / "click.wav", [tmp_path / "click.wav"])
    assert (tmp_path / "click.png").stat().st_size > 0


def test_an_interrupted_plot_leaves_no_file(tone, tmp_path, monkeypatch):
    def interrupted(figure, path, **_):
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    before = set(tmp_path.iterdir())
    monkeypatch.setattr("matplotlib.figure.Figure.savefig", interrupted)
    with pytest.raises(KeyboardInterrupt):
        plot_separation(tmp_path / "tone.png", tone, [tone])
    assert set(tmp_path.iterdir()) == before


@pytest.mark.medium
def test_panels_share_axes_and_colours_and_any_file_name_can_be_a_title(tone, tmp_path, monkeypatch):
    """Dollar signs do not start a formula, and characters that the font lacks do not cause a warning."""
    figures = []
    save = spectrograms.save_figure
    monkeypatch.setattr(spectrograms, "save_figure", lambda figure, path: (figures.append(figure), save(figure, path)))
    odd, quiet = tmp_path / "cash $x^$ \u65e5\u672c.wav", tmp_path / "quiet.wav"
    odd.write_bytes(tone.read_bytes())
    write_audio(quiet, np.zeros(24_000), 8000)
    plot_separation(tmp_path / "picture.png", odd, [quiet, tone])
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")
    *panels, bar = figures[0].axes
    assert [panel.get_title(loc="left") for panel in panels] == [
        f"Mixture: {odd.name}", "Source 1: quiet.wav", "Source 2: tone.wav"
    ]  # fmt: skip
    assert {panel.images[0].get_clim() for panel in panels} == {(-85.0, -5.0)}
    assert {(panel.get_xlim(), panel.get_ylim()) for panel in panels} == {((0.0, 3.0), (0.0, 4.0))}
    assert (panels[-1].get_xlabel(), panels[0].get_ylabel()) == ("Time (s)", "Frequency (kHz)")
    assert bar.get_ylabel() == "Level (dB re full-scale sine)"


def test_a_silent_recording_can_be_plotted(tmp_path):
    write_audio(tmp_path / "silence.wav", np.zeros(1_000_000), 8000)
    plot_separation(tmp_path / "silence.png", tmp_path / "silence.wav", [])
    assert (tmp_path / "silence.png").exists()


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (90, "1:30"), (3600, "60:00")])
def test_ticks_are_minutes_and_seconds(seconds, text):
    assert spectrograms._minutes(seconds) == text
