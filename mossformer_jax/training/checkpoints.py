"""Checkpoints of a training run: written atomically, and verified by checksum before they are restored."""

from __future__ import annotations

import json
import logging
import math
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers as policies

from mossformer_jax.digests import sha256_of

_log = logging.getLogger(__name__)

Arrays = dict[str, jax.Array]

ARRAYS, NOTES, METRICS = "arrays", "notes", "metrics"  # "metrics" is Orbax's name for a folder and the file in it
CHECKSUMS_FILE = "checksums.json"
_SCORE = "si_sdri_db"
_TEMPORARY = ".orbax-checkpoint-tmp"
_REMOVED = ".removed"
# Orbax writes these after the checksums; nothing that is restored depends on them.
_METADATA = "_CHECKPOINT_METADATA"
_UNCHECKED = {_METADATA, f"{_METADATA}.damaged", "commit_success.txt", CHECKSUMS_FILE}


class Checkpoints:
    """Checkpoints of a run, RUN/checkpoints/STEP, written in the background by Orbax.

    A checkpoint is written under a temporary name and renamed when it is complete, so a folder whose name is a plain
    number is always complete, even if the process is killed. It holds arrays (TensorStore's OCDBT and Zarr), JSON,
    and the SHA-256 of each of its files, which is verified before anything is read. It contains no executable
    content (no pickle).

    In a multi-process training, all processes must call every method together, on a folder that all of them can see.
    Only one training may use a folder at a time.
    """

    def __init__(self, folder: str | Path, *, keep_last: int = 2, keep_best: int = 1) -> None:
        """Opens a folder (created if missing) and removes partial checkpoints left by a killed process.

        Args:
            folder: holds one folder per checkpoint; no other entry may have a number as its name.
            keep_last: number of latest checkpoints to keep.
            keep_best: number of checkpoints with the best score to keep in addition.

        Raises:
            ValueError: an entry has the name of a checkpoint but is not one.
        """
        logging.getLogger("absl").addFilter(_without_routine)
        self.folder = Path(folder).absolute()
        self._refuse_foreign_folders()
        self._remove_leftovers()
        keep = [
            policies.LatestN(keep_last),
            policies.BestN(get_metric_fn=_score, n=keep_best, keep_checkpoints_without_metrics=False),
        ]
        self._saving: int | None = None
        self.moved_aside: list[str] = []
        self._handler = _array_handler()
        registry = ocp.DefaultCheckpointHandlerRegistry()
        for args in (ocp.args.PyTreeSave, ocp.args.PyTreeRestore):
            registry.add(ARRAYS, args, self._handler)
        self._manager = ocp.CheckpointManager(
            self.folder,
            handler_registry=registry,
            options=ocp.CheckpointManagerOptions(
                preservation_policy=policies.AnyPreservationPolicy(keep),
                best_fn=_score,  # otherwise Orbax does not write the score
                # If deleted in place, a partly deleted checkpoint would be visible for a while.
                todelete_subdir=_REMOVED,
                async_options=ocp.AsyncOptions(post_finalization_callback=self._write_checksums),
            ),
        )

    def save(self, step: int, arrays: Arrays, notes: dict[str, Any], *, score: float | None = None) -> None:
        """Starts saving in the background. The arrays may be donated or overwritten once this returns.

        A step that is already saved is not saved again.

        Args:
            step: number of optimizer steps done.
            arrays: arrays by name, on any devices.
            notes: everything else, as JSON-compatible values.
            score: validation SI-SDRi in dB at this step; None if it was not measured.

        Raises:
            OSError: this checkpoint or the previous one could not be written.
        """
        if step in self.steps():
            return
        self.wait()
        self._saving = step
        # Arrays on a CPU are not copied, but JAX does not reuse the memory of an array that is still being read.
        items = {ARRAYS: ocp.args.PyTreeSave(arrays), NOTES: ocp.args.JsonSave(notes)}
        metrics = {_SCORE: score if score is not None and math.isfinite(score) else None}
        try:
            self._manager.save(step, args=ocp.args.Composite(**items), metrics=metrics, force=True)
        except Exception as error:
            raise self._not_written(error) from error

    def steps(self) -> list[int]:
        """Steps that have a checkpoint, in ascending order, including one that is still being written."""
        return sorted(self._manager.all_steps())

    def restore(self, abstract: Mapping[str, jax.ShapeDtypeStruct]) -> tuple[int, Arrays, dict[str, Any]] | None:
        """Reads the newest intact checkpoint. Newer damaged ones are renamed to STEP.damaged.

        Args:
            abstract: shape, dtype and sharding of every array, by name. The devices may differ from those at saving.

        Returns:
            The step, its arrays and its notes; None if there is no checkpoint.

        Raises:
            ValueError: all checkpoints are damaged; or the newest one is damaged in a multi-process training, where
                falling back to an older step is left to the user; or it belongs to another model or recipe.
            OSError: a checkpoint cannot be read.
        """
        self.wait()
        damages: dict[int, str] = {}
        for step in reversed(self.steps()):
            if damage := _damage(self._path(step)):
                damages[step] = damage
                continue
            self._refuse_differences(step, abstract)
            self._move_aside(damages, instead=step)
            arrays = ocp.args.PyTreeRestore(
                dict(abstract), restore_args=ocp.checkpoint_utils.construct_restore_args(dict(abstract))
            )
            args = ocp.args.Composite(**{ARRAYS: arrays, NOTES: ocp.args.JsonRestore()})
            restored = self._manager.restore(step, args=args)
            return step, restored[ARRAYS], restored[NOTES]
        if damages:
            raise ValueError(
                f"{self.folder}: all checkpoints are damaged ({_listed(damages)}); restore one from a backup, or move "
                "them away to start from the beginning"
            )
        return None

    def wait(self) -> None:
        """Waits until everything is on disk.

        Raises:
            OSError: the last checkpoint could not be written.
        """
        try:
            self._manager.wait_until_finished()
        except Exception as error:
            raise self._not_written(error) from error
        self._remove_leftovers()

    def close(self) -> None:
        """Waits as `wait` does, and stops the background threads."""
        try:
            self.wait()
        finally:
            self._manager.close()

    def _path(self, step: int) -> Path:
        return self.folder / str(step)

    def _refuse_foreign_folders(self) -> None:
        for path in self.folder.glob("[0-9]*"):
            if path.name.isdecimal() and not ((path / ARRAYS).is_dir() and (path / NOTES).is_dir()):
                raise ValueError(
                    f"{path}: not a training checkpoint (no folders {ARRAYS} and {NOTES}); move it away, or use "
                    "another --workdir"
                )
            if jax.process_index() == 0:
                _hide_unreadable(path / METRICS / METRICS)
                # The checkpoint can be restored without this one.
                _hide_unreadable(path / _METADATA)

    def _write_checksums(self) -> None:
        """Called by Orbax on the primary process after all files are written, before the folder is renamed."""
        folder = self.folder / f"{self._saving}{_TEMPORARY}"
        checksums = {name: sha256_of(folder / name) for name in _checked_files(folder)}
        (folder / CHECKSUMS_FILE).write_text(json.dumps(checksums, indent=2))

    def _remove_leftovers(self) -> None:
        if jax.process_index() == 0:
            for path in [self.folder / _REMOVED, *self.folder.glob(f"*{_TEMPORARY}")]:
                shutil.rmtree(path, ignore_errors=True)

    def _not_written(self, error: Exception) -> OSError:
        self._remove_leftovers()
        self._manager.reload()
        reason = " ".join(str(error).split())
        if len(reason) > 200:
            reason = f"... {reason[-200:]}"  # TensorStore's messages start with the location and end with the cause
        newest = f"the newest complete one is {self._path(self.steps()[-1])}" if self.steps() else "no older one exists"
        return OSError(
            f"{self._path(self._saving or 0)}: the checkpoint could not be written ({reason}); {newest}; check the "
            "free space and the permissions, then run the same command again to resume"
        )

    def _refuse_differences(self, step: int, abstract: Mapping[str, jax.ShapeDtypeStruct]) -> None:
        stored = self._handler.metadata(self._manager.directory / str(step) / ARRAYS).tree
        there = {name: f"{array.dtype}{list(array.shape)}" for name, array in stored.items()}
        here = {name: f"{array.dtype}{list(array.shape)}" for name, array in abstract.items()}
        different = [
            f"{name} is {there.get(name, 'missing')}, expected {here.get(name, 'no such array')}"
            for name in sorted(there.keys() | here.keys())
            if there.get(name) != here.get(name)
        ]
        if different:
            more = f" and {len(different) - 3} more" if len(different) > 3 else ""
            raise ValueError(
                f"{self._path(step)}: this checkpoint belongs to another model or recipe: {', '.join(different[:3])}"
                f"{more}; use the config that it was trained with, or another --workdir"
            )

    def _move_aside(self, damages: dict[int, str], *, instead: int) -> None:
        if damages and jax.process_count() > 1:
            raise ValueError(
                f"damaged: {_listed({self._path(step): damage for step, damage in damages.items()})}; move it away "
                f"and run the same command again to resume from {self._path(instead)}"
            )
        for step, damage in damages.items():
            aside = self.folder / f"{step}.damaged"
            while aside.exists():
                aside = aside.with_name(f"{aside.name}.damaged")
            os.rename(self._path(step), aside)
            message = f"{self._path(step)} is damaged ({damage}): moved to {aside}; resuming from {self._path(instead)}"
            self.moved_aside.append(message)
            _log.warning("%s", message)
        if damages:
            self._manager.reload()


