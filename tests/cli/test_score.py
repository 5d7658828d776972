"""`mossformer-jax score`."""

from __future__ import annotations

import numpy as np
import pytest

from mossformer_jax.cli import main
from mossformer_jax.data import read_audio, write_audio


def test_score_is_the_si_sdr_of_the_best_permutation(recordings, rng, capsys):
    first, second, mixture = (read_audio(recordings / f"{name}.wav")[0][0] for name in ("s1", "s2", "mix"))
    estimates = [second + 0.1 * first, first + 0.01 * rng.standard_normal(800)]
    for number, estimate in enumerate(estimates, 1):
        write_audio(recordings / f"e{number}.wav", estimate, 8000, "FLOAT")
    files = {name: str(recordings / f"{name}.wav") for name in ("mix", "s1", "s2", "e1", "e2")}
    command = ["score", "--mixture", files["mix"], "--reference", files["s1"], files["s2"]]
    assert main([*command, "--estimate", files["e1"], files["e2"]]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]

    def si_sdr(estimate, reference):
        estimate, reference = estimate - estimate.mean(), reference - reference.mean()
        target = (estimate @ reference) / (reference @ reference) * reference
        return 10 * np.log10((target @ target) / ((estimate - target) @ (estimate - target)))

    scores = [si_sdr(estimates[1], first), si_sdr(estimates[0], second)]
    gains = [scores[0] - si_sdr(mixture, first), scores[1] - si_sdr(mixture, second)]
    assert [row[:2] for row in rows[1:3]] == [["s1.wav", "e2.wav"], ["s2.wav", "e1.wav"]]
    printed = [[float(figure) for figure in row[-2:]] for row in rows[1:]]
    expected = [[scores[0], gains[0]], [scores[1], gains[1]], [np.mean(scores), np.mean(gains)]]
    np.testing.assert_allclose(printed, expected, rtol=0, atol=0.006)  # two decimals are printed


def test_the_mixture_as_its_own_estimate_improves_nothing(recordings, capsys):
    mix, s1, s2 = (str(recordings / f"{name}.wav") for name in ("mix", "s1", "s2"))
    assert main(["score", "--mixture", mix, "--reference", s1, s2, "--estimate", mix, mix]) == 0
    assert capsys.readouterr().out.splitlines()[-1].split()[-1] == "0.00"


@pytest.mark.parametrize(
    ("references", "estimates", "message"),
    [
        (["s1.wav", "s2.wav"], ["s1.wav"], "give equally many"),
        (["s1.wav"], ["long.wav"], "long.wav: has 900 samples"),
        (["fast.wav"], ["s1.wav"], "fast.wav: has 800 samples at 16000"),
        (["silent.wav"], ["s1.wav"], "silent.wav: is silent"),
        (["s1.wav"], ["text.wav"], "text.wav: cannot be read"),
    ],
)
def test_what_cannot_be_scored_is_one_line(recordings, monkeypatch, error_of, references, estimates, message):
    write_audio(recordings / "long.wav", np.full(900, 0.1), 8000)
    write_audio(recordings / "fast.wav", np.full(800, 0.1), 16_000)
    write_audio(recordings / "silent.wav", np.zeros(800), 8000)
    (recordings / "text.wav").write_text("no audio " * 9)
    monkeypatch.chdir(recordings)
    assert message in error_of("score", "--mixture", "mix.wav", "--reference", *references, "--estimate", *estimates)
