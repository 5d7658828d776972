"""`mossformer-jax score`."""

from __future__ import annotations

import json

import numpy as np
import pytest

from mossformer_jax.audio import read_audio, write_audio
from mossformer_jax.cli import main
from mossformer_jax.evaluation.report import read_metrics


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


def test_the_mixture_as_estimate_has_zero_improvement(recordings, capsys):
    mix, s1, s2 = (str(recordings / f"{name}.wav") for name in ("mix", "s1", "s2"))
    assert main(["score", "--mixture", mix, "--reference", s1, s2, "--estimate", mix, mix]) == 0
    assert capsys.readouterr().out.splitlines()[-1].split()[-1] == "0.00"


def test_a_delay_is_reported_and_undone_with_align(recordings, capsys):
    mix, s1, s2 = (str(recordings / f"{name}.wav") for name in ("mix", "s1", "s2"))
    for number, path in enumerate((s1, s2), 1):
        late = np.concatenate([np.zeros(8), read_audio(path)[0][0]])  # and longer
        write_audio(recordings / f"e{number}.wav", late, 8000, "FLOAT")
    command = [
        "score",
        "--mixture",
        mix,
        "--reference",
        s1,
        s2,
        "--estimate",
        *(str(recordings / f"e{n}.wav") for n in (1, 2)),
    ]
    assert main(command) == 1
    assert "--trim" in capsys.readouterr().err
    assert main([*command, "--trim"]) == 0
    printed = capsys.readouterr()
    assert float(printed.out.split()[-2]) < 0
    assert printed.err == (
        "mossformer-jax: warning: the estimates are 8 samples (1.00 ms) late, compared with the references: SI-SDR "
        "counts this as distortion; --align undoes it\n"
    )
    assert main([*command, "--trim", "--align"]) == 0
    printed = capsys.readouterr()
    assert float(printed.out.split()[-2]) > 50
    assert "this has been undone" in printed.err


@pytest.mark.parametrize(
    ("references", "estimates", "message"),
    [
        (["s1.wav", "s2.wav"], ["s1.wav"], "give the same number"),
        (["s1.wav"], ["long.wav"], "long.wav: has 900 samples"),
        (["fast.wav"], ["s1.wav"], "fast.wav: has 800 samples at 16000"),
        (["silent.wav"], ["s1.wav"], "silent.wav: is silent"),
        (["s1.wav"], ["text.wav"], "text.wav: cannot be read"),
    ],
)
def test_invalid_files_are_a_one_line_error(recordings, monkeypatch, error_of, references, estimates, message):
    write_audio(recordings / "long.wav", np.full(900, 0.1), 8000)
    write_audio(recordings / "fast.wav", np.full(800, 0.1), 16_000)
    write_audio(recordings / "silent.wav", np.zeros(800), 8000)
    (recordings / "text.wav").write_text("no audio " * 9)
    monkeypatch.chdir(recordings)
    assert message in error_of("score", "--mixture", "mix.wav", "--reference", *references, "--estimate", *estimates)


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--mixture", "mix.wav", "--reference", "s1.wav"],
        ["--mixtures", "mix", "--references", "s1", "--estimate", "e1.wav"],
        ["--mixture", "mix.wav", "--reference", "s1.wav", "--estimate", "s1.wav", "-o", "out"],
        ["--mixtures", "mix", "--references", "s1", "--estimates", "e1", "--jobs", "0"],
    ],
)
def test_options_for_one_and_many_mixtures_do_not_mix(arguments, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["score", *arguments])
    assert stopped.value.code == 2


@pytest.fixture
def folders(tmp_path, rng, monkeypatch):
    """Three mixtures of two sources in folders, the estimates in swapped order, at about 20, 14 and 8 dB SI-SDR."""
    monkeypatch.chdir(tmp_path)
    for name in ("mix", "s1", "s2", "e"):
        (tmp_path / name).mkdir()
    for number, level in enumerate((0.1, 0.2, 0.4)):
        sources = 0.1 * rng.normal(size=(2, 4000))
        estimates = sources[::-1] + 0.1 * level * rng.normal(size=(2, 4000))
        files = {"mix": sources.sum(0), "s1": sources[0], "s2": sources[1]}
        for name, signal in files.items():
            write_audio(f"{name}/u{number}.wav", signal, 8000, "FLOAT")
        for source, signal in enumerate(estimates, 1):
            write_audio(f"e/u{number}_s{source}.wav", signal, 8000, "FLOAT")
    return tmp_path


