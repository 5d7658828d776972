"""Checks of a run's folder: it is used by one training at a time, and always with the same network."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from mossformer_jax.training.configuration import TRAINING_FIELDS, changed_fields, read_saved_config

if TYPE_CHECKING:
    from ml_collections import ConfigDict

CONFIG_FILE = "config.json"
LOCK_FILE = ".lock"

_log = logging.getLogger(__name__)


def lock(workdir: Path) -> IO[bytes]:
    """Locks a run's folder (created if missing) until the returned file is closed.

    A second training in the folder would delete checkpoints that the first one is writing.

    The operating system releases the lock when the process ends, even if it is killed. On systems without such locks
    (Windows, some network file systems), the folder is not locked.

    Raises:
        ValueError: another training is running in the folder.
    """
    workdir.mkdir(parents=True, exist_ok=True)
    file = (workdir / LOCK_FILE).open("ab")
    try:
        import fcntl
    except ImportError:
        return file
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        file.close()
        raise ValueError(
            f"{workdir}: another training is running in this folder; wait until it ends, or use another --workdir"
        ) from None
    except OSError as error:
        _log.warning("%s: cannot be locked (%s); do not start a second training in it", workdir, error.strerror)
    return file


def has_begun(workdir: Path) -> bool:
    """Whether the folder has a run with a checkpoint."""
    return (workdir / CONFIG_FILE).exists() and any((workdir / "checkpoints").glob("*"))


def changes_since_start(workdir: Path, config: ConfigDict) -> dict[str, tuple[Any, Any]]:
    """Config fields that have changed since the run was last started, with their old and new values.

    Raises:
        ValueError: a field of the network has changed, which is not allowed after a run has started.
    """
    if not has_begun(workdir):
        return {}
    changes = changed_fields(read_saved_config(workdir / CONFIG_FILE), config)
    for name, (before, after) in changes.items():
        if name.startswith("model.") and name.removeprefix("model.") not in TRAINING_FIELDS:
            raise ValueError(
                f"{workdir}: this run was started with config.{name}={before}, but the config has {after}; use another "
                "--workdir to train another network"
            )
    return changes
