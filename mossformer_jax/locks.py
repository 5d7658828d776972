"""Locks on open files, which the system releases when a process ends in any way."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

# Errors of a file system without locks.
NOT_SUPPORTED = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL)


def try_lock(descriptor: int) -> bool | None:
    """Locks a file until its descriptor is closed; on Linux also on network file systems.

    Returns:
        True if it is locked now, False if another process holds the lock, None if this system (Windows) has no locks.

    Raises:
        OSError: it cannot be locked, for example because the file system has no locks (`NOT_SUPPORTED`).
    """
    if fcntl is None:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    return True


@contextmanager
def locked(descriptor: int) -> Iterator[bool]:
    """Waits for the lock and holds it in a `with` statement; gives False, without a lock, where there are no locks."""
    held = fcntl is not None
    if held:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno not in NOT_SUPPORTED:
                raise
            held = False
    try:
        yield held
    finally:
        if held:
            fcntl.flock(descriptor, fcntl.LOCK_UN)


def append_line(path: str | os.PathLike[str], line: bytes) -> None:
    """Appends a line to a file that several processes append to; the line is complete or absent for a reader.

    A line that a killed process left incomplete is ended first.

    Raises:
        OSError: the file cannot be written.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666)
    try:
        with locked(descriptor):
            size = os.lseek(descriptor, 0, os.SEEK_END)
            if size:
                os.lseek(descriptor, size - 1, os.SEEK_SET)
                if os.read(descriptor, 1) != b"\n":
                    line = b"\n" + line
            if os.write(descriptor, line + b"\n") != len(line) + 1:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
    finally:
        os.close(descriptor)
