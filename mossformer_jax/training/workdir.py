"""A run's folder: used by one training at a time, always with the same network, and with the config of each part."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from mossformer_jax.atomic import write_atomically
from mossformer_jax.locks import try_lock
from mossformer_jax.training.configuration import TRAINING_FIELDS, changed_fields, read_saved_config, save_config

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
        held_elsewhere = try_lock(file.fileno()) is False
    except OSError as error:
        _log.warning("%s: cannot be locked (%s); do not start a second training in it", workdir, error.strerror)
        return file
    if held_elsewhere:
        file.close()
        raise ValueError(
            f"{workdir}: another training is running in this folder; wait until it ends, or use another --workdir"
        )
    return file


def has_begun(workdir: Path) -> bool:
    """Whether the folder has a run with a checkpoint."""
    return (workdir / CONFIG_FILE).exists() and any((workdir / "checkpoints").glob("*"))


def write_config(workdir: Path, config: ConfigDict, step: int) -> None:
    """Writes the config of a run whose training begins or continues at a step.

    A config under which the earlier steps ran is kept as config_until_STEP.json if the new one is different.
    """
    path = workdir / CONFIG_FILE
    if step and path.exists():
        if not changed_fields(read_saved_config(path), config):
            return
        kept = workdir / f"config_until_{step}.json"
        if not kept.exists():  # otherwise the last config trained no step that is left
            write_atomically(kept, path.read_bytes())
    save_config(path, config)


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
