"""SIGINT and SIGKILL at random moments: no incomplete file under a final name, and the same command finishes the work.

MUTATIONS and FIRST_SEED are those of test_mutations.py; each test takes one moment per 150 of them.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from mossformer_jax.audio import write_audio
from tests.conftest import REPOSITORY
from tests.mutations.test_mutations import seeds
from tests.training.runs import TINY

# The moments depend on the load of the machine, so a failure cannot be repeated by its seed alone.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif("MUTATIONS" not in os.environ, reason="signals at random moments: run make fuzz"),
    pytest.mark.skipif(os.name == "nt", reason="signals of POSIX"),
]
STEPS = 6
# The last one: Python dies of a SIGINT that arrives while it exits. A shell shows this as 130, too.
AFTER_SIGINT = (0, 130, -signal.SIGINT)


class Command:
    """Starts the command, and sends it a signal after a random fraction of its usual time."""

    def __init__(self, *arguments: object):
        self._arguments = [sys.executable, str(Path(__file__).with_name("signalled.py")), *map(str, arguments)]
        self.seconds = 0.0

    def _start(self) -> subprocess.Popen[str]:
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "JAX_PLATFORMS": "cpu"}
        process = subprocess.Popen(
            self._arguments, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert process.stdout.readline() == "started\n"
        return process

    def finish(self) -> None:
        """Runs it to the end, which must succeed."""
        began, process = time.monotonic(), self._start()
        _, printed = process.communicate(timeout=600)
        self.seconds = time.monotonic() - began
        assert process.returncode == 0, printed

    def interrupt(self, rng: np.random.Generator) -> tuple[signal.Signals, int]:
        """Returns the signal and the exit status."""
        process, sent = self._start(), rng.choice([signal.SIGINT, signal.SIGKILL])
        time.sleep(rng.uniform(0, self.seconds))
        process.send_signal(sent)
        _, printed = process.communicate(timeout=60)
        assert "Traceback" not in printed, printed
        return signal.Signals(sent), process.returncode


def moments() -> list[int]:
    return list(seeds()[::150])


def test_a_separation_at_any_moment(tmp_path, tiny_model_folder):
    recording, names = tmp_path / "a.wav", {"a_s1.wav", "a_s2.wav"}
    write_audio(recording, 0.1 * np.random.default_rng(0).standard_normal(8000 * 60), 8000)

    def separate(folder: Path) -> Command:
        options = ("--memory", "10MB", "--no-compile-cache")
        return Command("separate", recording, "-o", folder, "--model", tiny_model_folder, *options)

    usual = separate(tmp_path / "usual")
    usual.finish()
    expected = {path.name: path.read_bytes() for path in (tmp_path / "usual").iterdir()}
    assert set(expected) == names
    for seed in moments():
        folder = tmp_path / f"run{seed}"
        command = separate(folder)
        command.seconds = usual.seconds
        sent, status = command.interrupt(np.random.default_rng((8, seed)))
        found = {path.name: path.read_bytes() for path in folder.iterdir()} if folder.exists() else {}
        assert all(found[name] == expected[name] for name in names & set(found)), f"seed {seed}"
        if sent == signal.SIGINT:
            assert status in AFTER_SIGINT, f"seed {seed}"
            assert set(found) in (set(), names), f"seed {seed}"
        command.finish()
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == expected, f"seed {seed}"


def test_a_training_at_any_moment(tmp_path):
    def train(workdir: Path) -> Command:
        options = [f"--config.train.steps={STEPS}", "--config.train.checkpoint_every=2", "--config.data.num_workers=0"]
        options += ["--no-compile-cache"]
        return Command("train", "--config", TINY, "--workdir", workdir, *options)

    usual = train(tmp_path / "usual")
    usual.finish()
    for seed in moments():
        workdir = tmp_path / f"run{seed}"
        command = train(workdir)
        command.seconds = usual.seconds
        sent, status = command.interrupt(np.random.default_rng((9, seed)))
        if sent == signal.SIGINT:
            assert status in AFTER_SIGINT, f"seed {seed}"
        command.finish()
        assert not list(workdir.glob("checkpoints/*.damaged")), f"seed {seed}: a named checkpoint was incomplete"
        steps = {path.name for path in (workdir / "checkpoints").iterdir()}
        assert str(STEPS) in steps, f"seed {seed}: {steps}"
        assert all(name.isdecimal() for name in steps), f"seed {seed}: {steps}"
        assert {path.name for path in (workdir / "last").iterdir()} >= {"config.json", "model.safetensors"}
