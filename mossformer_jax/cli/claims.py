"""Claims, so that no two processes separate the same recording, and incomplete files of killed processes are removed.

A claim is the lock on a hidden file next to the first source, `.NAME.claim`. The operating system releases the lock
when the process ends, even if it is killed. A claim file without a lock was therefore left by a killed process.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from mossformer_jax.cli.jobs import Job
from mossformer_jax.locks import NOT_SUPPORTED, try_lock

_SUFFIX = ".claim"
_WRITING = b"writing "
_ATTEMPTS = 100


@dataclass
class Claim:
    """The right to separate a recording.

    Attributes:
        descriptor: the open claim file; None where the file system has no locks.
        was_interrupted: whether a killed process had started to write the sources.
    """

    descriptor: int | None = None
    was_interrupted: bool = False

    def will_write(self) -> None:
        """Records in the claim file that this process starts to write the sources."""
        if self.descriptor is not None:
            content = _WRITING + str(os.getpid()).encode()
            # Written before truncating: if this process is killed in between, the file must still show that an earlier
            # process had started to write.
            os.pwrite(self.descriptor, content, 0)
            os.ftruncate(self.descriptor, len(content))


@contextmanager
def claimed(job: Job) -> Iterator[Claim | None]:
    """Claims a recording in a `with` statement.

    The folder of the sources is created, and removed at the end if it is empty. Incomplete files of a killed process
    are removed.

    Yields:
        The claim; None if another process is separating the recording.

    Raises:
        OSError: the claim file cannot be created or locked.
    """
    path = claim_file(job)
    made = [folder for folder in (path.parent, *path.parent.parents) if not folder.exists()]
    descriptor = None
    try:
        descriptor, state = _open(path)
        if state is False:
            yield None
            return
        claim = Claim(descriptor if state else None)
        if state:
            claim.was_interrupted = _clear(job, os.pread(descriptor, 100, 0))
        try:
            yield claim
        finally:
            path.unlink(missing_ok=True)
    finally:
        if descriptor is not None:
            os.close(descriptor)
        for folder in made:
            with suppress(OSError):
                folder.rmdir()  # only empty folders that were created here


def claim_file(job: Job) -> Path:
    """The claim file of a job."""
    return job.outputs[0].with_name(f".{job.outputs[0].name}{_SUFFIX}")


def abandoned(jobs: Iterable[Job]) -> set[Path]:
    """All claim files in the folders of the sources, whether their processes were killed or are still running."""
    found = set()
    for folder in {job.outputs[0].parent for job in jobs}:
        with suppress(OSError), os.scandir(folder) as entries:
            found |= {folder / entry.name for entry in entries if entry.name.endswith(_SUFFIX)}
    return found


def _open(path: Path) -> tuple[int, bool | None]:
    """Opens and locks the claim file; returns its descriptor and the result of `_try_lock`."""
    for attempt in range(_ATTEMPTS):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o666)
        except FileNotFoundError as error:
            if attempt == _ATTEMPTS - 1:
                raise _unwritable(path, error) from error
            continue  # another process has removed the empty folder
        except OSError as error:
            raise _unwritable(path, error) from error
        try:
            state = _try_lock(descriptor)
            if state is not True or _is_same(descriptor, path):
                return descriptor, state
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # the other process finished and removed the file before it was locked here
    raise OSError(f"{path}: cannot be locked; remove it")


def _try_lock(descriptor: int) -> bool | None:
    """Like `try_lock`, but also None if the file system has no locks."""
    try:
        return try_lock(descriptor)
    except OSError as error:
        if error.errno in NOT_SUPPORTED:
            return None
        raise


def _unwritable(path: Path, error: OSError) -> OSError:
    """The exception for a claim file that cannot be created; it has the type and number of `error`."""
    for folder in path.parents:
        if folder.is_file():
            return FileExistsError(f"{folder}: is a file; name a folder for the sources")
    kind = PermissionError if isinstance(error, PermissionError) else OSError
    named = kind(
        f"{path.parent}: sources cannot be written there ({error.strerror}); check its permissions and free space, or "
        "name another folder with -o"
    )
    named.errno = error.errno
    return named


def _is_same(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


def _clear(job: Job, content: bytes) -> bool:
    """Removes the incomplete files of the process named in a claim file; returns whether the file names one."""
    process = content.removeprefix(_WRITING)
    if not (content.startswith(_WRITING) and process.isdigit()):
        return False
    for path in job.written:
        path.with_name(f".{path.name}.{int(process)}.part").unlink(missing_ok=True)
    return True
