"""`mossformer-jax data rooms`: simulated impulse responses."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from mossformer_jax.audio import read_audio
from mossformer_jax.cli import main
from mossformer_jax.data.rooms import T60, TALKER_DISTANCE

RATE = 8000


def rooms(*arguments: object) -> int:
    return main(["data", "rooms", *map(str, arguments)])


def test_the_error_without_pyroomacoustics_names_the_extra(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyroomacoustics", None)
    assert rooms("-o", tmp_path / "rooms") == 1
    assert "pip install 'mossformer-jax[rooms]'" in capsys.readouterr().err
    assert not (tmp_path / "rooms").exists()


def test_responses_have_a_direct_sound_and_decay(tmp_path, capsys):
    pytest.importorskip("pyroomacoustics", reason="the extra rooms is not installed")
    assert rooms("-o", tmp_path / "a", "--rooms", 6, "--places", 2) == 0
    assert "12 impulse responses of 6 rooms at 8000 Hz" in capsys.readouterr().out
    paths = sorted((tmp_path / "a").glob("*/*.wav"))
    assert [path.relative_to(tmp_path / "a").as_posix() for path in paths[:3]] == [
        "room0000/0.wav",
        "room0000/1.wav",
        "room0001/0.wav",
    ]
    for path in paths:
        (response,), rate = read_audio(path)
        assert rate == RATE
        reflections = response[np.argmax(np.abs(response)) + RATE // 100 :].astype(np.float64)
        energy = np.cumsum(np.square(reflections)[::-1])[::-1]
        curve_db = 10 * np.log10(energy / energy[0])
        first, last = np.argmax(curve_db < -5), np.argmax(curve_db < -25)
        # A tolerance of a factor of two: Sabine's formula holds for diffuse fields, not exactly for boxes.
        assert 0.5 * T60[0] < 3 * (last - first) / RATE < 2 * T60[1]
        # pyroomacoustics delays everything by half of its fractional delay filter, 40 samples.
        direct = (np.argmax(np.abs(response)) - 40) / RATE * 343
        assert 0.5 * TALKER_DISTANCE[0] < direct < TALKER_DISTANCE[1] + 3.0


def test_the_same_seed_gives_the_same_rooms(tmp_path):
    pytest.importorskip("pyroomacoustics", reason="the extra rooms is not installed")
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        assert rooms("-o", tmp_path / name, "--rooms", 1, "--places", 1, "--seed", seed) == 0
    first, same, other = (read_audio(tmp_path / name / "room0000" / "0.wav")[0][0] for name in "abc")
    np.testing.assert_array_equal(first, same)
    assert not np.array_equal(first[:100], other[:100])


def test_a_folder_that_is_not_empty_is_an_error(tmp_path, capsys):
    pytest.importorskip("pyroomacoustics", reason="the extra rooms is not installed")
    (tmp_path / "kept").touch()
    assert rooms("-o", tmp_path) == 1
    assert "is not empty; give a new folder" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
