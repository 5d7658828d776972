"""The scripts for a machine with a GPU, run on a CPU with their smallest settings."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from mossformer_jax.data.layouts import open_mixtures
from mossformer_jax.data.utterances import Utterances
from mossformer_jax.training.configuration import load_config
from mossformer_jax.training.loop import Training
from mossformer_jax.training.records import read_metrics
from tests.conftest import REPOSITORY, load_tool
from tests.parity import oracle
from tests.parity.harness import speakers
from tests.training.runs import TINY

SPEAKERS = {"a": "train", "b": "train", "c": "train", "d": "train", "e": "dev"}


def write_csv(path: Path, rows: list[dict]) -> None:
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def run(script: str, *arguments: str, **environment: str) -> str:
    completed = subprocess.run(
        ["bash", script, *arguments],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHON": sys.executable, "JAX_PLATFORMS": "cpu", **environment},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert completed.returncode == 0, completed.stdout[-3000:] + completed.stderr[-3000:]
    return completed.stdout


def write_sound(path: Path, samples: np.ndarray, subtype: str = "PCM_16") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, 8000, subtype=subtype)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Path:
    """Small data of generated speech and noise in the layout that configs/default_8k.py reads."""
    root, rng = tmp_path_factory.mktemp("prepared"), np.random.default_rng(0)
    common = {"speaker_known": 1, "corpus": "made", "licence": "none"}
    voices_cnt = speakers(len(SPEAKERS), 2, 8000).astype(np.float32)
    rows = []
    for voices_nt, (speaker, split) in zip(voices_cnt, SPEAKERS.items(), strict=True):
        for number, length in enumerate((8000, 7001)):
            path = f"raw/{speaker}/{number}.flac"
            write_sound(root / path, voices_nt[number, :length])
            rows.append({"path": path, "speaker": speaker, "split": split, "num_samples": length, **common})
    write_csv(root / "speech.csv", rows)
    noises = []
    for name, split in (("street", "train"), ("rain", "train"), ("crowd", "train"), ("held_out", "dev")):
        write_sound(root / f"raw/{name}.flac", 0.1 * rng.standard_normal(4000))
        fields = {"path": f"raw/{name}.flac", "speaker": name, "split": split, "num_samples": 4000}
        noises.append({**fields, **common})
    write_csv(root / "noise.csv", noises)
    for room in range(4):
        for place in range(2):
            decay = np.exp(-np.arange(400) / 50) * rng.standard_normal(400)
            write_sound(root / f"rooms/room{room}/{place}.wav", 0.01 * decay, "FLOAT")

    held_out = []
    for number in range(6):
        # The mixtures of the second condition have the sources of the first one, and noise.
        condition, same = ("clean", number) if number < 3 else ("noise", number - 3)
        sources = np.round(0.1 * np.random.default_rng(same).standard_normal((2, 4000)) * 2**15) / 2**15
        noise = np.round(0.01 * rng.standard_normal(4000) * 2**15) / 2**15 * (condition == "noise")
        row = {"id": f"{condition}_{number}"}
        for name, signal in zip(("mixture", "source_1", "source_2"), (sources.sum(0) + noise, *sources), strict=True):
            row[name] = f"{condition}/{name}/{same}.wav"
            write_sound(root / "heldout" / row[name], signal)
        held_out.append({**row, "speaker_1": "x", "speaker_2": "y"})
    write_csv(root / "heldout" / "validation.csv", held_out)
    return root


@pytest.fixture(scope="module")
def packed(prepared, tmp_path_factory) -> Path:
    """The folder that pack.sh makes, without wheels."""
    folder = tmp_path_factory.mktemp("packed") / ".gpu"
    report = run("tools/gpu/pack.sh", str(folder), WHEELS="no", PREPARED=str(prepared))
    assert all(f"with part{number}" in report for number in (1, 2, 3))
    return folder


@pytest.fixture(scope="module")
def unpacked(packed, tmp_path_factory) -> Path:
    """The data folder; unpacking again adds nothing."""
    folder = tmp_path_factory.mktemp("unpacked")
    for _ in range(2):
        subprocess.run([sys.executable, packed / "kit" / "unpack_data.py", packed / "data", folder], check=True)
    return folder


def folders(tmp_path: Path) -> dict[str, str]:
    """Variables that keep everything the scripts write in a temporary folder."""
    names = {"OUT": "out", "DATA": "data", "WORK": "work", "SITE": "site"}
    return {variable: str(tmp_path / name) for variable, name in names.items()}


@pytest.mark.medium
def test_unpacked_speech_has_all_training_speakers_and_nearly_the_same_samples(unpacked, prepared):
    original, ours = (
        Utterances.from_manifest(folder / "speech.csv", sample_rate=8000, split="train")
        for folder in (prepared, unpacked)
    )
    assert ours.speaker_names == original.speaker_names == ("a", "b", "c", "d")
    assert len(ours) == len(original) == 8
    by_length = {}
    for index in range(8):
        by_length[ours.speaker_names[ours.speakers[index]], ours.num_samples(index)] = ours.read(index)
    for index in range(8):
        expected = original.read(index)
        coded = by_length[original.speaker_names[original.speakers[index]], len(expected)]
        assert np.linalg.norm(coded - expected) < 0.3 * np.linalg.norm(expected)  # Vorbis: about 0.03 for speech
    noise = Utterances.from_manifest(unpacked / "noise.csv", sample_rate=8000, split="train")
    assert noise.speaker_names == ("crowd", "rain", "street")  # the other one is held out
    assert [len(noise.read(index)) for index in range(3)] == [4000] * 3


def test_unpacked_responses_are_those_of_the_rooms(unpacked, prepared):
    ours, original = (Utterances.from_folder(folder / "rooms", sample_rate=8000) for folder in (unpacked, prepared))
    assert ours.speaker_names == original.speaker_names == ("room0", "room1", "room2", "room3")
    for index in range(8):
        response, expected = ours.read(index), original.read(index)
        scale = np.abs(expected).max() / 0.999
        np.testing.assert_allclose(response * scale, expected, atol=scale * 2**-15)  # 16 bits


def test_each_part_has_speakers_and_mixtures_of_its_own(packed):
    for table, column in (("speech/files.csv", "speaker"), ("validation.csv", "id")):
        parts = []
        for number in (1, 2, 3):
            with open(packed / "data" / f"part{number}" / table, newline="", encoding="utf-8") as file:
                parts.append({row[column] for row in csv.DictReader(file)})
        assert all(parts)
        assert len(set.union(*parts)) == sum(map(len, parts))


def test_unpacked_validation_mixtures_are_identical(unpacked, prepared):
    ours, original = (
        open_mixtures("csv", path=str(folder / "heldout" / "validation.csv"), sample_rate=8000)
        for folder in (unpacked, prepared)
    )
    names = [ours.mixture_id(index) for index in range(len(ours))]
    assert len(names) == len(original) == 6
    for index in range(6):
        mixture, expected = ours.read(names.index(original.mixture_id(index))), original.read(index)
        np.testing.assert_array_equal(mixture.sources, expected.sources)
        np.testing.assert_array_equal(mixture.mixed(), expected.mixed())
    # A clean mixture is the sum of its sources, which the noisy one shares.
    assert len(list((unpacked / "heldout").rglob("*.wav"))) == 9


@pytest.mark.slow
def test_training_of_a_few_steps_leaves_weights_and_figures(packed, tmp_path):
    model = {"encoder_channels": 16, "model_channels": 8, "num_blocks": 1, "group_size": 32}
    model |= {"query_key_channels": 8, "fsmn_channels": 8}
    overrides = [f"--config.model.{name}={value}" for name, value in model.items()]
    overrides += ["--config.train.initial_weights=None", "--config.data.seconds=0.25", "--config.data.batch_size=2"]
    overrides += ["--config.train.validation_batch_size=6", "--config.train.log_every=1", "--config.train.steps=3"]
    output = run(str(packed / "kit" / "train.sh"), "250", *overrides, **folders(tmp_path))
    assert "before: SI-SDRi" in output
    records = read_metrics(tmp_path / "out")
    assert [(record["kind"], record["step"]) for record in records] == [
        *(("train", step) for step in (1, 2, 3)),
        ("validation", 3),
    ]
    assert np.isfinite([records[-1]["si_sdri_db"], *(record["loss"] for record in records[:3])]).all()
    for name in ("last", "best"):
        assert (tmp_path / "out" / name / "model.safetensors").is_file()


@pytest.mark.slow
def test_the_learning_rate_falls_to_zero_when_the_time_is_over(tmp_path, monkeypatch):
    """With a clock that each batch advances by a second."""
    train_gpu = load_tool("gpu/train_gpu")
    now = [0.0]
    monkeypatch.setattr(train_gpu.time, "monotonic", lambda: now[0])
    next_batch = Training._next_batch

    def in_a_second(self, request):
        now[0] += 1.0
        return next_batch(self, request)

    monkeypatch.setattr(Training, "_next_batch", in_a_second)
    flags = ["--config.train.steps=1000", "--config.train.log_every=1", "--config.train.validate_every=1000"]
    flags += ["--config.train.checkpoint_every=1000", "--config.train.warmup_steps=0", "--config.train.lr=0.1"]
    config = load_config(str(TINY), flags)
    training = train_gpu.TimedTraining(config, str(tmp_path), 10.0 + train_gpu.SAVING, decay=0.5)
    outcome = training.run()
    assert (outcome.step, outcome.stopped_by) == (11, "")
    rates = [record["learning_rate"] for record in read_metrics(tmp_path) if record["kind"] == "train"]
    np.testing.assert_allclose(rates, 0.1 * np.array([1, 1, 1, 1, 1, 1, 0.8, 0.6, 0.4, 0.2, 0]), atol=1e-7)


@pytest.mark.slow
@pytest.mark.skipif(not oracle.is_installed(), reason=oracle.MISSING)
def test_check_of_a_small_network_finds_small_errors(packed, tmp_path):
    (packed / "kit").rename(tmp_path / "kit")  # without the data
    try:
        run(str(tmp_path / "kit" / "check.sh"), **folders(tmp_path), CHECK_FLAGS="--small", TESTS="no")
    finally:
        (tmp_path / "kit").rename(packed / "kit")
    found = json.loads((tmp_path / "out" / "check.json").read_text())
    assert found["default model, highest precision, float32: error against cpu"] < 1e-5
    assert found["ours, highest precision, float32"] < 1e-4
    assert found["ours, float64"] < 1e-10


@pytest.mark.slow
@pytest.mark.skipif(not oracle.is_installed(), reason=oracle.MISSING)
def test_tiny_benchmark_measures_both_implementations(tmp_path):
    ways = ("ours, float32", "PyTorch, float32")
    run("tools/gpu/bench.sh", "full", "800", "--ways", *ways, **folders(tmp_path), BENCH_FLAGS="--tiny")
    records = json.loads((tmp_path / "out" / "bench.json").read_text())
    measured = {(record["way"], record["what"]) for record in records if "ms" in record}
    assert measured == {(way, what) for way in ways for what in ("forward", "step")}
    assert "| forward, 1 x 0.1 s |" in (tmp_path / "out" / "bench.md").read_text()
