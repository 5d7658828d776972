"""Where the package's log records go during a training: log.txt and the terminal."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

# All warnings of the package pass through this logger, as do the records of the journal.
_package = logging.getLogger("mossformer_jax")


class _Formatter(logging.Formatter):
    """Date, time and message on one line, with the prefix "warning: " for warnings."""

    def format(self, record: logging.LogRecord) -> str:
        level = "warning: " if record.levelno >= logging.WARNING else ""
        return f"{self.formatTime(record, '%Y-%m-%d %H:%M:%S')} {level}{' '.join(record.getMessage().splitlines())}"


@contextlib.contextmanager
def log_handlers(log_path: Path, earlier: Sequence[logging.LogRecord] = (), *, live: bool = False) -> Iterator[None]:
    """Sends the package's log records to log.txt and stdout only.

    Args:
        log_path: log.txt, which is continued.
        earlier: records that the terminal has already shown; they are written to log.txt first.
        live: whether the terminal has a live line; it then shows no records of the level DEBUG.
    """
    if log_path.exists() and not log_path.read_bytes().endswith(b"\n"):
        with log_path.open("a", encoding="utf-8") as log:
            log.write("\n")
    file, terminal = logging.FileHandler(log_path, encoding="utf-8"), logging.StreamHandler(sys.stdout)
    terminal.setLevel(logging.INFO if live else logging.DEBUG)
    propagate = _package.propagate
    # absl writes records that reach the root logger to stderr, where they would appear a second time.
    _package.propagate = False
    for handler in (file, terminal):
        handler.setFormatter(_Formatter())
        _package.addHandler(handler)
    for record in earlier:
        file.handle(record)
    try:
        yield
    finally:
        _package.propagate = propagate
        for handler in (file, terminal):
            _package.removeHandler(handler)
            handler.close()


@contextlib.contextmanager
def collected_records() -> Iterator[list[logging.LogRecord]]:
    """Collects the package's warnings, which are shown as before, for a log.txt that is not open yet."""
    collector = _Collector(logging.WARNING)
    _package.addHandler(collector)
    try:
        yield collector.records
    finally:
        _package.removeHandler(collector)


class _Collector(logging.Handler):
    def __init__(self, level: int):
        super().__init__(level)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)
        # Python shows a warning only if no logger has a handler, and this one counts.
        if not logging.getLogger().handlers and logging.lastResort is not None:
            logging.lastResort.handle(record)
