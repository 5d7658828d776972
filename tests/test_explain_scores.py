"""The script that says what is behind the mean of separated mixtures."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile

from tests.conftest import load_tool

RATE = 8000


@pytest.fixture
def script(tmp_path):
    """The script on what lies in the folder."""
    tables = ["--mixtures", tmp_path / "mixtures.csv", "--manifest", tmp_path / "manifest.csv"]
    return lambda: load_tool("explain_scores").main([str(flag) for flag in [*tables, "--estimates", tmp_path]])


@pytest.fixture
def explain(tmp_path, script, capsys):
    """Writes mixtures of a woman and a man, the outputs that are given for them, and what the script says of them."""

    def run(*outputs_of, pause=0):
        lines, rng = ["id,mixture,source_1,source_2,speaker_1,speaker_2"], np.random.default_rng(0)
        for number, make_outputs in enumerate(outputs_of):
            sources = 0.1 * rng.standard_normal((2, (2 + number) * RATE))
            sources[0, :pause] = 0.0
            names = [f"{name}{number}" for name in ("m", "a", "b")] + [f"m{number}_s{k}" for k in (1, 2)]
            for name, signal in zip(names, (sources.sum(axis=0), *sources, *make_outputs(*sources)), strict=True):
                soundfile.write(tmp_path / f"{name}.wav", signal, RATE, subtype="FLOAT")
            lines.append(f"m{number},m{number}.wav,a{number}.wav,b{number}.wav,woman,man")
        (tmp_path / "mixtures.csv").write_text("\n".join(lines))
        (tmp_path / "manifest.csv").write_text("speaker,gender\nwoman,F\nman,M\n")
        script()
        return capsys.readouterr().out

    return run


def test_levels_are_those_of_the_outputs_whichever_talker_they_hold(explain):
    def leak(a, b):
        return 0.1 * (b + 0.1 * a), 2.0 * (a + 0.1 * b)

    printed = explain(leak, leak)
    assert "2 mixtures of F and M: SI-SDRi 20." in printed
    assert "0 of 2 improve by less than 1 dB, 0 become worse" in printed
    assert "output 1: its talker at -20.0 dB" in printed
    assert "output 2: its talker at 6.0 dB" in printed
    assert "half seconds of all: the other order fits better in 0% of 10;" in printed
    assert "below 1 dB:" not in printed


def test_talkers_who_change_outputs_are_found(explain):
    def change(a, b):
        """After 1.5 of 2 s."""
        straight = np.arange(a.size) < 1.5 * RATE
        noise = 0.01 * np.cos(np.arange(a.size))
        return np.where(straight, a, b) + noise, np.where(straight, b, a) + noise

    printed = explain(change)
    assert "other order fits better in 25% of 4;" in printed
    found = printed.partition("SI-SDRi ")[2]
    assert float(found.split()[0]) < 10.0
    better = float(printed.partition("better order of each ")[2].split()[0])
    assert better > 20.0


def test_a_half_second_in_which_one_talker_pauses_does_not_count(explain):
    assert "in 0% of 3;" in explain(lambda a, b: (a, b), pause=RATE // 2)


def test_mixtures_that_fail_are_named(explain):
    printed = explain(lambda a, b: (a, b), lambda a, b: (a + 0.99 * b, b + 0.99 * a))
    assert "1 of 2 improve by less than 1 dB, 0 become worse" in printed
    assert "  m1: 0.1 dB" in printed
    assert "half seconds of those below 1 dB:" in printed


def test_what_cannot_be_explained_is_named_with_what_to_do(explain, script, tmp_path, capsys):
    explain(lambda a, b: (a, b))

    def refused() -> str:
        with pytest.raises(SystemExit):
            script()
        return capsys.readouterr().err

    soundfile.write(tmp_path / "m0_s1.wav", np.zeros(100), RATE)
    assert "m0: the mixture, its sources and the outputs must be mono and of one length" in refused()
    soundfile.write(tmp_path / "a0.wav", np.zeros(2 * RATE), RATE)
    soundfile.write(tmp_path / "m0_s1.wav", np.zeros(2 * RATE), RATE)
    assert "m0: one source is silent; score_single.py" in refused()
    (tmp_path / "m0_s2.wav").unlink()
    assert "m0_s2.wav: no such file; separate" in refused()
    (tmp_path / "b0.wav").unlink()
    assert "b0.wav: no such file; make" in refused()
    (tmp_path / "mixtures.csv").unlink()
    assert "mixtures.csv: no such file; make it with make_heldout.py" in refused()


def test_a_speaker_that_the_manifest_lacks_is_named(explain, script, tmp_path, capsys):
    explain(lambda a, b: (a, b))
    (tmp_path / "manifest.csv").write_text("speaker,gender\nwoman,F\n")
    with pytest.raises(SystemExit):
        script()
    assert "manifest.csv: has no speaker 'man'" in capsys.readouterr().err