FOLDERS = ["score", "--mixtures", "mix", "--references", "s1", "s2", "--estimates", "e/{id}_s{k}.wav"]


@pytest.mark.medium
def test_folders_are_scored_into_metrics_and_summary(folders, capsys):
    assert main([*FOLDERS, "--metrics", "sdr", "-o", "out/scores"]) == 0
    rows = read_metrics("out/scores/metrics.csv")
    assert [row["id"] for row in rows] == ["u0", "u1", "u2"]
    # The noise's level in dB; a signal of 4,000 samples is within a few tenths of it.
    np.testing.assert_allclose([row["si_sdr"] for row in rows], [20.0, 14.0, 8.0], atol=0.5)
    summary = json.loads((folders / "out/scores/summary.json").read_text())
    assert summary["count"] == 3
    assert summary["si_sdri"]["worst"] == ["u2", "u1", "u0"]
    assert summary["estimates"] == ["e/{id}_s{k}.wav"]
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].split() == ["mean", "95", "%", "interval", "median", "std", "utterances"]
    assert [line.split()[0] for line in printed[1:5]] == ["SI-SDR", "SI-SDRi", "SDR", "SDRi"]
    assert f"{summary['sdr']['mean']:.2f}" in printed[3]
    assert printed[5:] == ["out/scores/metrics.csv", "out/scores/summary.json"]


@pytest.mark.medium
def test_missing_files_are_an_error_and_extra_files_a_warning(folders, error_of, capsys):
    (folders / "e/u1_s2.wav").rename(folders / "e/u7_s2.wav")
    assert "e/{id}_s2.wav: missing u1. " in error_of(*FOLDERS)
    (folders / "mix/u1.wav").unlink()
    assert main(FOLDERS) == 0
    printed = capsys.readouterr()
    assert "warning: e/{id}_s2.wav: skipped u7: no such mixture in mix" in printed.err
    assert printed.out.splitlines()[1].endswith(" 2")


def test_a_silent_reference_is_a_warning_and_not_averaged(folders, error_of, capsys):
    assert main(FOLDERS) == 0
    capsys.readouterr()
    write_audio("s2/u2.wav", np.zeros(4000), 8000)
    assert main([*FOLDERS, "-o", "out"]) == 0
    warning = "s2/u2.wav: is silent, and SI-SDR is undefined for a silent reference; u2 is excluded from the means"
    assert warning in capsys.readouterr().err
    summary = json.loads((folders / "out/summary.json").read_text())
    assert (summary["count"], summary["si_sdr"]["count"]) == (3, 2)
    assert summary["silent_references"] == {"count": 1, "ids": ["u2"]}
    assert summary["si_sdr"]["mean"] == pytest.approx(17.0, abs=0.5)
    for number in (0, 1):
        write_audio(f"s1/u{number}.wav", np.zeros(4000), 8000)
    assert "s1/u0.wav: is silent" in error_of(*FOLDERS)


@pytest.mark.medium
def test_the_official_estimates_reach_their_published_score(libri2mix_samples, tmp_path, capsys):
    places = [str(libri2mix_samples / name) for name in ("{id}_mix.wav", "{id}_source{k}.wav", "{id}_source{k}hat.wav")]
    command = ["score", "--mixtures", places[0], "--references", places[1], "--estimates", places[2]]
    assert main([*command, "-o", str(tmp_path)]) == 0
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["si_sdr"]["mean"] == pytest.approx(19.991, abs=1e-3)
    assert summary["si_sdri"]["mean"] == pytest.approx(19.936, abs=1e-3)
    printed = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [printed[1][2], printed[2][2]] == ["19.99", "19.94"]
