"""Classes of errors of a run: which are properties of a recording, and which can pass."""

from __future__ import annotations

import errno

from mossformer_jax.audio.errors import AudioError, UnwritableAudioError
from mossformer_jax.cli.download import is_url

DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
# Worth another attempt in the same run.
CAN_PASS = ("download", "io", "killed", "memory", "output", "runtime")


def error_class(error: BaseException, location: str) -> str:
    """One word for the class of an error, for reports.

    Args:
        error: what was raised.
        location: path or URL of the recording.
    """
    if isinstance(error, AudioError):
        return error.kind
    if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error):
        return "memory"
    if getattr(error, "errno", None) in DISK_FULL:
        return "disk_full"
    if isinstance(error, OSError) and is_url(location):
        return "download"
    for kind, name in (
        (FileNotFoundError, "missing"),
        (PermissionError, "permission"),
        (FileExistsError, "exists"),
        (OSError, "io"),
        (RuntimeError, "runtime"),
    ):
        if isinstance(error, kind):
            return name
    return "other"


def is_permanent(kind: str) -> bool:
    """Whether the error is a property of the recording, which fails again unless its file changes."""
    kinds = {each.kind for each in AudioError.__subclasses__()}
    return kind in kinds - {UnwritableAudioError.kind}
