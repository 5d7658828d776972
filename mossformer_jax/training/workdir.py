"""A run's folder: one training at a time, and always of the same network."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from mossformer_jax.training.configuration import changed_fields, read_saved_config
from mossformer_jax.training.state import TRAINING_FIELDS

if TYPE_CHECKING:
    from ml_collections import ConfigDict

CONFIG_FILE = "config.json"
LOCK_FILE = ".lock"

_log = logging.getLogger(__name__)


def lock(workdir: Path) -> IO[bytes]:
    """Locks a run's folder, which is made where it is missing, until the file that is returned is closed.

    A second training would remove what the first is about to save.

    The system ends the lock with the process, however that ends. Where there are no such locks (Windows, some network
    file systems), nothing is locked.

    Raises:
        ValueError: another training runs in the folder.
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
            f"{workdir}: another training runs in this folder; wait for its end, or give another --workdir"
        ) from None
    except OSError as error:
        _log.warning("%s: cannot be locked (%s); start no second training in it", workdir, error.strerror)
    return file


def changes_since_start(workdir: Path, config: ConfigDict) -> dict[str, tuple[Any, Any]]:
    """Fields of a config that are others than when the run was last started, with their values then and now.

    Raises:
        ValueError: one of them describes the network, which a run that has begun cannot change.
    """
    path = workdir / CONFIG_FILE
    if not path.exists() or not any((workdir / "checkpoints").glob("*")):
        return {}
    changes = changed_fields(read_saved_config(path), config)
    for name, (before, after) in changes.items():
        if name.startswith("model.") and name.removeprefix("model.") not in TRAINING_FIELDS:
            raise ValueError(
                f"{workdir} holds a run with config.{name}={before}, the config has {after}: train another network in "
                "another --workdir"
            )
    return changes
