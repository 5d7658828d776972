"""`python eval.py`."""

from __future__ import annotations

import dataclasses
import json
import os
import socket
import subprocess
import sys

import numpy as np
import pytest
from flax import nnx

from mossformer_jax.audio import write_audio
from mossformer_jax.cli import main as command
from mossformer_jax.cli import make_parser
from mossformer_jax.cli.evaluate import output_folder
from mossformer_jax.evaluation.report import read_metrics
from mossformer_jax.model import MossFormer2
from mossformer_jax.weights import save_model
from tests.conftest import FAST_COMPILATION, REPOSITORY


def main(arguments: list[str]) -> int:
    return command(["evaluate", *arguments])


DEMO = str(REPOSITORY / "configs" / "demo.py")


@pytest.fixture
def listed_mixtures(tmp_path, rng):
    """A config whose test data are four mixtures of about 0.1 s with very different levels."""
    for folder in ("mix", "s1", "s2"):
        (tmp_path / folder).mkdir()
    lines = []
    for number, length in enumerate((750, 780, 790, 800)):
        envelopes = np.repeat(rng.uniform(size=(2, 8)), 100, axis=1)[:, :length]
        sources = 0.3 * 10.0**-number * envelopes * rng.uniform(-1, 1, size=(2, length))
        signals = {"mix": sources.sum(axis=0), "s1": sources[0], "s2": sources[1]}
        for folder, signal in signals.items():
            write_audio(tmp_path / folder / f"m{number}.wav", signal, 8000, "FLOAT")
        lines.append(" ".join(f"{folder}/m{number}.wav" for folder in signals))
    (tmp_path / "list.scp").write_text("\n".join(lines))
    (tmp_path / "listed.py").write_text(
        "from ml_collections import ConfigDict\n"
        "def get_config():\n"
        f"    return ConfigDict({{'data': {{'test': {{'layout': 'scp', 'path': '{tmp_path}/list.scp'}}}}}})\n"
    )
    return tmp_path


@pytest.mark.slow
def test_evaluate_gives_the_same_scores_as_separate_and_score(listed_mixtures, tiny_config, capsys, monkeypatch):
    folder = listed_mixtures
    config = dataclasses.replace(tiny_config, input_level_db=-25.0)
    save_model(folder / "model", config, nnx.state(MossFormer2(config, rngs=nnx.Rngs(1))))
    monkeypatch.chdir(folder)
    assert main(["--config", "listed.py", "--model", "model", "--save-audio", "1", "--metrics", "si_sdr,sdr"]) == 0
    printed = capsys.readouterr().out
    assert "SI-SDRi (dB)" in printed
    assert "SDRi (dB)" in printed
    evaluated = read_metrics("evaluation/model/listed_test/metrics.csv")

    mixtures = [f"mix/m{number}.wav" for number in range(4)]
    assert command(["separate", *mixtures, "--model", "model", "-o", "out", "--subtype", "FLOAT", "--quiet"]) == 0
    places = ["--mixtures", "mix/{id}.wav", "--references", "s{k}/{id}.wav", "--estimates", "out/{id}_s{k}.wav"]
    assert command(["score", *places, "--metrics", "si_sdr,sdr", "--jobs", "1", "--output", "scores"]) == 0
    scored = {row["id"]: row for row in read_metrics("scores/metrics.csv")}
    assert [row["id"] for row in evaluated] == sorted(scored) == ["m0", "m1", "m2", "m3"]
    for row in evaluated:
        for metric in ("si_sdr", "si_sdri", "sdr", "sdri", "si_sdr_2", "sdri_1"):
            assert row[metric] == pytest.approx(scored[row["id"]][metric], abs=1e-3)
    assert len(list((folder / "evaluation/model/listed_test/audio").iterdir())) == 5

    # `mossformer-jax score` can read the saved audio files.
    prefix = "evaluation/model/listed_test/audio/{id}_"
    places = ["--mixtures", f"{prefix}mixture.wav", "--references", f"{prefix}reference{{k}}.wav"]
    assert command(["score", *places, "--estimates", f"{prefix}estimate{{k}}.wav", "--output", "audio_scores"]) == 0
    (row,) = read_metrics("audio_scores/metrics.csv")
    assert row["si_sdr"] == pytest.approx(evaluated[0]["si_sdr"], abs=1e-3)


