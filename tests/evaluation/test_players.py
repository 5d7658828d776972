"""Players in an HTML page."""

from __future__ import annotations

import base64
import io
import re

import numpy as np
import pytest
import soundfile

from mossformer_jax.evaluation.players import PEAK, player_tables

RATE = 8000


def decoded(table: str) -> dict[str, tuple[np.ndarray, int]]:
    """The signals in a table, by name."""
    found = re.findall(r'<tr><td>(.*?)<td><audio controls preload="none" src="data:audio/ogg;base64,(.*?)">', table)
    return {name: soundfile.read(io.BytesIO(base64.b64decode(data))) for name, data in found}


@pytest.fixture
def signals(rng):
    time = np.arange(3 * RATE) / RATE
    return {name: level * np.sin(2 * np.pi * 440 * time) for name, level in (("Mixture", 0.02), ("Estimate <1>", 0.01))}


def test_the_signals_of_an_example_are_scaled_by_one_factor(signals):
    tables = player_tables({"Best": signals, "Worst": signals}, RATE)
    assert list(tables) == ["Best", "Worst"]
    assert "The first" not in tables["Best"]
    played = decoded(tables["Best"])
    assert list(played) == ["Mixture", "Estimate &lt;1&gt;"]
    for (sound, rate), signal in zip(played.values(), signals.values(), strict=True):
        assert (rate, len(sound)) == (RATE, 3 * RATE)
        expected = signal * PEAK / 0.02
        # Vorbis is not exact.
        assert np.sqrt(np.mean(np.square(sound - expected))) < 0.05 * np.sqrt(np.mean(np.square(expected)))


def test_all_signals_are_cut_to_the_same_length_if_they_exceed_the_budget(rng):
    noise = {name: rng.standard_normal(8 * RATE) for name in ("Mixture", "Reference 1")}
    (table,) = player_tables({"Best": noise}, RATE, budget=30_000).values()
    lengths = {len(sound) for sound, _ in decoded(table).values()}
    assert len(lengths) == 1
    (length,) = lengths
    assert RATE <= length < 8 * RATE
    assert f"<p>The first {length / RATE:.1f} s.</p>" in table
    assert len(table) < 30_000 * 4 / 3 + 1000


@pytest.mark.parametrize("rate", [100, 500_000])
def test_unusual_sample_rates_and_silence_can_be_played(rate):
    (table,) = player_tables({"Best": {"Mixture": np.zeros(rate)}}, rate).values()
    ((sound, played_rate),) = decoded(table).values()
    assert played_rate == min(rate, 48_000)
    assert not sound.any()
