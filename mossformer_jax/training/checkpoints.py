"""Checkpoints of a training run: whole or not there, checked before they are trusted."""

from __future__ import annotations

import hashlib
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

_log = logging.getLogger(__name__)

Arrays = dict[str, jax.Array]

ARRAYS, NOTES, METRICS = "arrays", "notes", "metrics"  # the last is Orbax's name, of a folder and of the file in it
CHECKSUMS_FILE = "checksums.json"
_SCORE = "si_sdri_db"
_TEMPORARY = ".orbax-checkpoint-tmp"
_REMOVED = ".removed"
# Orbax writes these after the checksums; nothing that is restored depends on them.
_UNCHECKED = {"_CHECKPOINT_METADATA", "commit_success.txt", CHECKSUMS_FILE}


class Checkpoints:
    """Checkpoints of a run, RUN/checkpoints/STEP, written in the background by Orbax.

    A checkpoint is written under a temporary name and renamed when it is complete, so that a folder named by a plain
    decimal is whole, whenever the process is killed. It holds arrays (TensorStore's OCDBT and Zarr), JSON, and the
    SHA-256 of its files, which are compared before anything is read. Nothing in it is executable (no pickle).

    Several processes of a training call every method together, on a folder that all of them see. Only one training
    uses a folder at a time.
    """

    def __init__(self, folder: str | Path, *, keep_last: int = 2, keep_best: int = 1) -> None:
        """Opens a folder, made where it is missing; what a killed process left half-written is removed.

        Args:
            folder: holds one folder a checkpoint, and nothing else under a decimal name.
            keep_last: latest checkpoints that are kept.
            keep_best: checkpoints with the best score that are kept besides.

        Raises:
            ValueError: something else than a checkpoint of a training has a checkpoint's name.
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
                best_fn=_score,  # without it Orbax writes no score
                # Deleted in place, a checkpoint would lie there half-deleted for a while.
                todelete_subdir=_REMOVED,
                async_options=ocp.AsyncOptions(post_finalization_callback=self._write_checksums),
            ),
        )

    def save(self, step: int, arrays: Arrays, notes: dict[str, Any], *, score: float | None = None) -> None:
        """Begins to save; on returning, the arrays may be donated or overwritten.

        A step that is already there is not saved again.

        Args:
            step: optimizer steps done.
            arrays: by name, on any devices.
            notes: everything else, ready for JSON.
            score: validation SI-SDRi in dB at this step; None where none was measured.

        Raises:
            OSError: this checkpoint, or the one before it, could not be written.
        """
        if step in self.steps():
            return
        self.wait()
        self._saving = step
        # Arrays on a CPU are not copied, but JAX does not hand on the memory of an array that somebody still reads.
        items = {ARRAYS: ocp.args.PyTreeSave(arrays), NOTES: ocp.args.JsonSave(notes)}
        metrics = {_SCORE: score if score is not None and math.isfinite(score) else None}
        try:
            self._manager.save(step, args=ocp.args.Composite(**items), metrics=metrics, force=True)
        except Exception as error:
            raise self._not_written(error) from error

    def steps(self) -> list[int]:
        """Steps of which there is a checkpoint, in ascending order, with the one that is being written."""
        return sorted(self._manager.all_steps())

    def restore(self, abstract: Mapping[str, jax.ShapeDtypeStruct]) -> tuple[int, Arrays, dict[str, Any]] | None:
        """Reads the newest checkpoint; a damaged one is moved aside as STEP.damaged if an older one is whole.

        Args:
            abstract: shape, dtype and sharding of every array, by name. The devices may be others than on saving.

        Returns:
            The step, its arrays and its notes; None if there is no checkpoint.

        Raises:
            ValueError: no checkpoint is whole; or the newest is damaged and several processes run, which do not
                decide on their own to lose steps; or it is of another model or recipe.
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
                f"{self.folder}: no checkpoint is whole ({_listed(damages)}); put back a copy of one, or move them "
                "away and the training begins anew"
            )
        return None

    def wait(self) -> None:
        """Returns when everything is on disk.

        Raises:
            OSError: the last checkpoint could not be written.
        """
        try:
            self._manager.wait_until_finished()
        except Exception as error:
            raise self._not_written(error) from error
        self._remove_leftovers()

    def close(self) -> None:
        """Waits as `wait` does, and ends the background threads."""
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
                    f"{path}: not a checkpoint of a training (folders {ARRAYS} and {NOTES}); move it away, or give "
                    "another --workdir"
                )
            if jax.process_index() == 0:
                _hide_unreadable_score(path / METRICS / METRICS)

    def _write_checksums(self) -> None:
        """Called by Orbax when all is written, on the primary process, before the checkpoint gets its name."""
        folder = self.folder / f"{self._saving}{_TEMPORARY}"
        checksums = {name: _checksum(folder / name) for name in _checked_files(folder)}
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
            reason = f"... {reason[-200:]}"  # TensorStore's reasons begin with where and end with why
        newest = f"the newest whole one is {self._path(self.steps()[-1])}" if self.steps() else "there is no older one"
        return OSError(
            f"{self._path(self._saving or 0)}: the checkpoint could not be written ({reason}); {newest}; look for free "
            "space and permissions, then run the same command again"
        )

    def _refuse_differences(self, step: int, abstract: Mapping[str, jax.ShapeDtypeStruct]) -> None:
        stored = self._handler.metadata(self._manager.directory / str(step) / ARRAYS).tree
        there = {name: f"{array.dtype}{list(array.shape)}" for name, array in stored.items()}
        here = {name: f"{array.dtype}{list(array.shape)}" for name, array in abstract.items()}
        different = [
            f"{name} is {there.get(name, 'missing')}, not {here.get(name, 'there')}"
            for name in sorted(there.keys() | here.keys())
            if there.get(name) != here.get(name)
        ]
        if different:
            more = f" and {len(different) - 3} more" if len(different) > 3 else ""
            raise ValueError(
                f"{self._path(step)}: of another model or recipe: {', '.join(different[:3])}{more}; use the config "
                "that it was written with, or another --workdir"
            )

    def _move_aside(self, damages: dict[int, str], *, instead: int) -> None:
        if damages and jax.process_count() > 1:
            raise ValueError(
                f"damaged: {_listed({self._path(step): damage for step, damage in damages.items()})}; move it away and "
                f"the training continues from {self._path(instead)}"
            )
        for step, damage in damages.items():
            aside = self.folder / f"{step}.damaged"
            while aside.exists():
                aside = aside.with_name(f"{aside.name}.damaged")
            os.rename(self._path(step), aside)
            message = f"{self._path(step)} is damaged ({damage}): moved to {aside}, {self._path(instead)} is used"
            self.moved_aside.append(message)
            _log.warning("%s", message)
        if damages:
            self._manager.reload()