def _array_handler() -> ocp.PyTreeCheckpointHandler:
    """A handler that writes each array from the devices that hold its first replica.

    By default, every replica writes a part, and Orbax compiles a small program for every array shape.
    """
    arrays = ocp.type_handlers.ArrayHandler(use_replica_parallel=False)
    registry = ocp.type_handlers.create_type_handler_registry((jax.Array, arrays))
    return ocp.PyTreeCheckpointHandler(type_handler_registry=registry)


def _score(metrics: dict[str, Any]) -> float:
    """The validation score. A checkpoint without a score ranks below all others."""
    score = metrics.get(_SCORE)
    return float(score) if isinstance(score, int | float) else -math.inf


def _hide_unreadable(file: Path) -> None:
    """Renames a file that is not a JSON object, which would make Orbax fail.

    A checkpoint without its score file counts as damaged.
    """
    try:
        usable = isinstance(json.loads(file.read_bytes()), dict)
    except FileNotFoundError:
        return
    except (ValueError, RecursionError):
        usable = False
    if not usable:
        os.rename(file, file.with_name(f"{file.name}.damaged"))


def _checked_files(folder: Path) -> list[str]:
    files = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return sorted(path.as_posix() for path in files if path.as_posix() not in _UNCHECKED)


def _damage(path: Path) -> str | None:
    """Describes what is wrong with a checkpoint's files; None if they are unchanged since they were written."""
    try:
        checksums: dict[str, str] = json.loads((path / CHECKSUMS_FILE).read_text())
        for name, checksum in checksums.items():
            if not (path / name).is_file():
                return f"{name} is missing"
            if sha256_of(path / name) != checksum:
                return f"{name} has changed since it was written"
    except FileNotFoundError:
        return f"{CHECKSUMS_FILE} is missing"
    except (ValueError, AttributeError):
        return f"{CHECKSUMS_FILE} cannot be read"
    return None


def _listed(damages: Mapping[Any, str]) -> str:
    return ", ".join(f"{where}: {damage}" for where, damage in damages.items())


def _without_routine(record: logging.LogRecord) -> bool:
    """Keeps Orbax's warnings in the log and drops its routine messages (it logs to absl's shared logger).

    Its errors reach the caller as exceptions, so logging them would show them twice.
    """
    return f"{os.sep}orbax{os.sep}" not in record.pathname or record.levelno == logging.WARNING
