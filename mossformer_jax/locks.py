"""Locks on open files. The operating system releases them when the process ends, even if it is killed."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

# Error numbers of a file system without locks.
NOT_SUPPORTED = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL)


def try_lock(descriptor: int) -> bool | None:
    """Locks an open file until its descriptor is closed, without waiting; on Linux also on network file systems.

    Returns:
        True if the file is now locked, False if another process holds the lock, None if the operating system (Windows)
        has no such locks.

    Raises:
        OSError: the file cannot be locked, for example because the file system has no locks (`NOT_SUPPORTED`).
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
    """Waits for the lock on an open file, and holds it in a `with` statement.

    Yields:
        Whether the file is locked; False where locks are not supported.

    Raises:
        OSError: the file cannot be locked for another reason.
    """
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
    """Appends a line to a file that several processes append to.

    The file is locked meanwhile, so that lines do not mix. If the last line is incomplete, because a process was
    killed, it is terminated first.

    Args:
        path: the file; it is created if necessary.
        line: the line, without a line break.

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
