"""The ledger of an archive (`--report`): one JSON line per attempt at a recording.

A rerun reads the ledger to decide which recordings to skip. Several processes may append to one ledger. Only the last
line about a recording is used.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import socket
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mossformer_jax import __version__
from mossformer_jax.cli.download import is_url, without_password
from mossformer_jax.cli.failures import is_permanent
from mossformer_jax.cli.inputs import key
from mossformer_jax.cli.jobs import Job
from mossformer_jax.cli.results import Result, as_fields
from mossformer_jax.digests import sha256_of
from mossformer_jax.locks import append_line

# Fields of a line that determine whether a rerun separates the recording; the others are for reports.
_KEPT = (
    *("status", "input", "input_bytes", "input_mtime_ns", "input_sha256", "output_bytes", "error", "error_class"),
    *("version", "model"),
)


@dataclass(frozen=True)
class Verdict:
    """What is known about a recording from earlier lines of the ledger.

    Attributes:
        result: its outcome if it need not be separated again, otherwise None.
        may_replace: whether this recording was separated before, so that its existing sources may be replaced.
    """

    result: Result | None = None
    may_replace: bool = False


class Ledger:
    """The ledger of a run.

    Args:
        path: the file; it is created with its folder, and must be writable.
        model: digest of the model.
        verify: record the SHA-256 of recordings, and compare it instead of their size and time.
        overwrite: whether to separate recordings again that were done before this run.

    Raises:
        OSError: the file cannot be read or created.
    """

    def __init__(self, path: str | os.PathLike[str], model: str, *, verify: bool = False, overwrite: bool = False):
        self.path = Path(path)
        self._model, self._verify, self._overwrite = model, verify, overwrite
        self._latest: dict[str, dict[str, Any]] = {}
        self._written: set[str] = set()
        self._recent: set[str] = set()
        self._position = 0
        self._reading = threading.Lock()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("ab"):
            pass
        self.refresh()
        self._recent.clear()

    def refresh(self) -> None:
        """Reads the lines that this and other processes have appended since the last call."""
        with self._reading, self.path.open("rb") as file:
            file.seek(self._position)
            for line in file:
                if not line.endswith(b"\n"):
                    break
                self._position += len(line)
                record = parse_line(line)
                if record is None:
                    continue
                name = record["outputs"][0]
                self._latest[name] = {field: record.get(field) for field in _KEPT}
                self._recent.add(name)
                if record["status"] == "done":
                    self._written.add(name)

    def has_done(self, job: Job) -> bool:
        """Whether the last line about a recording has the status done."""
        record = self._latest.get(key(job.outputs[0]))
        return record is not None and record["status"] == "done"

    def verdict(self, job: Job) -> Verdict:
        """What is known about a recording. Its audio file is read only with `verify`."""
        name = key(job.outputs[0])
        record = self._latest.get(name)
        if record is None or record["input"] != _input(job):
            exists = job.is_done() and not self._overwrite
            return Verdict(Result(job, "skipped") if exists else None)
        may_replace = name in self._written
        if self._overwrite and name not in self._recent:
            return Verdict(None, may_replace)
        if record["status"] == "failed":
            again = not is_permanent(record["error_class"] or "") or record["version"] != __version__
            if again or not self._is_unchanged(job, record):
                return Verdict(None, may_replace)
            return Verdict(Result(job, "failed", error=record["error"], error_class=record["error_class"]))
        if record["status"] == "skipped":
            return Verdict(Result(job, "skipped") if job.is_done() else None)
        if not job.is_done() or _sizes(job.outputs) != record["output_bytes"] or not self._is_unchanged(job, record):
            return Verdict(None, may_replace)
        return Verdict(Result(job, "skipped", other_model=record["model"] != self._model), may_replace)

    def add(self, result: Result, attempts: int = 1) -> None:
        """Appends the outcome of a recording, unless it was skipped and the ledger already has a line about it.

        Args:
            result: the outcome.
            attempts: number of attempts in this run.

        Raises:
            OSError: the ledger cannot be written.
        """
        job = result.job
        if result.status == "skipped" and key(job.outputs[0]) in self._latest:
            return
        fields = as_fields(result)
        del fields["boundaries"]
        record: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            **fields,
            "input": _input(job),
            "id": job.recording.id if job.recording else None,
            "outputs": [key(path) for path in job.outputs],
            "output_bytes": _sizes(job.outputs) if result.status == "done" else None,
            # None if the file has changed since it was read.
            "input_sha256": _digest(job.input) if self._verify and stamp(job.input) == result.stamp else None,
            "attempts": attempts,
            "model": self._model,
            "version": __version__,
            "host": socket.gethostname(),
            "process": os.getpid(),
        }
        record["input_bytes"], record["input_mtime_ns"] = result.stamp or (None, None)
        append_line(self.path, json.dumps(record).encode())

    def _is_unchanged(self, job: Job, record: Mapping[str, Any]) -> bool:
        found = stamp(job.input)
        if found is None:
            return True  # a URL, or a recording that has been moved away since
        if self._verify and record["input_sha256"] is not None:
            return _digest(job.input) == record["input_sha256"]
        return list(found) == [record["input_bytes"], record["input_mtime_ns"]]


def verdict_on(job: Job, ledger: Ledger | None, *, overwrite: bool) -> Verdict:
    """What is known about a recording. Without a ledger, existing files count as its sources."""
    if ledger is not None:
        return ledger.verdict(job)
    return Verdict(Result(job, "skipped") if job.is_done() and not overwrite else None)


def open_ledger(options: argparse.Namespace) -> Ledger | None:
    """Opens the ledger that --report names; None without --report.

    Raises:
        ValueError: the file cannot be opened; the message names it.
    """
    from mossformer_jax.weights.folders import CONFIG_FILE, WEIGHTS_FILE
    from mossformer_jax.weights.store import model_folder

    if options.report is None:
        return None
    digest = model_digest(model_folder(options.model), (CONFIG_FILE, WEIGHTS_FILE))
    try:
        return Ledger(options.report, digest, verify=options.verify, overwrite=options.overwrite)
    except OSError as error:
        raise ValueError(
            f"{options.report}: cannot be opened as a report ({error.strerror}); name another file with --report"
        ) from error


def parse_line(line: bytes) -> dict[str, Any] | None:
    """Parses a line; None if a killed process left it incomplete, or if it does not belong to a ledger."""
    try:
        record = json.loads(line)
    except ValueError:
        return None
    if not isinstance(record, dict) or not {"status", "input", "outputs"} <= record.keys():
        return None
    outputs = record["outputs"]
    return record if isinstance(outputs, list) and outputs and isinstance(outputs[0], str) else None


def stamp(location: str) -> tuple[int, int] | None:
    """Size (bytes) and time of the last change (ns) of a file; None for a URL or a missing file."""
    if is_url(location):
        return None
    try:
        found = os.stat(location)
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns


def model_digest(folder: Path, names: Sequence[str]) -> str:
    """Identifies a model by 16 hexadecimal digits, the start of a SHA-256 over the digests of its files."""
    digest = hashlib.sha256()
    for name in names:
        digest.update(bytes.fromhex(_digest(str(folder / name)) or ""))
    return digest.hexdigest()[:16]


def _digest(location: str) -> str | None:
    if is_url(location):
        return None
    try:
        return sha256_of(location)
    except OSError:
        return None


def _input(job: Job) -> str:
    return without_password(key(job.input))


def _sizes(paths: Sequence[Path]) -> list[int]:
    return [found[0] if (found := stamp(str(path))) else 0 for path in paths]
