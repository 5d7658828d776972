"""The rows of an evaluation that is going on, in a file that a kill at any moment leaves usable."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mossformer_jax.atomic import write_atomically
from mossformer_jax.evaluation.report import ROWS_FILE, Row, format_rows, read_metrics


def read_object(path: Path) -> dict[str, Any]:
    """The object in a JSON file; an empty one where there is none."""
    try:
        found = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def as_read_back(identity: Mapping[str, Any]) -> dict[str, Any]:
    """An identity as JSON gives it back: tuples are lists there."""
    return json.loads(json.dumps(identity))


class PartialMetrics:
    """Rows that are appended as they come, to `metrics.csv.partial`; `metrics.csv.partial.json` says of what.

    Args:
        folder: where the evaluation is written.
        identity: what the rows depend on, ready for JSON.

    Attributes:
        rows: those that an evaluation that was broken off has left, one that was cut off excepted.

    Raises:
        ValueError: there are rows of another identity; what differs is named.
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
                f"{self._path}: is of an evaluation that was broken off, with other {', '.join(sorted(changed))}; "
                "name another folder with --output, or remove this file"
            )
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(self._identity_path, json.dumps(wanted, indent=2).encode())

    def append(self, rows: Sequence[Row]) -> None:
        """Writes further rows to the disk; all have the same columns."""
        with self._path.open("a", encoding="utf-8", newline="") as file:
            file.write(format_rows(rows, list(rows[0]), header=file.tell() == 0))
            file.flush()
            os.fsync(file.fileno())

    def remove(self) -> None:
        """Removes the file, once its rows are elsewhere."""
        self._path.unlink(missing_ok=True)
        self._identity_path.unlink(missing_ok=True)

    def _recover(self) -> None:
        if not self._path.exists():
            return
        with self._path.open("r+b") as file:
            # A last line without its end was cut off.
            whole = file.read().rpartition(b"\n")[0]
            file.truncate(len(whole) + 1 if whole else 0)
        if whole:
            self.rows = read_metrics(self._path)
