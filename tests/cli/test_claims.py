"""Claims: two processes on one folder, and processes that are killed at any point."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import random
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from mossformer_jax import locks
from mossformer_jax.audio import write_audio
from mossformer_jax.cli import main
from mossformer_jax.cli.claims import abandoned, claim_file, claimed
from mossformer_jax.cli.jobs import Job
from tests.cli.test_ledger import broken_files

# `make fuzz` sets these to 2000 and 4.
FILES = int(os.environ.get("ARCHIVE_FILES", "60"))
PROCESSES = int(os.environ.get("ARCHIVE_PROCESSES", "2"))
ROUNDS = 2 if FILES < 200 else 8
# Bound of a process's resident memory; 2,000 files took 359 MB, most of them for JAX and the compiler.
PEAK_MB = 800

pytestmark = pytest.mark.skipif(locks.fcntl is None, reason="this system has no locks that end with their process")


@pytest.fixture
def job(tmp_path) -> Job:
    return Job(str(tmp_path / "a.wav"), (tmp_path / "out" / "a_s1.wav", tmp_path / "out" / "a_s2.wav"))


def interrupt(job: Job, process: int = 12345) -> None:
    """Leaves what a process leaves that is killed between the two sources."""
    job.outputs[0].parent.mkdir(exist_ok=True)
    claim_file(job).write_text(f"writing {process}")
    write_audio(job.outputs[0], np.zeros(80), 8000)
    job.outputs[1].with_name(f".{job.outputs[1].name}.{process}.part").write_bytes(b"half")


def test_a_recording_is_claimed_once(job):
    with claimed(job) as first:
        assert first is not None
        assert abandoned([job]) == {claim_file(job)}
        with claimed(job) as second:
            assert second is None
    assert not job.outputs[0].parent.exists()
    with claimed(job) as third:
        assert third is not None
        assert not third.was_interrupted


def test_what_a_killed_process_left_is_removed(job):
    interrupt(job)
    with claimed(job) as claim:
        assert claim.was_interrupted
        assert {path.name for path in job.outputs[0].parent.iterdir()} == {"a_s1.wav", ".a_s1.wav.claim"}
    assert [path.name for path in job.outputs[0].parent.iterdir()] == ["a_s1.wav"]


def test_a_claim_without_a_started_separation_does_not_allow_to_replace_files(job):
    interrupt(job)
    claim_file(job).write_text("")
    with claimed(job) as claim:
        assert not claim.was_interrupted


def test_a_process_that_is_killed_while_it_takes_over_leaves_a_started_separation(job, monkeypatch):
    interrupt(job)
    with monkeypatch.context() as patch, claimed(job) as claim:
        patch.setattr(os, "ftruncate", lambda descriptor, length: None)  # it is killed before this
        claim.will_write()
        left = claim_file(job).read_bytes()
    claim_file(job).write_bytes(left)
    with claimed(job) as claim:
        assert claim.was_interrupted


@pytest.mark.parametrize("report", [False, True])
def test_an_interrupted_recording_is_separated_again(folder, stand_in, tmp_path, report):
    job = Job(str(folder / "a.wav"), (tmp_path / "out" / "a_s1.wav", tmp_path / "out" / "a_s2.wav"))
    options = ["--report", str(tmp_path / "report.jsonl")] if report else []
    interrupt(job)
    assert main(["separate", str(folder), "-o", str(tmp_path / "out"), *options]) == 0
    assert stand_in.calls == ["a.wav", "b.flac", "c.wav"]
    # Killed after both files had their names, but before the claim was removed.
    claim_file(job).write_text("writing 12345")
    stand_in.calls.clear()
    assert main(["separate", str(folder), "-o", str(tmp_path / "out"), *options]) == 0
    assert stand_in.calls == ([] if report else ["a.wav"])
    assert abandoned([job]) == set()


def test_a_recording_that_another_process_separates_is_skipped(folder, stand_in, tmp_path, capsys):
    job = Job(str(folder / "a.wav"), (tmp_path / "out" / "a_s1.wav",))
    with claimed(job):
        assert main(["separate", str(folder), "-o", str(tmp_path / "out")]) == 0
    assert stand_in.calls == ["b.flac", "c.wav"]
    assert capsys.readouterr().err.count("another process is separating it") == 1


def test_a_recording_that_another_process_gave_up_is_separated_at_the_end(folder, stand_in, tmp_path):
    job = Job(str(folder / "a.wav"), (tmp_path / "out" / "a_s1.wav",))
    claim = claimed(job)
    claim.__enter__()
    inner = stand_in.separate_file

    def then_give_up(separator, path, *arguments, **keywords):
        if path.endswith("c.wav"):
            claim.__exit__(None, None, None)
        return inner(separator, path, *arguments, **keywords)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mossformer_jax.cli.attempt.separate_file", then_give_up)
        assert main(["separate", str(folder), "-o", str(tmp_path / "out")]) == 0
    assert stand_in.calls == ["b.flac", "c.wav", "a.wav"]


def test_without_locks_recordings_are_separated_all_the_same(folder, stand_in, tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "fcntl", None)
    assert main(["separate", str(folder), "-o", str(tmp_path / "out"), "--report", str(tmp_path / "report.jsonl")]) == 0
    assert stand_in.calls == ["a.wav", "b.flac", "c.wav"]
    assert not list((tmp_path / "out").glob(".*"))


def make_archive(folder: Path) -> dict[str, str]:
    """Recordings of 0.1 s, one in twenty broken; returns the error classes of the broken ones."""
    rng = np.random.default_rng(0)
    (folder / "broken").mkdir(parents=True)
    expected = {}
    for number in range(FILES // 200 or 1):
        (folder / "broken" / f"{number}").mkdir()
        found = broken_files(folder / "broken" / f"{number}")
        kept = dict(list(found.items())[: max(FILES // 20, 1) if FILES < 200 else 10])
        for name in found.keys() - kept.keys():
            (folder / "broken" / f"{number}" / name).unlink()
        expected |= {f"broken/{number}/{name}": kind for name, kind in kept.items()}
    for number in range(FILES - len(expected)):
        path = folder / f"{number % 7}" / f"{number:05}.wav"
        path.parent.mkdir(exist_ok=True)
        write_audio(path, 0.1 * rng.standard_normal(800), 8000)
    return expected


def contents(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def peak_memory(process: multiprocessing.Process) -> float:
    """The largest resident memory of a process so far, in MB; 0 if it has ended, or the system has no /proc."""
    with suppress(OSError):
        for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    return 0.0


@pytest.mark.slow
def test_an_archive_is_complete_after_processes_were_killed_at_random(tmp_path, tiny_model_folder):
    """Every good recording is done once, every broken one is recorded, and no other files are left."""
    expected = make_archive(tmp_path / "in")
    # Processes are forked from one that has imported JAX, because each import takes seconds.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["mossformer_jax.separation", "mossformer_jax.cli.attempt"])

    def start(output: str) -> multiprocessing.Process:
        options = ["-o", tmp_path / output, "--report", tmp_path / f"{output}.jsonl", "--model", tiny_model_folder]
        options += ["--compile-cache", tmp_path / "compiled", "--device", "cpu", "--quiet"]
        process = context.Process(target=main, args=(["separate", str(tmp_path / "in"), *map(str, options)],))
        process.start()
        return process

    peaks = []

    def finish(processes: list[multiprocessing.Process]) -> None:
        while any(process.is_alive() for process in processes):
            peaks.extend(map(peak_memory, processes))
            time.sleep(0.05)

    finish([start("alone")])
    alone = contents(tmp_path / "alone")
    assert len(alone) == 2 * (FILES - len(expected))

    chance = random.Random(0)
    report = tmp_path / "out.jsonl"
    for _ in range(ROUNDS):
        running = [start("out") for _ in range(PROCESSES)]
        lines = report.read_bytes().count(b"\n") if report.exists() else 0
        # Killed once some recordings are done, so that each round has an effect however slow the machine is.
        while (report.read_bytes().count(b"\n") if report.exists() else 0) < lines + FILES // (2 * ROUNDS):
            if not any(process.is_alive() for process in running):
                break
            time.sleep(0.002)
        for process in running:
            time.sleep(chance.uniform(0.0, 0.05))
            peaks.append(peak_memory(process))
            process.kill()
            process.join()
    for number in (PROCESSES, 1):
        finish([start("out") for _ in range(number)])
    assert max(peaks) < PEAK_MB

    assert contents(tmp_path / "out") == alone
    records = [json.loads(line) for line in report.read_text().splitlines()]
    done = sorted(record["input"] for record in records if record["status"] == "done")
    assert len(done) == len(set(done)) == FILES - len(expected)
    failed = {
        Path(record["input"]).relative_to(tmp_path / "in").as_posix(): record["error_class"]
        for record in records
        if record["status"] == "failed"
    }
    assert failed == expected