def _array_handler() -> ocp.PyTreeCheckpointHandler:
    """Writes each array from the devices that hold its first copy.

    Orbax would have every copy write its share, which takes a small program to compile for every shape of array.
    """
    arrays = ocp.type_handlers.ArrayHandler(use_replica_parallel=False)
    registry = ocp.type_handlers.create_type_handler_registry((jax.Array, arrays))
    return ocp.PyTreeCheckpointHandler(type_handler_registry=registry)


def _score(metrics: dict[str, float | None]) -> float:
    """A checkpoint without a score ranks below all that have one."""
    score = metrics.get(_SCORE)
    return -math.inf if score is None else score


def _hide_unreadable_score(file: Path) -> None:
    """Orbax cannot open a folder with such a file; without it the checkpoint is a damaged one like others."""
    try:
        json.loads(file.read_text())
    except FileNotFoundError:
        pass
    except ValueError:
        os.rename(file, file.with_name(f"{file.name}.damaged"))


def _checked_files(folder: Path) -> list[str]:
    files = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return sorted(path.as_posix() for path in files if path.as_posix() not in _UNCHECKED)


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _damage(path: Path) -> str | None:
    """What is wrong with a checkpoint's files; None if they are as they were written."""
    try:
        checksums: dict[str, str] = json.loads((path / CHECKSUMS_FILE).read_text())
        for name, checksum in checksums.items():
            if not (path / name).is_file():
                return f"{name} is missing"
            if _checksum(path / name) != checksum:
                return f"{name} is not as it was written"
    except FileNotFoundError:
        return f"{CHECKSUMS_FILE} is missing"
    except (ValueError, AttributeError):
        return f"{CHECKSUMS_FILE} cannot be read"
    return None


def _listed(damages: Mapping[Any, str]) -> str:
    return ", ".join(f"{where}: {damage}" for where, damage in damages.items())


def _without_routine(record: logging.LogRecord) -> bool:
    """Leaves Orbax's warnings in the log (it logs to absl's logger, as others do), without its reports of routine.

    Its errors reach the caller as exceptions, so that they need not be shown twice.
    """
    return f"{os.sep}orbax{os.sep}" not in record.pathname or record.levelno == logging.WARNING
