"""The records of a run, one line of JSON each."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

RECORDS_FILE = "metrics.jsonl"
KINDS = ("train", "validation")


def read_metrics(workdir: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Reads the records of a run.

    Args:
        workdir: the run's folder.

    Returns:
        The records of metrics.jsonl; empty if there is no such file. `kind` is "train" or "validation"; figures that
        were not finite are None. An incomplete last line, left by a killed process, is skipped.

    Raises:
        ValueError: another line is not a record; the message names it.
    """
    path = Path(workdir) / RECORDS_FILE
    if not path.exists():
        return []
    *lines, _ = path.read_bytes().split(b"\n")
    records = []
    for number, line in enumerate(lines, 1):
        try:
            record = json.loads(line)
        except ValueError:
            record = None
        if not isinstance(record, dict) or record.get("kind") not in KINDS or not isinstance(record.get("step"), int):
            raise ValueError(f"{path}: line {number} is not a record: {line[:60]!r}; remove it")
        records.append(record)
    return records
