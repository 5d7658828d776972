"""The sweep in docs/training.md, with a command that only records how it was called."""

from __future__ import annotations

import os
import subprocess
import textwrap

import pytest

from mossformer_jax.training.configuration import load_config, resolve
from tests.conftest import REPOSITORY


def block(first_line: str) -> str:
    """The indented block of docs/training.md that begins with a line."""
    lines = (REPOSITORY / "docs" / "training.md").read_text("utf-8").splitlines()
    start = lines.index(f"    {first_line}")
    end = next(number for number, line in enumerate(lines) if number > start and not line.startswith("    "))
    return textwrap.dedent("\n".join(lines[start:end]))


@pytest.fixture
def calls(tmp_path, monkeypatch):
    """Runs a script; returns the arguments of each call of mossformer-jax."""
    for name, body in (("mossformer-jax", f'echo "$@" >> {tmp_path}/calls'), ("srun", '"$@"')):
        (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    def run(script: str, **environment: str) -> list[list[str]]:
        (tmp_path / "calls").write_text("")
        subprocess.run(["bash", "-eu", "-c", script], check=True, env={**os.environ, **environment})
        return [line.split() for line in (tmp_path / "calls").read_text().splitlines()]

    return run


def check(call: list[str], rate: float) -> None:
    command, option, name, workdir_option, workdir, *overrides = call
    assert (command, option, workdir_option) == ("train", "--config", "--workdir")
    assert workdir.startswith("runs/sweep/lr_")
    assert resolve(load_config(name, overrides))[1].lr == rate


def test_the_loop_starts_each_run_in_its_own_folder(calls):
    called = calls(block("for lr in 5e-5 15e-5 45e-5; do"))
    for call, rate in zip(called, (5e-5, 15e-5, 45e-5), strict=True):
        check(call, rate)
    assert len({call[4] for call in called}) == 3


def test_a_job_of_the_array_starts_its_own_run(calls):
    (call,) = calls(block("#!/bin/bash"), SLURM_ARRAY_TASK_ID="1")
    check(call, 15e-5)
