"""Silent data are refused before training."""

from __future__ import annotations

import numpy as np
import pytest

from mossformer_jax.audio import write_audio
from mossformer_jax.data.layouts import open_mixtures
from mossformer_jax.data.silence import check_sound
from mossformer_jax.data.training_mixtures import open_training_mixtures

RATE = 8000


@pytest.fixture
def table(tmp_path, rng):
    """Writes a CSV of mixtures made of "noise", "zeros" and "constant"."""
    for name, signal in {
        "noise": 0.1 * rng.standard_normal(800),
        "zeros": np.zeros(800),
        "constant": np.full(800, 0.25),
    }.items():
        write_audio(tmp_path / f"{name}.wav", signal, RATE)

    def make(*rows):
        lines = [",".join([f"m{number}", *(f"{name}.wav" for name in row)]) for number, row in enumerate(rows)]
        (tmp_path / "m.csv").write_text("\n".join(["id,mixture,source_1,source_2", *lines]))
        return open_mixtures("csv", path=tmp_path / "m.csv")

    return make


@pytest.mark.parametrize(
    "row",
    [
        ("zeros", "zeros", "zeros"),
        ("zeros", "noise", "noise"),
        ("noise", "zeros", "zeros"),
        ("noise", "zeros", "constant"),
    ],
)
def test_silent_mixtures_or_sources_are_refused_with_their_files(table, tmp_path, row):
    message = rf"config.data.validation: the audio of all 2 mixtures .* is silent: {tmp_path / row[0]}.wav"
    with pytest.raises(ValueError, match=message):
        check_sound(table(row, row), "validation")
    with pytest.raises(ValueError, match=r"config.data.train: .* silent"):
        check_sound(open_training_mixtures(layout="csv", path=str(tmp_path / "m.csv"), speeds=(100,)), "train")


def test_a_single_recording_with_sound_is_enough(table):
    check_sound(table(("zeros", "zeros", "zeros"), ("noise", "noise", "zeros")), "train")


def test_a_recording_that_cannot_be_read_is_left_to_training(table, tmp_path):
    mixtures = table(("noise", "noise", "noise"))
    (tmp_path / "noise.wav").unlink()
    check_sound(mixtures, "train")


def test_only_a_few_recordings_are_read(table, monkeypatch):
    mixtures = table(*[("zeros", "zeros", "zeros")] * 100)
    read = []
    inner = type(mixtures).read
    monkeypatch.setattr(type(mixtures), "read", lambda self, index: read.append(index) or inner(self, index))
    with pytest.raises(ValueError, match="all 16 mixtures"):
        check_sound(mixtures, "train")
    assert (len(read), read[0], read[-1]) == (16, 0, 99)


def test_silent_speech_is_refused_with_its_files(tmp_path):
    for speaker in ("a", "b"):
        (tmp_path / speaker).mkdir()
        write_audio(tmp_path / speaker / "u.wav", np.zeros(800), RATE)
    mixtures = open_training_mixtures(corpus="folder", root=str(tmp_path), sample_rate=RATE)
    with pytest.raises(ValueError, match=rf"all 2 utterances .* silent: {tmp_path / 'a' / 'u.wav'}"):
        check_sound(mixtures, "train")
