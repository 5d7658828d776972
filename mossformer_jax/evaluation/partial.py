"""The rows of an unfinished evaluation, in a file that stays usable if the process is killed at any time."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mossformer_jax.atomic import write_atomically
from mossformer_jax.evaluation.report import ROWS_FILE, Row, format_rows, read_metrics


def read_object(path: Path) -> dict[str, Any]:
    """Reads a JSON object; an empty dict if the file does not exist or holds no object."""
    try:
        found = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def as_read_back(identity: Mapping[str, Any]) -> dict[str, Any]:
    """An identity as read back from JSON, where tuples are lists."""
    return json.loads(json.dumps(identity))


class PartialMetrics:
    """Appends rows to `metrics.csv.partial`, next to their identity in `metrics.csv.partial.json`.

    Args:
        folder: output folder of the evaluation.
        identity: everything that the rows depend on, serializable as JSON.

    Attributes:
        rows: complete rows of an interrupted evaluation with the same identity.

    Raises:
        ValueError: the folder has rows with another identity; the message names the differences.
    """

    def __init__(self, folder: Path, identity: Mapping[str, Any]):
        self._path = folder / f"{ROWS_FILE}.partial"
        self._identity_path = folder / f"{ROWS_FILE}.partial.json"
        self.rows: list[Row] = []
        found, wanted = read_object(self._identity_path), as_read_back(identity)
        changed = [name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name)]
        if not changed:
            self._recover()
            return
        if self._path.exists():
            raise ValueError(
                f"{self._path}: comes from an interrupted evaluation with different {', '.join(sorted(changed))}; "
                "choose another folder with --output, or delete this file"
            )
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(self._identity_path, json.dumps(wanted, indent=2).encode())

    def append(self, rows: Sequence[Row]) -> None:
        """Appends rows, all with the same columns, and flushes them to the disk."""
        with self._path.open("a", encoding="utf-8", newline="") as file:
            file.write(format_rows(rows, list(rows[0]), header=file.tell() == 0))
            file.flush()
            os.fsync(file.fileno())

    def remove(self) -> None:
        """Removes the files when the results have been written elsewhere."""
        self._path.unlink(missing_ok=True)
        self._identity_path.unlink(missing_ok=True)

    def _recover(self) -> None:
        if not self._path.exists():
            return
        with self._path.open("r+b") as file:
            # A last line without a line feed is incomplete.
            whole = file.read().rpartition(b"\n")[0]
            file.truncate(len(whole) + 1 if whole else 0)
        if whole:
            self.rows = read_metrics(self._path)
