"""Runs the training command in a process of its own or in this one, and reads the files that it writes."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp

from mossformer_jax.cli import main
from mossformer_jax.training.checkpoints import ARRAYS, NOTES
from mossformer_jax.training.records import read_metrics
from tests.conftest import PYTHONPATH, REPOSITORY, settings_of_jax_restored
from tests.training import interrupted

TINY = REPOSITORY / "tests" / "training" / "tiny.py"
INTERRUPTED = REPOSITORY / "tests" / "training" / "interrupted.py"


def start(
    workdir: Path, *flags: str, config: Path | str = TINY, interrupt: str = "", xla_flags: str = ""
) -> subprocess.Popen[str]:
    """Starts train.py; `interrupt`, such as "SIGTERM step 7", sends it that signal at that place (interrupted.py)."""
    program = [INTERRUPTED, *interrupt.split()] if interrupt else [REPOSITORY / "train.py"]
    cache = jax.config.jax_compilation_cache_dir
    arguments = ["--config", config, "--workdir", workdir, "--compile-cache", cache, *flags]
    return subprocess.Popen(
        [str(word) for word in [sys.executable, "-W", "error::DeprecationWarning:jax", *program, *arguments]],
        cwd=REPOSITORY,
        env={
            **os.environ,
            "PYTHONPATH": PYTHONPATH,
            "JAX_PLATFORMS": "cpu",
            # XLA takes a single space for the name of a file.
            "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} {xla_flags}".strip(),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str], seconds: float = 600) -> subprocess.CompletedProcess[str]:
    """Waits until it ends. After `seconds`, it is killed, and TimeoutExpired is raised."""
    try:
        stdout, stderr = process.communicate(timeout=seconds)
    finally:
        process.kill()
    return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)


def train(workdir: Path, *flags: str, **options: str) -> subprocess.CompletedProcess[str]:
    """Runs train.py to its end."""
    return finish(start(workdir, *flags, **options))


def train_here(workdir: Path, *flags: str, interrupt: str = "") -> subprocess.CompletedProcess[str]:
    """Runs the command in this process, which saves a start and the first traces; restores JAX's settings.

    The numbers are those of a process of its own.
    """
    arguments = ["--config", str(TINY), "--workdir", str(workdir), *flags]
    handlers = logging.root.handlers
    logging.root.handlers = []
    printed, errors = StringIO(), StringIO()
    try:
        with settings_of_jax_restored(), redirect_stdout(printed), redirect_stderr(errors):
            ended = interrupted.main(*interrupt.split(), *arguments) if interrupt else main(["train", *arguments])
    finally:
        logging.root.handlers = handlers
    return subprocess.CompletedProcess(arguments, ended, printed.getvalue(), errors.getvalue())


def written_models(workdir: Path) -> dict[str, bytes]:
    """The bytes of RUN/best and RUN/last."""
    files = (path for name in ("best", "last") for path in (workdir / name).iterdir())
    return {path.relative_to(workdir).as_posix(): path.read_bytes() for path in files}


def checkpoint(workdir: Path, step: int) -> dict[str, np.ndarray]:
    """The arrays of a checkpoint, gathered from all devices."""
    folder = workdir / "checkpoints" / str(step) / ARRAYS
    with ocp.PyTreeCheckpointer() as checkpointer:
        names = checkpointer.metadata(folder).item_metadata.tree
        as_numpy = {name: ocp.RestoreArgs(restore_type=np.ndarray) for name in names}
        return checkpointer.restore(folder, restore_args=as_numpy)


def check_same_checkpoint(workdir: Path, expected_workdir: Path, step: int) -> None:
    """Asserts that two runs have bit-identical checkpoints of a step."""
    arrays, expected = (checkpoint(folder, step) for folder in (workdir, expected_workdir))
    assert arrays.keys() == expected.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, expected[name], err_msg=name)


def notes(workdir: Path, step: int) -> dict:
    """The notes of a checkpoint."""
    return json.loads((workdir / "checkpoints" / str(step) / NOTES / "metadata").read_bytes())


def records(workdir: Path) -> list[dict]:
    """The records of metrics.jsonl, without the figures that depend on the time."""
    clock = ("mixtures_per_second", "waiting_share", "time")
    return [{name: value for name, value in record.items() if name not in clock} for record in read_metrics(workdir)]
