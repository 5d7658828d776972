"""The inputs that audio can be read from: paths, the content of files, open binary files."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol, TypeGuard, runtime_checkable


@runtime_checkable
class BinaryFile(Protocol):
    """An open binary file. `typing.BinaryIO` would also require a name and a mode, which `io.BytesIO` lacks."""

    def read(self, size: int = -1, /) -> bytes:
        """Reads up to `size` bytes, or all."""

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Moves to a position and returns it."""

    def tell(self) -> int:
        """The position."""


@runtime_checkable
class _Buffer(Protocol):
    """Memory to be filled: a bytearray, or a buffer of libsndfile."""

    def __len__(self) -> int: ...

    def __setitem__(self, part: slice, data: bytes, /) -> None: ...


# A path, the bytes of a file, or an open binary file.
AudioSource = str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryFile


def is_audio_source(thing: object) -> TypeGuard[AudioSource]:
    """Whether an object is a path, the bytes of a file, or an open binary file."""
    return isinstance(thing, str | os.PathLike | bytes | bytearray | memoryview | BinaryFile)


class Tail(io.RawIOBase):
    """The part of a binary file from `start` to `stop` as a file; `head` replaces the first bytes of the part."""

    def __init__(self, file: BinaryFile, start: int, stop: int, head: bytes = b""):
        self._file, self._start, self._stop, self._head = file, start, stop, head
        self.seek(0)

    def seekable(self) -> bool:
        """True."""
        return True

    def readable(self) -> bool:
        """True."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Moves to a position, counted from the first byte of the part."""
        base = {io.SEEK_SET: self._start, io.SEEK_CUR: self._file.tell(), io.SEEK_END: self._stop}[whence]
        return self._file.seek(base + offset) - self._start

    def tell(self) -> int:
        """The position, counted from the first byte of the part."""
        return self._file.tell() - self._start

    def readinto(self, buffer: _Buffer) -> int:  # type: ignore[override]
        """Fills the buffer; returns the number of bytes read."""
        position = self.tell()
        data = self._file.read(max(min(len(buffer), self._stop - self._file.tell()), 0))
        head = self._head[position : position + len(data)]
        data = head + data[len(head) :]
        buffer[: len(data)] = data
        return len(data)


def name_of(source: AudioSource) -> str:
    """The path as given, or a description of an object without a path."""
    if isinstance(source, str | os.PathLike):
        return str(Path(source))
    name = getattr(source, "name", None)
    return name if isinstance(name, str) else f"the given {type(source).__name__}"


def size_of(source: AudioSource) -> int:
    """Size of a source in bytes."""
    if isinstance(source, str | os.PathLike):
        return os.stat(source).st_size
    with binary(source) as file:
        return file.seek(0, io.SEEK_END)


def rewound(file: BinaryFile) -> BinaryFile:
    """Moves a file to its start and returns it."""
    file.seek(0)
    return file


@contextmanager
def binary(source: AudioSource) -> Iterator[BinaryFile]:
    """Opens a source for reading from its start. A file that is already open stays open and keeps its position."""
    if isinstance(source, str | os.PathLike):
        with Path(source).open("rb") as opened:
            yield opened
    elif isinstance(source, bytes | bytearray | memoryview):
        yield io.BytesIO(bytes(source))
    else:
        position = source.tell()
        source.seek(0)
        try:
            yield source
        finally:
            source.seek(position)
