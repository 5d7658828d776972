"""A run is killed at each step at which it changes the file system; a rerun gives the files of an undisturbed run."""

from __future__ import annotations

import itertools
import json
import multiprocessing
import os
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from mossformer_jax import locks
from mossformer_jax.audio import write_audio
from mossformer_jax.cli import main
from mossformer_jax.model import ModelConfig
from mossformer_jax.separation import Separator
from tests.cli.test_claims import contents

STEPS = ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.truncate")
KILLED = 9

pytestmark = pytest.mark.skipif(locks.fcntl is None, reason="this system has no locks that end with their process")


def separator(gain: float) -> Separator:
    """A separator whose network multiplies the mixture by a gain."""

    def program(padded_bt, lengths_b):
        return np.stack([gain * padded_bt, -gain * padded_bt], axis=1)

    cpu = SimpleNamespace(platform="cpu")
    return Separator(SimpleNamespace(config=ModelConfig(), device=cpu, compile=lambda batch, length: program))


def separate(folder: Path, gain: float, last: int | None, arguments: list[str]) -> None:
    """Separates `folder/in` into `folder/out` in a process that ends before its step `last`, without any cleanup."""
    Separator.from_pretrained = lambda model, **options: separator(gain)
    steps = itertools.count()

    def count(event, details):
        if event in STEPS and str(details[0]).startswith(str(folder)) and next(steps) == last:
            os._exit(KILLED)

    sys.addaudithook(count)
    options = ["-o", str(folder / "out"), "--report", str(folder / "report.jsonl"), "--scale", "none", "--quiet"]
    sys.exit(main(["separate", str(folder / "in"), *options, *arguments]))


@pytest.fixture
def run(tmp_path):
    """Runs `separate` in a process, and returns its exit status."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.cli.test_crashes", "mossformer_jax.cli.attempt"])
    (tmp_path / "in").mkdir()
    write_audio(tmp_path / "in" / "a.wav", np.linspace(-0.1, 0.1, 800), 8000)

    def run(gain: float, last: int | None = None, *arguments: str) -> int | None:
        process = context.Process(target=separate, args=(tmp_path, gain, last, list(arguments)))
        process.start()
        process.join()
        return process.exitcode

    return run


def clear(folder: Path) -> None:
    shutil.rmtree(folder / "out")
    (folder / "report.jsonl").unlink()


@pytest.mark.medium
def test_a_run_that_is_killed_at_any_step_can_be_repeated(run, tmp_path):
    assert run(0.5) == 0
    expected = contents(tmp_path / "out")
    for step in itertools.count():
        clear(tmp_path)
        status = run(0.5, step)
        if status == 0:
            break
        assert status == KILLED
        assert run(0.5) == 0
        assert contents(tmp_path / "out") == expected
        (line,) = (tmp_path / "report.jsonl").read_text().splitlines()
        assert json.loads(line)["status"] == "done"
    assert step > 10


@pytest.mark.medium
def test_sources_of_two_models_are_never_mixed(run, tmp_path):
    """A run with --overwrite and another model is killed, and not repeated with --overwrite."""
    assert run(0.25) == 0
    new = contents(tmp_path / "out")
    clear(tmp_path)
    assert run(0.5) == 0
    old = contents(tmp_path / "out")
    shutil.copytree(tmp_path / "out", tmp_path / "old")
    report = (tmp_path / "report.jsonl").read_bytes()
    found = []
    for step in itertools.count():
        clear(tmp_path)
        shutil.copytree(tmp_path / "old", tmp_path / "out")
        (tmp_path / "report.jsonl").write_bytes(report)
        status = run(0.25, step, "--overwrite")
        if status == 0:
            break
        assert status == KILLED
        assert run(0.25) == 0
        found.append(contents(tmp_path / "out"))
        assert found[-1] in (old, new)
    assert old in found
    assert new in found