@pytest.mark.slow
def test_two_processes_with_two_devices_each_score_every_utterance_once(tiny_model_folder, tmp_path):
    arguments = ["--model", str(tiny_model_folder), "--config", DEMO, "--save-audio", "1"]
    arguments += ["--metrics", "si_sdr,sdr", "--config.data.test.num_mixtures=5"]
    assert main([*arguments, "--output", str(tmp_path / "alone")]) == 0
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]
    hosts = [f"--coordinator-address=localhost:{port}", "--num-processes=2"]
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"{FAST_COMPILATION} --xla_force_host_platform_device_count=2",
    }
    processes = [
        subprocess.Popen(
            [sys.executable, "eval.py", *arguments, *hosts, f"--process-id={i}", "--output", str(tmp_path / f"by{i}")],
            cwd=REPOSITORY,
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        for i in range(2)
    ]
    try:
        for process in processes:
            _, errors = process.communicate(timeout=240)
            assert process.returncode == 0, errors
    finally:
        for process in processes:
            process.kill()
    assert not (tmp_path / "by1").exists()
    alone, together = (read_metrics(tmp_path / name / "metrics.csv") for name in ("alone", "by0"))
    assert [row["id"] for row in together] == [row["id"] for row in alone]
    for ours, theirs in zip(together, alone, strict=True):
        for metric in ("si_sdri", "sdr"):
            assert ours[metric] == pytest.approx(theirs[metric], abs=1e-3)
    names = sorted(path.name for path in (tmp_path / "by0").iterdir())
    assert names == ["audio", "metrics.csv", "report.html", "summary.json"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--run", "nowhere"], "nowhere: no such model"),
        (["--metrics", "si_sdr,loudness"], "unknown metric 'loudness'"),
        (["--config", "missing.py"], "missing.py: no such config file"),
        (["--speakers", "missing.txt"], "missing.txt: no such file"),
    ],
)
def test_errors_are_one_line(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main([*arguments, "--no-compile-cache"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("mossformer-jax: error: ")
    assert message in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "folder"),
    [
        ("", "evaluation/default/demo_test"),
        ("--model=runs/a/best --config=configs/b.py:large", "evaluation/a_best/b_large_test"),
        ("--model=OWNER/NAME --split=validation", "evaluation/NAME/demo_validation"),
        ("--run=runs/a", "runs/a/evaluation/test"),
        ("--run=runs/a --config=configs/b.py", "runs/a/evaluation/b_test"),
        ("--run=runs/a --output=here", "here"),
    ],
)
def test_every_model_config_and_split_has_its_own_output_folder(arguments, folder):
    assert str(output_folder(make_parser().parse_args(["evaluate", *arguments.split()]))) == folder


@pytest.mark.parametrize("option", ["--batch-size=0", "--save-audio=-1"])
def test_numbers_out_of_range_are_usage_errors(option):
    with pytest.raises(SystemExit) as stopped:
        main([option])
    assert stopped.value.code == 2


def test_a_missing_package_is_named_with_the_extras_to_install(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "mossformer_jax.data.pipeline", None)
    monkeypatch.delitem(sys.modules, "mossformer_jax.evaluation.run", raising=False)
    monkeypatch.delitem(sys.modules, "mossformer_jax.evaluation.examples", raising=False)
    assert main([]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "needs the package" in line
    assert line.endswith("run: pip install 'mossformer-jax[train,eval]'")


def test_a_failing_process_does_not_wait_for_the_others(monkeypatch):
    left = []
    monkeypatch.setattr("mossformer_jax.sharding.leave_others", left.append)
    assert main(["--run", "nowhere", "--no-compile-cache"]) == 1
    assert left == [1]


def test_data_that_do_not_match_the_model_are_rejected(tmp_path, capsys):
    (tmp_path / "fast.py").write_text(
        "from ml_collections import ConfigDict\n"
        "def get_config():\n"
        "    test = {'layout': 'demo', 'sample_rate': 16000, 'num_mixtures': 1}\n"
        "    return ConfigDict({'data': {'test': test}})\n"
    )
    assert main(["--config", str(tmp_path / "fast.py")]) == 1
    assert "data.test has sample_rate=16000, but the model default has 8000" in capsys.readouterr().err


@pytest.mark.medium
def test_the_config_of_a_run_cannot_be_overridden(tmp_path, tiny_config, capsys):
    save_model(tmp_path / "best", tiny_config, nnx.state(MossFormer2(tiny_config, rngs=nnx.Rngs(0))))
    (tmp_path / "config.json").write_text(json.dumps({"model": {}, "data": {"test": {}}, "train": {}}))
    assert main(["--run", str(tmp_path), "--config.data.test.seed=1"]) == 1
    assert "cannot be overridden; add --config NAME_OR_FILE" in capsys.readouterr().err
    assert main(["--run", str(tmp_path)]) == 1
    assert "config.json: has no data.test with a layout" in capsys.readouterr().err
