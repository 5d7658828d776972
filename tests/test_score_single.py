"""The script that scores separated recordings of one talker."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile

from tests.conftest import load_tool


@pytest.fixture
def score_single():
    return load_tool("score_single")


def write(folder, **signals):
    folder.mkdir(exist_ok=True)
    for name, signal in signals.items():
        soundfile.write(folder / f"{name}.wav", signal, 8000, subtype="FLOAT")


def test_one_talker_is_scored_by_si_sdr_and_level_difference(score_single, tmp_path, rng, capsys):
    voice, noise = 0.1 * rng.standard_normal((2, 8000))
    noise -= voice * (noise @ voice) / (voice @ voice)
    noise *= np.linalg.norm(voice) / np.linalg.norm(noise)
    write(tmp_path / "mix", a=voice, b=np.zeros(8000))
    # Recording a: the talker is in the second output, with noise 20 dB below.
    write(tmp_path / "out", a_s1=0.01 * voice, a_s2=voice + 0.1 * noise, b_s1=np.zeros(8000), b_s2=np.zeros(8000))
    score_single.main(["--mixtures", str(tmp_path / "mix"), "--estimates", str(tmp_path / "out")])
    printed = capsys.readouterr().out
    assert "1 silent recordings, 1 of them with silent outputs" in printed
    assert "SI-SDR of the louder output: mean 20.0 dB" in printed
    assert "level difference of the outputs: mean 40.0 dB" in printed


def test_a_missing_output_is_named(score_single, tmp_path, capsys):
    write(tmp_path / "mix", a=np.ones(800))
    with pytest.raises(SystemExit):
        score_single.main(["--mixtures", str(tmp_path / "mix"), "--estimates", str(tmp_path)])
    assert "a_s1.wav: no such file" in capsys.readouterr().err
