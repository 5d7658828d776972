"""The command, run in this process where it can be."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

from mossformer_jax import __version__
from mossformer_jax.cli import main
from mossformer_jax.data import read_audio, write_audio


@pytest.fixture
def recordings(tmp_path, rng):
    """A mixture of two sources, 0.1 s at 8 kHz, as files."""
    sources = 0.1 * rng.standard_normal((2, 800))
    for name, signal in zip(["s1", "s2", "mix"], [*sources, sources.sum(0)], strict=True):
        write_audio(tmp_path / f"{name}.wav", signal, 8000)
    return tmp_path


def _error_of(capsys, arguments):
    """Runs a command that must fail; returns its one line of complaint."""
    assert main([str(argument) for argument in arguments]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("mossformer-jax: error: ")
    assert printed.err.count("\n") == 1
    return printed.err


def test_separate_writes_one_file_a_source_and_says_what_it_took(recordings, tiny_model_folder, capsys):
    folder = recordings / "out"
    assert main(["separate", f"{recordings}/mix.wav", "-o", f"{folder}", "--model", f"{tiny_model_folder}"]) == 0
    printed = capsys.readouterr()
    assert printed.out.splitlines()[:2] == [f"{folder / 'mix_s1.wav'}", f"{folder / 'mix_s2.wav'}"]
    for words in ("0.10 s of audio at 8000 Hz", "compiled in", "run in", "real-time factor", "written as PCM_16"):
        assert words in printed.out
    assert printed.err == ""
    assert {path.name for path in folder.iterdir()} == {"mix_s1.wav", "mix_s2.wav"}
    assert read_audio(folder / "mix_s1.wav")[0].shape == (1, 800)


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


def test_info_tells_every_config_field_and_the_parameter_count(tiny_model_folder, tiny_config, capsys):
    assert main(["info", str(tiny_model_folder)]) == 0
    rows = dict(line.split() for line in capsys.readouterr().out.splitlines())
    assert int(rows.pop("parameters").replace(",", "")) > 1000
    assert rows == {name: str(value) for name, value in tiny_config.to_dict().items()}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["separate", "missing.wav", "--model", "MODEL"], "missing.wav: no such file"),
        (["separate", ".", "--model", "MODEL"], "is a folder"),
        (["separate", "mix.wav", "--model", "no_model"], "no_model"),
        (["separate", "mix.wav", "--model", "mix.wav"], "mix.wav"),
        (["separate", "mix.wav", "-o", "s1.wav", "--model", "MODEL"], "s1.wav: is a file"),
        (["separate", "mix.wav", "-o", "s1.wav/x", "--model", "MODEL"], "s1.wav"),
        (["separate", "line\nbreak.wav", "--model", "MODEL"], "line break.wav: no such file"),
        (["info", "no_model"], "no_model"),
        (
            ["score", "--mixture", "mix.wav", "--reference", "s1.wav", "s2.wav", "--estimate", "s1.wav"],
            "give equally many",
        ),
        (
            ["score", "--mixture", "mix.wav", "--reference", "s1.wav", "--estimate", "long.wav"],
            "long.wav: has 900 samples",
        ),
        (
            ["score", "--mixture", "mix.wav", "--reference", "fast.wav", "--estimate", "s1.wav"],
            "fast.wav: has 800 samples at 16000",
        ),
        (
            ["score", "--mixture", "mix.wav", "--reference", "silent.wav", "--estimate", "s1.wav"],
            "silent.wav: is silent",
        ),
        (
            ["score", "--mixture", "mix.wav", "--reference", "s1.wav", "--estimate", "text.wav"],
            "text.wav: cannot be read",
        ),
    ],
)
def test_bad_input_is_one_line_and_status_1(recordings, tiny_model_folder, monkeypatch, capsys, arguments, message):
    write_audio(recordings / "long.wav", np.full(900, 0.1), 8000)
    write_audio(recordings / "fast.wav", np.full(800, 0.1), 16_000)
    write_audio(recordings / "silent.wav", np.zeros(800), 8000)
    (recordings / "text.wav").write_text("no audio " * 9)
    monkeypatch.chdir(recordings)
    error = _error_of(capsys, [str(tiny_model_folder) if word == "MODEL" else word for word in arguments])
    assert message in error


@pytest.mark.parametrize("arguments", [[], ["unknown"], ["separate"], ["separate", "a.wav", "--subtype", "MP3"]])
def test_wrong_usage_is_status_2(arguments, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert "usage: mossformer-jax" in capsys.readouterr().err


def test_version_is_printed(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["--version"])
    assert stopped.value.code == 0
    assert capsys.readouterr().out == f"mossformer-jax {__version__}\n"


def test_help_does_not_wait_for_jax():
    script = """
import sys
from mossformer_jax.cli import main
try:
    main(["separate", "--help"])
finally:
    print("imported:", "jax" in sys.modules or "numpy" in sys.modules)
"""
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "usage: mossformer-jax separate" in ran.stdout
    assert ran.stdout.endswith("imported: False\n")


@pytest.mark.parametrize("platform", ["", "cuda"])
def test_a_missing_accelerator_is_no_noise_unless_it_was_asked_for(recordings, platform):
    script = "import sys; from mossformer_jax.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", script, "score", "--mixture", "mix.wav"]
    command += ["--reference", "s1.wav", "s2.wav", "--estimate", "s2.wav", "s1.wav"]
    environment = {**os.environ, "JAX_PLATFORMS": platform}
    ran = subprocess.run(command, cwd=recordings, env=environment, capture_output=True, text=True)
    if platform:
        assert (ran.returncode, ran.stderr.count("\n")) == (1, 1)
        assert ran.stderr.startswith("mossformer-jax: error: ")
        assert platform in ran.stderr
    else:
        assert (ran.returncode, ran.stderr) == (0, "")
        assert "SI-SDRi" in ran.stdout
