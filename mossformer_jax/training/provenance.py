"""How a run was started, in starts.jsonl: version, commit, command, host, devices and time of each start."""

from __future__ import annotations

import datetime
import json
import os
import platform
import shlex
import socket
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax

import mossformer_jax
from mossformer_jax.locks import append_line

STARTS_FILE = "starts.jsonl"
_PACKAGES = ("jax", "flax", "optax", "numpy")
# A repository on a slow network file system must not delay a training.
_GIT_SECONDS = 10


def record_start(workdir: Path, step: int) -> None:
    """Appends a line to starts.jsonl.

    Args:
        workdir: the run's folder.
        step: the step from which the training begins or resumes.
    """
    commit, changed = git_commit(Path(mossformer_jax.__file__).parents[1])
    record: dict[str, Any] = {
        "time": now(),
        "step": step,
        "command": shlex.join(sys.argv),
        "version": mossformer_jax.__version__,
        "commit": commit,
        "uncommitted_changes": changed,
        "host": socket.gethostname(),
        "system": platform.platform(),
        "cpus": os.cpu_count(),
        "devices": f"{jax.device_count()} x {jax.devices()[0].device_kind} ({jax.default_backend()})",
        "processes": jax.process_count(),
        "python": platform.python_version(),
        **{name: version(name) for name in _PACKAGES},
    }
    append_line(workdir / STARTS_FILE, json.dumps(record).encode())


def now() -> str:
    """The local time with its offset from UTC, in ISO 8601, to the second."""
    return datetime.datetime.now().astimezone().isoformat(timespec="seconds")


def git_commit(clone: Path) -> tuple[str | None, bool | None]:
    """The commit of a clone, and whether tracked files have changed since; (None, None) if it is not a clone.

    Args:
        clone: the root of the clone. A package installed in a folder of another repository is not a clone.
    """
    if not (clone / ".git").exists():
        return None, None
    command = ["git", "-C", str(clone), "status", "--porcelain=v2", "--branch", "--untracked-files=no"]
    # Without optional locks, so that a git command that the user runs meanwhile does not fail.
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}
    try:
        status = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=_GIT_SECONDS, check=True
        ).stdout.splitlines()
    except (OSError, subprocess.SubprocessError):
        return None, None
    commit = next((line.split()[-1] for line in status if line.startswith("# branch.oid ")), None)
    return commit, any(not line.startswith("#") for line in status)
