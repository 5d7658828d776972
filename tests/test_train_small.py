"""The script that made the default model still runs: it trains, resumes where it stopped, and exports a model."""

import csv
import dataclasses
import importlib.util

import numpy as np
import pytest
import soundfile

from mossformer_jax.weights import load_model
from tests.conftest import REPOSITORY


@pytest.fixture
def speech_folder(tmp_path, rng):
    """Bursts of noise by four speakers, two of them for validation."""
    folder = tmp_path / "speech"
    folder.mkdir()
    with open(folder / "manifest.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "speaker", "speaker_known", "split", "n_samples"])
        for speaker, split in (("a", "train"), ("b", "train"), ("c", "dev"), ("d", "dev")):
            samples = (0.1 * rng.normal(size=6000)).astype(np.float32)
            soundfile.write(folder / f"{speaker}.flac", samples, 8000)
            writer.writerow([f"{speaker}.flac", speaker, "1", split, len(samples)])
    return folder


@pytest.fixture
def train_small(monkeypatch, tiny_config):
    """The script as a module, with a tiny model and a short validation."""
    spec = importlib.util.spec_from_file_location("train_small", REPOSITORY / "tools" / "train_small.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "CONFIG", dataclasses.replace(tiny_config, dropout=0.0, input_level_db=-19.0))
    monkeypatch.setattr(module, "DEV_SECONDS", 0.25)
    return module


@pytest.mark.slow
def test_a_run_trains_resumes_and_exports_a_model(train_small, speech_folder, tmp_path, monkeypatch, capsys):
    run, exported = tmp_path / "run", tmp_path / "model"

    def call(*options):
        common = ["--data", str(speech_folder), "--run", str(run), "--seconds", "0.25", "--batch", "1"]
        monkeypatch.setattr("sys.argv", ["train_small.py", *common, *options])
        train_small.main()
        return capsys.readouterr().out

    assert "step 2 " in call("--steps", "2", "--decay-steps", "1")
    assert "step 3 " in call("--steps", "3", "--decay-steps", "1")
    assert (run / "log.txt").read_text().count("dev_si_sdri") == 2
    assert f"wrote step 3 to {exported}" in call("--export", str(exported))
    model = load_model(exported)
    assert model.config == train_small.CONFIG
    assert np.isfinite(model(np.ones((1, 800), np.float32))).all()
