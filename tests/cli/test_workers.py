"""`separate --jobs`: several recordings at a time, in processes on a CPU and in threads otherwise."""

from __future__ import annotations

import json
import os
import threading
import time
from multiprocessing.context import SpawnProcess

import pytest

from mossformer_jax.cli import main, separate
from mossformer_jax.cli.workers import own_cores
from tests.cli.test_claims import contents


@pytest.mark.slow
def test_processes_write_the_same_files_as_one(folder, tiny_model_folder, tmp_path, capsys):
    (folder / "bad.wav").write_text("no audio " * 9)
    options = ["--model", str(tiny_model_folder), "--device", "cpu"]
    assert main(["separate", str(folder), "-o", str(tmp_path / "1"), *options]) == 1
    capsys.readouterr()
    options += ["--jobs", "2", "--report", str(tmp_path / "report.jsonl")]
    assert main(["separate", str(folder), "-o", str(tmp_path / "2"), *options]) == 1
    printed = capsys.readouterr()
    assert "3 recordings, 0.30 s of audio" in printed.out
    assert "bad.wav: cannot be read as audio" in printed.err
    assert contents(tmp_path / "2") == contents(tmp_path / "1")
    lines = [json.loads(line) for line in (tmp_path / "report.jsonl").read_text().splitlines()]
    assert sorted(line["status"] for line in lines) == ["done", "done", "done", "failed"]
    assert len({line["process"] for line in lines} - {os.getpid()}) == 2


@pytest.mark.slow
def test_a_killed_process_is_replaced(folder, tiny_model_folder, tmp_path, monkeypatch, capsys):
    """The first process is killed while it starts; its recording is tried again."""
    started = []
    start = SpawnProcess.start

    def start_and_kill(process):
        start(process)
        started.append(process)
        if len(started) == 1:
            process.kill()

    monkeypatch.setattr(SpawnProcess, "start", start_and_kill)
    monkeypatch.setattr("mossformer_jax.cli.run._LONGEST_PAUSE", 0.0)
    options = ["-o", str(tmp_path / "out"), "--model", str(tiny_model_folder), "--device", "cpu", "--jobs", "2"]
    options += ["--report", str(tmp_path / "report.jsonl")]
    assert main(["separate", str(folder), *options, "--retries", "1"]) == 0
    assert "ended with status -9, perhaps because memory ran out" in capsys.readouterr().err
    assert len(contents(tmp_path / "out")) == 6
    assert len(started) == 3
    lines = [json.loads(line) for line in (tmp_path / "report.jsonl").read_text().splitlines()]
    (killed,) = (line for line in lines if line["status"] == "failed")
    assert (killed["error_class"], killed["attempts"]) == ("killed", 1)
    assert [line["attempts"] for line in lines if line["input"] == killed["input"]] == [1, 2]


@pytest.mark.slow
def test_a_process_that_cannot_start_is_an_error(folder, tiny_model_folder, tmp_path, error_of):
    broken = tmp_path / "model"
    broken.mkdir()
    for path in tiny_model_folder.iterdir():
        (broken / path.name).write_bytes(path.read_bytes() if path.suffix == ".json" else b"no weights")
    error = error_of("separate", folder, "--model", broken, "--device", "cpu", "--jobs", "2")
    assert "model.safetensors" in error


@pytest.fixture
def threads(monkeypatch):
    """Makes the command believe that it runs on an accelerator."""
    monkeypatch.setattr(separate, "is_on_cpu", lambda options: False)


def test_threads_separate_several_recordings_at_a_time(folder, stand_in, threads, monkeypatch, tmp_path, capsys):
    both = threading.Barrier(3, timeout=60)
    inner = stand_in.separate_file

    def together(*arguments, **keywords):
        both.wait()  # passes only if three recordings are under way
        return inner(*arguments, **keywords)

    monkeypatch.setattr("mossformer_jax.cli.attempt.separate_file", together)
    options = ["-o", str(tmp_path / "out"), "--jobs", "3", "--report", str(tmp_path / "report.jsonl")]
    assert main(["separate", str(folder), *options]) == 0
    assert sorted(stand_in.calls) == ["a.wav", "b.flac", "c.wav"]
    assert "3 recordings, 0.30 s" in capsys.readouterr().out


def test_an_interruption_stops_the_other_threads(folder, stand_in, threads, monkeypatch, tmp_path):
    stopped = []
    other_started = threading.Event()

    def forever(separator, path, outputs, options, *, progress, track):
        if path.endswith("a.wav"):
            assert other_started.wait(60)
            raise KeyboardInterrupt
        try:
            other_started.set()
            while True:
                time.sleep(0.01)
                progress(0.0)
        except KeyboardInterrupt:
            stopped.append(path)
            raise

    monkeypatch.setattr("mossformer_jax.cli.attempt.separate_file", forever)
    assert main(["separate", str(folder), "-o", str(tmp_path / "out"), "--jobs", "2"]) == 130
    assert stopped == [str(folder / "b.flac")]
    assert not list((tmp_path / "out").iterdir())


def test_every_core_belongs_to_one_process():
    available = os.sched_getaffinity(0)
    width = len(available)
    assert set().union(*(own_cores(number, width) for number in range(width))) == available
    assert own_cores(0, width + 1) == available


def test_wrong_numbers_of_jobs_are_wrong_usage(capsys):
    with pytest.raises(SystemExit):
        main(["separate", "a.wav", "--jobs", "0"])
    assert "0 must be 1 or more" in capsys.readouterr().err
