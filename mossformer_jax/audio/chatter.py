"""Suppresses what the audio libraries print to the terminal."""

from __future__ import annotations

import ctypes
import os
import threading


class _Chatter:
    """Replaces C's stderr while at least one thread is in the context.

    mpg123, which libsndfile uses for MP3, prints notes about damaged files to C's stderr. Python's own stderr, with
    messages of other threads, is not affected.
    """

    def __init__(self) -> None:
        self._lock, self._users = threading.Lock(), 0
        self._stderr: ctypes.c_void_p | None = None
        try:
            library = ctypes.CDLL(None)
            self._stderr = ctypes.c_void_p.in_dll(library, "stderr")
            library.fopen.restype = ctypes.c_void_p
            self._usual, self._silent = self._stderr.value, library.fopen(os.devnull.encode(), b"w")
        except (OSError, ValueError, AttributeError, TypeError):
            self._stderr = None  # not the C library of Linux
        if self._stderr is not None and not self._silent:
            self._stderr = None

    def __enter__(self) -> None:
        if self._stderr is not None:
            with self._lock:
                self._users += 1
                self._stderr.value = self._silent

    def __exit__(self, *_: object) -> None:
        if self._stderr is not None:
            with self._lock:
                self._users -= 1
                if not self._users:
                    self._stderr.value = self._usual


_chatter = _Chatter()


def without_chatter() -> _Chatter:
    """In a `with` statement: the audio libraries print nothing to the terminal."""
    return _chatter
