"""The script that analyses the scores of separated mixtures."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile

from tests.conftest import load_tool

RATE = 8000


@pytest.fixture
def script(tmp_path):
    """Runs the script on the files of the temporary folder."""
    tables = ["--mixtures", tmp_path / "mixtures.csv", "--manifest", tmp_path / "manifest.csv"]
    return lambda: load_tool("explain_scores").main([str(flag) for flag in [*tables, "--estimates", tmp_path]])


@pytest.fixture
def explain(tmp_path, script, capsys):
    """Writes mixtures of a woman and a man and the given outputs, and returns what the script prints."""

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


@pytest.mark.medium
def test_talker_levels_are_reported_by_output(explain):
    def leak(a, b):
        return 0.1 * (b + 0.1 * a), 2.0 * (a + 0.1 * b)

    printed = explain(leak, leak)
    assert "2 mixtures of F and M: SI-SDRi 20." in printed
    assert "0 of 2 improve by less than 1 dB, 0 get worse" in printed
    assert "output 1: talker level -20.0 dB" in printed
    assert "output 2: talker level 6.0 dB" in printed
    assert "half-second segments of all mixtures: swapped outputs are better in 0% of 10;" in printed
    assert "below 1 dB:" not in printed


@pytest.mark.medium
def test_talkers_that_swap_outputs_within_a_mixture_are_found(explain):
    def change(a, b):
        """Swaps the outputs after 1.5 of 2 s."""
        straight = np.arange(a.size) < 1.5 * RATE
        noise = 0.01 * np.cos(np.arange(a.size))
        return np.where(straight, a, b) + noise, np.where(straight, b, a) + noise

    printed = explain(change)
    assert "swapped outputs are better in 25% of 4;" in printed
    found = printed.partition("SI-SDRi ")[2]
    assert float(found.split()[0]) < 10.0
    better = float(printed.partition("better order of each segment ")[2].split()[0])
    assert better > 20.0


@pytest.mark.medium
def test_segments_in_which_one_talker_pauses_do_not_count(explain):
    assert "in 0% of 3;" in explain(lambda a, b: (a, b), pause=RATE // 2)


@pytest.mark.medium
def test_mixtures_that_hardly_improve_are_listed(explain):
    printed = explain(lambda a, b: (a, b), lambda a, b: (a + 0.99 * b, b + 0.99 * a))
    assert "1 of 2 improve by less than 1 dB, 0 get worse" in printed
    assert "  m1: 0.1 dB" in printed
    assert "half-second segments of mixtures below 1 dB:" in printed


def test_errors_name_the_file_or_mixture_and_the_remedy(explain, script, tmp_path, capsys):
    explain(lambda a, b: (a, b))

    def error() -> str:
        with pytest.raises(SystemExit):
            script()
        return capsys.readouterr().err

    soundfile.write(tmp_path / "m0_s1.wav", np.zeros(100), RATE)
    assert "m0: the mixture, its sources and the outputs must be mono and equally long" in error()
    soundfile.write(tmp_path / "a0.wav", np.zeros(2 * RATE), RATE)
    soundfile.write(tmp_path / "m0_s1.wav", np.zeros(2 * RATE), RATE)
    assert "m0: one source is silent; use tools/score_single.py" in error()
    (tmp_path / "m0_s2.wav").unlink()
    assert "m0_s2.wav: no such file; run: mossformer-jax separate" in error()
    (tmp_path / "b0.wav").unlink()
    assert "b0.wav: no such file; recreate" in error()
    (tmp_path / "mixtures.csv").unlink()
    assert "mixtures.csv: no such file; create it with tools/make_heldout.py" in error()


def test_a_speaker_missing_from_the_manifest_is_named(explain, script, tmp_path, capsys):
    explain(lambda a, b: (a, b))
    (tmp_path / "manifest.csv").write_text("speaker,gender\nwoman,F\n")
    with pytest.raises(SystemExit):
        script()
    assert "manifest.csv: has no speaker 'man'" in capsys.readouterr().err
