"""Training with two processes, as on two hosts, including after one of them is killed."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import FAST_COMPILATION, PYTHONPATH, REPOSITORY
from tests.training import runs

pytestmark = pytest.mark.slow

STEPS = 14
LENGTH = f"--config.train.steps={STEPS}"
# If one process is gone, the next message of the other one fails, without waiting for a heartbeat.
SECONDS_TO_NOTICE = 60


def free_address() -> str:
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return f"localhost:{free.getsockname()[1]}"


def train(workdir: Path, interrupts: tuple[str, str] = ("", "")) -> list[subprocess.CompletedProcess[str]]:
    """Runs train.py in two processes until both exit; `interrupts` has one entry per process, as in `runs.start`."""
    address = f"--coordinator-address={free_address()}"
    processes = [
        runs.start(workdir, address, "--num-processes=2", f"--process-id={index}", LENGTH, interrupt=interrupt)
        for index, interrupt in enumerate(interrupts)
    ]
    try:
        killed = [process for process, interrupt in zip(processes, interrupts, strict=True) if "SIGKILL" in interrupt]
        for process in killed:
            process.wait(600)
        return [runs.finish(process, SECONDS_TO_NOTICE if killed else 600) for process in processes]
    finally:
        for process in processes:
            process.kill()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> Path:
    workdir = tmp_path_factory.mktemp("undisturbed")
    for ended in train(workdir):
        assert ended.returncode == 0, ended.stderr
    return workdir


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory, undisturbed) -> Path:
    """A run in which each process is killed once and one is asked to stop."""
    workdir = tmp_path_factory.mktemp("interrupted")

    survivor, killed = train(workdir, ("", "SIGKILL step 5"))
    assert (survivor.returncode, killed.returncode) == (1, -9), survivor.stderr
    (line,) = survivor.stderr.splitlines()
    assert line.startswith("mossformer-jax: error: ")
    assert "Traceback" not in killed.stderr

    # The processes agree on stopping at every tenth step and before each validation.
    first, second = train(workdir, ("", "SIGTERM step 7"))
    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    assert f"after step 8 of {STEPS}, all saved" in first.stdout.splitlines()[-1]

    killed, survivor = train(workdir, ("SIGKILL step 13", ""))
    assert killed.returncode == -9, killed.stderr
    # Process 0 runs the coordinator. When it is gone, JAX may stop the other process before it can log an error line.
    assert survivor.returncode != 0

    for ended in train(workdir):
        assert ended.returncode == 0, ended.stderr
    return workdir


def test_restarted_processes_give_the_same_weights_as_an_uninterrupted_run(undisturbed, interrupted):
    assert runs.written_models(interrupted) == runs.written_models(undisturbed)
    assert runs.records(interrupted) == runs.records(undisturbed)
    runs.check_same_checkpoint(interrupted, undisturbed, STEPS)


def test_first_steps_with_two_processes_equal_those_with_one(undisturbed, tmp_path):
    alone = runs.train(tmp_path, LENGTH)
    assert alone.returncode == 0, alone.stderr
    single, double = (
        [record for record in runs.records(workdir) if record["kind"] == "train"] for workdir in (tmp_path, undisturbed)
    )
    assert [record["step"] for record in single] == [record["step"] for record in double]
    # Mixtures, dropout and learning rates are the same. The sums have a different order, so they differ by float32
    # rounding (1e-7), which this high learning rate amplifies from step to step. Only the first steps are comparable.
    assert double[0]["loss"] == pytest.approx(single[0]["loss"], rel=1e-5)
    assert double[0]["gradient_norm"] == pytest.approx(single[0]["gradient_norm"], rel=1e-4)
    assert double[1]["loss"] == pytest.approx(single[1]["loss"], rel=1e-2)
    assert [record["learning_rate"] for record in double[:2]] == [record["learning_rate"] for record in single[:2]]


def test_processes_with_alternating_devices_get_their_own_rows_back():
    address = free_address()
    environment = {
        "PYTHONPATH": PYTHONPATH,
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"{FAST_COMPILATION} --xla_force_host_platform_device_count=2",
    }
    processes = [
        subprocess.Popen(
            [sys.executable, str(REPOSITORY / "tests" / "multihost" / "interleaved.py"), address, str(index)],
            env={**os.environ, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in range(2)
    ]
    for ended in [runs.finish(process) for process in processes]:
        assert ended.returncode == 0, ended.stderr
