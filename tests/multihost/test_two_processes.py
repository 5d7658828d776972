"""Two processes, as on two hosts, train one model; either of them may be killed."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import REPOSITORY
from tests.training import runs

pytestmark = pytest.mark.slow

STEPS = 14
LENGTH = f"--config.train.steps={STEPS}"
# A process that has lost the other one waits for no heartbeat: its next message fails.
SECONDS_TO_NOTICE = 60


def free_address() -> str:
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return f"localhost:{free.getsockname()[1]}"


def train(workdir: Path, interrupts: tuple[str, str] = ("", "")) -> list[subprocess.CompletedProcess[str]]:
    """Runs train.py in two processes to their ends; `interrupts` are theirs, as `runs.start` has them."""
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
    """A run of which each process is killed once, and one asked to stop."""
    workdir = tmp_path_factory.mktemp("interrupted")

    survivor, killed = train(workdir, ("", "SIGKILL step 5"))
    assert (survivor.returncode, killed.returncode) == (1, -9), survivor.stderr
    (line,) = survivor.stderr.splitlines()
    assert line.startswith("mossformer-jax: error: ")
    assert "Traceback" not in killed.stderr

    # They agree on stopping at every tenth step, and before each validation.
    first, second = train(workdir, ("", "SIGTERM step 7"))
    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    assert f"after step 8 of {STEPS}, all saved" in first.stdout.splitlines()[-1]

    killed, survivor = train(workdir, ("SIGKILL step 13", ""))
    assert killed.returncode == -9, killed.stderr
    # With process 0 goes what coordinates them; JAX may end the others before they can say so in one line.
    assert survivor.returncode != 0

    for ended in train(workdir):
        assert ended.returncode == 0, ended.stderr
    return workdir


def test_killed_processes_started_again_end_as_undisturbed_ones(undisturbed, interrupted):
    assert runs.written_models(interrupted) == runs.written_models(undisturbed)
    assert runs.records(interrupted) == runs.records(undisturbed)
    expected, arrays = (runs.checkpoint(workdir, STEPS) for workdir in (undisturbed, interrupted))
    assert arrays.keys() == expected.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, expected[name], err_msg=name)


def test_two_processes_begin_as_a_single_one_does(undisturbed, tmp_path):
    alone = runs.train(tmp_path, LENGTH)
    assert alone.returncode == 0, alone.stderr
    single, double = (
        [record for record in runs.records(workdir) if record["kind"] == "train"] for workdir in (tmp_path, undisturbed)
    )
    assert [record["step"] for record in single] == [record["step"] for record in double]
    # The same mixtures, dropout and learning rates. Sums in another order are float32 roundings of 1e-7, which a
    # learning rate as wild as this one multiplies from step to step: only the first steps can be compared.
    assert double[0]["loss"] == pytest.approx(single[0]["loss"], rel=1e-5)
    assert double[0]["gradient_norm"] == pytest.approx(single[0]["gradient_norm"], rel=1e-4)
    assert double[1]["loss"] == pytest.approx(single[1]["loss"], rel=1e-2)
    assert [record["learning_rate"] for record in double[:2]] == [record["learning_rate"] for record in single[:2]]


def test_a_process_gets_its_own_rows_back_where_its_devices_are_no_neighbours():
    address = free_address()
    environment = {
        "PYTHONPATH": str(REPOSITORY),
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": "--xla_force_host_platform_device_count=2",
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
